"""Every case, by its name."""

from __future__ import annotations

from conformance.case import INNER, Case
from conformance.full_links import full_link_cases
from conformance.links import link_cases
from conformance.objects import object_cases
from topo.facts import HOST


def cases(ns: str) -> dict[str, Case]:
    """The cases in this namespace: one of the topology's own, or the host's."""
    return {**{case.link_kind: case for case in (*link_cases(ns), *full_link_cases(ns))}, **object_cases(ns)}


CASES: dict[str, Case] = {
    **{f"{name}": case for name, case in cases(INNER).items()},
    **{f"{name}-on-the-host": case for name, case in cases(HOST).items()},
}

"""The entries of `interfaces`, of every kind that has no section of its own."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Final

from topo.file.model.settings import Settings
from topo.file.model.values import Ifnames, wrong
from topo.kinds.later import Later
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.spec import InterfaceSpec

LATER_KINDS: Final = frozenset(
    [
        "bareudp",
        "batadv",
        "gtp",
        "ipoib",
        "netdevsim",
        "team",
        "vti6",
    ]
)
"""Kinds of link that iproute2 knows and topo does not make yet."""

_SECTIONS: Final = {"veth": "links", "vxcan": "links", "netkit": "links", "bridge": "bridges", "vxlan": "vxlans"}


class _Entries(Mapping[str, type[InterfaceSpec]]):
    """The models of the entries of `interfaces`, by kind: the registry's, with our form of the settings.

    Each is made when it is first asked for.
    """

    def __init__(self) -> None:
        self._made: dict[str, type[InterfaceSpec]] = {}

    def __getitem__(self, name: str) -> type[InterfaceSpec]:
        if name not in self._made:
            spec = LINK_KINDS[name].spec
            if spec is None:
                raise KeyError(name)
            self._made[name] = type(spec.__name__, (Settings, spec), {"__doc__": spec.__doc__, "__module__": __name__})
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name, kind in LINK_KINDS.items() if kind.spec is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


ENTRIES: Final = _Entries()


def _interface(value: Any) -> Any:
    if isinstance(value, InterfaceSpec):
        return value
    if not isinstance(value, dict):
        raise wrong("an interface is a mapping with `kind`")
    kind = value.get("kind")
    if kind is None:
        raise wrong(f"which kind is it? One of {', '.join(sorted(ENTRIES))}", value=value)
    if not isinstance(kind, str):
        raise wrong("the kind of an interface is a name", "kind", value=kind)
    if kind in _SECTIONS:
        raise wrong(f"interfaces of kind {kind!r} have a section of their own: `{_SECTIONS[kind]}`", "kind", value=kind)
    if kind in LATER_KINDS and kind not in ENTRIES:
        raise wrong(f"kind {kind!r} is not built in yet", "kind", value=kind)
    if kind not in ENTRIES:
        near = get_close_matches(kind, ENTRIES, 1)
        which = f"is {near[0]!r} meant?" if near else f"{', '.join(sorted(ENTRIES))} are"
        raise wrong(f"kind {kind!r} is not known: {which}", "kind", value=kind)
    for name, why in ENTRIES[kind].cannot.items():
        if value.get(name) is not None:
            raise wrong(f"a {kind} takes no `{name}`: {why}", name, value=value[name])
    return ENTRIES[kind].model_validate(value)


if TYPE_CHECKING:
    Interface = InterfaceSpec
else:
    Interface = Annotated[Any, Later(lambda: reduce(operator.or_, ENTRIES.values()), _interface)]

Interfaces = dict[Ifnames, Interface]

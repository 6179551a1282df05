"""Sysctls (Documentation/networking/ip-sysctl.rst). They are read by path, not from messages.

A sysctl is never made or deleted: what it was before is put back by an update to that value. An `optional` one need not
be there, as those of IPv6 are not on a kernel without it; a live one without a value says that it is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from topo.changes import DELETE, Change, Env, Op, Sysctl
from topo.facts import Fact, Live, Ref, links_of
from topo.kinds.kind import DesiredView, Kind

_ALL_FORWARDING: Final = "net/ipv4/conf/all/forwarding"
_IP_FORWARD: Final = "net/ipv4/ip_forward"  # another name of it


def folded(value: object) -> str:
    """A sysctl's value as text, its white space folded, as the kernel shows tabs where a user writes spaces."""
    return " ".join(str(value).split())


def encode(op: Op, env: Env) -> list[Sysctl]:
    if op.verb == DELETE:
        return []
    assert op.new is not None
    value = op.new.attrs["value"]
    optional = bool(op.new.attrs.get("optional"))
    return [] if value is None else [Sysctl(op.ref.ns, op.ref.key[0], folded(value), optional)]


def compare(desired: Fact, live: Fact) -> tuple[str, ...]:
    if desired.attrs["value"] is None or live.attrs.get("value", "") is None:
        return ()
    return () if folded(desired.attrs["value"]) == folded(live.attrs.get("value")) else ("value",)


def _spread(path: str) -> tuple[str, str] | None:
    """(what stands before, what behind the device) where writing `path` can write that of every device too."""
    head, conf, rest = (_ALL_FORWARDING if path == _IP_FORWARD else path).partition("/conf/")
    device, _, name = rest.partition("/")
    return (head + conf, f"/{name}") if name and device in ("all", "default") else None


def takes(change: Change, live: Live) -> Iterable[Ref]:
    """Writing the `all` or the `default` of a setting can overwrite that of the devices."""
    spread = _spread(change.ref.key[0])
    if change.action == DELETE or spread is None:
        return ()
    before, behind = spread
    return tuple(
        fact.ref
        for fact in live.of("sysctl")
        if fact.ref.ns == change.ref.ns
        and links_of(fact)
        and fact.ref.key[0].startswith(before)
        and fact.ref.key[0].endswith(behind)
    )


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    """The link of a device's sysctl, and the `all` and `default` ones, which are written before."""
    links = links_of(fact)
    if not links:
        return ()
    ns, parts = fact.ref.ns, fact.ref.key[0].split("/")
    paths = ["/".join((*parts[:3], device, *parts[4:])) for device in ("all", "default")]
    if paths[0] == _ALL_FORWARDING:
        paths.append(_IP_FORWARD)
    refs = (Ref("sysctl", ns, (path,)) for path in paths)
    return (*links, *(ref for ref in refs if desired.get(ref)))


def describe(fact: Fact) -> str:
    return folded(fact.attrs.get("value", ""))


SYSCTL: Final = Kind("sysctl", encode, requires=requires, compare=compare, takes=takes, describe=describe)

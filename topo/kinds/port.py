"""Settings of a bridge's ports (bridge(8), IFLA_BRPORT_* in linux/if_link.h, net/bridge/br_netlink.c).

A port is there as soon as a link has a bridge as its master, so its fact is there only where a setting is not the
kernel's default, and deleting it puts the defaults back. The kernel resets all of them when the link leaves the bridge.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

from topo.changes import CREATE, DELETE, Env, Op, Rtnl
from topo.facts import FOREIGN, Fact, Ref, link
from topo.kinds.ifla import IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_LINKINFO, Selection, body
from topo.kinds.kind import DesiredView, Kind
from topo.wire import BOOL, RTM_NEWLINK, U8, U16, U32, Attr, attr, attr_str, nest

DATA: Final = (
    Attr("priority", 2, U16, 32),
    Attr("cost", 3, U32),  # the kernel's default is by the speed of the device: 2 for veth, vxlan and tap
    Attr("hairpin", 4, BOOL, False),
    Attr("guard", 5, BOOL, False),
    Attr("root_block", 6, BOOL, False),
    Attr("fast_leave", 7, BOOL, False),
    Attr("learning", 8, BOOL, True),
    Attr("flood", 9, BOOL, True),
    Attr("proxy_arp", 10, BOOL, False),
    Attr("mcast_router", 25, U8, 1),
    Attr("mcast_flood", 27, BOOL, True),
    Attr("mcast_to_unicast", 28, BOOL, False),
    Attr("vlan_tunnel", 29, BOOL, False),
    Attr("bcast_flood", 30, BOOL, True),
    Attr("neigh_suppress", 32, BOOL, False),
    Attr("isolated", 33, BOOL, False),
    Attr("locked", 39, BOOL, False),
)
DEFAULTS: Final[Mapping[str, Any]] = {a.name: a.default for a in DATA if a.default is not None}
_VETH_COST: Final = 2
_BY_NUMBER: Final = {a.nla: (a.name, a.format.unpack) for a in DATA}
_SELECTED: Final = Selection(_BY_NUMBER)
_VETH_DEFAULTS: Final = {a.nla: a.format.pack(_VETH_COST if a.default is None else a.default) for a in DATA}


def decode(data: bytes, ref: Ref, kind: str | None, origin: str) -> Fact | None:
    """The fact of a port from IFLA_INFO_SLAVE_DATA; None for a veth with the kernel's defaults.

    Of other kinds the default of `cost` is not known, so that one without other settings is there, but foreign:
    to be compared where it is stated, never to be reset.
    """
    found = _SELECTED(data, 0, len(data))
    if kind == "veth" and found == _VETH_DEFAULTS:
        return None
    attrs: dict[str, Any] = {}
    for nla, value in found.items():
        name, unpack = _BY_NUMBER[nla]
        try:
            attrs[name] = unpack(value)
        except (struct.error, IndexError):
            continue  # shorter than its type: a malformed message states nothing
    if kind == "veth":
        attrs["_cost"] = _VETH_COST
        return None if unset(attrs) else Fact(ref, attrs, origin)
    return Fact(ref, attrs, FOREIGN if unset(attrs) else origin)


def unset(attrs: Mapping[str, Any]) -> bool:
    """Whether there is nothing in these that could be put back to a default."""
    default = {**DEFAULTS, "cost": attrs.get("_cost", attrs.get("cost"))}
    return all(attrs.get(name, unstated) == unstated for name, unstated in default.items())


def encode(op: Op, env: Env) -> list[Rtnl]:
    ns, ifname = op.ref.ns, op.ref.key[0]
    old = op.old.attrs if op.old else {}
    default = {**DEFAULTS, "cost": old.get("_cost")}
    if op.verb == DELETE:
        values = {name: default[name] for name in old if name in default} if old else default
    else:
        assert op.new is not None
        names = op.new.attrs if op.verb == CREATE else op.attrs
        values = {name: op.new.attrs.get(name, default.get(name)) for name in names}
    data = b"".join(attr(nla, form.pack(v)) for n, nla, form, _ in DATA if (v := values.get(n)) is not None)
    if not data:
        return []
    info = attr_str(IFLA_INFO_SLAVE_KIND, "bridge") + nest(IFLA_INFO_SLAVE_DATA, data)
    return [Rtnl(ns, RTM_NEWLINK, 0, body(env.index(ns, ifname), nest(IFLA_LINKINFO, info)))]


def compare(desired: Fact, live: Fact) -> tuple[str, ...]:
    """A setting that is not stated is to be the kernel's default, where that is known (`cost`: of a veth)."""
    want, have = desired.attrs, live.attrs
    default = {**DEFAULTS, "cost": have.get("_cost")}
    return tuple(
        name
        for name, unstated in default.items()
        if (value := want.get(name, unstated)) is not None and have.get(name, unstated) != value
    )


def requires(fact: Fact, _: DesiredView) -> Iterable[Ref]:
    yield link(fact.ref.ns, fact.ref.key[0])


def describe(fact: Fact) -> str:
    """What is not the default, as bridge(8) shows it: `hairpin on`."""
    default = {**DEFAULTS, "cost": fact.attrs.get("_cost")}
    words = ((name, value) for name, value in fact.attrs.items() if name in default and value != default[name])
    return " ".join(f"{name} {('off', 'on')[value] if isinstance(value, bool) else value}" for name, value in words)


PORT = Kind(
    "port",
    encode=encode,
    requires=requires,
    compare=compare,
    describe=describe,
    absent=frozenset({errno.ENODEV, errno.EOPNOTSUPP}),  # EOPNOTSUPP: it has left the bridge
    unset=unset,
)

"""The VLANs of a bridge's port, or of the bridge itself (bridge(8) `bridge vlan`, linux/if_bridge.h, net/bridge/br_vlan.c).

What is stated is all of it: `pvid` is the VLAN of what comes in without a tag, 0 for none; `untagged` and `tagged` are
the VLANs of what goes out, as ranges. The kernel puts a port, and the bridge, into VLAN 1, untagged, unless told otherwise: of
one that is in no other there is no fact, and deleting a fact puts that back. A request says which VLANs there are
to be, and takes all others away: it is the same whatever was there before. `tunnels` of a VXLAN's port, where there are
any, are the VNIs that its VLANs stand for (`bridge vlan add ... tunnel_info`), as `10:1000,20-22:2020-2022`.

The key is (ifname,), or (ifname, "self") for the bridge itself.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import Any, Final

from topo.changes import DELETE, Change, Env, Op, Rtnl
from topo.facts import STATIC, Fact, Live, Ref, link
from topo.kinds.kind import DesiredView, Kind, View, but_for_rare
from topo.wire import (
    AF_BRIDGE,
    IFINFOMSG,
    RTM_DELLINK,
    RTM_NEWLINK,
    RTM_SETLINK,
    U16,
    U32,
    attr,
    attr_u32,
    attribute_list,
    attributes,
    nest,
)

_IFLA_MASTER, _IFLA_AF_SPEC, _IFLA_BRIDGE_FLAGS, _IFLA_BRIDGE_VLAN_INFO, _IFLA_BRIDGE_VLAN_TUNNEL_INFO = 10, 26, 0, 2, 3
_ID, _VID, _TUNNEL_FLAGS = 1, 2, 3  # IFLA_BRIDGE_VLAN_TUNNEL_*
_FLAG_MASTER, _FLAG_SELF = 1, 2
_PVID, _UNTAGGED, _BEGIN, _END = 1 << 1, 1 << 2, 1 << 3, 1 << 4
_INFO: Final = struct.Struct("=HH")  # struct bridge_vlan_info: flags, vid
_LAST: Final = 4094
UNSTATED: Final[Mapping[str, Any]] = {"pvid": 1, "untagged": "1", "tagged": ""}


def ranges(vids: Iterable[int]) -> str:
    """VLANs as `1,20-22`."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in _runs(vids))


def numbers(text: str) -> set[int]:
    """The VLANs of `1,20-22`."""
    bounds = (part.partition("-") for part in text.split(",") if part)
    return {vid for first, _, last in bounds for vid in range(int(first), int(last or first) + 1)}


def tunnels(vnis: Mapping[int, int]) -> str:
    """VLANs with their VNIs as `10:1000,20-22:2020-2022`."""
    return ",".join(
        f"{first}:{vni}" if first == last else f"{first}-{last}:{vni}-{vni + last - first}"
        for first, last, vni in _tunnel_runs(vnis)
    )


def tunnel_vnis(text: str) -> dict[int, int]:
    """The VNIs of the VLANs of `10:1000,20-22:2020-2022`."""
    found: dict[int, int] = {}
    for vids, _, vnis in (part.partition(":") for part in text.split(",") if part):
        first, low = (int(span.partition("-")[0]) for span in (vids, vnis))
        found.update((vid, low + vid - first) for vid in numbers(vids))
    return found


def _tunnel_runs(vnis: Mapping[int, int]) -> Iterator[tuple[int, int, int]]:
    """Where both go on in step: first and last VLAN, first VNI."""
    steps = groupby(sorted(vnis), key=lambda vid: vnis[vid] - vid)
    for _, vids in steps:
        for first, last in _runs(vids):
            yield first, last, vnis[first]


def _runs(vids: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = 0
    for vid in sorted(vids):
        if first and vid == last + 1:
            last = vid
            continue
        if first:
            yield first, last
        first = last = vid
    if first:
        yield first, last


def _infos(vids: Collection[int], flags: int) -> Iterator[bytes]:
    for first, last in _runs(vids):
        if first == last:
            yield attr(_IFLA_BRIDGE_VLAN_INFO, _INFO.pack(flags, first))
        else:
            yield attr(_IFLA_BRIDGE_VLAN_INFO, _INFO.pack(flags | _BEGIN, first))
            yield attr(_IFLA_BRIDGE_VLAN_INFO, _INFO.pack(flags | _END, last))


def _tunnel_infos(vnis: Mapping[int, int]) -> Iterator[bytes]:
    for first, last, vni in _tunnel_runs(vnis):
        ends = ((first, 0),) if first == last else ((first, _BEGIN), (last, _END))
        for vid, flags in ends:
            number, about = attr_u32(_ID, vni + vid - first), attr(_VID, U16.pack(vid))
            yield nest(_IFLA_BRIDGE_VLAN_TUNNEL_INFO, number, about, attr(_TUNNEL_FLAGS, U16.pack(flags)))


def encode(op: Op, env: Env) -> list[Rtnl]:
    ns, ifname = op.ref.ns, op.ref.key[0]
    wanted: Mapping[str, Any] = UNSTATED if op.verb == DELETE or op.new is None else op.new.attrs
    have, want = (tunnel_vnis(attrs.get("tunnels") or "") for attrs in (op.old.attrs if op.old else {}, wanted))
    untagged, tagged = numbers(wanted["untagged"]), numbers(wanted["tagged"])
    own = {wanted["pvid"]} - {0}
    native = _UNTAGGED if own & untagged else 0
    there = b"".join(
        [*_infos(untagged - own, _UNTAGGED), *_infos(tagged - own, 0), *_infos(own, _PVID | native)]
    )  # the one that is the pvid comes last: to be told without that flag is to be it no longer
    gone = b"".join(_infos(set(range(1, _LAST + 1)) - untagged - tagged, 0))
    head = IFINFOMSG.pack(AF_BRIDGE, 0, env.index(ns, ifname), 0, 0)
    side = _FLAG_SELF if len(op.ref.key) > 1 else _FLAG_MASTER
    flags = attr(_IFLA_BRIDGE_FLAGS, U16.pack(side))
    requests = (  # an entry for a VLAN that has one already is refused (EEXIST)
        (RTM_DELLINK, b"".join(_tunnel_infos(dict(have.items() - want.items())))),
        (RTM_SETLINK, there),
        (RTM_DELLINK, gone),
        (RTM_SETLINK, b"".join(_tunnel_infos(dict(want.items() - have.items())))),
    )
    return [Rtnl(ns, request, 0, head + nest(_IFLA_AF_SPEC, flags, vlans)) for request, vlans in requests if vlans]


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    """The fact of an RTM_NEWLINK of AF_BRIDGE, which was asked for with RTEXT_FILTER_BRVLAN_COMPRESSED."""
    if kind != RTM_NEWLINK or end - offset < IFINFOMSG.size:
        return ()
    family, _, index, _, _ = IFINFOMSG.unpack_from(data, offset)
    ifname = view.ifname(index)
    if family != AF_BRIDGE or ifname is None:
        return ()
    found = attributes(data, offset + IFINFOMSG.size, end)
    attrs = _vlans(found.get(_IFLA_AF_SPEC, b""))
    own = _IFLA_MASTER not in found or int.from_bytes(found[_IFLA_MASTER][:4], "little") == index
    ref = Ref("bridge_vlan", view.ns, (ifname, "self") if own else (ifname,))
    return () if attrs == UNSTATED else (Fact(ref, attrs, STATIC),)


def _vlans(spec: bytes) -> dict[str, Any]:
    pvid, first, begun = 0, 0, (0, 0)
    vnis: dict[int, int] = {}
    found: dict[int, set[int]] = {0: set(), _UNTAGGED: set()}
    for nla, value in attribute_list(spec):
        if nla == _IFLA_BRIDGE_VLAN_TUNNEL_INFO and (told := _tunnel(value)):
            vid, vni, flags = told
            if flags & _BEGIN:
                begun = vid, vni
                continue
            low, number = begun if flags & _END else (vid, vni)
            vnis.update((each, number + each - low) for each in range(low, min(vid, _LAST) + 1))
        if nla != _IFLA_BRIDGE_VLAN_INFO or len(value) < _INFO.size:
            continue
        flags, vid = _INFO.unpack_from(value)
        if flags & _PVID:
            pvid = vid
        if flags & _BEGIN:
            first = vid
            continue
        found[flags & _UNTAGGED].update(range(first if flags & _END else vid, min(vid, _LAST) + 1))
    attrs = {"pvid": pvid, "untagged": ranges(found[_UNTAGGED]), "tagged": ranges(found[0])}
    return {**attrs, "tunnels": tunnels(vnis)} if vnis else attrs


def _tunnel(entry: bytes) -> tuple[int, int, int] | None:
    """VLAN, VNI and flags."""
    found = attributes(entry)
    if len(found.get(_ID, b"")) != 4 or len(found.get(_VID, b"")) != 2:
        return None
    flags = found.get(_TUNNEL_FLAGS, b"\0\0")
    return U16.unpack(found[_VID]), U32.unpack(found[_ID]), int.from_bytes(flags, "little")


def takes(change: Change, live: Live) -> Iterator[Ref]:
    """What is said of the VLANs that go."""
    after = UNSTATED if change.action == DELETE or change.desired is None else change.desired.attrs
    stay = numbers(after["untagged"]) | numbers(after["tagged"])
    for fact in live.on(link(change.ref.ns, change.ref.key[0])):
        if fact.ref.kind == "vlan_state" and fact.ref.key[1] not in stay:
            yield fact.ref


def requires(fact: Fact, _: DesiredView) -> Iterable[Ref]:
    """Its link; and where it has tunnels, the port's `vlan_tunnel`."""
    yield link(fact.ref.ns, fact.ref.key[0])
    if fact.attrs.get("tunnels"):
        yield Ref("port", fact.ref.ns, fact.ref.key)


def describe(fact: Fact) -> str:
    """As `bridge vlan` has them: `pvid 10 untagged 10 tagged 20-22`."""
    return " ".join(f"{name} {value}" for name in (*UNSTATED, "tunnels") if (value := fact.attrs.get(name)))


BRIDGE_VLAN: Final = Kind(
    "bridge_vlan",
    encode,
    decode,
    requires,
    partial(but_for_rare, frozenset({"tunnels"})),
    takes=takes,
    describe=describe,
)

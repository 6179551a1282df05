"""Forwarding database entries (bridge(8), linux/neighbour.h): of VXLAN devices, and by hand of others.

The key is (ifname, mac, ""), or (ifname, zeros, dst) for a VXLAN's flood entries, which stand side by side; those for
one VNI of a device that has many, with `src_vni 1000` behind. What someone set by hand on another kind of device has (ifname, mac, "master") in its bridge's table, (ifname, mac,
"self") in the device's own. The kernel keeps no protocol for these: none is ever `tagged`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import add
from typing import Any, Final

from topo.changes import DELETE, UPDATE, Env, Op, Rtnl
from topo.facts import FOREIGN, STATIC, Fact, Ref, link
from topo.kinds.alike import Block, Expected, columns, new_fact, new_ref, sorted_by
from topo.kinds.kind import DesiredView, Kind, View
from topo.wire import (
    AF_BRIDGE,
    BE16,
    MAC,
    NDMSG,
    NLATTR,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_DELNEIGH,
    RTM_NEWNEIGH,
    U16,
    U32,
    attr,
    attr_u32,
    attributes,
    pack_ip,
    pack_ips,
    pack_macs,
    unpack_ip,
    unpack_ips,
)

NDA_DST, NDA_LLADDR, NDA_VLAN, NDA_PORT, NDA_VNI, NDA_IFINDEX, NDA_MASTER, NDA_SRC_VNI = 1, 2, 5, 6, 7, 8, 9, 11
NTF_SELF, NTF_MASTER, NTF_EXT_LEARNED = 0x02, 0x04, 0x10
NUD_REACHABLE, NUD_NOARP, NUD_PERMANENT = 0x02, 0x40, 0x80
_STATE: Final = NUD_PERMANENT | NUD_NOARP  # what bridge(8) writes for `permanent`
_STATES: Final = {"master": NUD_NOARP, "self": NUD_PERMANENT}
_FLAGS: Final = {"master": NTF_MASTER, "self": NTF_SELF}
FLOOD: Final = "00:00:00:00:00:00"
_ZEROS: Final = bytes(6)
_ATTRIBUTES: Final = frozenset({NDA_DST, NDA_LLADDR, 3})  # and NDA_CACHEINFO
_FIRST: Final = NLATTR.pack(10, NDA_LLADDR)  # the kernel writes it first, in 12 bytes
_SECOND: Final = NLATTR.pack(8, NDA_MASTER)


def in_vni(number: int | None) -> str:
    """What the key has behind it of an entry for one VNI of several."""
    return f"src_vni {number}"


def _is_group(mac: str) -> bool:
    """Whether entries of this address stand side by side: the flood entries, and those of multicast addresses."""
    return mac == FLOOD or int(mac[:2], 16) & 1 == 1


def _body(ref: Ref, attrs: Mapping[str, Any], env: Env) -> bytes:
    ifname, mac, where = ref.key[:3]
    index = env.index(ref.ns, ifname)
    if where in _STATES:
        body = NDMSG.pack(AF_BRIDGE, index, _STATES[where], _FLAGS[where], 0) + attr(NDA_LLADDR, MAC.pack(mac))
        return body + (attr(NDA_VLAN, U16.pack(attrs["_vlan"])) if attrs.get("_vlan") else b"")
    state = attrs.get("_state", _STATE)
    body = NDMSG.pack(AF_BRIDGE, index, state, NTF_SELF | attrs.get("_flags", 0), 0)
    body += attr(NDA_LLADDR, MAC.pack(mac)) + attr(NDA_DST, pack_ip(attrs["dst"]))
    if attrs.get("port"):
        body += attr(NDA_PORT, BE16.pack(attrs["port"]))
    if attrs.get("vni") is not None:
        body += attr_u32(NDA_VNI, attrs["vni"])
    for word in ref.key[3:]:
        body += attr_u32(NDA_SRC_VNI, int(word[8:]))
    return body + (attr_u32(NDA_IFINDEX, env.index(ref.ns, attrs["_via"])) if attrs.get("_via") else b"")


def encode(op: Op, env: Env) -> list[Rtnl]:
    ref, ns = op.ref, op.ref.ns
    gone = [Rtnl(ns, RTM_DELNEIGH, 0, _body(ref, op.old.attrs, env))] if op.old else []
    if op.verb == DELETE:
        return gone
    assert op.new is not None
    body = _body(ref, op.new.attrs, env)
    if ref.key[2] == "self":  # the kernel knows no replacing in a device's own list
        return [Rtnl(ns, RTM_NEWNEIGH, NLM_F_CREATE, body)]
    if ref.key[2] != "master" and _is_group(ref.key[1]):
        made = Rtnl(ns, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, body)
        return [made, *gone] if op.verb == UPDATE else [made]
    # Never exclusive: the device may have learned the address already, and a learned entry is no one's.
    return [Rtnl(ns, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body)]


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    if end - offset < NDMSG.size:
        return ()
    family, index, state, flags, _ = NDMSG.unpack_from(data, offset)
    if family != AF_BRIDGE or not state & (NUD_NOARP | NUD_PERMANENT):
        return ()
    if _of_kernel(data, offset + NDMSG.size, end, state, flags):
        return ()
    found = attributes(data, offset + NDMSG.size, end)
    ifname, lladdr = view.ifname(index), found.get(NDA_LLADDR, b"")
    if ifname is None or len(lladdr) != 6:
        return ()
    mac = MAC.unpack(lladdr)
    if len(found.get(NDA_DST, b"")) in (4, 16):
        return _of_vxlan(ifname, mac, state, flags, found, view)
    if lladdr[0] & 1 or flags & NTF_EXT_LEARNED or mac == FLOOD:
        return ()
    attrs: dict[str, Any] = {}
    if flags & NTF_SELF:
        # The kernel itself puts addresses of macvlans there: whoever reads drops those that are a link's.
        where, attrs["_self"] = "self", True
    elif state == NUD_NOARP and NDA_MASTER in found:
        where = "master"
    else:  # a bridge's local entries: addresses of its ports
        return ()
    key: tuple[str, ...] = (ifname, mac, where)
    if len(found.get(NDA_VLAN, b"")) == 2:
        attrs["_vlan"] = U16.unpack(found[NDA_VLAN])
        key += (f"vlan {attrs['_vlan']}",)
    return (Fact(Ref("fdb", view.ns, key), attrs, STATIC),)


def _of_kernel(data: bytes, at: int, end: int, state: int, flags: int) -> bool:
    """Whether it is one of the entries that each port of a bridge has by itself, without a walk over its attributes:
    groups in the device's own list, and in the bridge's table the address of the port."""
    if data[at : at + 4] != _FIRST:
        return False
    if end - at == 12:
        return data[at + 4] & 1 == 1
    return state == NUD_PERMANENT and not flags & NTF_SELF and data[at + 12 : at + 16] == _SECOND


def _of_vxlan(ifname: str, mac: str, state: int, flags: int, found: dict[int, bytes], view: View) -> tuple[Fact, ...]:
    dst = unpack_ip(found[NDA_DST])
    attrs: dict[str, Any] = {"dst": dst, "_state": state}
    if len(found.get(NDA_PORT, b"")) == 2:
        attrs["port"] = BE16.unpack(found[NDA_PORT])
    if len(found.get(NDA_VNI, b"")) == 4:
        attrs["vni"] = U32.unpack(found[NDA_VNI])
    if len(found.get(NDA_IFINDEX, b"")) == 4 and (via := view.ifname(U32.unpack(found[NDA_IFINDEX]))):
        attrs["_via"] = via
    learned = flags & NTF_EXT_LEARNED
    if learned:
        attrs["_flags"] = learned
    foreign = learned or _is_default(mac, dst, state)
    key: tuple[str, ...] = (ifname, mac, dst if _is_group(mac) else "")
    if len(found.get(NDA_SRC_VNI, b"")) == 4:
        key += (in_vni(U32.unpack(found[NDA_SRC_VNI])),)
    ref = Ref("fdb", view.ns, key)
    return (Fact(ref, attrs, FOREIGN if foreign else STATIC),)


def decode_alike(block: Block, view: View, expected: Expected) -> list[Fact] | None:
    """As `decode`, of a VXLAN's unicast entries that were made alike."""
    found = columns(block, NDMSG, (NDA_LLADDR, NDA_DST), _ATTRIBUTES)
    if found is None or not {NDA_LLADDR, NDA_DST} <= found.values.keys():
        return None
    family, index, state, flags, _ = found.header
    ifname, ns = view.ifname(index), view.ns
    macs, ips = found.values[NDA_LLADDR], found.values[NDA_DST]
    made = family == AF_BRIDGE and state & (NUD_NOARP | NUD_PERMANENT) and not flags & NTF_EXT_LEARNED
    if not made or ifname is None or len(macs[0]) != 6 or len(ips[0]) not in (4, 16):
        return None
    if any(mac[0] & 1 for mac in macs) or _ZEROS in macs:
        return None
    if state == _STATE and not (more := expected.take(("fdb", ns, ifname), macs, ips)):
        return []
    if state == _STATE:
        macs, ips = ([values[i] for i in more] for values in (macs, ips))
    return [
        new_fact((new_ref(("fdb", ns, (ifname, mac.hex(":"), ""))), {"dst": ip, "_state": state}, STATIC))
        for mac, ip in zip(macs, unpack_ips(ips), strict=True)
    ]


def expect(facts: Sequence[Fact], expected: Expected) -> None:
    """Note the unicast entries of VXLANs of which nothing is stated but where they lead."""
    keys = [fact[0][2] for fact in facts]
    names, places, stated = [key[0] for key in keys], [key[2:] for key in keys], [len(fact[1]) for fact in facts]
    for (name, place, number), plain in sorted_by(facts, names, places, stated):
        if place == ("",) and number == 1:
            macs, ips = pack_macs([fact[0][2][1] for fact in plain]), pack_ips([fact[1]["dst"] for fact in plain])
            expected.add(("fdb", plain[0][0][1], name), map(add, macs, ips), plain)


def _is_default(mac: str, dst: str, state: int) -> bool:
    """Whether this entry came with the device (its `group` or `remote`).

    The kernel makes it REACHABLE and PERMANENT; a later flood entry changes the state of all, but what
    leads to a group is the device's own also then.
    """
    to_group = dst.startswith("ff") if ":" in dst else 224 <= int(dst.partition(".")[0]) < 240
    return mac == FLOOD and (to_group or state == NUD_REACHABLE | NUD_PERMANENT)


def compare(desired: Fact, live: Fact) -> tuple[str, ...]:
    """The attributes that differ; a `vni` or `port` that is not stated is the device's own."""
    want, have = desired.attrs.get, live.attrs.get
    if want("dst") == have("dst") and want("vni") == have("vni") and want("port") == have("port"):
        return ()
    return tuple(name for name in ("dst", "vni", "port") if want(name) != have(name))


def requires(fact: Fact, desired: DesiredView) -> Iterable[Ref]:
    ns, key = fact.ref.ns, fact.ref.key
    home = link(ns, key[0])
    if len(key) < 4 or not key[3].startswith("src_vni "):
        return (home,)
    return home, Ref("vni", ns, (key[0], int(key[3][8:])))


def describe(fact: Fact) -> str:
    words = ((name, fact.attrs.get(name)) for name in ("dst", "vni", "port"))
    return " ".join(f"{name} {value}" for name, value in words if value is not None)


FDB: Final = Kind("fdb", encode, decode, requires, compare, describe=describe, decode_alike=decode_alike, expect=expect)

"""A detour round the moment in which a NIC becomes a port of a bridge, or is one no longer: nothing that comes in is lost.

While the bridge's receive handler is there and the port does not forward, the kernel drops what the NIC receives
(net/bridge/br_if.c, br_input.c). A program on the tcx hook comes before that handler (net/core/dev.c,
__netif_receive_skb_core), and hands to the bridge itself what is the host's. It goes with its descriptor, even if topo is
killed. A classifier under clsact would do the same, but to add one stops the NIC from sending (qdisc_graft).

What comes in over the bridge while the routes still lead over the NIC passes a loose rp_filter, but only on a device that
has an IPv4 address (fib_validate_source). So where there is such a filter it gets one for so long: 192.0.0.8, the dummy
address of RFC 7600.

A bridge without a carrier sends nothing until the kernel has noticed its first port. So one that takes a NIC over gets a
pair of veth first, whose links bear the topology's mark.

Nothing of this is needed for the handover to succeed: where the kernel refuses it, some 0.1 ms of traffic are at risk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from topo.changes import CREATE, DELETE, UPDATE, Env, Op, Rtnl
from topo.errors import KernelError
from topo.facts import Ref, link
from topo.kernel import bpf, rtnl, sysctl
from topo.kernel.spaces import Space, Spaces
from topo.kinds.address import split
from topo.kinds.ifla import (
    IFF_UP,
    IFLA_GROUP,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MASTER,
    ONE_QUEUE,
    body,
)
from topo.kinds.veth import VETH_INFO_PEER
from topo.wire import (
    AF_INET,
    AF_INET6,
    IFADDRMSG,
    IFINFOMSG,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTMSG,
    U32,
    attr,
    attr_str,
    attr_u32,
    attributes,
    message,
    nest,
    pack_ip,
)

_IFLA_OPERSTATE, _IFLA_AF_SPEC, _IFLA_INET_CONF, _RP_FILTER = 16, 26, 1, 8  # linux/if_link.h, linux/ip.h
_IF_OPER_UP: Final = 6  # linux/if.h
_LOOSE: Final = 2
_CARRIER: Final = 1.0  # seconds that the kernel may take to notice the carrier of a port; nothing has been touched yet
_USABLE: Final = 5.0  # seconds that it may take to make an IPv6 address usable; the link that it leaves has it as well
_RTA_DST, _RTA_OIF, _LOCAL_TABLE = 1, 4, 255  # linux/rtnetlink.h
_NEW: Final = NLM_F_CREATE | NLM_F_EXCL

_DUMMY: Final = "192.0.0.8"
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS, _IFA_RT_PRIORITY, _NOPREFIXROUTE = 1, 2, 8, 9, 0x200  # linux/if_addr.h
_WAS: Final = 0x746F7000  # the metric of the dummy address, with what the filter was in the last bits


class Detour(NamedTuple):
    nic: Ref
    bridge: Ref
    taking: bool


@dataclass(slots=True)
class Way:
    """A detour that is open. The kernel may refuse any of its requests: `behind` goes in one send with the handover, `afterwards` when the program, if there is one, has been closed."""

    program: int | None
    target: Ref
    behind: list[Rtnl]
    afterwards: list[Rtnl]
    awaited: set[bytes] = field(default_factory=set)

    def expect(self, op: Op) -> bool:
        """Whether the addresses that were made so far are to be `await_addresses`, ahead of `op`."""
        if op.ref.kind == "address" and op.verb == CREATE and ":" in op.ref.key[1]:
            self.awaited.add(pack_ip(split(op.ref)[0]))
        return op.verb == DELETE and bool(self.awaited)

    def await_addresses(self, spaces: Spaces) -> None:
        """The kernel adds the local route of an IPv6 address by a work queue (addrconf_dad_work), even if it is not to be
        probed: until then what is sent to it is nobody's, unless the link that it came from still has it."""
        space, until = spaces.get(self.target.ns), time.monotonic() + _USABLE
        index = space.indexes[self.target.key[0]]
        while self.awaited - _local(space, index) and time.monotonic() < until:
            time.sleep(0.001)
        self.awaited.clear()

    def close(self) -> None:
        if self.program is not None:
            os.close(self.program)


def detours(ops: Iterable[Op]) -> dict[Ref, Detour]:
    """By the NIC: where addresses move between it and a bridge whose port it becomes, or is no longer."""
    ops = list(ops)
    gets = {link(op.ref.ns, op.ref.key[0]) for op in ops if op.ref.kind == "address" and op.verb == CREATE}
    found: dict[Ref, Detour] = {}
    for op in ops if gets else ():
        if op.ref.kind == "link" and op.verb == UPDATE and "master" in op.attrs and op.new and op.old:
            now, was = op.new.attrs.get("master"), op.old.attrs.get("master")
            if now and not was and (bridge := link(op.ref.ns, now)) in gets:
                found[op.ref] = Detour(op.ref, bridge, True)
            elif was and not now and op.ref in gets:
                found[op.ref] = Detour(op.ref, link(op.ref.ns, was), False)
    return found


def begins(detour: Detour, op: Op) -> bool:
    """Whether `op`, which is on the NIC, is the first of its handover (planning.underlay.steps)."""
    if detour.taking:
        return op.ref.kind == "link" and "master" in op.attrs
    return op.ref.kind == "address" and op.verb == CREATE


def open_way(spaces: Spaces, env: Env, detour: Detour) -> Way | None:
    """Make the bridge ready and the program work; None where nothing can come in over it: it is down, or gone already."""
    ns, bridge_name = detour.nic.ns, detour.bridge.key[0]
    space = spaces.enter(ns)
    try:
        nic, bridge = env.index(ns, detour.nic.key[0]), env.index(ns, bridge_name)
        if not _state(space, bridge)[0]:
            return None
    except KernelError:
        return None
    pair = _give_carrier(space, env, bridge) if detour.taking else []
    before, after = [], list(pair)
    own, both = (int(sysctl.read(f"net/ipv4/conf/{name}/rp_filter") or 0) for name in (bridge_name, "all"))
    if max(own, both):
        own = _left(space, bridge, own)
        before = [Rtnl(ns, RTM_NEWADDR, _NEW, _dummy(bridge, own)), _rp_filter(ns, bridge, _LOOSE)]
        after = [_rp_filter(ns, bridge, own), Rtnl(ns, RTM_DELADDR, 0, _dummy(bridge, own)), *pair]
    if before:
        rtnl.send(space.sock, [message(r.type, r.flags, 0, r.body) for r in before])  # ahead of the first frame
    program = None
    with suppress(OSError):
        program = bpf.redirect(nic, bridge)
    if detour.taking:
        return Way(program, detour.bridge, after, [])
    return Way(program, detour.nic, [], after)


def _local(space: Space, index: int) -> set[bytes]:
    """The IPv6 addresses that the kernel takes for its own by way of this link."""
    wanted = RTMSG.pack(AF_INET6, 0, 0, 0, _LOCAL_TABLE, 0, 0, 0, 0) + attr_u32(_RTA_OIF, index)
    found = (attributes(data, at + RTMSG.size, end) for _, data, at, end in rtnl.dump(space.sock, RTM_GETROUTE, wanted))
    return {attrs[_RTA_DST] for attrs in found if _RTA_DST in attrs and U32.unpack(attrs[_RTA_OIF]) == index}


def _state(space: Space, index: int) -> tuple[bool, bool]:
    data, at, end = rtnl.ask(space.sock, RTM_GETLINK, body(index))
    operstate = attributes(data, at + IFINFOMSG.size, end).get(_IFLA_OPERSTATE, b"\0")[0]
    return bool(IFINFOMSG.unpack_from(data, at)[3] & IFF_UP), operstate == _IF_OPER_UP


def _give_carrier(space: Space, env: Env, bridge: int) -> list[Rtnl]:
    """Plug a pair of veth into the bridge, and wait for its carrier; the request that takes it away again."""
    ns, names, mark = space.name, (f"topo{bridge}a", f"topo{bridge}b"), attr_u32(IFLA_GROUP, env.mark)
    if names[0] in space.indexes:  # a killed run left it: it is to go, and does as well until then
        return []
    port, other = (env.assign(ns, name) for name in names)
    end = body(other, attr_str(IFLA_IFNAME, names[1]), mark, ONE_QUEUE)
    info = nest(IFLA_LINKINFO, attr_str(IFLA_INFO_KIND, "veth"), nest(IFLA_INFO_DATA, attr(VETH_INFO_PEER, end)))
    parts = (attr_str(IFLA_IFNAME, names[0]), mark, attr_u32(IFLA_MASTER, bridge), ONE_QUEUE, info)
    made = message(RTM_NEWLINK, _NEW, 0, body(port, *parts, up=True))
    rtnl.send(space.sock, [made, message(RTM_NEWLINK, 0, 0, body(other, up=True))])
    for name in names:
        space.marked.discard(space.indexes.pop(name))
    until = time.monotonic() + _CARRIER
    while not _state(space, bridge)[1] and time.monotonic() < until:
        time.sleep(0.001)
    return [Rtnl(ns, RTM_DELLINK, 0, body(port))]


def _rp_filter(ns: str, index: int, value: int) -> Rtnl:
    """IFLA_INET_CONF writes what is in /proc/sys/net/ipv4/conf (inet_set_link_af in net/ipv4/devinet.c)."""
    conf = nest(AF_INET, nest(_IFLA_INET_CONF, attr_u32(_RP_FILTER, value)))
    return Rtnl(ns, RTM_NEWLINK, 0, body(index, nest(_IFLA_AF_SPEC, conf)))


def _dummy(index: int, was: int) -> bytes:
    address = pack_ip(_DUMMY)
    head = IFADDRMSG.pack(AF_INET, 32, 0, 0, index)
    return b"".join((
        head, attr(_IFA_LOCAL, address), attr(_IFA_ADDRESS, address), attr_u32(_IFA_FLAGS, _NOPREFIXROUTE),
        attr_u32(_IFA_RT_PRIORITY, _WAS | was),
    ))  # fmt: skip


def _left(space: Space, bridge: int, own: int) -> int:
    """What the bridge's filter was before a run that was killed within a handover; `own` where there was none."""
    for _, data, at, end in rtnl.dump(space.sock, RTM_GETADDR, IFADDRMSG.pack(AF_INET, 0, 0, 0, bridge)):
        attrs = attributes(data, at + IFADDRMSG.size, end)
        if IFADDRMSG.unpack_from(data, at)[4] == bridge and attrs.get(_IFA_LOCAL) == pack_ip(_DUMMY):
            metric = U32.unpack(attrs[_IFA_RT_PRIORITY]) if _IFA_RT_PRIORITY in attrs else 0
            own = metric ^ _WAS if metric & ~3 == _WAS else own
    return own


def mending(op: Op, env: Env) -> Rtnl | None:
    """What goes along with a dummy address that a killed run left: the filter is again what it was."""
    if op.ref.key[1] != f"{_DUMMY}/32" or op.old is None or (metric := op.old.attrs.get("_priority") or 0) & ~3 != _WAS:
        return None
    ns, (ifname, _) = op.ref[1:]
    if env.desired(Ref("sysctl", ns, (f"net/ipv4/conf/{ifname}/rp_filter",))):  # which is the file's to say
        return None
    return _rp_filter(ns, env.index(ns, ifname), metric ^ _WAS)

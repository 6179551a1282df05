"""Warn where forwarding goes back to off though others have come to need it meanwhile.

Docker, CNI and libvirt switch it on where it is off, and take it for granted where it is on; no one keeps count. So the
signs are two. A bridge of others has an address and a port, and the host's way out is not on it: its ports can
get out by forwarding only. Or a rule of others masquerades: what it translates was forwarded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from topo.changes import PUT_BACK, Change
from topo.errors import KernelError
from topo.facts import HOST, marked
from topo.kernel import rtnl, xtables
from topo.kernel.foreign_drops import uplink
from topo.kernel.nft_chains import masquerading
from topo.kernel.spaces import Space, Spaces
from topo.kernel.verdicts import IPV4, IPV6
from topo.kinds.ifla import IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER
from topo.kinds.nft import table_name
from topo.wire import (
    AF_INET,
    AF_INET6,
    IFADDRMSG,
    IFINFOMSG,
    RTM_GETADDR,
    RTM_GETLINK,
    STR,
    U32,
    attr,
    attr_str,
    attr_u32,
    attributes,
)

_FAMILIES: Final = {
    "net/ipv4/ip_forward": 4,
    "net/ipv4/conf/all/forwarding": 4,  # another name of it
    "net/ipv6/conf/all/forwarding": 6,
}
_BRIDGES: Final = IFINFOMSG.pack(0, 0, 0, 0, 0) + attr(IFLA_LINKINFO, attr_str(IFLA_INFO_KIND, "bridge"))
_UNIVERSE: Final = 0  # RT_SCOPE_UNIVERSE
_OURS: Final = table_name("")
_MOST: Final = 5  # names


def warnings(spaces: Spaces, changes: Sequence[Change]) -> list[str]:
    """One line for each sysctl that others seem to need. Raises nothing: it is only a warning."""
    found: list[str] = []
    for change in changes:
        if change.ref.kind != "sysctl" or change.reason != PUT_BACK or change.desired is None:
            continue
        path, ns = str(change.ref.key[0]), change.ref.ns
        if path in _FAMILIES and change.desired.attrs["value"] == "0" and ns in spaces.open:
            try:
                with spaces.away():
                    signs = list(_signs(spaces, ns, _FAMILIES[path]))
            except (KernelError, OSError):
                continue
            if signs:
                found.append(_words(path, ns, signs))
    return found


def _signs(spaces: Spaces, ns: str, family: int) -> Iterator[str]:
    """Who seems to need forwarding."""
    space = spaces.enter(ns)
    names = sorted(_bridges(space, family, uplink(spaces, ns, family)))
    if names:
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        yield f"{'bridges' if names[1:] else 'bridge'} {', '.join(names[:_MOST])}{more}"
    nfproto = IPV4 if family == 4 else IPV6
    tables = [
        table for table in masquerading(spaces.netfilter(ns), nfproto) if not table.partition(" ")[2].startswith(_OURS)
    ]
    tables += [f"nat of {xtables.PROGRAMS[nfproto]}"] * xtables.masquerades(nfproto)
    if tables:
        yield f"masquerading by table {', '.join(tables[:_MOST])}"


def _bridges(space: Space, family: int, way_out: str) -> Iterator[str]:
    """Bridges that no topology made, with an address of this family and a port."""
    body = IFADDRMSG.pack(AF_INET if family == 4 else AF_INET6, 0, 0, 0, 0)
    there = [IFADDRMSG.unpack_from(data, at) for _, data, at, _ in rtnl.dump(space.sock, RTM_GETADDR, body)]
    addressed = {index for _, _, _, scope, index in there if scope == _UNIVERSE}
    for _, data, at, end in rtnl.dump(space.sock, RTM_GETLINK, _BRIDGES) if addressed else ():
        index = IFINFOMSG.unpack_from(data, at)[2]
        found = attributes(data, at + IFINFOMSG.size, end)
        name = STR.unpack(found[IFLA_IFNAME])
        if index not in addressed or name == way_out or marked(U32.unpack(found[IFLA_GROUP])):
            continue
        if rtnl.dump(space.sock, RTM_GETLINK, IFINFOMSG.pack(0, 0, 0, 0, 0) + attr_u32(IFLA_MASTER, index)):
            yield name


def _words(path: str, ns: str, signs: list[str]) -> str:
    where = "" if ns == HOST else f" in namespace {ns}"
    name = path.replace("/", ".")
    return (
        f"{path}{where} goes back to 0, as it was before, but others there seem to need it by now: {'; '.join(signs)}; "
        f"if they do, switch it on again afterwards: sysctl -w {name}=1"
    )

"""RTM_NEWLINK to facts: a link, its bridge port settings where they are not the kernel's defaults, and from `lo`
its namespace. The hot path of reading: one walk over the attributes, and nothing decoded that is not compared.

What one namespace does not tell is left for `join`, which the reader calls when all of them are read: a live
veth's `peer`, a macvlan's `parent`, a vxlan's `dev` and `created_in`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from topo.facts import FOREIGN, OWN, Fact, Ref, doomed
from topo.kinds.ifla import (
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_GROUP,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_TXQLEN,
    Selection,
)
from topo.kinds.kind import LinkKind, View
from topo.kinds.link_kinds import LINK_KINDS
from topo.kinds.port import decode as decode_port
from topo.wire import IFINFOMSG, RTM_NEWLINK, S32, STR, attributes

_SELECTED: Final = Selection(
    {IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_TXQLEN}
    | {IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_LINK_NETNSID}
)
_UINT: Final = struct.Struct("=I").unpack_from


def decode(kind: int, data: bytes, offset: int, end: int, view: View) -> Iterable[Fact]:
    """The facts of one RTM_NEWLINK. Malformed messages give none."""
    if kind != RTM_NEWLINK or end - offset < IFINFOMSG.size:
        return ()
    family, _, index, flags, _ = IFINFOMSG.unpack_from(data, offset)
    found = _SELECTED(data, offset + IFINFOMSG.size, end)
    if family or IFLA_IFNAME not in found:  # AF_BRIDGE: the bridge's own view of its ports
        return ()
    ifname, ns = STR.unpack(found[IFLA_IFNAME]), view.ns
    group = _u32(found.get(IFLA_GROUP, b""))
    own = OWN if group == view.mark or group == doomed(view.mark) else FOREIGN
    up = bool(flags & IFF_UP)
    attrs = _link(found, index, up, group, view)
    if ifname == "lo":
        return Fact(Ref("namespace", ns), {"up": up}, own), Fact(Ref("link", ns, (ifname,)), attrs, FOREIGN)
    fact = Fact(Ref("link", ns, (ifname,)), attrs, own)
    info = attributes(found[IFLA_LINKINFO]) if IFLA_LINKINFO in found else {}
    _kind(info, attrs, view)
    port_of = info.get(IFLA_INFO_SLAVE_KIND, b"")
    if port_of[:6] == b"bridge":
        data = info.get(IFLA_INFO_SLAVE_DATA, b"")
        if port := decode_port(data, Ref("port", ns, (ifname,)), attrs.get("kind"), own):
            return fact, port
    elif port_of:
        attrs["_port_of"] = name = STR.unpack(port_of)
        if (above := LINK_KINDS.get(name)) and above.over:  # it took this one by itself
            attrs["master"] = None
            del attrs["_port_of"]
    return (fact,)


def _u32(data: bytes) -> int:
    return _UINT(data)[0] if len(data) >= 4 else 0


def _link(found: dict[int, bytes], index: int, up: bool, group: int, view: View) -> dict[str, Any]:
    """The attributes that every link has. Those with an underscore are for `join` and never compared."""
    attrs: dict[str, Any] = {"up": up, "master": None}
    if IFLA_MASTER in found:
        attrs["master"] = view.ifname(_u32(found[IFLA_MASTER]))
    attrs["mtu"] = _u32(found.get(IFLA_MTU, b""))
    if mac := found.get(IFLA_ADDRESS):
        attrs["mac"] = mac.hex(":")
    attrs["txqueuelen"] = _u32(found.get(IFLA_TXQLEN, b""))
    attrs["alias"] = STR.unpack(found[IFLA_IFALIAS]) if IFLA_IFALIAS in found else ""
    attrs["_index"] = index
    if group and group != view.mark:
        attrs["_group"] = group
    if (below := _u32(found.get(IFLA_LINK, b""))) and below != index:
        attrs["_link"] = below
    if len(nsid := found.get(IFLA_LINK_NETNSID, b"")) >= 4:
        attrs["_netnsid"] = S32.unpack(nsid)
        attrs.setdefault("_link", 0)  # a vxlan that was made elsewhere may have no device below
    return attrs


def _kind(info: dict[int, bytes], attrs: dict[str, Any], view: View) -> None:
    """The kind in IFLA_LINKINFO, and what is its own, into `attrs`."""
    if IFLA_INFO_KIND not in info:
        return
    attrs["kind"] = name = STR.unpack(info[IFLA_INFO_KIND])
    kind = LINK_KINDS.get(name)
    if kind is not None:
        if kind.below:
            attrs[kind.below] = None
        _own(kind, attributes(info.get(IFLA_INFO_DATA, b"")), attrs, view)


def _own(kind: LinkKind, data: dict[int, bytes], attrs: dict[str, Any], view: View) -> None:
    try:
        for name, nla, form, _ in kind.data:
            if nla in data:
                attrs[name] = form.unpack(data[nla])
        if kind.decode_extra:
            kind.decode_extra(data, attrs, view)
    except (struct.error, LookupError, ValueError):
        return  # shorter than its type: a malformed message states nothing more


def join(
    link: Fact,
    ifname: Callable[[str, int], str | None],
    namespace: Callable[[str, int], str | None],
) -> None:
    """Fill in what `link` holds of other devices: `peer`, `parent` or `dev`, and a vxlan's `created_in`.

    `ifname(ns, ifindex)` and `namespace(ns, nsid)` give names, None where they are not known: then the attribute
    stays None. `nsid` is what namespace `ns` calls the other one (IFLA_LINK_NETNSID).
    """
    ns, attrs = link.ref.ns, link.attrs
    there: str | None = ns
    if "_netnsid" in attrs:
        there = namespace(ns, attrs["_netnsid"])
        if attrs.get("kind") == "vxlan" and there != ns:
            attrs["created_in"] = there
    if attrs.get("_link") and there is not None:
        kind = LINK_KINDS.get(attrs.get("kind", ""))
        name = ifname(there, attrs["_link"])
        attrs[(kind and kind.below) or "parent"] = None if name is None else (there, name)

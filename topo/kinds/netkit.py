"""netkit: a pair as veth's, made for BPF programs at its ends (drivers/net/netkit.c, ip-link(8)).

One end is the primary, by which alone the kernel changes what the driver knows of either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from topo.changes import Env
from topo.facts import Fact, link
from topo.kinds.kind import Pair, View
from topo.kinds.veth import VETH
from topo.wire import BOOL, U32, Attr, attr, named

# IFLA_NETKIT_* and NETKIT_* in linux/if_link.h
_PEER_INFO, _PRIMARY, _POLICY, _PEER_POLICY, _MODE = 1, 2, 3, 4, 5
_POLICIES: Final = named(U32, {"forward": 0, "blackhole": 2})
_MODES: Final = named(U32, {"l2": 0, "l3": 1})


def replace(_desired: Fact, live: Fact) -> frozenset[str]:
    """The mode is fixed (EACCES), and the policy of the end that is not the primary cannot be set at it."""
    fixed = frozenset({"peer", "mode"})
    return fixed if live.attrs.get("_primary") else fixed | {"policy"}


def extra(attrs: Mapping[str, Any], env: Env) -> bytes:
    """What the other end is to be, when both are made."""
    peer = env.desired(link(*attrs["peer"])) if "peer" in attrs else None
    policy = peer.attrs.get("policy") if peer else None
    return attr(_PEER_POLICY, _POLICIES.pack(policy)) if policy else b""


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], _: View) -> None:
    attrs["_primary"] = BOOL.unpack(data[_PRIMARY])


NETKIT = VETH._replace(
    name="netkit",
    option="CONFIG_NETKIT",
    replace=replace,
    data=(Attr("policy", _POLICY, _POLICIES, "forward"), Attr("mode", _MODE, _MODES, "l3")),
    extra=extra,
    decode_extra=decode_extra,
    pair=Pair(_PEER_INFO),
)

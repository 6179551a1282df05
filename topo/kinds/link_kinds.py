"""Every kind of link that topo knows. A new one is its file and its line here."""

from __future__ import annotations

from typing import Final

from topo.kinds.bridge import BRIDGE
from topo.kinds.existing import EXISTING
from topo.kinds.ifb import IFB
from topo.kinds.kind import LinkKind
from topo.kinds.macvlan import MACVLAN
from topo.kinds.macvtap import MACVTAP
from topo.kinds.tap import TAP
from topo.kinds.tun import TUN
from topo.kinds.veth import VETH
from topo.kinds.vxlan import VXLAN

LINK_KINDS: Final[dict[str, LinkKind]] = {
    kind.name: kind for kind in (VETH, BRIDGE, VXLAN, MACVLAN, MACVTAP, TUN, TAP, IFB, EXISTING)
}

"""Every kind of link that topo knows. A new one is its file and its line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

from topo.kinds.kind import LinkKind


class LinkKinds(Mapping[str, LinkKind]):
    """Kinds by name. Each is imported when it is first asked for: few are met in a run, and the model of what is
    written of one takes a millisecond to make."""

    def __init__(self, homes: dict[str, str]) -> None:
        """`homes`: name -> module and variable, `macvlan.MACVLAN`."""
        self._homes = homes
        self._found: dict[str, LinkKind] = {}

    def get(self, name: str, default: Any = None) -> Any:  # not Mapping's, which raises and catches
        found = self._found.get(name)
        if found is None and name in self._homes:
            module, _, variable = self._homes[name].partition(".")
            found = self._found[name] = getattr(import_module(f"topo.kinds.{module}"), variable)
        return default if found is None else found

    def __getitem__(self, name: str) -> LinkKind:
        found: LinkKind | None = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


LINK_KINDS: Final = LinkKinds(
    {
        "veth": "veth.VETH",
        "vxcan": "vxcan.VXCAN",
        "netkit": "netkit.NETKIT",
        "bridge": "bridge.BRIDGE",
        "vxlan": "vxlan.VXLAN",
        "macvlan": "macvlan.MACVLAN",
        "macvtap": "macvtap.MACVTAP",
        "tun": "tun.TUN",
        "tap": "tap.TAP",
        "ifb": "ifb.IFB",
        "existing": "existing.EXISTING",
        "dummy": "dummy.DUMMY",
        "vlan": "vlan.VLAN",
        "ipvlan": "ipvlan.IPVLAN",
        "ipvtap": "ipvtap.IPVTAP",
        "vrf": "vrf.VRF",
        "bond": "bond.BOND",
        "geneve": "geneve.GENEVE",
        "nlmon": "nlmon.NLMON",
        "vcan": "vcan.VCAN",
        "gre": "gre.GRE",
        "gretap": "gretap.GRETAP",
        "ip6gre": "ip6gre.IP6GRE",
        "ip6gretap": "ip6gretap.IP6GRETAP",
        "ipip": "ipip.IPIP",
        "sit": "sit.SIT",
        "ip6tnl": "ip6tnl.IP6TNL",
        "vti": "vti.VTI",
        "xfrm": "xfrm.XFRM",
        "wireguard": "wireguard.WIREGUARD",
        "macsec": "macsec.MACSEC",
        "hsr": "hsr.HSR",
        "erspan": "erspan.ERSPAN",
        "ip6erspan": "ip6erspan.IP6ERSPAN",
    }
)

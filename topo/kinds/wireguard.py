"""WireGuard: an encrypted tunnel to peers (wg(8), drivers/net/wireguard); what it has beside its link is in topo.kinds.wg."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, model_validator

from topo.facts import Fact, Ref
from topo.kinds.key_fields import KeyCommand, KeyFile, source
from topo.kinds.kind import LinkKind
from topo.kinds.secret import base64_key
from topo.kinds.spec import InterfaceSpec
from topo.kinds.wg import in_order, key_text
from topo.kinds.words import canonical_ip, canonical_prefix

_MTU = 1420  # 1500 less the headers of IPv6, UDP and its own (wg_setup)


def _public_key(text: str) -> str:
    return key_text(base64_key(text))


def _endpoint(text: str) -> str:
    ip, colon, port = text.rpartition(":")
    six = ip.startswith("[") and ip.endswith("]")
    if not colon or six != (":" in ip) or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: an address and a port are expected, as 192.0.2.1:51820 or [2001:db8::1]:51820")
    ip = canonical_ip(ip[1:-1] if six else ip)
    return f"[{ip}]:{int(port)}" if six else f"{ip}:{int(port)}"


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


PublicKey = Annotated[str, AfterValidator(_public_key)]
Prefixes = Annotated[list[Annotated[str, AfterValidator(canonical_prefix)]], BeforeValidator(_list)]


class WireguardPeer(BaseModel):
    """A peer of a WireGuard interface."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    public_key: PublicKey = Field(description="its public key, as `wg pubkey` writes it")
    preshared_key_file: KeyFile | None = Field(
        None, description="the file with the key that both have beside (wg's preshared-key); unset, none"
    )
    preshared_key_command: KeyCommand | None = Field(
        None, description="a command that writes that key: a program and its arguments, without a shell"
    )
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        None,
        description="its address and UDP port, 192.0.2.1:51820 or [2001:db8::1]:51820; unset, where it was last heard "
        "from. One that roams states none",
    )
    allowed_ips: Prefixes = Field(
        default_factory=list, description="what is sent to it, and taken from it: [10.0.0.2/32, fd00::/64]"
    )
    persistent_keepalive: Annotated[StrictInt, Field(ge=0, le=65535)] | None = Field(
        None, description="seconds between packets that keep NAT open; unset, 0: none"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        source(self, "preshared_key")
        if len(set(self.allowed_ips)) < len(self.allowed_ips):
            raise ValueError("an allowed IP is there twice")
        return self


class Wireguard(InterfaceSpec):
    """A WireGuard interface. Its key is read from where the file says, and shown nowhere: plans have the public one."""

    cannot: ClassVar[Mapping[str, str]] = {"mac": "it carries IP packets without Ethernet"}

    kind: Literal["wireguard"] = Field(description="an encrypted tunnel")
    private_key_file: KeyFile | None = Field(
        None, description="the file with its private key, as `wg genkey` writes it; an absolute path"
    )
    private_key_command: KeyCommand | None = Field(
        None, description="a command that writes its private key: a program and its arguments, without a shell"
    )
    listen_port: Annotated[StrictInt, Field(ge=1, le=65535)] | None = Field(
        None, description="its UDP port (wg's listen-port); unset, one that the kernel chooses"
    )
    fwmark: Annotated[StrictInt, Field(ge=0, le=0xFFFFFFFF)] | None = Field(
        None, description="the mark of the packets that it sends, for `ip rule`; unset, 0: none"
    )
    peers: list[WireguardPeer] = Field(default_factory=list, description="whom it speaks with")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if source(self, "private_key") is None:
            raise ValueError("it needs a key: `private_key_file` or `private_key_command`")
        first: dict[str, int] = {}
        for index, peer in enumerate(self.peers):
            for what in (peer.public_key, *peer.allowed_ips):
                if (other := first.setdefault(what, index)) != index:
                    raise ValueError(f"{what} is in peers[{other}] and in peers[{index}]: it can be of one only")
        return self

    def attributes(self, ns: str) -> dict[str, Any]:
        return {}

    def beside(self, ns: str, ifname: str) -> Iterator[tuple[Fact, tuple[str | int, ...]]]:
        key = source(self, "private_key")
        assert key is not None
        attrs: dict[str, Any] = {"private_key": key, "fwmark": self.fwmark or 0}
        if self.listen_port is not None:
            attrs["listen_port"] = self.listen_port
        yield Fact(Ref("wireguard", ns, (ifname,)), attrs), (f"private_key_{key.how}",)
        for index, peer in enumerate(self.peers):
            ref = Ref("wireguard_peer", ns, (ifname, peer.public_key))
            place: tuple[str | int, ...] = ("peers", index)
            stated = {
                "preshared_key": (psk := source(peer, "preshared_key")),
                "persistent_keepalive": peer.persistent_keepalive or 0,
                "allowed_ips": in_order(peer.allowed_ips),
            }
            if psk:
                place = (*place, f"preshared_key_{psk.how}")
            if peer.endpoint:
                stated["endpoint"] = peer.endpoint
            yield Fact(ref, stated), place


WIREGUARD = LinkKind("wireguard", spec=Wireguard, option="CONFIG_WIREGUARD", mtu=_MTU)

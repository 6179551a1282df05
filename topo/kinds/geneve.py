"""GENEVE: Ethernet in UDP, point to point (RFC 8926, ip-link(8), drivers/net/geneve.c)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StrictInt

from topo.changes import Env
from topo.facts import Fact
from topo.kinds.kind import LinkKind, View
from topo.kinds.spec import InterfaceSpec, Ip
from topo.wire import BE16, IP, U8, U32, Attr, attr, in_order, named

IFLA_GENEVE_REMOTE, IFLA_GENEVE_REMOTE6 = 2, 7
_PORT: Final = 6081

DATA: Final = (
    Attr("id", 1, U32),
    Attr("ttl", 3, U8, 0),
    Attr("tos", 4, U8, 0),
    Attr("port", 5, BE16, _PORT),
    Attr("df", 13, named(U8, in_order("unset", "set", "inherit")), "unset"),
)


def replace(desired: Fact, live: Fact) -> frozenset[str]:
    """VNI and port are fixed (EOPNOTSUPP), and so is the family of the other end."""
    fixed = frozenset({"id", "port"})
    six = {":" in str(fact.attrs.get("remote")) for fact in (desired, live)}
    return fixed if len(six) == 1 else fixed | {"remote"}


def extra(attrs: Mapping[str, Any], _: Env) -> bytes:
    remote = attrs.get("remote")
    return attr(IFLA_GENEVE_REMOTE6 if ":" in remote else IFLA_GENEVE_REMOTE, IP.pack(remote)) if remote else b""


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], _: View) -> None:
    if remote := data.get(IFLA_GENEVE_REMOTE) or data.get(IFLA_GENEVE_REMOTE6):
        attrs["remote"] = IP.unpack(remote)


def claims(fact: Fact) -> Iterator[tuple[Any, ...]]:
    """One device for a VNI and another end on a port (geneve_find_dev: EBUSY)."""
    attrs = fact.attrs
    if "id" in attrs:
        yield "geneve", fact.ref.ns, attrs["id"], attrs.get("remote"), attrs.get("port", _PORT)


class Geneve(InterfaceSpec):
    """A GENEVE device."""

    kind: Literal["geneve"] = Field(description="Ethernet in UDP to one other end")
    id: Annotated[StrictInt, Field(ge=0, le=0xFFFFFF)] = Field(description="its VNI")
    remote: Ip = Field(description="address of the other end")
    port: Annotated[StrictInt, Field(ge=1, le=65535)] | None = Field(None, description="UDP port; unset, 6081")
    ttl: Annotated[StrictInt, Field(ge=0, le=255)] | None = Field(
        None, description="TTL of the outer packet; 0 is the kernel's choice"
    )
    tos: Annotated[StrictInt, Field(ge=0, le=255)] | None = Field(
        None, description="TOS of the outer packet; 1 is that of the inner one"
    )
    df: Literal["unset", "set", "inherit"] | None = Field(None, description="the outer packet's don't-fragment flag")


GENEVE = LinkKind(
    "geneve",
    spec=Geneve,
    option="CONFIG_GENEVE",
    data=DATA,
    replace=replace,
    one_queue=True,
    mtu=None,
    extra=extra,
    more=frozenset({"remote"}),
    decode_extra=decode_extra,
    claims=claims,
)

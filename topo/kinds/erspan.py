"""ERSPAN: mirrored Ethernet frames in GRE (draft-foschiano-erspan, net/ipv4/ip_gre.c).

The driver takes sequence numbers and the key, which is the session, for both directions, and no checksums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StrictInt, model_validator

from topo.changes import Env
from topo.kinds.kind import LinkKind, in_place
from topo.kinds.tunnel import IFLA_GRE, KEYS, Outer4, TunnelSpec, over4
from topo.wire import U8, U16, U32, Attr, in_order, named

Session = Annotated[StrictInt, Field(ge=0, le=1023)]
DATA: Final = (  # IFLA_GRE_ERSPAN_*; an update leaves them as they are where it says nothing
    Attr("erspan_index", 21, U32),
    Attr("erspan_ver", 22, U8),
    Attr("erspan_dir", 23, named(U8, in_order("ingress", "egress"))),
    Attr("erspan_hwid", 24, U16),
)


def mirrored(shape: LinkKind) -> LinkKind:
    """A keyed tunnel whose keys and flags are those of ERSPAN."""
    inner, keys = shape.extra, {"ikey", "okey"}
    assert inner is not None

    def extra(attrs: Mapping[str, Any], env: Env) -> bytes:
        return inner({**attrs, "iseq": True, "oseq": True} if keys & attrs.keys() else attrs, env)

    more = (shape.more - KEYS) | keys
    unstated = {name: value for name, value in shape.unstated.items() if name not in KEYS}
    return shape._replace(replace=in_place, data=(*shape.data, *DATA), extra=extra, more=more, unstated=unstated)


class ErspanSettings(TunnelSpec):
    """What erspan and ip6erspan have in common."""

    key: Session = Field(description="the session, 0 to 1023, of both directions")
    erspan_ver: Literal[1, 2] = Field(1, description="its version: 1 is type II, 2 is type III")
    erspan: Annotated[StrictInt, Field(ge=0, le=0xFFFFF)] | None = Field(
        None, description="index of the mirrored port, in version 1; unset, 0"
    )
    erspan_dir: Literal["ingress", "egress"] | None = Field(
        None, description="which traffic is mirrored, in version 2; unset, ingress"
    )
    erspan_hwid: Annotated[StrictInt, Field(ge=0, le=63)] | None = Field(
        None, description="id of the mirroring engine, in version 2; unset, 0"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for name in ("erspan_dir", "erspan_hwid") if self.erspan_ver == 1 else ("erspan",):
            if getattr(self, name) is not None:
                raise ValueError(f"version {self.erspan_ver} has no `{name}`")
        return self

    def attributes(self, ns: str) -> dict[str, Any]:
        stated = super().attributes(ns)
        key, index = stated.pop("key"), stated.pop("erspan", 0)
        if self.erspan_ver == 1:
            stated["erspan_index"] = index
        else:
            stated = {"erspan_dir": "ingress", "erspan_hwid": 0, **stated}
        return {"ikey": key, "okey": key, **stated}


class Erspan(ErspanSettings, Outer4):
    """An ERSPAN session."""

    kind: Literal["erspan"] = Field(description="mirrored Ethernet frames in GRE over IPv4")


ERSPAN = mirrored(over4(IFLA_GRE, keyed=True))._replace(name="erspan", spec=Erspan, option="CONFIG_NET_IPGRE")

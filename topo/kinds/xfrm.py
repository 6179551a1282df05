"""XFRM: an interface whose packets IPsec policies with its number protect (ip-link(8), net/xfrm/xfrm_interface_core.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StrictInt

from topo.facts import Fact
from topo.kinds.tunnel import TUNNEL, TunnelSpec, device
from topo.wire import U32, Attr


def fixed(_desired: Fact, _live: Fact) -> frozenset[str]:
    return frozenset({"if_id", "link"})


def claims(fact: Fact) -> Iterator[tuple[Any, ...]]:
    """A number is in a namespace once (xfrmi_newlink: EEXIST)."""
    yield "xfrm", fact.ref.ns, fact.attrs.get("if_id")


class Xfrm(TunnelSpec):
    """An XFRM interface."""

    cannot = TunnelSpec.flat

    kind: Literal["xfrm"] = Field(description="an interface of IPsec policies that bear its number")
    if_id: Annotated[StrictInt, Field(ge=1, le=0xFFFFFFFF)] = Field(description="the number")


XFRM = TUNNEL._replace(
    name="xfrm",
    spec=Xfrm,
    option="CONFIG_XFRM_INTERFACE",
    data=(Attr("if_id", 2, U32),),
    replace=fixed,
    whole=False,
    extra=device(1),
    claims=claims,
)

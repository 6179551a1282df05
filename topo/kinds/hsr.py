"""HSR and PRP: every frame twice, by two ways (IEC 62439-3, ip-link(8), net/hsr).

It takes its two interfaces as the kernel makes it, and lets go of them when it goes: nobody is told that it is their master.
Which version of HSR it speaks the kernel does not tell, so that nothing can be stated of it: it is the kernel's, 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, StrictInt, model_validator

from topo.changes import Env
from topo.facts import Fact, Ref, link
from topo.kinds.kind import DesiredView, LinkKind, View
from topo.kinds.spec import InterfaceName, InterfaceSpec
from topo.wire import U8, U32, Attr, attr, attr_u32, in_order, named

_SLAVES: Final = (("slave1", 1), ("slave2", 2))  # IFLA_HSR_SLAVE1, _SLAVE2
_MULTICAST_SPEC, _SUPERVISION_ADDR = 3, 4
_PROTOCOL: Final = Attr("proto", 7, named(U8, in_order("hsr", "prp")), "hsr")


def replace(_desired: Fact, _live: Fact) -> frozenset[str]:
    """The driver has no changelink: EOPNOTSUPP."""
    return frozenset({"slave1", "slave2", "supervision", "proto"})


def extra(attrs: Mapping[str, Any], env: Env) -> bytes:
    parts = [attr_u32(nla, env.index(*attrs[name])) for name, nla in _SLAVES if attrs.get(name)]
    if "supervision" in attrs:
        parts.append(attr(_MULTICAST_SPEC, U8.pack(attrs["supervision"])))
    return b"".join(parts)


def decode_extra(data: dict[int, bytes], attrs: dict[str, Any], view: View) -> None:
    for name, nla in _SLAVES:
        ifname = view.ifname(U32.unpack(data[nla])) if nla in data else None
        attrs[name] = (view.ns, ifname) if ifname else None
    attrs["supervision"] = data[_SUPERVISION_ADDR][5]
    attrs.setdefault("proto", "hsr")  # told of PRP only by some kernels


def requires(fact: Fact, _: DesiredView) -> Iterator[Ref]:
    for name, _nla in _SLAVES:
        if slave := fact.attrs.get(name):
            yield link(*slave)


class Hsr(InterfaceSpec):
    """A redundant interface over two others."""

    cannot: ClassVar[Mapping[str, str]] = {
        "mac": "it has that of slave1",
        "mtu": "it has the least of its slaves', less 6 bytes",
    }

    kind: Literal["hsr"] = Field(description="one interface by two ways at once, HSR or PRP")
    slave1: InterfaceName = Field(description="the first of the two interfaces, in the same namespace")
    slave2: InterfaceName = Field(description="the second one")
    proto: Literal["hsr", "prp"] | None = Field(None, description="a ring (HSR) or two networks (PRP); unset, hsr")
    supervision: Annotated[StrictInt, Field(ge=0, le=255)] | None = Field(
        None, description="the last byte of the group address of supervision frames; unset, 0"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.slave1 == self.slave2:
            raise ValueError("`slave1` and `slave2` are one interface: two are expected")
        return self

    def attributes(self, ns: str) -> dict[str, Any]:
        stated = super().attributes(ns)
        return {**stated, **{name: (ns, stated[name]) for name, _ in _SLAVES}}


HSR = LinkKind(
    "hsr",
    spec=Hsr,
    option="CONFIG_HSR",
    data=(_PROTOCOL,),
    replace=replace,
    mtu=None,
    extra=extra,
    more=frozenset({"slave1", "slave2", "supervision"}),
    unstated={"supervision": 0},
    decode_extra=decode_extra,
    requires=requires,
    over=("slave1", "slave2"),
)

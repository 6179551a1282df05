"""Encapsulations of routes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StrictInt, model_validator

from topo.file.model.policy import Table, table
from topo.file.model.values import U8, Entry, single, wrong
from topo.kinds import encap
from topo.kinds.words import Ip

Label = Annotated[StrictInt, Field(ge=0, lt=1 << 20)]
U64 = Annotated[StrictInt, Field(ge=0, lt=1 << 64)]


class MplsEncap(Entry):
    """Labels that are pushed (RFC 3032)."""

    labels: Annotated[
        list[Label], BeforeValidator(single, json_schema_input_type=list[int] | int), Field(min_length=1, max_length=30)
    ] = Field(description="the labels, the outermost first: [100, 200]")
    ttl: Annotated[StrictInt, Field(ge=1, le=255)] | None = Field(
        None, description="the TTL of the labels; unset, the packet's"
    )


class IpEncap(Entry):
    """What an external tunnel device (`dev`: an ipip or gre that says so, a vxlan) puts around."""

    dst: Ip = Field(description="the tunnel's other end")
    src: Ip | None = Field(None, description="this end; unset, the kernel's choice")
    id: U64 | None = Field(None, description="the tunnel's id: a VNI, a key; unset, 0")
    ttl: U8 | None = Field(None, description="the outer TTL (IPv4); unset, the kernel's default")
    tos: U8 | None = Field(None, description="the outer TOS (IPv4); unset, 0")
    hoplimit: U8 | None = Field(None, description="the outer hop limit (IPv6); unset, the kernel's default")
    tc: U8 | None = Field(None, description="the outer traffic class (IPv6); unset, 0")

    def wrong_for(self, kind: str) -> str:
        """The first key that is not for `ip`, or not for `ip6`."""
        names = ("hoplimit", "tc") if kind == "ip" else ("ttl", "tos")
        other = [name for name in names if getattr(self, name) is not None]
        other += [name for name in ("dst", "src") if (ip := getattr(self, name)) and (":" in ip) != (kind == "ip6")]
        return other[0] if other else ""


class Seg6Encap(Entry):
    """A list of segments, by SRv6 (RFC 8754)."""

    mode: Literal["inline", "encap", "l2encap", "encap.red", "l2encap.red"] = Field(
        "encap",
        description="encap: in an IPv6 header of its own; inline: in the packet's own header; l2encap: whole frames",
    )
    segs: Annotated[
        list[Ip], BeforeValidator(single, json_schema_input_type=list[str] | str), Field(min_length=1, max_length=120)
    ] = Field(description="the segments, the first one to be visited first")

    @model_validator(mode="after")
    def _six(self) -> Self:
        for index, segment in enumerate(self.segs):
            if ":" not in segment:
                raise wrong("a segment is an IPv6 address", "segs", index, value=segment)
        return self


class Seg6Local(Entry):
    """What is done at a segment (RFC 8986)."""

    action: Literal["End", "End.X", "End.T", "End.DX6", "End.DX4", "End.DT6", "End.DT4", "End.DT46"] = Field(
        description="End goes on to the next segment; D... take the packet out: X by a neighbour, T by a table"
    )
    nh4: Ip | None = Field(None, description="the neighbour (End.DX4)")
    nh6: Ip | None = Field(None, description="the neighbour (End.X, End.DX6)")
    table: Table | None = Field(None, description="the routing table (End.T, End.DT6)")
    vrftable: Table | None = Field(None, description="the table of a VRF (End.DT4, End.DT46, End.DT6)")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        needs = encap.NEEDS.get(self.action, ())
        stated = [name for name in ("nh4", "nh6", "table", "vrftable") if getattr(self, name) is not None]
        if len(stated) != bool(needs) or not set(stated) <= set(needs):
            what = f"either `{'` or `'.join(needs)}`" if needs else "nothing else"
            raise ValueError(f"{self.action} takes {what}")
        for name, six in (("nh4", False), ("nh6", True)):
            if (ip := getattr(self, name)) and (":" in ip) != six:
                raise wrong(f"{ip} is of the other family", name, value=ip)
        return self


class Encap(Entry):
    """What is put around packets that a route sends: one of these (ip-route(8), `encap`)."""

    mpls: MplsEncap | None = Field(None, description="MPLS labels")
    ip: IpEncap | None = Field(None, description="the outer IPv4 header of a tunnel device")
    ip6: IpEncap | None = Field(None, description="the outer IPv6 header of a tunnel device")
    seg6: Seg6Encap | None = Field(None, description="segments of SRv6")
    seg6local: Seg6Local | None = Field(
        None, description="an action of SRv6: the route's destination is a segment of ours"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        stated = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(stated) != 1:
            raise ValueError(f"an encapsulation is one of {', '.join(type(self).model_fields)}")
        if (tunnel := self.ip or self.ip6) and (name := tunnel.wrong_for(stated[0])):
            raise wrong(f"it is not for `{stated[0]}`", stated[0], name, value=getattr(tunnel, name))
        return self

    def words(self) -> str:
        """As facts have it (topo.kinds.encap)."""
        if self.mpls:
            stack = "/".join(map(str, self.mpls.labels))
            return f"mpls {stack}" + (f" ttl {self.mpls.ttl}" if self.mpls.ttl else "")
        kind, stated = next((name, value) for name in type(self).model_fields if (value := getattr(self, name)))
        pairs = {name: getattr(stated, name) for name in type(stated).model_fields}
        pairs |= {name: table(pairs[name]) for name in ("table", "vrftable") if pairs.get(name) is not None}
        if kind == "seg6":
            pairs["segs"] = ",".join(pairs["segs"])
        return encap.text(kind, pairs.items())

"""Nexthop objects."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, model_validator

from topo.file.model.encaps import Encap
from topo.file.model.values import Entry, Ifname, Positive, Seconds, missing, wrong
from topo.kinds.words import Ip


def _member(value: object) -> object:
    return {"id": value} if isinstance(value, int) else value


class Member(Entry):
    """One nexthop of a group."""

    id: Positive = Field(description="a nexthop that leads somewhere")
    weight: Annotated[StrictInt, Field(ge=1, le=256)] = Field(1, description="its share")


class NexthopObject(Entry):
    """A nexthop object that routes name by `nhid`, or a group of them (ip-nexthop(8)); one group is good for many routes."""

    id: Positive = Field(
        description="its number in the namespace; routing daemons count theirs from 1, so state larger ones beside them"
    )
    via: Ip | None = Field(None, description="the gateway")
    dev: Ifname | None = Field(None, description="the interface; unset, the one with an address that reaches `via`")
    onlink: StrictBool = Field(False, description="take the gateway for reachable on `dev`, whatever its address")
    family: Literal["inet", "inet6"] | None = Field(
        None, description="inet or inet6, for one without `via`: IPv6 routes take those of inet6 alone; unset, inet"
    )
    encap: Encap | None = Field(None, description="what is put around packets that go this way")
    blackhole: Literal[True] | None = Field(None, description="drop what is sent there")
    group: (
        Annotated[
            list[Annotated[Member, BeforeValidator(_member, json_schema_input_type=Member | int)]], Field(min_length=1)
        ]
        | None
    ) = Field(None, description="nexthops that share the packets: [1, {id: 2, weight: 3}]")
    type: Literal["mpath", "resilient"] | None = Field(
        None,
        description="how a group divides flows: by their hash, or by buckets that keep theirs (resilient); unset, mpath",
    )
    buckets: Annotated[StrictInt, Field(ge=1, le=65535)] | None = Field(
        None, description="the buckets of a resilient group, more than it has members"
    )
    idle_timer: Seconds | None = Field(
        None, description="how long a bucket is idle before it may get another member; unset, 120s"
    )
    unbalanced_timer: Seconds | None = Field(
        None, description="how long shares may be wrong before buckets move though they are in use; unset, 0: for ever"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        ways = [name for name in ("via", "dev") if getattr(self, name) is not None]
        what = ["way"] * bool(ways) + [name for name in ("blackhole", "group") if getattr(self, name) is not None]
        if len(what) != 1:
            raise ValueError("a nexthop has either `via` or `dev` or both, or `blackhole`, or a `group`")
        if self.onlink and len(ways) < 2:
            raise wrong("`onlink` needs `via` and `dev`", "onlink", value=True)
        if self.encap is not None and not ways:
            raise wrong("`encap` stands beside `via` or `dev`", "encap")
        if self.family is not None and (self.via or self.group):
            raise wrong(
                "the family is that of `via`" if self.via else "a group has the families of its members", "family"
            )
        self._sound_group()
        return self

    def _sound_group(self) -> None:
        resilient = self.type == "resilient"
        if self.type is not None and self.group is None:
            raise wrong("`type` is for groups", "type", value=self.type)
        for name in ("buckets", "idle_timer", "unbalanced_timer"):
            if getattr(self, name) is not None and not resilient:
                raise wrong(f"`{name}` is for groups of type resilient", name)
        if resilient and self.buckets is None:
            raise missing("buckets")
        if resilient and self.buckets is not None and self.group and self.buckets < len(self.group):
            raise wrong(f"{len(self.group)} members need as many buckets", "buckets", value=self.buckets)
        if self.group and len({member.id for member in self.group}) < len(self.group):
            raise wrong("one nexthop is in it twice", "group")


Nexthops = list[NexthopObject]

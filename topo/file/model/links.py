"""Links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, model_validator

from topo.file.model.values import EndName, Entry, Mtu, QueueLength, Subnets, SysctlValue, end_name, wrong
from topo.kinds.later import Later, later
from topo.kinds.words import Comment, ShortSysctl

if TYPE_CHECKING:
    from topo.file.model.ends import BridgeEnd, InterfaceEnd
    from topo.kinds.shaping_spec import Shaping
else:
    Shaping = later("topo.kinds.shaping_spec", "Shaping")


def _end(value: Any) -> Any:
    if isinstance(value, str):
        return end_name(value)
    from topo.file.model.ends import end  # late: most links have names at both ends

    return end(value)


def _ends() -> Any:
    from topo.file.model.ends import BridgeEnd, InterfaceEnd

    return EndName | InterfaceEnd | BridgeEnd


if TYPE_CHECKING:
    End = EndName | InterfaceEnd | BridgeEnd
else:
    End = Annotated[Any, Later(_ends, _end)]


def link_form(value: Any) -> Any:
    """The mapping that `[A, B]` is short for."""
    if isinstance(value, list):
        return {"ends": value}
    if not isinstance(value, dict | Link):
        raise wrong("a link is [A, B], or a mapping with `ends: [A, B]`")
    return value


Ends = Annotated[list[End], Field(min_length=2, max_length=2)]


class Link(Entry):
    """A pair of interfaces, or a range of them. `[A, B]` is short for `{ends: [A, B]}`."""

    ends: Ends = Field(description="its two ends")
    kind: Literal["veth", "vxcan", "netkit"] | None = Field(
        None, description="what pair it is: of Ethernet, of CAN, or one for BPF programs; unset, veth"
    )
    mode: Literal["l2", "l3"] | None = Field(
        None, description="of netkit, whether there is ARP and Ethernet between the ends; unset, l3: there is not"
    )
    policy: Literal["forward", "blackhole"] | None = Field(
        None, description="of netkit, what becomes of packets that no BPF program decides about; unset, forward"
    )
    subnet: Subnets | None = Field(
        None, description="where the ends take their addresses from; with ranges each link takes the next /31 or /127"
    )
    prefix: Annotated[StrictInt, Field(ge=0, le=128)] | None = Field(
        None, description="length of the prefix that each link takes from `subnet`"
    )
    mtu: Mtu | None = Field(None, description="MTU of both ends in bytes")
    up: StrictBool | None = Field(None, description="whether both ends are up")
    txqueuelen: QueueLength | None = Field(None, description="length of the transmit queue of both ends in packets")
    shaping: Shaping | None = Field(
        None, description="what becomes of what each end sends: a rate limit, or a bad line"
    )
    sysctls: dict[ShortSysctl, SysctlValue] | None = Field(None, description="sysctls of both ends by short name")
    comment: Comment | None = Field(None, description="a text that the kernel keeps with both ends (their alias)")

    @model_validator(mode="after")
    def _prefix_of_subnet(self) -> Self:
        if self.prefix is not None and self.subnet is None:
            raise wrong("`prefix` is the length that a link takes from `subnet`, which is not stated", "prefix")
        for name in ("mode", "policy"):
            if getattr(self, name) is not None and self.kind != "netkit":
                raise wrong(f"only a link of `kind: netkit` has `{name}`", name)
        return self


Links = list[Annotated[Link, BeforeValidator(link_form, json_schema_input_type=Link | Ends)]]

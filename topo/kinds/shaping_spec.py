"""What a user writes for shaping; `topo.kinds.shaping` makes a qdisc of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from topo.facts import Fact
from topo.kinds.later import Either
from topo.kinds.shaping import canonical, default_burst, keeps, kept_latency
from topo.kinds.shaping_class_spec import LAST, ShapingClass, facts
from topo.kinds.units import Duration, Percent, Rate, Size, parse_percent

_LATENCY: Final = 50_000  # microseconds a packet may wait in a tbf where the user states none
_LONGEST_JITTER: Final = 2_147_483  # microseconds: INT_MAX nanoseconds
_NEEDS: Final = {
    "jitter": "delay",
    "reorder": "delay",
    "gap": "reorder",
    **dict.fromkeys(("distribution", "delay_correlation"), "jitter"),
    **{f"{name}_correlation": name for name in ("loss", "duplicate", "reorder", "corrupt")},
}
_NETEM: Final = ("delay", "loss", "duplicate", "corrupt", *_NEEDS)
_OF: Final = {
    "tbf": ("rate", "burst", "latency", "limit"),
    "htb": ("rate", "burst", "ceil", "cburst", "classes", "default"),
    "netem": ("rate", "limit", *_NETEM),
    "fq_codel": ("limit", "target", "interval", "quantum", "flows", "ecn", "memory_limit"),
    "cake": (
        "rate", "rtt", "diffserv", "flowmode", "nat", "wash", "ingress", "ack_filter", "atm", "overhead", "mpu",
        "memory_limit",
    ),
}  # fmt: skip
_QUANTUM: Final = 256  # bytes (fq_codel_change)
_FRAME: Final = 1514  # bytes: an Ethernet frame of the usual MTU


class LossModel(BaseModel):
    """A model of loss that comes in bursts; what is left out of a list has the value that tc gives it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    gemodel: Annotated[list[Percent], Field(min_length=1, max_length=4)] | None = Field(
        None,
        description="Gilbert-Elliott: p, r, 1-h, 1-k, as tc-netem(8) has them; unset, r is 100% - p, 1-h 100%, 1-k 0%",
    )
    state: Annotated[list[Percent], Field(min_length=1, max_length=5)] | None = Field(
        None, description="four states: p13, p31, p32, p23, p14; unset, p31 is 100% - p13, p32 0%, p23 100%, p14 0%"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.gemodel is None) == (self.state is None):
            raise ValueError("either gemodel or state is expected")
        return self

    def whole(self) -> tuple[Any, ...]:
        """The name of the model and all its shares."""
        name, shares = ("gemodel", self.gemodel) if self.gemodel else ("state", self.state)
        assert shares is not None
        rest = [shares[0], 100 - shares[0], *((100.0, 0.0) if self.gemodel else (0.0, 100.0, 0.0))]
        return (name, *shares, *rest[len(shares) :])


def _loss(value: Any) -> Any:
    return LossModel.model_validate(value) if isinstance(value, dict) else parse_percent(value)


Loss = Annotated[Percent | LossModel, Either(_loss)]


def _correlation(name: str) -> Any:
    return Field(None, description=f"netem: how much each decision on {name} depends on the one before; unset, 0%")


class Shaping(BaseModel):
    """What becomes of packets that the interface sends: a limit to their rate (`tbf`, `htb`), a bad line (`netem`), or
    queues that stay short (`fq_codel`, `cake`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kind: Literal["tbf", "htb", "netem", "fq_codel", "cake"] = Field(
        "tbf",
        description="the queueing discipline: tbf, htb with one class, netem, fq_codel or cake; unset, netem where one of "
        "its words is stated, otherwise tbf",
    )
    rate: Rate | None = Field(
        None,
        description="how much may be sent: 10mbit, 1gbit; a number is bits/s; tbf and htb need it; unset, netem and cake "
        "have no limit",
    )
    burst: Size | None = Field(
        None, description="tbf, htb: how much may be sent at once: 32kb; unset, 10 ms, 16kb at least"
    )
    latency: Duration | None = Field(None, description="tbf: how long a packet may wait at most; unset, 50ms")
    limit: Size | None = Field(
        None,
        description="tbf: how many bytes may wait at most, instead of `latency`; netem, fq_codel: how many "
        "packets; unset, 1000 and 10240",
    )
    ceil: Rate | None = Field(None, description="htb: how much may be sent when there is room; unset, `rate`")
    cburst: Size | None = Field(None, description="htb: how much may be sent at once at `ceil`; unset, as `burst`")
    classes: list[ShapingClass] | None = Field(
        None, description="htb: what shares the rate, each with packets that it is for; unset, one class has all"
    )
    default: int | None = Field(None, description="htb: the class of packets that none is for; needed with `classes`")
    delay: Duration | None = Field(None, description="netem: how long every packet is held: 50ms")
    jitter: Duration | None = Field(None, description="netem: how much the delay varies: 5ms; needs `delay`")
    distribution: Literal["uniform", "normal", "pareto", "paretonormal"] | None = Field(
        None,
        description="netem: how the delay varies: evenly within `jitter`, or with it as the deviation of one of "
        "tc's distributions; unset, uniform",
    )
    loss: Loss | None = Field(None, description="netem: how many packets are lost: 1%, or a model of bursts")
    duplicate: Percent | None = Field(None, description="netem: how many packets are sent twice: 1%")
    reorder: Percent | None = Field(
        None, description="netem: how many packets are sent at once, before those that wait; needs `delay`"
    )
    gap: Annotated[StrictInt, Field(ge=1, le=0xFFFFFFFF)] | None = Field(
        None, description="netem: only every so manieth packet may be reordered; unset, 1: any"
    )
    corrupt: Percent | None = Field(None, description="netem: how many packets get one wrong bit: 0.1%")
    delay_correlation: Percent | None = _correlation("the jitter")
    loss_correlation: Percent | None = _correlation("loss")
    duplicate_correlation: Percent | None = _correlation("duplicates")
    reorder_correlation: Percent | None = _correlation("reordering")
    corrupt_correlation: Percent | None = _correlation("corruption")
    target: Duration | None = Field(None, description="fq_codel: how long packets may wait for long; unset, 5ms")
    interval: Duration | None = Field(
        None, description="fq_codel: what `long` is, the longest round trip; unset, 100ms"
    )
    quantum: Size | None = Field(None, description="fq_codel: how much a flow may send in its turn; unset, 1514 bytes")
    flows: Annotated[StrictInt, Field(ge=1, le=65536)] | None = Field(
        None, description="fq_codel: how many queues there are; unset, 1024"
    )
    ecn: StrictBool | None = Field(
        None, description="fq_codel: whether packets are marked rather than dropped; unset, true"
    )
    memory_limit: Size | None = Field(
        None, description="fq_codel, cake: how many bytes may wait; unset, 32mb, and what fits the rate"
    )
    rtt: Duration | None = Field(None, description="cake: the round trip that is expected; unset, 100ms")
    diffserv: Literal["diffserv3", "diffserv4", "diffserv8", "besteffort", "precedence"] | None = Field(
        None, description="cake: the classes that DSCPs make; unset, diffserv3"
    )
    flowmode: (
        Literal[
            "flowblind", "srchost", "dsthost", "hosts", "flows", "dual-srchost", "dual-dsthost", "triple-isolate"
        ]
        | None
    ) = Field(None, description="cake: between what it is fair; unset, triple-isolate")  # fmt: skip
    nat: StrictBool | None = Field(None, description="cake: whether it looks up hosts behind NAT; unset, false")
    wash: StrictBool | None = Field(None, description="cake: whether it clears DSCPs; unset, false")
    ingress: StrictBool | None = Field(
        None, description="cake: whether it shapes what comes in (on an ifb), where drops count as sent; unset, false"
    )
    ack_filter: Literal["off", "on", "aggressive"] | None = Field(
        None, description="cake: whether needless TCP ACKs are dropped; unset, off"
    )
    atm: Literal["noatm", "atm", "ptm"] | None = Field(
        None, description="cake: whether cells of the line below are counted; unset, noatm"
    )
    overhead: Annotated[StrictInt, Field(ge=-64, le=256)] | None = Field(
        None, description="cake: bytes that the line below adds to each packet; unset, as the kernel counts them (raw)"
    )
    mpu: Annotated[StrictInt, Field(ge=0, le=256)] | None = Field(
        None, description="cake: the least bytes of a packet on the line; unset, 0"
    )

    @model_validator(mode="before")
    @classmethod
    def _kind(cls, value: Any) -> Any:
        if isinstance(value, dict) and "kind" not in value and any(word in value for word in _NETEM):
            return {**value, "kind": "netem"}
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in self.model_fields_set - {"kind", *_OF[self.kind]}:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is no setting of {self.kind}")
        if self.quantum is not None and self.quantum < _QUANTUM:
            raise ValueError(f"quantum is at least {_QUANTUM} bytes, the least that the kernel takes")
        if self.kind in ("fq_codel", "cake"):
            return self
        if self.kind == "netem":
            self._netem()
        elif self.rate is None:
            raise ValueError(f"rate is required: it is what {self.kind} limits to")
        else:
            self._limited(self.rate)
        return self

    def _limited(self, rate: int) -> None:
        if self.classes is not None or self.default is not None:
            self._shared(self.ceil or rate)
        if self.latency is not None and self.limit is not None:
            raise ValueError("latency and limit say the same in two ways: state one")
        if self.ceil is not None and self.ceil < rate:
            raise ValueError("ceil is below rate")
        for name, at in (("burst", rate), ("cburst", self.ceil or rate)):
            if (size := getattr(self, name)) is not None and not keeps(size, at):
                raise ValueError(f"{name} takes more than 274 seconds at that rate, the most that the kernel can keep")
        if self.kind == "tbf" and self.burst is not None and self.burst < _FRAME:
            raise ValueError(f"burst is less than a frame of {_FRAME} bytes: nothing would pass")
        if self.limit is not None and self.limit <= (self.burst or 0):
            raise ValueError("limit is to be more than burst")
        if self.latency is not None and rate * self.latency // 1_000_000 + (self.burst or 0) >= 1 << 32:
            raise ValueError("latency is too long: more than 4 GiB would wait")

    def _shared(self, most: int) -> None:
        ids = [one.id for one in self.classes or ()]
        if not ids or self.default not in ids:
            raise ValueError("default is to be one of `classes`, where packets go that none of them is for")
        if twice := {one for one in ids if ids.count(one) > 1}:
            raise ValueError(f"two classes have the id {min(twice)}")
        for one in self.classes or ():
            one.attributes(most)
        if len(list(facts(self.classes or [], self.default or 0, most, "", ""))) - len(ids) >= LAST:
            raise ValueError(f"there are more matches than a device takes: {LAST - 1}")

    def _netem(self) -> None:
        for name, needed in _NEEDS.items():
            if getattr(self, name) and not getattr(self, needed):
                raise ValueError(f"{name} needs {needed}")
        if isinstance(self.loss, LossModel) and self.loss_correlation:
            raise ValueError("loss_correlation goes with a plain loss only, not with a model of it")
        if (self.jitter or 0) > _LONGEST_JITTER:
            raise ValueError("jitter is at most 2147ms, the most that the kernel can keep")


def attributes(shaping: Shaping) -> dict[str, Any]:
    """The attributes of the fact that `shaping` asks for."""
    if shaping.kind not in ("tbf", "htb"):
        return canonical(_stated(shaping))
    rate = shaping.rate
    assert rate is not None
    burst = shaping.burst or default_burst(rate)
    attrs: dict[str, Any] = {"kind": shaping.kind, "rate": rate, "burst": burst}
    if shaping.kind == "htb":
        ceil = shaping.ceil or rate
        return canonical({**attrs, "ceil": ceil, "cburst": shaping.cburst or max(burst, default_burst(ceil))})
    latency = _LATENCY if shaping.latency is None else shaping.latency
    if shaping.limit is not None:
        latency = kept_latency(rate, burst, shaping.limit)
    return canonical({**attrs, "latency": latency})


def classes(shaping: Shaping, ns: str, ifname: str) -> Iterable[Fact]:
    """The facts that an interface has beside that of its shaping."""
    if shaping.classes is None or shaping.rate is None:
        return ()
    return facts(shaping.classes, shaping.default or 0, shaping.ceil or shaping.rate, ns, ifname)


def _stated(shaping: Shaping) -> dict[str, Any]:
    stated = {name: getattr(shaping, name) for name in ("kind", *_OF[shaping.kind])}
    if isinstance(shaping.loss, LossModel):
        stated["loss"] = shaping.loss.whole()
    return {name: value for name, value in stated.items() if value is not None}

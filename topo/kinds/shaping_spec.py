"""What a user writes for a rate limit; `topo.kinds.shaping` makes a qdisc of it."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from topo.kinds.shaping import canonical, keeps, kept_latency
from topo.kinds.units import Duration, Rate, Size

_LATENCY: Final = 50_000  # microseconds a packet may wait in a tbf where the user states none
_BURST: Final = 16_384  # bytes of burst where the user states none: enough for a jumbo frame at any rate
_NETEM: Final = ("delay", "jitter", "loss", "duplicate", "reorder", "corrupt")
_FRAME: Final = 1514  # bytes: an Ethernet frame of the usual MTU


class Shaping(BaseModel):
    """A limit to what the interface sends."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kind: Literal["tbf", "htb"] = Field("tbf", description="the queueing discipline: tbf, or htb with one class")
    rate: Rate = Field(description="how much may be sent: 10mbit, 1gbit; a number is bits/s")
    burst: Size | None = Field(None, description="how much may be sent at once: 32kb; unset, 10 ms, 16kb at least")
    latency: Duration | None = Field(None, description="tbf: how long a packet may wait at most; unset, 50ms")
    limit: Size | None = Field(None, description="tbf: how many bytes may wait at most, instead of `latency`")
    ceil: Rate | None = Field(None, description="htb: how much may be sent when there is room; unset, `rate`")
    cburst: Size | None = Field(None, description="htb: how much may be sent at once at `ceil`; unset, as `burst`")

    @model_validator(mode="before")
    @classmethod
    def _no_netem(cls, value: Any) -> Any:
        if isinstance(value, dict) and (words := [word for word in _NETEM if word in value]):
            raise ValueError(f"{', '.join(words)}: netem is not built in yet; `rate`, `burst`, `latency` are")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("ceil", "cburst") if self.kind == "tbf" else ("latency", "limit"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is no setting of {self.kind}")
        if self.latency is not None and self.limit is not None:
            raise ValueError("latency and limit say the same in two ways: state one")
        if self.ceil is not None and self.ceil < self.rate:
            raise ValueError("ceil is below rate")
        for name, rate in (("burst", self.rate), ("cburst", self.ceil or self.rate)):
            if (size := getattr(self, name)) is not None and not keeps(size, rate):
                raise ValueError(f"{name} takes more than 274 seconds at that rate, the most that the kernel can keep")
        if self.kind == "tbf" and self.burst is not None and self.burst < _FRAME:
            raise ValueError(f"burst is less than a frame of {_FRAME} bytes: nothing would pass")
        if self.limit is not None and self.limit <= (self.burst or 0):
            raise ValueError("limit is to be more than burst")
        if self.latency is not None and self.rate * self.latency // 1_000_000 + (self.burst or 0) >= 1 << 32:
            raise ValueError("latency is too long: more than 4 GiB would wait")
        return self


def attributes(shaping: Shaping) -> dict[str, Any]:
    """The attributes of the fact that `shaping` asks for."""
    rate = shaping.rate
    burst = shaping.burst or _default_burst(rate)
    attrs: dict[str, Any] = {"kind": shaping.kind, "rate": rate, "burst": burst}
    if shaping.kind == "htb":
        ceil = shaping.ceil or rate
        return canonical({**attrs, "ceil": ceil, "cburst": shaping.cburst or max(burst, _default_burst(ceil))})
    latency = _LATENCY if shaping.latency is None else shaping.latency
    if shaping.limit is not None:
        latency = kept_latency(rate, burst, shaping.limit)
    return canonical({**attrs, "latency": latency})


def _default_burst(rate: int) -> int:
    return max(rate // 100, _BURST)

"""netem: what a bad line does to packets (tc-netem(8), linux/pkt_sched.h TCA_NETEM_*, net/sched/sch_netem.c).

Times are microseconds, shares percents, in the fewest digits that the kernel's 32 bits tell apart. Every message says all of
it: what a change leaves out (correlations, reordering, corruption, the rate) the kernel would keep. The table of a
distribution it keeps always, and never tells: the handle of a qdisc says which one topo gave it (`topo.kinds.shaping`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from topo.wire import U32, U64, attr, nest
from topo.wire import attributes as nested

TCA_NETEM_CORR, TCA_NETEM_DELAY_DIST, TCA_NETEM_REORDER, TCA_NETEM_CORRUPT, TCA_NETEM_LOSS = 1, 2, 3, 4, 5
TCA_NETEM_RATE, TCA_NETEM_ECN, TCA_NETEM_RATE64, TCA_NETEM_LATENCY64, TCA_NETEM_JITTER64, TCA_NETEM_SLOT = (
    6,
    7,
    8,
    10,
    11,
    12,
)
_NETEM_LOSS_GI, _NETEM_LOSS_GE = 1, 2
_QOPT: Final = struct.Struct("=IIIIII")  # struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter
_CORR: Final = struct.Struct("=III")  # of delay, loss, duplicate
_PAIR: Final = struct.Struct("=II")  # probability, correlation
_RATE: Final = struct.Struct("=IiIi")  # rate, packet_overhead, cell_size, cell_overhead
_GIMODEL: Final = struct.Struct("=IIIII")  # p13, p31, p32, p14, p23
_GEMODEL: Final = struct.Struct("=IIII")  # p, r, h, k1
_SLOT: Final = struct.Struct("=qqiiqq")  # struct tc_netem_slot; all zero: none
_ALL: Final = 0xFFFFFFFF
_TICK: Final = 64  # nanoseconds

SHARES: Final = ("loss", "duplicate", "reorder", "corrupt")
CORRELATIONS: Final = tuple(f"{name}_correlation" for name in ("delay", *SHARES))
UNSTATED: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("delay", "jitter", "rate", "gap"), 0),
    **dict.fromkeys((*SHARES, *CORRELATIONS), 0.0),
    "limit": 1000,
    "distribution": "uniform",
}
MODELS: Final = {"gemodel": ("p", "r", "1-h", "1-k"), "state": ("p13", "p31", "p32", "p23", "p14")}
"""Models of loss by the words of tc-netem(8), and what each takes."""


_SIZE: Final = 4096  # of a table of a distribution; the kernel takes 16,384 at most
_SCALE: Final = 8192  # NETEM_DIST_SCALE: what a deviation of one `jitter` is in it
_FARTHEST: Final = 32767  # struct tc_netem_qopt's tables are of 16 bits


@cache
def table(distribution: str) -> bytes:
    """TCA_NETEM_DELAY_DIST: quantiles, equally probable, of what tc knows by these names, or nothing for `uniform`.

    `pareto` has shape 3, and `paretonormal` is a quarter normal and three quarters pareto (iproute2's netem directory).
    """
    if distribution == "uniform":
        return b""
    from statistics import NormalDist

    between = [NormalDist().inv_cdf((at + 0.5) / _SIZE) for at in range(_SIZE)]
    pareto = [4 / 3 * ((1 - at / _SIZE) ** (-1 / 3) - 1.5) for at in range(_SIZE)]
    normal = {"normal": 1.0, "pareto": 0.0, "paretonormal": 0.25}[distribution]
    mixed = (
        round(_SCALE * (normal * one + (1 - normal) * min(other, _FARTHEST / _SCALE)))
        for one, other in zip(between, pareto, strict=True)
    )
    return struct.pack(f"={_SIZE}h", *(max(-_FARTHEST, min(value, _FARTHEST)) for value in mixed))


def _number(percent: float) -> int:
    """A share as the kernel keeps it, rounded as tc does."""
    return round(percent * _ALL / 100)


def _percent(number: int) -> float:
    """The share with the fewest digits that the kernel keeps as this number."""
    exact = number * 100 / _ALL
    return next(short for digits in range(18) if _number(short := round(exact, digits)) == number)


def _time(nanoseconds: int) -> int | float:
    return nanoseconds // 1000 if nanoseconds % 1000 == 0 else nanoseconds / 1000


def canonical(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """`attrs` as they are read back: every word of it, shares rounded to what the kernel keeps."""
    found = {"kind": "netem", **UNSTATED, **attrs}
    for name in (*SHARES, *CORRELATIONS):
        found[name] = _share(found[name])
    if found["reorder"] and not found["gap"]:
        found["gap"] = 1
    return found


def _share(value: Any) -> Any:
    if isinstance(value, tuple):  # a model of loss
        return (value[0], *map(_share, value[1:]))
    return _percent(_number(value))


def options(attrs: Mapping[str, Any], changed: bool = False) -> bytes:
    """TCA_OPTIONS of a netem, which are the same for a change."""
    delay, jitter = (round(attrs[name] * 1000) for name in ("delay", "jitter"))
    loss = attrs["loss"]
    shares = {name: _number(attrs[name]) for name in (*SHARES, *CORRELATIONS) if name != "loss"}
    ticks = (min(time // _TICK, _ALL) for time in (delay, jitter))
    latency, wander = ticks
    random = 0 if isinstance(loss, tuple) else _number(loss)
    head = _QOPT.pack(latency, attrs["limit"], random, attrs["gap"], shares["duplicate"], wander)
    parts = [
        attr(TCA_NETEM_CORR, _CORR.pack(*(shares[f"{n}_correlation"] for n in ("delay", "loss", "duplicate")))),
        attr(TCA_NETEM_REORDER, _PAIR.pack(shares["reorder"], shares["reorder_correlation"])),
        attr(TCA_NETEM_CORRUPT, _PAIR.pack(shares["corrupt"], shares["corrupt_correlation"])),
        attr(TCA_NETEM_RATE, _RATE.pack(min(attrs["rate"], _ALL), 0, 0, 0)),
        attr(TCA_NETEM_LATENCY64, U64.pack(delay)),
        attr(TCA_NETEM_JITTER64, U64.pack(jitter)),
        attr(TCA_NETEM_ECN, U32.pack(0)),
    ]
    if attrs["rate"] >= _ALL:
        parts.append(attr(TCA_NETEM_RATE64, U64.pack(attrs["rate"])))
    if isinstance(loss, tuple):
        parts.append(nest(TCA_NETEM_LOSS, _model(loss)))
    if quantiles := table(attrs["distribution"]):
        parts.append(attr(TCA_NETEM_DELAY_DIST, quantiles))
    return head + b"".join(parts)


def _model(loss: tuple[Any, ...]) -> bytes:
    name, *shares = loss
    numbers = [_number(share) for share in shares]
    if name == "gemodel":
        p, r, bad, good = numbers
        return attr(_NETEM_LOSS_GE, _GEMODEL.pack(p, r, _ALL - bad, good))
    p13, p31, p32, p23, p14 = numbers
    return attr(_NETEM_LOSS_GI, _GIMODEL.pack(p13, p31, p32, p14, p23))


def decode(data: bytes) -> dict[str, Any] | None:
    """The attributes that TCA_OPTIONS of a netem tell; None where some are beyond topo's words (slots, cells, ECN)."""
    if len(data) < _QOPT.size:
        return None
    latency, limit, loss, gap, duplicate, jitter = _QOPT.unpack_from(data)
    found = nested(data, _QOPT.size, len(data))
    rate, *cells = _fixed(_RATE, found.get(TCA_NETEM_RATE))
    if any(cells) or any(found.get(TCA_NETEM_ECN, b"")) or any(found.get(TCA_NETEM_SLOT, b"")):
        return None
    delayed, lost, doubled = _fixed(_CORR, found.get(TCA_NETEM_CORR))
    (reorder, reordered), (corrupt, corrupted) = (
        _fixed(_PAIR, found.get(nla)) for nla in (TCA_NETEM_REORDER, TCA_NETEM_CORRUPT)
    )
    shares = {
        "duplicate": duplicate,
        "corrupt": corrupt,
        "reorder": reorder if gap else 0,
        "delay_correlation": delayed,
        "loss_correlation": lost,
        "duplicate_correlation": doubled,
        "reorder_correlation": reordered,
        "corrupt_correlation": corrupted,
    }
    return {
        "kind": "netem",
        "distribution": "uniform",
        "limit": limit,
        "gap": gap,
        "rate": _wide(found.get(TCA_NETEM_RATE64), rate),
        "delay": _time(_wide(found.get(TCA_NETEM_LATENCY64), latency * _TICK)),
        "jitter": _time(_wide(found.get(TCA_NETEM_JITTER64), jitter * _TICK)),
        "loss": _decode_model(nested(found.get(TCA_NETEM_LOSS, b""))) or _percent(loss),
        **{name: _percent(number) for name, number in shares.items()},
    }


def _fixed(form: struct.Struct, data: bytes | None) -> tuple[int, ...]:
    return form.unpack_from((data or b"").ljust(form.size, b"\0"))


def _wide(data: bytes | None, low: int) -> int:
    return int(U64.unpack(data)) if data and len(data) == 8 else low


def _decode_model(found: Mapping[int, bytes]) -> tuple[Any, ...] | None:
    if _NETEM_LOSS_GE in found:
        p, r, h, k1 = _fixed(_GEMODEL, found[_NETEM_LOSS_GE])
        return ("gemodel", *map(_percent, (p, r, _ALL - h, k1)))
    if _NETEM_LOSS_GI in found:
        p13, p31, p32, p14, p23 = _fixed(_GIMODEL, found[_NETEM_LOSS_GI])
        return ("state", *map(_percent, (p13, p31, p32, p23, p14)))
    return None


def describe(attrs: Mapping[str, Any]) -> str:
    """What is not the default, in the words of tc: `netem delay 50ms loss 1%`."""
    return " ".join(["netem", *_words(attrs)])


def _words(attrs: Mapping[str, Any]) -> Iterator[str]:
    if attrs["delay"] or attrs["jitter"]:
        yield " ".join(["delay", *_times((attrs["delay"], attrs["jitter"]))])
    if attrs["distribution"] != "uniform":
        yield f"distribution {attrs['distribution']}"
    for name in SHARES:
        value = attrs[name]
        if isinstance(value, tuple):
            yield " ".join([name, value[0], *(f"{share:g}%" for share in value[1:])])
        elif value:
            yield f"{name} {value:g}%"
    if attrs["rate"]:
        yield f"rate {attrs['rate'] * 8}bit"


def _times(values: Iterable[int | float]) -> Iterator[str]:
    delay, jitter = (f"{value / 1000:g}ms" for value in values)
    yield delay
    if jitter != "0ms":
        yield jitter

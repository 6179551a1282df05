"""fq_codel: fair queueing with controlled delay (tc-fq_codel(8), linux/pkt_sched.h TCA_FQ_CODEL_*, RFC 8290).

Every message says all of it but the number of flows, which the kernel takes once: another one is another qdisc.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

from topo.wire import U32, attr
from topo.wire import attributes as nested

_NLAS: Final = {"target": 1, "limit": 2, "interval": 3, "ecn": 4, "flows": 5, "quantum": 6, "memory_limit": 9}
_CE_THRESHOLD, _DROP_BATCH_SIZE = 7, 8
_BATCH: Final = 64
UNSTATED: Final[Mapping[str, Any]] = {
    "limit": 10_240,
    "target": 5000,
    "interval": 100_000,
    "ecn": True,
    "flows": 1024,
    "quantum": 1514,
    "memory_limit": 32 << 20,
}
ONCE: Final = ("flows",)


_TIMES: Final = ("target", "interval")


def _units(microseconds: int) -> int:
    """A time as the kernel keeps it, in 1024 ns (CODEL_SHIFT in net/codel.h), rounded up."""
    return -(-microseconds * 1000 // 1024)


def _time(microseconds: int) -> int:
    """A time as it is read back."""
    return _units(microseconds) * 1024 // 1000


def _sent(microseconds: int) -> int:
    """What the kernel, which rounds down, makes the same of."""
    return -(-_units(microseconds) * 1024 // 1000)


def canonical(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """`attrs` as they are read back: every word of it."""
    found = {"kind": "fq_codel", **UNSTATED, **attrs}
    return {**found, **{name: _time(found[name]) for name in _TIMES}}


def options(attrs: Mapping[str, Any], changed: bool) -> bytes:
    """TCA_OPTIONS. `changed`: of a qdisc that is there."""
    values = {**attrs, **{name: _sent(attrs[name]) for name in _TIMES}}
    return b"".join(
        attr(nla, U32.pack(int(values[name]))) for name, nla in _NLAS.items() if not (changed and name in ONCE)
    ) + attr(_DROP_BATCH_SIZE, U32.pack(_BATCH))


def decode(data: bytes) -> dict[str, Any] | None:
    """The attributes that TCA_OPTIONS tell; None where some are beyond topo's words (a threshold for ECN)."""
    found = nested(data)
    if _CE_THRESHOLD in found or _u32(found, _DROP_BATCH_SIZE) not in (0, _BATCH):
        return None
    numbers = {name: _u32(found, nla) for name, nla in _NLAS.items()}
    return {"kind": "fq_codel", **numbers, "ecn": bool(numbers["ecn"])}


def _u32(found: Mapping[int, bytes], nla: int) -> int:
    (value,) = struct.unpack("=I", found.get(nla, b"").ljust(4, b"\0")[:4])
    return int(value)


def describe(attrs: Mapping[str, Any]) -> str:
    """What is not the default, in the words of tc."""
    words = [f"{name} {_shown(name, attrs[name])}" for name, value in UNSTATED.items() if attrs[name] != value]
    return " ".join(["fq_codel", *words])


def _shown(name: str, value: Any) -> str:
    if name in _TIMES:
        return f"{value / 1000:g}ms"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)

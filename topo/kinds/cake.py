"""CAKE: shaping, fair queueing and controlled delay in one (tc-cake(8), linux/pkt_sched.h TCA_CAKE_*).

Every message says all of it, so that what is no longer stated is as it is unstated.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

from topo.wire import U32, U64, attr
from topo.wire import attributes as nested

(
    _RATE64, _DIFFSERV, _ATM, _FLOW_MODE, _OVERHEAD, _RTT, _TARGET, _AUTORATE, _MEMORY, _NAT, _RAW, _WASH, _MPU,
    _INGRESS, _ACK_FILTER, _SPLIT_GSO, _FWMARK,
) = range(2, 19)  # fmt: skip
DIFFSERVS: Final = ("diffserv3", "diffserv4", "diffserv8", "besteffort", "precedence")
FLOW_MODES: Final = (
    "flowblind", "srchost", "dsthost", "hosts", "flows", "dual-srchost", "dual-dsthost", "triple-isolate",
)  # fmt: skip
ATMS: Final = ("noatm", "atm", "ptm")
ACK_FILTERS: Final = ("off", "on", "aggressive")
_CHOICES: Final = {
    "diffserv": (_DIFFSERV, DIFFSERVS),
    "flowmode": (_FLOW_MODE, FLOW_MODES),
    "atm": (_ATM, ATMS),
    "ack_filter": (_ACK_FILTER, ACK_FILTERS),
}
_FLAGS: Final = {"nat": _NAT, "wash": _WASH, "ingress": _INGRESS}
_NUMBERS: Final = {"rtt": _RTT, "mpu": _MPU, "memory_limit": _MEMORY}
UNSTATED: Final[Mapping[str, Any]] = {
    "rate": 0,
    "rtt": 100_000,
    "diffserv": "diffserv3",
    "flowmode": "triple-isolate",
    "nat": False,
    "wash": False,
    "ingress": False,
    "ack_filter": "off",
    "atm": "noatm",
    "overhead": None,
    "mpu": 0,
    "memory_limit": 0,
}


def _target(rtt: int) -> int:
    """Microseconds that a packet may wait, as tc derives them."""
    return max(rtt // 20, 1)


def canonical(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """`attrs` as they are read back: every word of it."""
    return {"kind": "cake", **UNSTATED, **attrs}


def options(attrs: Mapping[str, Any], changed: bool) -> bytes:
    """TCA_OPTIONS."""
    overhead = attrs["overhead"]
    parts = [
        attr(_RATE64, U64.pack(attrs["rate"])),
        *(attr(nla, U32.pack(words.index(attrs[name]))) for name, (nla, words) in _CHOICES.items()),
        *(attr(nla, U32.pack(int(attrs[name]))) for name, nla in {**_FLAGS, **_NUMBERS}.items()),
        attr(_TARGET, U32.pack(_target(attrs["rtt"]))),
        attr(_AUTORATE, U32.pack(0)),
        attr(_SPLIT_GSO, U32.pack(1)),
        attr(_FWMARK, U32.pack(0)),
        attr(_RAW, U32.pack(0)) if overhead is None else attr(_OVERHEAD, struct.pack("=i", overhead)),
    ]
    return b"".join(parts)


def decode(data: bytes) -> dict[str, Any] | None:
    """The attributes that TCA_OPTIONS tell; None where some are beyond topo's words (autorate, marks, a target)."""
    found = nested(data)

    def number(nla: int) -> int:
        (value,) = struct.unpack("=I", found.get(nla, b"").ljust(4, b"\0")[:4])
        return int(value)

    rtt = number(_RTT)
    if number(_AUTORATE) or number(_FWMARK) or not number(_SPLIT_GSO) or number(_TARGET) != _target(rtt):
        return None
    chosen = {name: (number(nla), words) for name, (nla, words) in _CHOICES.items()}
    if any(value >= len(words) for value, words in chosen.values()):
        return None
    (overhead,) = struct.unpack("=i", found.get(_OVERHEAD, b"").ljust(4, b"\0")[:4])
    return {
        "kind": "cake",
        "rate": int(U64.unpack(found.get(_RATE64, bytes(8)))),
        **{name: words[value] for name, (value, words) in chosen.items()},
        **{name: bool(number(nla)) for name, nla in _FLAGS.items()},
        **{name: number(nla) for name, nla in _NUMBERS.items()},
        "overhead": None if _RAW in found else overhead,
    }


def describe(attrs: Mapping[str, Any]) -> str:
    """What is not the default, in the words of tc."""
    words = [f"bandwidth {attrs['rate'] * 8}bit"] if attrs["rate"] else []
    for name, unstated in UNSTATED.items():
        value = attrs[name]
        if name == "rate" or value == unstated:
            continue
        if name in _CHOICES and name != "ack_filter":
            words.append(str(value))
        elif value is True:
            words.append(name)
        else:
            words.append(f"{name.replace('_', '-')} {f'{value / 1000:g}ms' if name == 'rtt' else value}")
    return " ".join(["cake", *words])

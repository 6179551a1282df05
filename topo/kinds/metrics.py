"""The metrics of a route (RTA_METRICS, linux/rtnetlink.h RTAX_*): named as ip-route(8) names them, in the kernel's units.

What is zero the kernel does not show (rtnetlink_put_metrics), so that it is as good as not stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from topo.wire import STR, U32, Format, attr, attributes

RTAX_LOCK, RTAX_MTU = 1, 2
FEATURES: Final = {"ecn": 1}  # RTAX_FEATURE_*


def _flags(names: Mapping[str, int]) -> Format:
    """A tuple of names in order; of bits without one the numbers."""
    words = {bit: name for name, bit in names.items()}

    def unpack(data: bytes) -> tuple[str, ...]:
        bits: int = U32.unpack(data)
        return tuple(words.get(1 << n, str(1 << n)) for n in range(32) if bits & 1 << n)

    return Format(lambda found: U32.pack(sum(names.get(name) or int(name) for name in found)), unpack)


_NUMBERS: Final = {
    "mtu": RTAX_MTU, "window": 3, "rtt": 4, "rttvar": 5, "ssthresh": 6, "cwnd": 7, "advmss": 8, "reordering": 9,
    "hoplimit": 10, "initcwnd": 11, "rto_min": 13, "initrwnd": 14, "quickack": 15, "fastopen_no_cookie": 17,
}  # fmt: skip
METRICS: Final[Mapping[str, tuple[int, Format]]] = {
    **{name: (number, U32) for name, number in _NUMBERS.items()},
    "features": (12, _flags(FEATURES)),
    "congctl": (16, STR),
    "lock": (RTAX_LOCK, _flags({name: 1 << number for name, number in _NUMBERS.items()})),
}
"""By name: the number and the format. Times are in ms, but `rtt` in eighths and `rttvar` in quarters of one. `lock` has
the names of those that the kernel is not to change by what it learns."""

_NAMES: Final = {number: name for name, (number, _) in METRICS.items()}


def pack(attrs: Mapping[str, Any]) -> bytes:
    """What RTA_METRICS holds; empty where none is stated."""
    metrics = {METRICS[name][0]: METRICS[name][1].pack(attrs[name]) for name in METRICS if attrs.get(name)}
    metrics.update(attrs.get("_metrics", ()))
    return b"".join(attr(nla, value) for nla, value in sorted(metrics.items()))


def unpack(data: bytes) -> dict[str, Any]:
    """By name; those that have none here in `_metrics`, as they are."""
    found: dict[str, Any] = {}
    rest = []
    for number, value in sorted(attributes(data).items()):
        name = _NAMES.get(number)
        if name == "congctl" or (name and len(value) == 4):
            found[name] = METRICS[name][1].unpack(value)
        else:
            rest.append((number, value))
    return found | ({"_metrics": tuple(rest)} if rest else {})

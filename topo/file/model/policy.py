"""The words of policy routing (ip-rule(8)): tables, realms, marks, and the selectors of rules; checked as those of `values`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from topo.file.model.values import as_written, port
from topo.kinds.later import Either
from topo.patterns import late

_REALMS: Final = late(r"(?:([0-9]{1,5})/)?([0-9]{1,5})")
_NUMBER: Final = late(r"0[xX][0-9a-fA-F]+|[0-9]+")
RT_TABLES: Final = ("/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables")
"""Where systems name further routing tables; beside each a directory `rt_tables.d` of more."""
TABLES: Final = {"main": 254, "default": 253, "local": 255}
"""The names of routing tables that every system has (rtnetlink.h, RT_TABLE_*)."""


def fwmark(value: Any, what: str = "mark", bits: int = 32) -> tuple[int, int]:
    """Mark and mask of 1, "0x1" or "0x1/0xff", or of `what` else has so many `bits`. Raises ValueError."""
    mark, slash, mask = str(value).partition("/")
    try:
        found = int(mark, 0), int(mask, 0) if slash else (1 << bits) - 1
    except ValueError:  # True has no number in it either
        raise ValueError(f"{value!r} is no {what}: write 1, 0x1 or 0x1/0xff") from None
    if not all(0 <= number < 1 << bits for number in found):
        raise ValueError(f"the {what} {value} does not fit into {bits} bits")
    return found


BITS: Final[Mapping[str, tuple[str, int]]] = {
    "dscp": ("DSCP", 6),
    "flowlabel": ("flow label", 20),
    "sport": ("port", 16),
    "dport": ("port", 16),
}
"""What a rule can match by some of its bits only: name -> what it is called, and how many bits it has."""


def part(name: str, value: Any) -> tuple[int, int]:
    """The number and the mask of one of `BITS`, where the kernel takes no bit outside of the mask. Raises ValueError."""
    what, bits = BITS[name]
    number, mask = fwmark(value, what, bits)
    if number & ~mask or not mask:
        raise ValueError(f"the {what} {value} has bits outside of its mask")
    return number, mask


def realms(value: Any) -> int:
    """The two realms of 7 (that of the destination), "7" or "5/7" (from/to) as the kernel has them. Raises ValueError."""
    found = _REALMS.fullmatch(str(value)) if not isinstance(value, bool) else None
    source, to = (int(number or 0) for number in found.groups()) if found else (0, 0)
    if not to or max(source, to) > 0xFFFF:
        raise ValueError(f"{value!r} is no realm: write a number from 1 to 65535, or two as in 5/7 (from/to)")
    return source << 16 | to


def _port_or_part(value: Any) -> Any:
    if "/" not in str(value):
        return port(value)
    part("sport", value)
    return value


def table(value: Any) -> int:
    """The number of a routing table: a number, or main, default or local, or a name of `RT_TABLES`. Raises ValueError."""
    number = (TABLES.get(value) or _named_tables().get(value)) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 0xFFFFFFFF:
        known = f"main, default, local, a number from 1, or a name of {RT_TABLES[0]}"
        raise ValueError(f"{value!r} is no routing table: {known}")
    return number


def _named_tables() -> dict[str, int]:
    """The tables that this system has names for, as ip-route(8) knows them: lines of `number name`."""
    found: dict[str, int] = {}
    for place in map(Path, reversed(RT_TABLES)):
        for file in (*sorted(Path(f"{place}.d").glob("*.conf"), reverse=True), place):
            lines = file.read_text(errors="replace").splitlines() if file.is_file() else ()
            words = [line.split("#")[0].split() for line in lines]
            found.update(
                (name, int(number, 0))
                for number, name in filter(lambda w: len(w) == 2, words)
                if _NUMBER.fullmatch(number)
            )
    return found


PROTOCOLS: Final = {  # IPPROTO_* of linux/in.h
    "tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "ipv6-icmp": 58, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "ospf": 89,
}  # fmt: skip


def _protocol(value: Any) -> Any:
    if value not in PROTOCOLS and not (type(value) is int and 1 <= value <= 255):
        raise ValueError(f"{value!r} is no protocol: {', '.join(PROTOCOLS)}, or a number from 1 to 255")
    return value


Dscp = Annotated[int | str, Either(as_written(partial(part, "dscp")))]
FlowLabel = Annotated[int | str, Either(as_written(partial(part, "flowlabel")))]
Fwmark = Annotated[int | str, Either(as_written(fwmark))]
PortOrPart = Annotated[int | str, Either(_port_or_part)]
Protocol = Annotated[int | str, Either(_protocol)]
Realms = Annotated[int | str, Either(as_written(realms))]
Table = Annotated[int | str, Either(as_written(table))]

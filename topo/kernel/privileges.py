"""What this process may do (capabilities(7))."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from topo.errors import UnsupportedError

NEEDED: Final = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN"}
RAW: Final = {13: "CAP_NET_RAW"}
"""For checks by ping."""

CURE: Final = (
    "run it as root (sudo topo ...), or in namespaces of your own "
    "(unshare -Urnm sh -c 'mount -t tmpfs none /run && exec bash')"
)


def effective() -> int:
    """The effective capabilities of this process, as a set of bits."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def missing(of: Mapping[int, str] = NEEDED) -> list[str]:
    """Those of the capabilities that this process has not."""
    have = effective()
    return [name for bit, name in of.items() if not have >> bit & 1]


def require(doing: str) -> None:
    """Raises UnsupportedError where a capability is missing that `doing` needs."""
    if lacking := missing():
        raise UnsupportedError(f"{doing} needs {' and '.join(lacking)}: {CURE}")

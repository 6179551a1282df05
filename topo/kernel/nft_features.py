"""What of nftables a file needs, and what of it the running kernel has: it is asked, and nothing is made."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, Final

from topo.errors import KernelError
from topo.kernel.feature import Feature
from topo.kernel.nftables import Nftables

NFT: Final = "nftables"
_PLACE: Final = {"family": "inet", "table": "topo probe"}  # no topology has a space in its name
_TABLE: Final = {"table": {"family": "inet", "name": _PLACE["table"]}}
_LOCAL: Final = {"fib": {"result": "type", "flags": ["daddr"]}}
_ESTABLISHED: Final = {"ct": {"key": "state"}}
_TARGET: Final = {"family": "ip", "addr": "192.0.2.1"}


def _feature(name: str, option: str, *modules: str) -> Feature:
    return Feature(NFT, name, option, f"has no {name} of nftables, which {{}} needs", modules)


TABLES: Final = _feature("tables", "CONFIG_NF_TABLES_INET", "nf_tables", "nfnetlink-subsys-10")
_NAT: Final = _feature("nat", "CONFIG_NFT_NAT", "nft-expr-nat", "nft-chain-1-nat")

_STATEMENTS: Final[dict[str, tuple[Feature, list[Any]]]] = {
    "ct": (
        _feature("ct", "CONFIG_NFT_CT", "nft-expr-ct"),
        [{"match": {"op": "in", "left": _ESTABLISHED, "right": "new"}}],
    ),
    "fib": (
        _feature("fib", "CONFIG_NFT_FIB_INET", "nft-expr-1-fib"),
        [{"match": {"op": "==", "left": _LOCAL, "right": "local"}}],
    ),
    "reject": (
        _feature("reject", "CONFIG_NFT_REJECT", "nft-expr-1-reject"),
        [{"reject": {"type": "icmpx", "expr": "port-unreachable"}}],
    ),
    "dnat": (_NAT, [{"dnat": _TARGET}]),
    "snat": (_NAT, [{"snat": _TARGET}]),
    "masquerade": (_feature("masquerade", "CONFIG_NFT_MASQ", "nft-expr-masq"), [{"masquerade": None}]),
}
"""Statement and expression of libnftables-json(5) -> what brings it, and a rule that has it."""

_HOOKS: Final = {"snat": "postrouting", "masquerade": "postrouting", "dnat": "prerouting"}


def features() -> list[Feature]:
    return list(dict.fromkeys([TABLES, *(feature for feature, _ in _STATEMENTS.values())]))


def wanted(table: dict[str, Any]) -> list[Feature]:
    """What the kernel must have for the attributes of an nft fact."""
    words = set(_keys([chain["rules"] for chain in table["chains"].values()]))
    return list(dict.fromkeys([TABLES, *(feature for word, (feature, _) in _STATEMENTS.items() if word in words)]))


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(item)


def lacking(features: list[Feature]) -> dict[Feature, str]:
    """Those that the kernel refuses, with its words. Makes nothing.

    Raises UnsupportedError where libnftables is missing, KernelError where it could not be asked.
    """
    tried = {word: feature for word, (feature, _) in _STATEMENTS.items() if feature in features}
    with Nftables() as nft:
        # At once first: to give up a transaction the kernel waits for RCU.
        if not _refusal(nft, _TABLE, *(part for word in tried for part in _parts(word))):
            return {}
        if words := _refusal(nft, _TABLE):
            return dict.fromkeys(features, words)
        found: dict[Feature, str] = {}
        for word, feature in tried.items():
            if words := _refusal(nft, _TABLE, *_parts(word)):
                found.setdefault(feature, words)
    return found


def _parts(word: str) -> Iterator[dict[str, Any]]:
    """A chain and a rule that have it."""
    hook = _HOOKS.get(word)
    chain = {**_PLACE, "name": word, "hook": hook or "forward", "type": "nat" if hook else "filter", "prio": 0}
    yield {"chain": chain}
    yield {"rule": {**_PLACE, "chain": word, "expr": _STATEMENTS[word][1]}}


def _refusal(nft: Nftables, *things: dict[str, Any]) -> str:
    try:
        nft.attempt([{"add": thing} for thing in things])
    except KernelError as error:
        if error.errno in _OUT_OF:
            raise
        return str(error)
    return ""


_OUT_OF: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})  # says nothing of what there is

"""nftables by way of libnftables, in the namespace of the thread that opens it.

libnftables(3) and libnftables-json(5): a context holds a netlink socket, which stays in the namespace in which the
context was made, wherever the thread goes later. `table_names` asks the kernel directly, so that namespaces without
any table need no context.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

from topo.errors import KernelError, UnsupportedError
from topo.kernel.netfilter import dump
from topo.kernel.netns import CLONE_NEWNET, unshare
from topo.kinds.nft import parse, replacement
from topo.wire import STR, attributes

NFNL_SUBSYS_NFTABLES: Final = 10  # linux/netfilter/nfnetlink.h
NFT_MSG_GETTABLE: Final = 1  # linux/netfilter/nf_tables.h
NFTA_TABLE_NAME: Final = 1
_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}  # NFPROTO_*

# nft_ctx_output_set_flags(): without counters; JSON; protocols and priorities as numbers, which do not depend on
# /etc/protocols and on nft's version.
_OUTPUT: Final = 4 | 16 | 128 | 256

_CURE: Final = (
    "NAT and firewall need libnftables: install libnftables1 (Debian, Ubuntu, openSUSE) or nftables (Fedora, Arch)"
)
_ERRNOS: Final = {os.strerror(number): number for number in sorted(errno.errorcode, reverse=True)}


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise UnsupportedError(f"{_CURE} ({error})") from None
    context, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("nft_ctx_new", context, [ctypes.c_uint32]),
        ("nft_ctx_free", None, [context]),
        ("nft_ctx_output_set_flags", None, [context, ctypes.c_uint]),
        ("nft_ctx_buffer_output", ctypes.c_int, [context]),
        ("nft_ctx_buffer_error", ctypes.c_int, [context]),
        ("nft_ctx_get_output_buffer", text, [context]),
        ("nft_ctx_get_error_buffer", text, [context]),
        ("nft_run_cmd_from_buffer", ctypes.c_int, [context, text]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Nftables:
    """One libnftables context, bound to the network namespace in which it is created.

    Raises UnsupportedError where the library is missing. Not to be used by two threads at once.
    """

    def __init__(self) -> None:
        self._lib = _library()
        self._context: int | None = self._lib.nft_ctx_new(0)
        if not self._context:
            raise KernelError(errno.ENOMEM, doing="opening libnftables")
        self._lib.nft_ctx_buffer_output(self._context)
        self._lib.nft_ctx_buffer_error(self._context)
        self._lib.nft_ctx_output_set_flags(self._context, _OUTPUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, commands: list[dict[str, Any]]) -> None:
        """Run `commands` (libnftables-json(5)) as one transaction: all of them, or none.

        Raises KernelError with nft's own words.
        """
        self._run(commands)

    def list_table(self, family: str, name: str) -> dict[str, Any] | None:
        """The table as `nft -j list table` shows it, whole; None where there is none."""
        try:
            listing: dict[str, Any] = json.loads(self._run([{"list": {"table": {"family": family, "name": name}}}]))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return listing

    def tables(self) -> list[tuple[str, str]]:
        """Family and name of every table."""
        found = json.loads(self._run([{"list": {"tables": None}}]))["nftables"]
        return [(entry["table"]["family"], entry["table"]["name"]) for entry in found if "table" in entry]

    def close(self) -> None:
        """Free the context. Close many together at the end: one at a time, each waits for the kernel."""
        if self._context:
            self._lib.nft_ctx_free(self._context)
            self._context = None

    def _run(self, commands: list[dict[str, Any]]) -> str:
        text = json.dumps({"nftables": commands}).encode()
        failed = self._lib.nft_run_cmd_from_buffer(self._context, text)
        out: bytes = self._lib.nft_ctx_get_output_buffer(self._context) or b""
        words: bytes = self._lib.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise _error(words.decode(errors="replace"))
        return out.decode()


def _error(text: str) -> KernelError:
    """nft's errors, one in a line and with a place that means nothing for JSON, as one KernelError."""
    lines = [line.partition("Error: ")[2] or line for line in text.splitlines() if line.strip()]
    words = list(dict.fromkeys(lines)) or ["nft gave no reason"]
    number = next((n for line in words for known, n in _ERRNOS.items() if known in line), errno.EINVAL)
    return KernelError(number, "; ".join(words), doing="nft")


def table_names(sock: socket.socket) -> set[tuple[str, str]]:
    """Family and name of every table, from a NETLINK_NETFILTER socket (`topo.kernel.netfilter.open_socket`).

    Empty where the kernel has no nftables.
    """
    try:
        entries = dump(sock, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE)
    except KernelError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return set()
        raise
    return {(_FAMILIES.get(e.family, str(e.family)), STR.unpack(attributes(e.body)[NFTA_TABLE_NAME])) for e in entries}


def canonical(attrs: dict[str, Any]) -> dict[str, Any]:
    """`attrs` of an nft fact in the form in which this machine's nft lists them.

    The table is loaded in a scratch namespace that lives no longer than a thread of this call, and is read back
    there. Costs about a millisecond; for when a desired and a live table differ, in case only their words do.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "topo-scratch") as pool:
        return pool.submit(_loaded, attrs).result()


def _loaded(attrs: dict[str, Any]) -> dict[str, Any]:
    unshare(CLONE_NEWNET)
    with Nftables() as nft:
        nft.run(replacement("inet", "scratch", attrs))
        listing = nft.list_table("inet", "scratch")
    return parse(listing or {"nftables": []})

"""nftables by way of libnftables, in the namespace of the thread that opens it.

libnftables(3) and libnftables-json(5): a context holds a netlink socket, which stays in the namespace in which the
context was made, wherever the thread goes later. `topo.kernel.nft_sets` asks the kernel directly: whether there is a table
at all, so that namespaces without any need no context, and what is in its sets.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from topo.errors import KernelError, UnsupportedError
from topo.kernel import nft_sets
from topo.kernel.netfilter import open_socket
from topo.kernel.netns import CLONE_NEWNET, unshare
from topo.kernel.nft_sets import table_names
from topo.kinds.nft import declared, parse, replacement

__all__ = ["Nftables", "canonical", "table_names"]

# nft_ctx_output_set_flags(): without counters; JSON; protocols and priorities as numbers, which do not depend on
# /etc/protocols and on nft's version. And without the elements of named sets.
_OUTPUT: Final = 4 | 16 | 128 | 256
_TERSE: Final = 1 << 11
_ATTEMPTS: Final = 10

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
        ("nft_ctx_set_dry_run", None, [context, ctypes.c_bool]),
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


def file() -> str:
    """Where the library lies that is used; its name tells its version. Raises UnsupportedError where there is none."""
    _library()
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return next((os.path.realpath(line.split()[-1]) for line in maps if "/libnftables.so." in line), "")


class _Seen(NamedTuple):
    """A table as it was read, or as it must be since: true as long as the generation is this one."""

    generation: int
    place: tuple[str, str]
    attrs: dict[str, Any]


class Nftables:
    """One libnftables context, bound to the network namespace in which it is created.

    Raises UnsupportedError where the library is missing. Not to be used by two threads at once.
    """

    def __init__(self) -> None:
        self._lib = _library()
        _room()
        self._context: int | None = self._lib.nft_ctx_new(0)
        if not self._context:
            raise KernelError(errno.ENOMEM, doing="opening libnftables")
        self._lib.nft_ctx_buffer_output(self._context)
        self._lib.nft_ctx_buffer_error(self._context)
        self._lib.nft_ctx_output_set_flags(self._context, _OUTPUT)
        self._sock = open_socket(large=True)
        self._seen: _Seen | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def attempt(self, commands: list[dict[str, Any]]) -> None:
        """See that `run` would succeed: the kernel looks at everything, and does nothing. Raises KernelError."""
        self._lib.nft_ctx_set_dry_run(self._context, True)
        try:
            self._run(commands)
        finally:
            self._lib.nft_ctx_set_dry_run(self._context, False)

    def run(self, commands: list[dict[str, Any]]) -> None:
        """Run `commands` (libnftables-json(5)) as one transaction: all of them, or none.

        A table of many elements is made in three where none is in force (`_load`). Raises KernelError with nft's own
        words, or the kernel's.
        """
        if (messages := nft_sets.edits(commands)) is not None:
            self._edit(commands, messages)
        elif (parts := nft_sets.apart(commands)) and not nft_sets.in_force(self._sock, *_place(commands)):
            self._load(parts)
        else:
            self._run(commands)

    def _edit(self, commands: list[dict[str, Any]], messages: list[nft_sets.Message]) -> None:
        """Change elements. Where nobody else changed anything since the table was read, it is known from what is read
        of these elements now, and `read` need not read it again."""
        seen, self._seen = self._seen, None
        before = nft_sets.generation(self._sock)
        nft_sets.change(self._sock, messages)
        if seen is None or seen.generation != before:
            return
        with suppress(KernelError):  # it is done, and `read` will say what is wrong
            sets = nft_sets.edited(self._sock, *seen.place, commands, seen.attrs["sets"])
            if sets is not None and nft_sets.generation(self._sock) == before + 1:
                self._seen = _Seen(before + 1, seen.place, {**seen.attrs, "sets": sets})

    def _load(self, parts: nft_sets.Parts) -> None:
        """Make a table where none is in force: first what no packet meets, then, in one transaction, all of its chains.

        Where one of them is refused, nothing is left: the first commands make sure of a table and delete it.
        """
        try:
            self._run(parts.declared)
            for message in parts.elements:
                nft_sets.change(self._sock, [message])
            self._run(parts.rest)
        except BaseException:
            with suppress(KernelError):
                self._run(parts.declared[:2])
            raise

    def read(self, family: str, table: str, known: Mapping[str, Any]) -> dict[str, Any] | None:
        """The table as facts have it; None where there is none.

        `known`: sets as they are expected to be, by name; elements that are just so are the same object. Other tables
        are not looked at, unless they are of another family. Raises KernelError.
        """
        alone = {name for of, name in table_names(self._sock) if of == family} == {table}
        for _ in range(_ATTEMPTS):
            before = nft_sets.generation(self._sock)
            if self._seen and (self._seen.generation, self._seen.place) == (before, (family, table)):
                return self._seen.attrs
            listing = self._frame(family) if alone else self.list_table(family, table)
            if listing is None:
                return None
            attrs = parse(listing)
            try:
                left = nft_sets.read(self._sock, family, table, attrs["sets"], known)
            except KernelError as error:
                if error.errno != errno.ENOENT:
                    raise
                continue
            if left and alone:
                alone = False  # then libnftables is to list the elements
            elif nft_sets.generation(self._sock) == before:
                if not left:  # elements with a timeout go without a new generation
                    self._seen = _Seen(before, (family, table), attrs)
                return attrs
        raise KernelError(
            errno.EINTR, "it kept changing while it was read", doing=f"reading nft table {family} {table}"
        )

    def _frame(self, family: str) -> dict[str, Any]:
        """All tables of a family without the elements of their sets. (`list table` cannot leave them out, in nft 1.0.)"""
        self._lib.nft_ctx_output_set_flags(self._context, _OUTPUT | _TERSE)
        try:
            listing: dict[str, Any] = json.loads(self._run([{"list": {"ruleset": {"family": family}}}]))
        finally:
            self._lib.nft_ctx_output_set_flags(self._context, _OUTPUT)
        return listing

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
            self._sock.close()

    def _run(self, commands: list[dict[str, Any]]) -> str:
        _room()
        text = json.dumps({"nftables": commands}, default=list).encode()
        failed = self._lib.nft_run_cmd_from_buffer(self._context, text)
        out: bytes = self._lib.nft_ctx_get_output_buffer(self._context) or b""
        words: bytes = self._lib.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise _error(words.decode(errors="replace"))
        return out.decode()


def _room() -> None:
    """See that there are descriptors left: where libnftables cannot open a socket it ends the process (netlink_init_error in
    its src/netlink.c). Raises KernelError (EMFILE)."""
    held: list[int] = []
    try:
        for _ in range(_SOCKETS):
            held.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise KernelError(error.errno or errno.EMFILE, doing="nft") from None
    finally:
        for fd in held:
            os.close(fd)


_SOCKETS: Final = 2


def _place(commands: list[dict[str, Any]]) -> tuple[str, str]:
    """Family and name of the table that commands make."""
    table = commands[0]["add"]["table"]
    return table["family"], table["name"]


def _error(text: str) -> KernelError:
    """nft's errors, one in a line and with a place that means nothing for JSON, as one KernelError."""
    lines = [line.partition("Error: ")[2] or line for line in text.splitlines() if line.strip()]
    words = list(dict.fromkeys(lines)) or ["nft gave no reason"]
    number = next((n for line in words for known, n in _ERRNOS.items() if known in line), errno.EINVAL)
    return KernelError(number, "; ".join(words), doing="nft")


def canonical(attrs: dict[str, Any]) -> dict[str, Any]:
    """`attrs` of an nft fact in the form in which this machine's nft lists them.

    The table is loaded in a scratch namespace that lives no longer than a thread of this call, and is read back
    there. Costs about a millisecond; for when a desired and a live table differ, in case only their words do.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "topo-scratch") as pool:
        return pool.submit(_loaded, attrs).result()


def in_words_of(want: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
    """`live`, in the words of `want` where it only words differently what is beside the elements of its sets: another
    version of nft may."""
    stated, found = declared(want), declared(live)
    if stated == found or stated["sets"].keys() != found["sets"].keys():
        return live
    try:
        if canonical(stated) != found:
            return live
    except KernelError:
        return live
    sets = {name: {**held, "elements": live["sets"][name]["elements"]} for name, held in want["sets"].items()}
    return {**want, "sets": sets}


def _loaded(attrs: dict[str, Any]) -> dict[str, Any]:
    unshare(CLONE_NEWNET)
    with Nftables() as nft:
        nft.run(replacement("inet", "scratch", attrs))
        listing = nft.list_table("inet", "scratch")
    return parse(listing or {"nftables": []})

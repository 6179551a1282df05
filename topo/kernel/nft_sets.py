"""Elements of nftables sets and maps, read and changed by nfnetlink itself (linux/netfilter/nf_tables.h).

libnftables takes seven times as long for them as the kernel does. docs/adr/0009-elements-by-nfnetlink.md
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from topo.errors import KernelError
from topo.kernel.netfilter import NFGENMSG, Entry, ask, dump, transact
from topo.kinds.nft import Command
from topo.kinds.nftelements import Elements, shape
from topo.wire import BE32, NLM_F_CREATE, STR, attr_str, attributes, nest

NFNL_SUBSYS_NFTABLES: Final = 10  # linux/netfilter/nfnetlink.h
FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}  # NFPROTO_*
_NUMBERS: Final = {name: number for number, name in FAMILIES.items()}

_KIND: Final = NFNL_SUBSYS_NFTABLES << 8
_GETTABLE, _GETCHAIN, _NEWSETELEM, _GETSETELEM, _DELSETELEM, _GETGEN = (_KIND | n for n in (1, 4, 12, 13, 14, 16))
_TABLE_NAME, _CHAIN_TABLE, _GEN_ID = 1, 1, 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_GEN_ID
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_LONGEST: Final = 0xF000  # bytes of elements in one message: the length of an attribute has 16 bits
_FEW: Final = 64  # elements that are read one by one after they were changed
_MANY: Final = 256  # elements from which on a table is loaded without them first

Message = tuple[int, int, bytes]


class Parts(NamedTuple):
    """The commands of a table that is to be made: itself with its sets, their elements, its chains with their rules."""

    declared: list[Command]
    elements: list[Message]
    rest: list[Command]


# -- reading -------------------------------------------------------------------------------------------------------


def table_names(sock: socket.socket) -> set[tuple[str, str]]:
    """Family and name of every table, from a NETLINK_NETFILTER socket (`topo.kernel.netfilter.open_socket`).

    Empty where the kernel has no nftables.
    """
    try:
        entries = dump(sock, _GETTABLE)
    except KernelError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return set()
        raise
    return {(FAMILIES.get(e.family, str(e.family)), STR.unpack(attributes(e.body)[_TABLE_NAME])) for e in entries}


def generation(sock: socket.socket) -> int:
    """A number that every change of this namespace's nftables moves on."""
    (answer,) = ask(sock, _GETGEN, NFGENMSG.pack(0, 0, 0))
    number: int = BE32.unpack(attributes(answer.body)[_GEN_ID])
    return number


def read(sock: socket.socket, family: str, table: str, sets: dict[str, Any], known: Mapping[str, Any]) -> set[str]:
    """Put into `sets` the elements of those that are of a simple make; the names of the others.

    `known`: sets with the elements that are expected: where they are just these, they are the same object.
    Raises KernelError (ENOENT where a set is gone).
    """
    left: set[str] = set()
    for name, held in sets.items():
        found = None
        if made := shape(held):
            data = _listed(dump(sock, _GETSETELEM, _NUMBERS[family], _where(table, name)))
            expected = known.get(name)
            found = made.read(data, expected["elements"] if expected and shape(expected) is made else {})
        if found is None:
            left.add(name)
        else:
            held["elements"] = found
    return left


def edited(
    sock: socket.socket, family: str, table: str, commands: Iterable[Command], sets: Mapping[str, Any]
) -> dict[str, Any] | None:
    """`sets`, as they were read before `commands` changed elements of theirs, with these as they are now.

    None where they are many, or not of a simple make: then all of it has to be read. Raises KernelError.
    """
    touched: dict[str, set[str]] = {}
    for command in commands:
        body = next(iter(command.values()))["element"]
        if (body["family"], body["table"]) != (family, table) or body["name"] not in sets:
            return None
        touched.setdefault(body["name"], set()).update(body["elem"].keys)
    if sum(map(len, touched.values())) > _FEW:
        return None
    found = dict(sets)
    for name, keys in touched.items():
        elements = dict(sets[name]["elements"])
        for key in keys:
            now = _look_up(sock, family, table, name, sets[name], key)
            if now is None:
                return None
            elements.pop(key, None)
            elements.update(now)
        found[name] = {**sets[name], "elements": elements}
    return found


def _look_up(
    sock: socket.socket, family: str, table: str, name: str, held: Mapping[str, Any], key: str
) -> dict[str, str] | None:
    """The element of this key: none, or one; None where it is more than its key and value."""
    keys = shape({"type": held["type"]})
    made = shape(held)
    if keys is None or made is None:
        return None
    body = NFGENMSG.pack(_NUMBERS[family], 0, 0) + _where(table, name) + nest(_LIST_ELEMENTS, keys.pack({key: ""}))
    try:
        return made.read(_listed(ask(sock, _GETSETELEM, body)), {})
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return {}
        raise


def _where(table: str, name: str) -> bytes:
    return attr_str(_LIST_TABLE, table) + attr_str(_LIST_SET, name)


def _listed(parts: Iterable[Entry]) -> bytes:
    """The elements in some messages, one behind the other."""
    return b"".join([attributes(part.body).get(_LIST_ELEMENTS, b"") for part in parts])


def in_force(sock: socket.socket, family: str, table: str) -> bool:
    """Whether a table has chains: one without them does nothing to packets."""
    chains = dump(sock, _GETCHAIN, _NUMBERS[family])
    return any(STR.unpack(attributes(chain.body)[_CHAIN_TABLE]) == table for chain in chains)


# -- changing ------------------------------------------------------------------------------------------------------


def change(sock: socket.socket, messages: Sequence[Message]) -> None:
    """Make and delete elements, all or none. Raises KernelError."""
    transact(sock, NFNL_SUBSYS_NFTABLES, messages)


def edits(commands: Iterable[Command]) -> list[Message] | None:
    """The messages of commands that are about elements alone; None where libnftables has to see to them."""
    found: list[Message] = []
    for command in commands:
        ((verb, what),) = command.items()
        body = what.get("element")
        messages = _messages(verb, body, body["elem"]) if body else None
        if messages is None:
            return None
        found += messages
    return found


def apart(commands: Sequence[Command]) -> Parts | None:
    """A table that is to be made, in three parts; None where it has few elements, which are loaded with all else."""
    if "table" not in commands[0].get("add", {}) or sum(len(elements) for _, _, elements in _sets(commands)) < _MANY:
        return None
    declared: list[Command] = []
    found: list[Message] = []
    rest: list[Command] = []
    for command in commands:
        messages: list[Message] | None = None
        for what, body, elements in _sets([command]):
            if (messages := _messages("add", body, elements)) is not None:
                declared.append({"add": {what: {name: value for name, value in body.items() if name != "elem"}}})
                found += messages
        if messages is None:
            ((_, about),) = command.items()
            (rest if "chain" in about or "rule" in about else declared).append(command)
    return Parts(declared, found, rest)


def _sets(commands: Iterable[Command]) -> Iterator[tuple[str, dict[str, Any], Elements]]:
    """The sets among what is made, with their elements."""
    for command in commands:
        for what, body in command.get("add", {}).items():
            if isinstance(elements := body.get("elem"), Elements) and what in ("set", "map"):
                yield what, body, elements


def _messages(verb: str, body: Mapping[str, Any], elements: Any) -> list[Message] | None:
    made = shape(elements.held) if isinstance(elements, Elements) else None
    if made is None:
        return None
    try:
        data = made.pack(elements.texts())
    except ValueError:
        return None
    kind, flags = (_NEWSETELEM, NLM_F_CREATE) if verb == "add" else (_DELSETELEM, 0)
    where = NFGENMSG.pack(_NUMBERS[body["family"]], 0, 0)
    where += _where(body["table"], body["name"])
    step = _LONGEST // len(made.blank) * len(made.blank)
    return [
        (kind, flags, where + nest(_LIST_ELEMENTS, data[start : start + step])) for start in range(0, len(data), step)
    ]

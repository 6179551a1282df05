"""Elements of nftables sets and maps, as text and as the kernel has them (linux/netfilter/nf_tables.h).

In text a key's parts are joined by " . ", as nft writes them. In the kernel's messages all elements of one set have one
size, unless they bear more than a key and a value: so a list of them is made, cut and compared as bytes, and only what
differs is told in words. A set of another make (intervals, timeouts, types that are not here) is left to libnftables.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple, overload

from topo.wire import NLATTR, attr, pack_ip, unpack_ip

JOIN: Final = " . "
NFTA_LIST_ELEM: Final = 1
_ELEM_KEY, _ELEM_DATA, _DATA_VALUE = 1, 2, 1  # NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA, NFTA_DATA_VALUE
_HEADERS: Final = 2 * NLATTR.size  # of a key or a value, and of the data in it
_JSON: Final = re.compile(r'\{"[a-z]+": [\[{]')  # no name of an interface has a space
_NUMBERS: Final = frozenset({"inet_service", "mark", "integer"})
_IFNAMSIZ: Final = 16
_MEANING: Final = frozenset("*\\")  # what nft does not take, or write, as it is
_NUMBER: Final = 8  # bytes

Held = Mapping[str, Any]
"""A set as facts have it: its `type`, the `map` that it leads to, its `elements`, and whatever else nft lists of it."""


# -- as libnftables-json(5) has them -------------------------------------------------------------------------------


class Elements(Sequence[Any]):
    """Some elements of a set as libnftables takes them; made of their text only where libnftables is to have them."""

    __slots__ = ("held", "keys")

    def __init__(self, held: Held, keys: Sequence[str]) -> None:
        self.held, self.keys = held, keys

    def texts(self) -> dict[str, str]:
        """Keys with their values."""
        elements = self.held["elements"]
        return elements if len(self.keys) == len(elements) else {key: elements[key] for key in self.keys}

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Any]:
        kinds, leads, elements = self.held["type"], self.held.get("map"), self.held["elements"]
        for key in self.keys:
            yield _key(kinds, key) if leads is None else [_key(kinds, key), _value(leads, elements[key])]

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return list(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Elements | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def _value(kind: str, text: str) -> Any:
    if _JSON.match(text):
        return json.loads(text)  # an interval, or a timeout: someone else's, which an undo puts back
    return int(text) if kind in _NUMBERS else text


def _key(kinds: str | list[str], text: str) -> Any:
    if isinstance(kinds, str) or _JSON.match(text):
        return _value(str(kinds), text)
    return {"concat": [_value(k, t) for k, t in zip(kinds, text.split(JOIN), strict=True)]}


# -- as the kernel has them ----------------------------------------------------------------------------------------


class _Type(NamedTuple):
    width: int  # bytes
    pack: Callable[[Sequence[str]], bytes]  # of many values, one behind the other
    text: Callable[[bytes], str | None]  # of one; None where nft would write it in another way


def _services(texts: Sequence[str]) -> bytes:
    return struct.pack(f">{len(texts)}H", *map(int, texts))


def _each(pack: Callable[[str], bytes]) -> Callable[[Sequence[str]], bytes]:
    """Many elements have few values: each is made once."""

    def packed(texts: Sequence[str]) -> bytes:
        known = {text: pack(text) for text in set(texts)}
        return known[texts[0]] * len(texts) if len(known) == 1 else b"".join(map(known.__getitem__, texts))

    return packed


def _address(width: int) -> _Type:
    def pack(text: str) -> bytes:
        data = pack_ip(text)
        if len(data) != width:
            raise ValueError(f"{text} is of another family")
        return data

    return _Type(width, _each(pack), unpack_ip)


def _pack_ifname(text: str) -> bytes:
    data = text.encode()
    if len(data) >= _IFNAMSIZ or not text.isprintable() or not text or not _MEANING.isdisjoint(text):
        raise ValueError(f"{text!r} is more than a name")
    return data.ljust(_IFNAMSIZ, b"\0")


def _ifname(data: bytes) -> str | None:
    try:
        text = data.rstrip(b"\0").decode()
        return text if _pack_ifname(text) == data else None
    except ValueError:
        return None


_TYPES: Final = {
    "ipv4_addr": _address(4),
    "ipv6_addr": _address(16),
    "inet_service": _Type(2, _services, lambda data: str(int.from_bytes(data, "big"))),
    "ifname": _Type(_IFNAMSIZ, _each(_pack_ifname), _ifname),
}


class Shape(NamedTuple):
    """Where in an element its values are; `blank` is an element whose values are all zero."""

    blank: bytes
    key: tuple[tuple[int, _Type], ...]
    data: tuple[tuple[int, _Type], ...]

    def pack(self, elements: Mapping[str, str]) -> bytes:
        """The elements, one behind the other. Raises ValueError where one of them is more than its key and its value."""
        if not elements:
            return b""
        keys: Sequence[Sequence[str]] = [list(elements)]
        found = bytearray(self.blank * len(elements))
        try:
            if len(self.key) > 1:
                keys = list(zip(*[key.split(JOIN) for key in elements], strict=True))
            for (at, kind), texts in zip(self.key, keys, strict=True):
                _fill(found, len(self.blank), at, kind, texts)
            for at, kind in self.data:
                _fill(found, len(self.blank), at, kind, list(elements.values()))
        except (struct.error, OSError) as error:
            raise ValueError(str(error)) from None
        return bytes(found)

    def read(self, data: bytes, known: dict[str, str]) -> dict[str, str] | None:
        """The elements of a dump; `known` itself where they are just these. None where one is more than it should be."""
        try:
            expected = self.pack(known)
        except ValueError:
            known, expected = {}, b""
        if len(data) % len(self.blank):
            return None
        live: set[Any] | None = self._short(data)
        want: set[Any] | None = self._short(expected)
        if live is None or want is None:
            live, want = self._cut(data), self._cut(expected)
        if live == want:
            return known
        found = dict(known)
        for element in want - live:
            if (told := self._told(element)) is not None:
                del found[told[0]]
        for element in live - want:
            if (told := self._told(element)) is None:
                return None
            found[told[0]] = told[1]
        return found

    def _short(self, data: bytes) -> set[int] | None:
        """The values of elements as numbers, of which Python compares sets fastest. None where they are too long for that,
        or where an element has something else where it should have nothing."""
        size, count, places = len(self.blank), len(data) // len(self.blank), self._places()
        if len(places) > _NUMBER:
            return None
        values, rest = bytearray(_NUMBER * count), bytearray(data)
        for byte, at in enumerate(places):
            values[byte::_NUMBER] = data[at::size]
            rest[at::size] = bytes(count)
        return set(memoryview(values).cast("Q")) if rest == self.blank * count else None

    def _cut(self, data: bytes) -> set[bytes]:
        size = len(self.blank)
        return {data[at : at + size] for at in range(0, len(data), size)}

    def _places(self) -> list[int]:
        """Where the bytes of its values are."""
        return [at + byte for at, kind in (*self.key, *self.data) for byte in range(kind.width)]

    def _told(self, element: bytes | int) -> tuple[str, str] | None:
        """Key and value in words; of the element itself, or of the number that stands for it (`_short`)."""
        if isinstance(element, int):
            whole, values = bytearray(self.blank), element.to_bytes(_NUMBER, sys.byteorder)
            for byte, at in enumerate(self._places()):
                whole[at] = values[byte]
            element = bytes(whole)
        rest = bytearray(element)
        texts: list[str] = []
        for at, kind in (*self.key, *self.data):
            text = kind.text(element[at : at + kind.width])
            if text is None:
                return None
            texts.append(text)
            rest[at : at + kind.width] = bytes(kind.width)
        key = JOIN.join(texts[: len(self.key)])
        return (key, "".join(texts[len(self.key) :])) if rest == self.blank else None


def _fill(found: bytearray, size: int, at: int, kind: _Type, texts: Sequence[str]) -> None:
    """One value of all elements, byte by byte: each byte of all of them is one slice."""
    packed, width = kind.pack(texts), kind.width
    for byte in range(width):
        found[at + byte :: size] = packed[byte::width]


def shape(held: Held) -> Shape | None:
    """The shape of a set's elements; None where libnftables has to see to them."""
    if not held.keys() <= {"type", "map", "elements"}:
        return None
    kinds = [held["type"]] if isinstance(held["type"], str) else held["type"]
    if not all(isinstance(kind, str) for kind in (*kinds, held.get("map", ""))):
        return None
    return _shape(tuple(kinds), held.get("map"))


@cache
def _shape(kinds: tuple[str, ...], leads: str | None) -> Shape | None:
    if not _TYPES.keys() >= {*kinds, *((leads,) if leads is not None else ())}:
        return None
    key, width = _placed(NLATTR.size + _HEADERS, kinds)
    blank = attr(_ELEM_KEY, attr(_DATA_VALUE, bytes(width)))
    data: tuple[tuple[int, _Type], ...] = ()
    if leads is not None:
        data, width = _placed(NLATTR.size + len(blank) + _HEADERS, (leads,))
        blank += attr(_ELEM_DATA, attr(_DATA_VALUE, bytes(width)))
    return Shape(attr(NFTA_LIST_ELEM, blank), key, data)


def _placed(start: int, kinds: Iterable[str]) -> tuple[tuple[tuple[int, _Type], ...], int]:
    """Where values are that begin at `start`, and how long they are together: those of a concatenation fill up whole
    words of four bytes."""
    places: list[tuple[int, _Type]] = []
    at = start
    for kind in kinds:
        at = (at + 3) & ~3
        places.append((at, _TYPES[kind]))
        at += _TYPES[kind].width
    return tuple(places), (at - start) if len(places) == 1 else (at - start + 3) & ~3

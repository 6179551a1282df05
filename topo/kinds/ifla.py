"""Attributes of RTM_NEWLINK (linux/if_link.h), and the messages that are made of them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from topo.facts import doomed
from topo.wire import IFINFOMSG, NLATTR, attr_u32

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_TXQLEN = 1, 3, 4, 5, 10, 13
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD = 18, 20, 27, 28
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES, IFLA_LINK_NETNSID = 31, 32, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5

IFF_UP: Final = 1
_TYPE_MASK: Final = 0x3FFF
_MOST_LAYOUTS: Final = 256
ONE_QUEUE: Final = attr_u32(IFLA_NUM_TX_QUEUES, 1) + attr_u32(IFLA_NUM_RX_QUEUES, 1)
"""One queue each way. With more, making a link waits for RCU (net_set_real_num_queues in net/core/dev.c)."""


def body(index: int, *parts: bytes, up: bool | None = None) -> bytes:
    """The body of RTM_NEWLINK or RTM_DELLINK; `up` None leaves the flag as it is."""
    flags, change = (IFF_UP if up else 0), (0 if up is None else IFF_UP)
    return IFINFOMSG.pack(0, 0, index, flags, change) + b"".join(parts)


class Selection:
    """Reads, as `topo.wire.attributes` does, only those attributes that are `wanted`: a link's message has some forty.

    A thousand links of one kind differ in the values alone. So where each attribute begins is remembered by the
    size of the message, and one unpacking of all the headers at once tells whether this one has the same layout.
    """

    __slots__ = ("_layouts", "_wanted")

    def __init__(self, wanted: Collection[int]) -> None:
        self._wanted = wanted
        self._layouts: dict[int, _Layout] = {}

    def __call__(self, data: bytes, offset: int, end: int) -> dict[int, bytes]:
        """The wanted attributes in `data[offset:end]` by number, flags stripped; a malformed tail ends the walk."""
        layout = self._layouts.get(end - offset)
        if layout is None or layout.headers.unpack_from(data, offset) != layout.expected:
            found = list(_headers(data, offset, end))
            if layout is None and len(self._layouts) < _MOST_LAYOUTS:
                self._layouts[end - offset] = _layout(found, end - offset, self._wanted)
            return {nla: data[offset + at + 4 : offset + at + size] for at, size, nla in self._only(found)}
        return {nla: data[offset + start : offset + stop] for nla, start, stop in layout.values}

    def _only(self, found: Iterable[Header]) -> Iterator[Header]:
        return ((at, size, nla & _TYPE_MASK) for at, size, nla in found if nla & _TYPE_MASK in self._wanted)


Header = tuple[int, int, int]
"""Where an attribute begins, counted from the first; its size with the header; its number with its flags."""


class _Layout(NamedTuple):
    headers: struct.Struct  # the size and number of every attribute, in order
    expected: tuple[int, ...]  # what they are
    values: tuple[Header, ...]  # number, first and last byte of each wanted one


def _headers(data: bytes, offset: int, end: int) -> Iterator[Header]:
    at = offset
    while at + 4 <= end:
        size, nla = NLATTR.unpack_from(data, at)
        if size < 4 or at + size > end:
            return
        yield at - offset, size, nla
        at += (size + 3) & ~3


def _layout(found: Sequence[Header], size: int, wanted: Collection[int]) -> _Layout:
    ends = [*(at for at, _, _ in found[1:]), size]
    form = "".join(f"HH{end - at - 4}x" for (at, _, _), end in zip(found, ends, strict=True)) if found else ""
    return _Layout(
        struct.Struct("=" + form),
        tuple(number for _, length, nla in found for number in (length, nla)),
        tuple((nla & _TYPE_MASK, at + 4, at + length) for at, length, nla in found if nla & _TYPE_MASK in wanted),
    )


MARKED: Final = 1
DOOMED: Final = 2


def marks(mark: int) -> Callable[[bytes, int, int], int]:
    """A function that tells of the attributes of a link, from one offset to another: MARKED where it bears `mark`, DOOMED
    where it was about to be deleted with others (`topo.facts.doomed`), else 0."""
    sign = attr_u32(IFLA_GROUP, mark)[:-1]  # the last byte is where the two differ
    last = {mark >> 24: MARKED, doomed(mark) >> 24: DOOMED}

    def standing(data: bytes, at: int, end: int) -> int:
        place = data.find(sign, at, end)
        return last.get(data[place + len(sign)], 0) if place >= 0 else 0

    return standing

"""Pools of addresses: what `subnet` gives out. Pure functions of the calls, over integers."""

from __future__ import annotations

from topo.wire import pack_ip, unpack_ip


def parse_address(text: str) -> tuple[int, int]:
    """The number and the width in bits (32 or 128) of an address. Raises ValueError."""
    bits = 128 if ":" in text else 32
    try:
        return int.from_bytes(pack_ip(text), "big"), bits
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None


def parse_prefix(text: str) -> tuple[int, int, int]:
    """The number, the prefix length and the width in bits of `address/length`. Raises ValueError."""
    address, slash, length = text.partition("/")
    number, bits = parse_address(address)
    if not slash:
        raise ValueError(f"{text!r} has no prefix length; write it as {address}/{24 if bits == 32 else 64}")
    if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= bits):
        raise ValueError(f"{text!r} has the prefix length {length!r}, which is not a number from 0 to {bits}")
    return number, int(length), bits


def address_text(number: int, bits: int) -> str:
    """The address as inet_ntop(3) writes it."""
    return unpack_ip(number.to_bytes(bits // 8, "big"))


class Pool:
    """The addresses of one prefix, given out in ascending order, each once.

    Not given out: the network address and IPv4's broadcast address (RFC 4291's subnet-router
    address of IPv6), and what is reserved. A /31 or /127 gives both of its addresses (RFC 3021,
    RFC 6164), a /32 or /128 its one.
    """

    __slots__ = ("_blocked", "_end", "_first", "_next", "_reserved", "_stop", "bits", "prefixlen")

    def __init__(self, prefix: str) -> None:
        """Raises ValueError where `prefix` is no prefix, or has host bits set."""
        number, prefixlen, bits = parse_prefix(prefix)
        base = number >> (bits - prefixlen) << (bits - prefixlen)
        if base != number:
            raise ValueError(f"{prefix!r} has host bits set; the subnet is {address_text(base, bits)}/{prefixlen}")
        self._set(base, prefixlen, bits)

    def _set(self, base: int, prefixlen: int, bits: int) -> None:
        self.bits, self.prefixlen = bits, prefixlen
        self._next = base  # everything below is given out or passed over
        self._end = base + (1 << (bits - prefixlen))
        ends = prefixlen < bits - 1
        self._first = base + ends
        self._stop = self._end - (ends and bits == 32)  # behind the last that `take` gives
        self._reserved: set[int] = set()
        self._blocked: dict[int, set[int]] = {}  # host bits -> the subnets of that size with a reserved address

    @property
    def family(self) -> int:
        """4 or 6."""
        return 4 if self.bits == 32 else 6

    @property
    def prefix(self) -> str:
        return f"{address_text(self._end - (1 << (self.bits - self.prefixlen)), self.bits)}/{self.prefixlen}"

    @property
    def size(self) -> int:
        """How many addresses interfaces can have out of this prefix."""
        return self._stop - self._first

    def __contains__(self, address: str) -> bool:
        """Whether `address` (a prefix length behind it does not matter) is within the prefix."""
        number, bits = parse_address(address.partition("/")[0])
        return bits == self.bits and number < self._end and number >> (bits - self.prefixlen) == self._top

    @property
    def _top(self) -> int:
        return (self._end - 1) >> (self.bits - self.prefixlen)

    def reserve(self, address: str) -> None:
        """Never give out `address` (a prefix length behind it does not matter). Others' addresses are ignored."""
        if address in self:
            number, _ = parse_address(address.partition("/")[0])
            self._reserved.add(number)
            for host_bits, blocked in self._blocked.items():
                blocked.add(number >> host_bits)

    def first(self) -> str:
        """The first address, as `address/length`, whether it is taken or not; does not take it."""
        return f"{address_text(self._first, self.bits)}/{self.prefixlen}"

    def take(self) -> str:
        """The next address, as `address/length`. Raises ValueError when there is none left."""
        number = max(self._next, self._first)
        while number in self._reserved:
            number += 1
        if number >= self._stop:
            raise ValueError(f"{self.prefix} is used up: it has {_counted(self.size, 'address', 'addresses')}")
        self._next = number + 1
        return f"{address_text(number, self.bits)}/{self.prefixlen}"

    def take_subnet(self, prefixlen: int) -> Pool:
        """The next subnet of that length with no address of it given out or reserved, as a pool of its own.

        Raises ValueError when there is none left, or it would be larger than this prefix.
        """
        if not self.prefixlen <= prefixlen <= self.bits:
            fitting = f"a length from {self.prefixlen} to {self.bits}"
            raise ValueError(f"{self.prefix} cannot be cut into /{prefixlen}: {fitting}")
        host_bits = self.bits - prefixlen
        blocked = self._blocked.get(host_bits)
        if blocked is None:
            blocked = self._blocked[host_bits] = {number >> host_bits for number in self._reserved}
        index = -(-self._next >> host_bits)
        while index in blocked:
            index += 1
        base = index << host_bits
        if base >= self._end:
            total = 1 << (prefixlen - self.prefixlen)
            raise ValueError(f"{self.prefix} is used up: it has {_counted(total, 'subnet', 'subnets')} of /{prefixlen}")
        self._next = base + (1 << host_bits)
        subnet = Pool.__new__(Pool)
        subnet._set(base, prefixlen, self.bits)
        return subnet


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"

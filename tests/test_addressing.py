"""Pools: what they give out, in which order, and what they say when they are used up."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo.file.addressing import Pool, address_text, parse_address, parse_prefix


def drained(pool: Pool) -> list[str]:
    taken = []
    try:
        while True:
            taken.append(pool.take())
    except ValueError as error:
        assert "is used up" in str(error)
    return taken


@pytest.mark.parametrize(
    ("prefix", "addresses"),
    [
        ("10.0.0.0/29", [f"10.0.0.{n}/29" for n in range(1, 7)]),
        ("10.0.0.4/30", ["10.0.0.5/30", "10.0.0.6/30"]),
        ("10.0.0.2/31", ["10.0.0.2/31", "10.0.0.3/31"]),
        ("10.0.0.9/32", ["10.0.0.9/32"]),
        ("fd00::/126", ["fd00::1/126", "fd00::2/126", "fd00::3/126"]),
        ("fd00::/127", ["fd00::/127", "fd00::1/127"]),
        ("fd00::7/128", ["fd00::7/128"]),
    ],
)
def test_gives_every_address_once(prefix: str, addresses: list[str]) -> None:
    pool = Pool(prefix)
    assert pool.first() == addresses[0]
    assert pool.size == len(addresses)
    assert drained(pool) == addresses


def test_first_takes_nothing() -> None:
    pool = Pool("10.0.0.0/24")
    assert [pool.first(), pool.first(), pool.take(), pool.first()] == ["10.0.0.1/24"] * 4


def test_skips_what_is_reserved() -> None:
    pool = Pool("10.0.0.0/29")
    for address in ("10.0.0.1", "10.0.0.3/29", "10.0.0.4/32", "10.9.9.9", "fd00::1"):
        pool.reserve(address)
    assert drained(pool) == ["10.0.0.2/29", "10.0.0.5/29", "10.0.0.6/29"]


def test_knows_its_own() -> None:
    pool = Pool("10.0.0.0/29")
    assert "10.0.0.7" in pool and "10.0.0.0/8" in pool
    assert "10.0.0.8" not in pool and "9.255.255.255" not in pool and "::a00:1" not in pool
    assert (pool.prefix, pool.family) == ("10.0.0.0/29", 4)
    assert (Pool("FD00:0::/64").prefix, Pool("::/0").family) == ("fd00::/64", 6)


def test_gives_subnets() -> None:
    pool = Pool("10.0.0.0/29")
    first, second = pool.take_subnet(31), pool.take_subnet(31)
    assert drained(first) == ["10.0.0.0/31", "10.0.0.1/31"]
    assert drained(second) == ["10.0.0.2/31", "10.0.0.3/31"]
    assert pool.take() == "10.0.0.4/29"
    assert pool.take_subnet(31).prefix == "10.0.0.6/31"
    with pytest.raises(ValueError, match=r"^10.0.0.0/29 is used up: it has 4 subnets of /31$"):
        pool.take_subnet(31)


def test_a_subnet_with_a_reserved_address_is_passed_over() -> None:
    pool = Pool("fd00::/125")
    pool.reserve("fd00::1")
    assert pool.take_subnet(127).prefix == "fd00::2/127"
    pool.reserve("fd00::5")
    assert pool.take_subnet(127).prefix == "fd00::6/127"


def test_a_whole_prefix_is_a_subnet_of_itself() -> None:
    assert Pool("10.0.0.0/24").take_subnet(24).prefix == "10.0.0.0/24"


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("10.0.0.1/24", "'10.0.0.1/24' has host bits set; the subnet is 10.0.0.0/24"),
        ("fd00::1/64", "'fd00::1/64' has host bits set; the subnet is fd00::/64"),
        ("10.0.0.0", "'10.0.0.0' has no prefix length; write it as 10.0.0.0/24"),
        ("fd00::", "'fd00::' has no prefix length; write it as fd00::/64"),
        ("10.0.0.0/33", "'10.0.0.0/33' has the prefix length '33', which is not a number from 0 to 32"),
        ("fd00::/129", "'fd00::/129' has the prefix length '129', which is not a number from 0 to 128"),
        ("10.0.0.0/", "'10.0.0.0/' has the prefix length '', which is not a number from 0 to 32"),
        ("10.0.0.0/²", "'10.0.0.0/²' has the prefix length '²', which is not a number from 0 to 32"),
        ("10.0.0/24", "'10.0.0' is not an IPv4 or IPv6 address"),
        ("010.0.0.0/24", "'010.0.0.0' is not an IPv4 or IPv6 address"),
        ("fe80::1%eth0/64", "'fe80::1%eth0' is not an IPv4 or IPv6 address"),
        ("a\0b", "'a\\x00b' is not an IPv4 or IPv6 address"),
    ],
)
def test_refuses(prefix: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Pool(prefix)
    assert str(caught.value) == message


def test_says_how_many_it_had() -> None:
    pool = Pool("10.0.0.0/30")
    pool.take(), pool.take()
    with pytest.raises(ValueError, match=r"^10.0.0.0/30 is used up: it has 2 addresses$"):
        pool.take()
    with pytest.raises(ValueError, match=r"^10.0.0.0/30 cannot be cut into /29: a length from 30 to 32$"):
        pool.take_subnet(29)


def test_a_hundred_thousand_are_taken_fast() -> None:
    pool = Pool("10.0.0.0/8")
    for number in range(2, 100_000, 2):
        pool.reserve(address_text((10 << 24) + number, 32))
    start = time.process_time()
    taken = [pool.take() for _ in range(100_000)]
    assert time.process_time() - start < 2
    assert len(set(taken)) == 100_000 and taken[:2] == ["10.0.0.1/8", "10.0.0.3/8"]


@given(st.integers(0, 2**32 - 1), st.integers(22, 32), st.sets(st.integers(0, 1023), max_size=30))
def test_agrees_with_ipaddress(number: int, length: int, reserved: set[int]) -> None:
    network = ipaddress.ip_network((number, length), strict=False)
    pool = Pool(str(network))
    assert (pool.prefix, pool.size) == (str(network), len(list(network.hosts())))
    kept = {network.network_address + offset for offset in reserved if offset < network.num_addresses}
    for address in kept:
        pool.reserve(str(address))
    assert drained(pool) == [f"{host}/{length}" for host in network.hosts() if host not in kept]


@given(st.ip_addresses())
def test_reads_and_writes_as_ipaddress_does(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    number, bits = parse_address(str(address))
    assert (number, bits) == (int(address), address.max_prefixlen)
    assert ipaddress.ip_address(address_text(number, bits)) == address
    assert parse_prefix(f"{address}/17") == (number, 17, bits)

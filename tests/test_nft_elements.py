"""Elements of nftables sets as bytes: pyroute2's message class is the oracle; and what a dump of them is read as."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.nftsocket import nft_set_elem_list_msg

from topo.kernel import nft_sets
from topo.kinds.nft import Publish, Rules, fact, replacement
from topo.kinds.nftelements import JOIN, Elements, shape
from topo.wire import unpack_ip

VALUES: dict[str, st.SearchStrategy[str]] = {
    "ipv4_addr": st.binary(min_size=4, max_size=4).map(unpack_ip),
    "ipv6_addr": st.binary(min_size=16, max_size=16).map(unpack_ip),
    "inet_service": st.integers(0, 65535).map(str),
    "ifname": st.text("ab0._-", min_size=1, max_size=15),
}
RAW: dict[str, Callable[[str], bytes]] = {
    "ipv4_addr": lambda text: ipaddress.ip_address(text).packed,
    "ipv6_addr": lambda text: ipaddress.ip_address(text).packed,
    "inet_service": lambda text: int(text).to_bytes(2, "big"),
    "ifname": lambda text: text.encode().ljust(16, b"\0"),
}
kinds = st.sampled_from([*VALUES, ["ifname", "inet_service"], ["ipv6_addr", "inet_service", "ifname", "ipv4_addr"]])


@st.composite
def sets(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, str]]:
    """A set or a map with a few elements, and other elements that it could have."""
    made, leads = draw(kinds), draw(st.sampled_from([None, *VALUES]))
    parts = [made] if isinstance(made, str) else made
    keys = st.tuples(*(VALUES[part] for part in parts)).map(JOIN.join)
    elements = st.dictionaries(keys, VALUES[leads] if leads else st.just(""), max_size=5)
    return {"type": made, **({"map": leads} if leads else {}), "elements": draw(elements)}, draw(elements)


def raw(made: str | list[str], text: str) -> bytes:
    """A key or a value as nf_tables has it: the parts of a concatenation fill whole words."""
    if isinstance(made, str):
        return RAW[made](text)
    parts = [RAW[kind](part) for kind, part in zip(made, text.split(JOIN), strict=True)]
    return b"".join(part.ljust(-(-len(part) // 4) * 4, b"\0") for part in parts)


def of_pyroute2(held: dict[str, Any]) -> bytes:
    """The elements in a message that pyroute2 makes; without the message's own header."""
    listed = []
    for key, value in held["elements"].items():
        attrs = [("NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", raw(held["type"], key))]})]
        if "map" in held:
            attrs.append(("NFTA_SET_ELEM_DATA", {"attrs": [("NFTA_DATA_VALUE", raw(held["map"], value))]}))
        listed.append({"attrs": attrs})
    message = nft_set_elem_list_msg()
    message["attrs"] = [("NFTA_SET_ELEM_LIST_ELEMENTS", listed)]
    message.encode()
    return bytes(message.data)[20 + 4 :]  # nlmsghdr, nfgenmsg; the header of the list


@given(sets())
def test_elements_have_the_bytes_that_pyroute2_makes(drawn: tuple[dict[str, Any], dict[str, str]]) -> None:
    held, _ = drawn
    made = shape(held)
    assert made is not None
    assert made.pack(held["elements"]) == without_flags(of_pyroute2(held), len(held["elements"]))


def without_flags(data: bytes, count: int) -> bytes:
    """pyroute2 numbers the elements of a list by their place, the kernel by NFTA_LIST_ELEM; and some set NLA_F_NESTED."""
    found, size = bytearray(data), len(data) // max(count, 1)
    for at in range(0, len(data), max(size, 1)):
        found[at + 2 : at + 4] = b"\1\0"
    return bytes(found)


@given(sets())
def test_a_dump_is_read_in_whatever_order(drawn: tuple[dict[str, Any], dict[str, str]]) -> None:
    held, other = drawn
    made = shape(held)
    assert made is not None
    elements: dict[str, str] = held["elements"]
    items = list(elements.items())
    dumped = made.pack(dict(items[::-1]))
    same = made.read(dumped, elements)
    assert same is elements, "just these: no copy"
    assert made.read(dumped, {}) == elements
    assert made.read(dumped, other) == elements, "what was expected is of no importance"
    assert made.read(b"", elements) == {}
    if items:
        less = dict(items[1:])
        assert made.read(dumped, less) == elements
        assert made.read(made.pack(less), elements) == less


@pytest.mark.parametrize("made", ["inet_service", ["ifname", "inet_service"]])
@given(data=st.data())
def test_an_element_that_is_more_than_key_and_value_is_not_taken_for_one(made: Any, data: st.DataObject) -> None:
    """A flag, a timeout, a byte where there should be none."""
    text = "8080" if isinstance(made, str) else "eth0 . 8080"
    held: dict[str, Any] = {"type": made, "map": "ipv4_addr", "elements": {text: "10.0.0.1"}}
    shaped = shape(held)
    assert shaped is not None
    dumped = shaped.pack(held["elements"])
    values = {at + n for at, kind in (*shaped.key, *shaped.data) for n in range(kind.width)}
    place = data.draw(st.sampled_from(sorted(set(range(len(dumped))) - values)))
    wrong = bytes(byte ^ (1 if at == place else 0) for at, byte in enumerate(dumped))
    assert shaped.read(wrong, held["elements"]) is None
    assert shaped.read(dumped + wrong, held["elements"]) is None
    assert shaped.read(dumped + b"\x08\0\3\0\0\0\0\1", held["elements"]) is None


@pytest.mark.parametrize("name", [b"eth*", b"a\\b", b"0123456789abcdef", b"", b"\xff\xfe", b"a\0b"])
def test_names_that_nft_writes_otherwise_are_left_to_it(name: bytes) -> None:
    shaped = shape({"type": "ifname", "elements": {}})
    assert shaped is not None
    dumped = bytearray(shaped.pack({"eth0": ""}))
    dumped[-16:] = name.ljust(16, b"\0")
    assert shaped.read(bytes(dumped), {}) is None


@pytest.mark.parametrize(
    "more",
    [
        {"flags": ["interval"]}, {"timeout": 9}, {"size": 9}, {"type": "mark"}, {"type": ["ipv4_addr", "mark"]},
        {"map": "verdict"}, {"map": ["ipv4_addr", "inet_service"]}, {"type": {"typeof": "x"}}, {"type": [["ifname"]]},
    ],
)  # fmt: skip
def test_sets_of_another_make_have_no_shape(more: dict[str, Any]) -> None:
    assert shape({"type": "ipv4_addr", "elements": {}} | more) is None


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("ipv4_addr", json.dumps({"prefix": {"addr": "10.0.0.0", "len": 8}})), ("ipv4_addr", "fd00::1"),
        ("inet_service", "65536"), ("inet_service", "ssh"), ("ifname", "a" * 16), ("ifname", "eth*"),
        ("inet_service", json.dumps({"elem": {"val": 80, "timeout": 9}})),
    ],
)  # fmt: skip
def test_what_has_no_bytes_goes_to_libnftables(kind: str, text: str) -> None:
    held: dict[str, Any] = {"type": kind, "elements": {text: ""}}
    shaped = shape(held)
    assert shaped is not None
    with pytest.raises(ValueError):
        shaped.pack(held["elements"])
    where = {"family": "inet", "table": "t", "name": "s"}
    assert nft_sets.edits([{"add": {"element": {**where, "elem": Elements(held, [text])}}}]) is None


def test_a_table_of_many_elements_comes_in_three_parts() -> None:
    made = fact("x", "gw", Rules(publish=(Publish((1000, 4999), (1000, 4999), "10.0.0.2", via="br0"),)))
    commands = replacement("inet", "topo-x", made.attrs)
    parts = nft_sets.apart(commands)
    assert parts is not None
    assert [name for command in parts.rest for name in command["add"]] == ["chain"] * 5 + ["rule"] * 7
    assert not any("elem" in body for command in parts.declared for what in command.values() for body in what.values())
    assert sum(len(body) for _, _, body in parts.elements) > 2 * 4000 * 28
    assert max(len(body) for _, _, body in parts.elements) < 1 << 16, "a list's length has 16 bits"
    few = fact("x", "gw", Rules(publish=(Publish((1, 9), (1, 9), "10.0.0.2"),)))
    assert nft_sets.apart(replacement("inet", "topo-x", few.attrs)) is None

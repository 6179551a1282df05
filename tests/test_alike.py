"""What is read by columns, or without the parser, is what is read one by one."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo.changes import CREATE, DELETE, Op
from topo.errors import InputError
from topo.facts import STATIC, TAGGED, Fact, Ref
from topo.file import runs, yaml
from topo.file.yaml import Source, build
from topo.kernel.rtnl import _block, messages
from topo.kinds.alike import LEAST, Block, Expected
from topo.kinds.registry import KINDS
from topo.wire import HEADER_SIZE, NDMSG, RTMSG, attr, attr_u32


class View:
    ns, mark = "n", 7

    @staticmethod
    def ifname(index: int) -> str | None:
        return {5: "vx0", 6: "eth0"}.get(index)


def _messages(bodies: list[bytes], kind: int) -> bytes:
    return b"".join(struct.pack("=IHHII", HEADER_SIZE + len(b), kind, 2, 1, 9) + b for b in bodies)


def _one_by_one(kind: str, block: Block) -> list[Fact]:
    return [fact for m in messages(block) for fact in KINDS[kind].decode(*m, View())]


_few = st.sampled_from
_mac = st.one_of(st.binary(min_size=6, max_size=6), _few([bytes(6), b"\x01" * 6, b"\x0a" * 6]))


@st.composite
def _alike(draw: st.DrawFn) -> tuple[str, bytes]:
    """A kind, and messages of it of one size, mostly alike in all but their values."""
    kind = draw(_few(["neighbour", "fdb", "route"]))
    number = draw(st.integers(LEAST, LEAST + 3))
    width = draw(_few([4, 16]))
    ip = st.binary(min_size=width, max_size=width)
    odd = draw(st.integers(0, 9)) == 0  # one of them is another in its header
    bodies = []
    family = draw(_few([2, 10, 7]))
    state, flags, index = draw(_few([0x80, 0xC0, 0x40, 0x02])), draw(_few([0, 2, 0x08, 0x10])), draw(_few([5, 6, 8]))
    optional = [draw(st.booleans()) for _ in range(4)]
    extra, protocol = draw(_few([0, 0, 0, 9, 30])), draw(_few([116, 4, 3, 2, 186]))
    table = draw(_few([254, 300]))
    for i in range(number):
        other = odd and i == number // 2
        if kind == "route":
            header = RTMSG.pack(family, draw(_few([0, 24])) if other else 24, 0, 0, 254, protocol, 0, 1, flags & 4)
            body = attr_u32(15, table) + attr(1, draw(ip)) + attr(5, draw(ip)) * optional[0]
            body += attr_u32(4, 6 if other else index) + attr_u32(6, draw(_few([1, 2]))) * optional[1]
            body += attr(7, draw(ip)) * optional[2]
        else:
            header = NDMSG.pack(family, 6 if other else index, state, flags, 1)
            body = attr(1, draw(ip)) + attr(2, draw(_mac)) + attr(3, bytes(16)) * optional[0]
            body += attr(12, bytes([draw(_few([protocol, 4]))])) * optional[1] if kind == "neighbour" else b""
            body += attr_u32(7, 4) * optional[3]
        bodies.append(header + body + attr_u32(extra, 1) * bool(extra))
    return kind, _messages(bodies, 24 if kind == "route" else 28)


@given(_alike())
def test_columns_tell_the_same(found: tuple[str, bytes]) -> None:
    kind, data = found
    block = _block(data)
    assert block is not None
    decode = KINDS[kind].decode_alike
    assert decode is not None
    facts = decode(block, View(), Expected())
    assert facts is None or facts == _one_by_one(kind, block)


STATED = {
    "fdb": ("dst",),
    "neighbour": ("lladdr",),
    "route": ("type", "gateway", "nexthops", "onlink", "src", "mtu", "dev"),
}


class Env:
    mark = 7

    @staticmethod
    def index(ns: str, ifname: str) -> int:
        return {"vx0": 5, "eth0": 6}[ifname]


def _requests(fact: Fact) -> list[Any]:
    """All that is asked of the kernel about a fact that is there."""
    encode = KINDS[fact.ref.kind].encode
    return [
        encode(Op(verb, fact.ref, *facts), cast(Any, Env()))
        for verb, facts in ((CREATE, (fact, None)), (DELETE, (None, fact)))
    ]


@given(_alike(), st.data())
def test_what_is_expected_is_told_by_its_bytes(found: tuple[str, bytes], data: st.DataObject) -> None:
    kind, text = found
    block = _block(text)
    assert block is not None
    live = _one_by_one(kind, block)
    thought: dict[Ref, Fact] = {}
    for fact in live:
        change = data.draw(_few(["", "", "", "gone", "value", "more"]))
        attrs = {name: fact.attrs.get(name) for name in STATED[kind]}  # no MTU beside what routes rarely have
        if change == "value":
            attrs[STATED[kind][0]] = {"fdb": "10.9.9.9", "neighbour": "02:00:00:00:00:99", "route": "blackhole"}[kind]
        elif change == "more":
            attrs |= {"fdb": {"vni": 7}, "neighbour": {}, "route": {"mtu": 1400}}[kind]
        if change != "gone":
            thought[fact.ref] = Fact(fact.ref, attrs)
    expected = Expected()
    if thought:
        KINDS[kind].expect([*thought.values()], expected)
    decode = KINDS[kind].decode_alike
    assert decode is not None
    facts = decode(block, View(), expected)
    if facts is None:
        assert not expected.taken
        return
    rest = list(live)
    for fact in expected.taken:
        assert thought.pop(fact.ref) is fact, "it is found twice"
        there = next(one for one in rest if one.ref == fact.ref and not KINDS[kind].compare(fact, one))
        assert _requests(fact) == _requests(there)
        assert there.origin == (STATIC if kind == "fdb" else TAGGED)
        rest.remove(there)
    assert facts == rest


@pytest.mark.parametrize("kind", ["neighbour", "fdb", "route"])
def test_what_topo_makes_is_read_by_columns(kind: str) -> None:
    if kind == "route":
        one = RTMSG.pack(2, 24, 0, 0, 254, 116, 0, 1, 4)
        bodies = [one + b"".join([attr_u32(15, 254), attr(1, bytes([10, i, 0, 0])), attr(5, bytes(4)), attr_u32(4, 5)])
                  for i in range(LEAST)]  # fmt: skip
    else:
        one = NDMSG.pack(7 if kind == "fdb" else 2, 5, 0xC0 if kind == "fdb" else 0x80, 2 if kind == "fdb" else 0, 1)
        more = b"" if kind == "fdb" else attr(12, b"\x74")
        bodies = [
            one + attr(1, bytes([10, 0, 0, i])) + attr(2, bytes([10, 0, 0, 0, 0, i])) + more for i in range(LEAST)
        ]
    block = _block(_messages(bodies, 24 if kind == "route" else 28))
    assert block is not None
    decode = KINDS[kind].decode_alike
    assert decode is not None
    facts = decode(block, View(), Expected())
    assert facts == _one_by_one(kind, block)
    assert facts is not None
    assert len(facts) == LEAST
    thought = [Fact(fact.ref, {name: fact.attrs[name] for name in STATED[kind]}) for fact in facts]
    expected = Expected()
    KINDS[kind].expect(thought, expected)
    assert decode(block, View(), expected) == []
    assert expected.taken == thought


def test_what_is_disturbed_or_ends_is_no_block() -> None:
    bodies = [NDMSG.pack(2, 5, 0x80, 0, 1) + attr(1, bytes(4))] * LEAST
    data = _messages(bodies, 28)
    assert _block(data) is not None
    assert _block(data + struct.pack("=IHHIIi", 20, 3, 2, 1, 9, 0)) is None  # NLMSG_DONE
    assert _block(data.replace(b"\x1c\x00\x02\x00", b"\x1c\x00\x12\x00")) is None  # NLM_F_DUMP_INTR
    assert _block(_messages(bodies[1:], 28)) is None


_VALUES = [
    "10.0.0.1",
    "'02:00:00:00:00:01'",
    "[10.0.0.0/24]",
    "12",
    "0x1f",
    "1.5",
    "true",
    "null",
    "[7]",
    "web:80",
    "'1'",
]
_FORMS = ["a: {0}", "a: {0}, b: {1}", "a: {0}, b: {1}, to-c: 1", "a: {0}, a: {1}", "a: {0}, b: :x", "a: {0} , b: 1"]
_PLACES = ["x:\n{}", "x:\n{}\ny: 1\n", "x: |\n{}", "x: >\n{}y: 2\n", "# x\n{}", "x: 'a\n{}'\n", "x: [\n{}]\n", "x: b\n{}",
           "x:\n{}      k: 1\n", "{}"]  # fmt: skip


@given(
    st.lists(st.tuples(_few(_FORMS), _few(_VALUES), _few(_VALUES), st.integers(60, 70)), min_size=1, max_size=3),
    _few(_PLACES),
    st.integers(0, 4),
)
def test_a_file_is_the_same_without_the_parser(kinds: list[tuple[str, str, str, int]], place: str, deep: int) -> None:
    lines = [f"{' ' * deep}- {{{form.format(one, two)}}}\n" for form, one, two, times in kinds for _ in range(times)]
    text = place.format("".join(lines))
    source = Source("x", text)

    def result(folded: bool) -> object:
        with pytest.MonkeyPatch.context() as patch:
            if not folded:
                patch.setattr(runs, "folded", lambda *_: None)
            try:
                return build(source)
            except InputError as error:
                return [str(d) for d in error.diagnostics]

    assert result(True) == result(False)


def test_long_lists_do_without_the_parser() -> None:
    text = "peers:\n" + "".join(f"  - {{ip: 10.0.0.{i}, port: {i}, mac: 'a', n: [x]}}\n" for i in range(100))
    found = runs.folded(text, yaml.plain)
    assert found is not None
    assert found.text.count("\n") == 2
    assert found.runs[0][7] == {"ip": "10.0.0.7", "port": 7, "mac": "a", "n": ["x"]}

"""Selection against the plain walk: what it remembers of earlier messages must never show in what it reads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from topo.kinds.ifla import Selection
from topo.wire import attr, attributes

WANTED = {1, 3, 5, 10, 13}

numbers = st.tuples(st.integers(0, 16), st.sampled_from([0, 0x8000, 0x4000])).map(sum)
# Few sizes, so that messages of one length and different layouts, and of the same layout, are common.
messages = st.lists(st.tuples(numbers, st.sampled_from([0, 1, 4, 8])), max_size=5)


def _encoded(message: list[tuple[int, int]], seed: int, cut: int) -> bytes:
    data = b"".join(
        attr(nla, bytes((seed + i + k) & 0xFF for k in range(size))) for i, (nla, size) in enumerate(message)
    )
    return data[: len(data) - cut]


@given(st.lists(st.tuples(messages, st.integers(0, 255), st.sampled_from([0, 0, 0, 1, 3, 6])), min_size=1, max_size=12))
def test_reads_what_a_plain_walk_reads(several: list[tuple[list[tuple[int, int]], int, int]]) -> None:
    selection = Selection(WANTED)
    for message, seed, cut in several * 2:
        data = _encoded(message, seed, cut)
        expected = {nla: value for nla, value in attributes(data).items() if nla in WANTED}
        assert selection(data, 0, len(data)) == expected
        assert selection(b"head" + data + b"tail", 4, 4 + len(data)) == expected


def test_remembers_no_more_than_a_few_layouts() -> None:
    selection = Selection(WANTED)
    for size in range(0, 4000, 4):
        assert selection(attr(3, bytes(size)), 0, size + 4) == {3: bytes(size)}

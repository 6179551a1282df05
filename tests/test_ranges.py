"""Ranges: what they stand for, and what is said of those that stand for nothing."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo.file.ranges import LIMIT, count, expand, is_range


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("web", ["web"]),
        ("h[1-3]", ["h1", "h2", "h3"]),
        ("h[7-7]", ["h7"]),
        ("h[0-1]", ["h0", "h1"]),
        ("h[08-11]", ["h08", "h09", "h10", "h11"]),
        ("h[9-11]x", ["h9x", "h10x", "h11x"]),
        ("r[1-2]p[1-3]", ["r1p1", "r1p2", "r1p3", "r2p1", "r2p2", "r2p3"]),
        ("[1-2][01-02]", ["101", "102", "201", "202"]),
        ("h[1-2]:eth[0-1]", ["h1:eth0", "h1:eth1", "h2:eth0", "h2:eth1"]),
    ],
)
def test_expands(text: str, names: list[str]) -> None:
    assert expand(text) == names
    assert count(text) == len(names)
    assert is_range(text) == (names != [text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h[3-1]", "'h[3-1]' has the range [3-1], which runs backwards; write [1-3]"),
        ("h[]", "'h[]' has an empty range; write it as [1-10]"),
        ("h[-3]", "'h[-3]' has the range [-3], which is not two numbers as in [1-10]"),
        ("h[1-]", "'h[1-]' has the range [1-], which is not two numbers as in [1-10]"),
        ("h[5]", "'h[5]' has the range [5], which is not two numbers as in [1-10]"),
        ("h[1,3]", "'h[1,3]' has the range [1,3], which is not two numbers as in [1-10]"),
        ("h[a-c]", "'h[a-c]' has the range [a-c], which is not two numbers as in [1-10]"),
        ("h[1-٣]", "'h[1-٣]' has the range [1-٣], which is not two numbers as in [1-10]"),
        ("h[1-[2-3]]", "'h[1-[2-3]]' has a '[' within a range; ranges cannot be nested"),
        ("h[1-3", "'h[1-3' has a '[' that is not closed"),
        ("h[1-3]p[1-2", "'h[1-3]p[1-2' has a '[' that is not closed"),
        ("h1-3]", "'h1-3]' has a ']' without its '['"),
        ("h[01-100]", "'h[01-100]' has the range [01-100], whose leading zeros do not fit; write [001-100]"),
        ("h[1-010]", "'h[1-010]' has the range [1-010], whose leading zeros do not fit; write [001-010]"),
        ("h[1-65537]", "'h[1-65537]' stands for 65,537 names; 65,536 is the most"),
        ("h[1-999999999]p[1-999999999]", "stands for 999,999,998,000,000,001 names; 65,536 is the most"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    assert is_range(text)
    start = time.process_time()
    with pytest.raises(ValueError) as caught:
        expand(text)
    assert message in str(caught.value)
    assert time.process_time() - start < 0.5  # refused before anything is built


def test_refuses_more_digits_than_python_converts() -> None:
    with pytest.raises(ValueError, match="is not two numbers"):
        expand(f"h[1-{'9' * 10_000}]")


def test_the_limit_itself_is_allowed() -> None:
    assert len(expand(f"h[1-{LIMIT}]")) == LIMIT


@given(st.integers(0, 999), st.integers(0, 300), st.integers(0, 4))
def test_a_range_is_its_numbers_in_order(first: int, more: int, width: int) -> None:
    last = first + more
    width = width if width >= len(str(last)) else 0
    names = expand(f"a[{first:0{width}}-{last:0{width}}]b")
    assert [int(name[1:-1]) for name in names] == list(range(first, last + 1))
    assert len(set(map(len, names))) == 1 or not width


@given(st.text("h[]-019,", max_size=12))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        names = expand(text)
    except ValueError:
        return
    assert len(names) == len(set(names)) or "][" in text
    assert not any(is_range(name) for name in names)

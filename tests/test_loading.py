"""Reading files: YAML, merging, includes, positions; what is refused is in test_input_cases.py."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo.errors import Diagnostic, InputError
from topo.file import positions, yaml
from topo.file.loading import load, load_document, loads, loads_document, located, merged
from topo.file.lowering import lower
from topo.file.positions import Place, find, follow, places
from topo.file.yaml import Source, build, path_text


def read(text: str) -> Any:
    return build(Source("lab.yaml", text))


@pytest.fixture(params=["c", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either parser: what they make of good files must be the same."""
    if request.param == "pure":
        monkeypatch.setattr(yaml, "CParser", None)
    else:
        assert yaml.CParser is not None


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("'true'", "true"),
        ("~", None),
        ("null", None),
        ("", None),
        ("'null'", "null"),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("02:42:ac:11:00:02", "02:42:ac:11:00:02"),
        ("10:20:30:40:50:55", "10:20:30:40:50:55"),
        ("10.0.0.1/24", "10.0.0.1/24"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", float("inf")),
        ("2024-01-01", "2024-01-01"),
        ('"42"', "42"),
        ("!!str 42", "42"),
        ("! 42", "42"),
        ("9" * 30, int("9" * 30)),
        ("9" * 5000, "9" * 5000),
        ("|\n  a:b\n  c\n", "a:b\nc\n"),
        (">\n  a\n  b\n", "a b\n"),
        ("[web:eth0, br0]", ["web:eth0", "br0"]),
        ("[::1, fd00::/64, '::']", ["::1", "fd00::/64", "::"]),
        ("{tcp: 10.0.0.1:22, mac: 0a:00:00:00:00:03}", {"tcp": "10.0.0.1:22", "mac": "0a:00:00:00:00:03"}),
        ('{"a":1,"b":[2,"c:d"]}', {"a": 1, "b": [2, "c:d"]}),
        ("{a: !!str 1:2}", {"a": "1:2"}),
        ("http://x # at:home", "http://x"),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert read(f"x: {text}") == {"x": value}
    assert type(read(f"x: {text}")["x"]) is type(value)


@pytest.mark.usefixtures("parser")
def test_keys_are_texts() -> None:
    assert read("1: a\ntrue: b\n~: c\n0x1: d\na:b: e\n") == {"1": "a", "true": "b", "~": "c", "0x1": "d", "a:b": "e"}


@pytest.mark.usefixtures("parser")
def test_the_frame_of_a_document() -> None:
    assert read("%YAML 1.2\n---\na: 1\n...\n") == {"a": 1}
    assert read("a: 1\r\nb:\r\n  - 2\r\n") == {"a": 1, "b": [2]}


@pytest.mark.usefixtures("parser")
def test_aliases_and_merge_keys() -> None:
    document = read(
        "x: &x {mtu: 9000, up: true}\n"
        "y: {<<: *x, mtu: 1500}\n"
        "z:\n  mtu: 1400\n  <<: [*x, &v {up: false, stp: true}]\n"
        "w: *x\n"
        "&k key: *k\n"
        "'<<': text\n"
    )
    assert document["y"] == {"mtu": 1500, "up": True}
    assert document["z"] == {"mtu": 1400, "up": True, "stp": True}
    assert document["w"] == {"mtu": 9000, "up": True}
    assert (document["key"], document["<<"]) == ("key", "text")


texts = st.text(st.characters(codec="ascii", exclude_characters="\x7f"))  # JSON may hold DEL, YAML may not
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.sampled_from([None, 1]), st.booleans())
def test_json_is_yaml(value: Any, indent: int | None, tight: bool) -> None:
    separators = (",", ":") if tight else None
    assert read(json.dumps({"x": value}, indent=indent, separators=separators)) == {"x": value}


names = st.text("ab.[]0:", min_size=1, max_size=5)
documents = st.recursive(
    st.none() | st.integers(0, 9) | st.text("abc:", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


def shape(value: Any) -> Any:
    """A document, or its places, without the scalars."""
    held = value.held if isinstance(value, Place) else value
    if isinstance(held, dict):
        return {name: shape(inner) for name, inner in held.items()}
    return [shape(inner) for inner in held] if isinstance(held, list) else None


@given(st.dictionaries(names, documents, max_size=4), st.dictionaries(names, documents, max_size=4))
def test_places_are_merged_as_documents_are(base: dict[str, Any], over: dict[str, Any]) -> None:
    both = positions.merged(*(places(Source("x", json.dumps(document))) for document in (base, over)))
    assert shape(both) == shape(merged(base, over))


@given(st.dictionaries(names, documents, max_size=4), st.data())
def test_every_place_is_found_by_its_path(document: dict[str, Any], data: st.DataObject) -> None:
    """Whatever brackets and dots are in the keys: the path leads to a place with the same path text."""
    root = places(Source("x", json.dumps(document)))
    paths: dict[str, list[Place]] = {}

    def walk(place: Place, loc: tuple[str | int, ...]) -> None:
        if loc:
            paths.setdefault(path_text(loc), []).append(place)
            assert follow(root, loc) == (place, loc)
        inner = place.held.items() if isinstance(place.held, dict) else enumerate(place.held or ())
        for part, below in inner:
            walk(below, (*loc, part))

    walk(root, ())
    for path, found in paths.items():
        assert find(root, path) in found


def test_paths_that_lead_nowhere_lead_as_far_as_they_can() -> None:
    root = places(Source("x", "links:\n  - [a, b]\nnamespaces:\n  h[1-9]: {routes: [1]}\n"))
    lines = {"links[0].ends[1]": 2, "links[7]": 1, "namespaces.h[1-9].routes[0].via": 4}
    assert {path: find(root, path).pointed()[0] for path in lines} == lines
    assert find(root, "links[0].ends[1]").column == 9
    assert find(root, "nothing.at[0].all") is root


def test_mappings_merge_deeply_lists_join_scalars_are_replaced() -> None:
    base = {"a": {"x": 1, "y": [1]}, "b": [1], "c": 1, "d": {"k": 1}, "e": 5}
    over = {"a": {"y": [2], "z": 3}, "b": [2], "c": 2, "d": None, "f": 6}
    expected = {"a": {"x": 1, "y": [1, 2], "z": 3}, "b": [1, 2], "c": 2, "d": {"k": 1}, "e": 5, "f": 6}
    assert merged(base, over) == expected


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)


def test_includes_are_relative_and_merged_before(lab: Path) -> None:
    write(
        lab,
        main="topology: lab\ninclude: [parts/a, parts/b]\nlinks: [[x:e0, y:e0]]\nnamespaces: {x: , y: {}}\n",
        parts__a="include: deeper/c\ndefaults: {mtu: 1400, up: true}\nlinks: [[x:e1, y:e1]]\n",
        parts__b="include: [deeper/c]\ndefaults: {mtu: 1300}\n",
        parts__deeper__c="topology: other\nlinks: [[x:e2, y:e2]]\nnamespaces:\n  x: {forwarding: true}\n",
    )
    document = load_document(["main"])
    assert document == {
        "topology": "lab",
        "links": [["x:e2", "y:e2"], ["x:e1", "y:e1"], ["x:e0", "y:e0"]],
        "namespaces": {"x": {"forwarding": True}, "y": {}},
        "defaults": {"mtu": 1300, "up": True},
    }
    assert [source.name for source in document.sources.files] == ["parts/deeper/c", "parts/a", "parts/b", "main"]
    assert load(["main"]).document()["defaults"] == {"mtu": 1300, "up": True}


def test_several_files_merge_as_includes_do(lab: Path) -> None:
    write(lab, base="topology: base\nbridges: {br0: {mtu: 1500}}\n")
    write(lab, over="topology: lab\nbridges: {br0: {mtu: 9000}}\n")
    assert load_document([Path("base"), "over"]) == {"topology": "lab", "bridges": {"br0": {"mtu": 9000}}}
    assert load_document(["base", "base", lab / "base"]) == load_document(["base"])


def test_reads_stdin(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(lab, base="bridges: {br0: {}}\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"topology: lab\ninclude: base\n")))
    assert load(["-"]).topology == "lab"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"topology: 1\n")))
    with pytest.raises(InputError, match=r"^<stdin>:1:11: topology: found 1; a text is expected"):
        load(["-"])


def test_a_byte_order_mark_is_no_part_of_the_text(lab: Path) -> None:
    (lab / "main").write_bytes(b"\xef\xbb\xbftopology: lab\n")
    assert load_document(["main"]) == {"topology": "lab"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.yaml", "none.yaml: cannot read none.yaml: No such file or directory"),
        (".", ".: cannot read .: Is a directory"),
        ("/dev/zero", "/dev/zero: /dev/zero: topology files of more than 64 MiB are not read"),
        ("a\0b", r"a\x00b: cannot read a\x00b: embedded null byte"),
    ],
)
def test_what_cannot_be_read(lab: Path, path: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load([path])
    assert str(caught.value) == message


def test_no_file_at_all() -> None:
    with pytest.raises(InputError, match=r"^no topology file is named$"):
        load([])


def test_names_of_files_cannot_write_to_the_terminal(lab: Path) -> None:
    (lab / "a\x1b[2J").write_text("topology: 1\nx: 1\n")
    with pytest.raises(InputError) as caught:
        load(["a\x1b[2J"])
    assert "\x1b" not in str(caught.value)
    assert [d.line for d in caught.value.diagnostics] == [1, 2]


def test_every_file_is_read_before_anything_is_said(lab: Path) -> None:
    write(lab, a="x: [\n", b="y: {a: 1, a: 2}\n", main="include: [a, none, b]\nz: @\n")
    with pytest.raises(InputError) as caught:
        load(["main", "b", "missing"])
    assert [d.file for d in caught.value.diagnostics] == ["main", "b", "missing"]
    write(lab, main="include: [a, none, b]\n")
    with pytest.raises(InputError) as caught:
        load(["main"])
    assert [(d.file, d.line) for d in caught.value.diagnostics] == [("a", 2), ("main", 1), ("b", 1)]


def test_errors_found_later_are_located(lab: Path) -> None:
    write(lab, main="topology: lab\ninclude: base\nbridges:\n  br1: {}\n", base="bridges:\n  br0:\n    mtu: 1500\n")
    topology = load(["main"])
    found = located(
        InputError(
            [
                Diagnostic("b is taken, first at bridges.br0", path="bridges.br1"),
                Diagnostic("too small", path="bridges.br0.mtu", hint="1501"),
                Diagnostic("too small", path="bridges.br0.mtu", hint="1501"),
            ]
        ),
        topology,
    )
    assert str(found) == (
        "base:3:10: bridges.br0.mtu: too small (1501)\n      mtu: 1500\n           ^\n"
        "main:4:3: bridges.br1: b is taken, first at bridges.br0 (base:2:3)\n    br1: {}\n    ^"
    )


def test_a_topology_made_in_code_has_no_places() -> None:
    from topo.file.model import Topology

    error = InputError([Diagnostic("wrong", path="bridges")])
    assert located(error, Topology(topology="lab")) is error


def large(lines: int) -> str:
    entry = "  h{0}:\n    sysctls:\n      net.ipv4.ip_forward: 1\n    routes:\n      - {{to: 10.0.0.0/8, dev: eth0}}\n"
    hosts = "".join(entry.format(number) for number in range(lines // 6))
    links = "".join(f"  - [h{number}:eth0, br0]\n" for number in range(lines // 6))
    return f"topology: large\nbridges: {{br0: {{}}}}\nnamespaces:\n{hosts}links:\n{links}"


def test_thousands_of_names_that_are_nearly_right_are_refused_fast() -> None:
    """The nearest of many names is looked for where it is shown only (found by the fuzzer: minutes)."""
    ends = "  - ['h[0-11024]:eth0', br0]\n"
    text = f"topology: lab\nbridges: {{br0: {{}}}}\nnamespaces: {{'h[1-1024]': {{}}}}\nlinks:\n{ends}"
    start = time.process_time()
    with pytest.raises(InputError, match=r"there is no namespace 'h0' \(did you mean"):
        lower(loads(text))
    interfaces = "    interfaces: {'d[1-1024]': {kind: ifb}}\n    routes:\n"
    routes = "".join(f"      - {{to: 10.{n >> 8}.{n & 255}.0/24, dev: e{n}}}\n" for n in range(3000))
    with pytest.raises(InputError, match="there is no interface 'e2999' in namespace 'a'"):
        lower(loads(f"topology: lab\nnamespaces:\n  a:\n{interfaces}{routes}"))
    assert time.process_time() - start < 3


def test_a_large_file_is_read_fast() -> None:
    text = large(20_000)
    assert text.count("\n") > 19_990
    start = time.process_time()
    assert len(loads(text).namespaces) == 3333
    assert time.process_time() - start < 3


def test_a_large_file_full_of_errors_is_no_trouble() -> None:
    text = large(20_000).replace("dev:", "dve:")
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        loads(text)
    assert time.process_time() - start < 10
    assert len({d.line for d in caught.value.diagnostics}) == 3333


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2**20,
        "{" * 2**20,
        "- " * 2**19,
        "x: " + "[" * 10_000 + "]" * 10_000,
        "".join(" " * level + "a:\n" for level in range(10_000)),
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 100)),
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}\n" for n in range(1, 100)),
        "topology: t\nx: &x {" + ", ".join(f"k{n}: 1" for n in range(1000)) + "}\nlinks: [" + "*x, " * 90 + "]",
        '"' + "x" * 2**20,
        "&a " * 2**18,
        "x: " + "9" * 2**20,
    ],
    ids=lambda text: text[:16],
)
def test_hostile_files_are_refused_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError):
        loads(text)
    assert time.process_time() - start < 10


@given(st.text(st.sampled_from("abc:-[]{}&*!|>'\"%@`#,? \n\t\x00\u2028é0\\"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        loads_document(text)
    except InputError as error:
        assert re.fullmatch(r"(?:.*:\d+:\d+: .*(?:\n  .*\n *\^)?\n?)+", str(error))

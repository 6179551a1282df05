"""Variables: what `${NAME}` becomes, where it comes from, what is refused, and that it can be no more than a value."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo.errors import InputError
from topo.file import variables
from topo.file.loading import load, load_document, loads, loads_document, located
from topo.file.lowering import lower
from topo.file.model import Topology
from topo.file.positions import Sources
from topo.file.schema import schema
from topo.file.yaml import Source, build


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        loads(text, "lab.yaml")
    return "\n".join(line for line in str(caught.value).splitlines() if line.startswith(("lab.yaml", "some.env")))


def with_vars(vars_: str, rest: str) -> dict[str, Any]:
    return dict(loads_document(f"topology: t\nvars: {{{vars_}}}\n{rest}"))


@pytest.mark.parametrize(
    ("vars_", "written", "value"),
    [
        ("A: x", "${A}", "x"),
        ("A: x", '"${A}"', "x"),
        ("A: x, B: y", "a${A}-${B}${B}", "ax-yy"),
        ("A: 1", "$A $ {A} $$ ${A}", "$A $ {A} $$ 1"),
        ("A: 1", "$${A} ${A}", "${A} 1"),
        ("A: 1", "$$${A}", "$${A}"),
        ("A: ''", "<${A}>", "<>"),
        ("A: true, B: 1.5, C: -3", "${A} ${B} ${C}", "true 1.5 -3"),
        ("A: '01'", "${A}", "01"),
        (r"A: '\1 [x], {y: z} # &a *a'", "${A}", r"\1 [x], {y: z} # &a *a"),
        ("A: 1", r'"\x24{A}"', "1"),
        ("_a9: x", "${_a9}", "x"),
    ],
)
def test_what_a_text_becomes(vars_: str, written: str, value: str) -> None:
    assert with_vars(vars_, f"defaults:\n  comment: {written}\n")["defaults"]["comment"] == value


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("defaults: {mtu: '${A}'}", "1450", 1450),
        ("defaults: {mtu: '1${A}'}", "450", 1450),
        ("defaults: {up: '${A}'}", "false", False),
        ("defaults: {up: '${A}'}", "yes", "yes"),  # which is then refused: YAML 1.2
        ("defaults: {mtu: '${A}'}", "many", "many"),
        ("defaults: {mtu: '${A}'}", "", ""),
        ("defaults: {mtu: '${A}'}", "1e3", "1e3"),
        ("defaults: {mtu: '${A}'}", "true", "true"),
        ("defaults: {shaping: {rate: '${A}'}}", "10mbit", "10mbit"),
        ("topology: '${A}'", "1450", "1450"),
        ("bridges: {b: {comment: '${A}'}}", "12e45", "12e45"),
        ("namespaces: {n: {from: {docker: '${A}'}}}", "123456789012", "123456789012"),
        ("namespaces: {n: {from: {pid: '${A}'}}}", "1310", 1310),
        ("routes: [{to: default, via: 10.0.0.1, table: '${A}'}]", "100", 100),
        ("routes: [{to: default, via: 10.0.0.1, table: '${A}'}]", "main", "main"),
        ("nat: {publish: [{port: '${A}', to: 10.0.0.1}]}", "80", 80),
        ("nat: {publish: [{ports: ['${A}'], to: 10.0.0.1}]}", "80-90", "80-90"),
        ("links: [[{interface: a, mtu: '${A}'}, b]]", "1450", 1450),
        ("links: [{ends: [{interface: a, mac: '${A}'}, b]}]", "10:20:30:40:50:55", "10:20:30:40:50:55"),
        ("links: [{ends: ['${A}', b], mtu: 1400}]", "7", "7"),
        ("sysctls: {net.ipv4.tcp_syncookies: '${A}'}", "1", 1),
        ("bridges: {b: {gateway: '${A}'}}", "false", False),
        ("checks: [{from: a, ping: b, within: '${A}'}]", "2.5", 2.5),
        ("interfaces: {t: {kind: tap, user: '${A}'}}", "1000", 1000),
        ("nowhere: {known: '${A}'}", "1", "1"),
    ],
)
def test_it_is_a_number_where_the_grammar_takes_one(path: str, text: str, value: object) -> None:
    raw = build(Source("lab.yaml", path))
    found: Any = loads_document(f"{path}\nvars: {{A: {json.dumps(text)}}}\n")
    for part in way(raw):
        found = found[part]
    assert (found, type(found)) == (value, type(value))


def way(document: Any) -> list[Any]:
    """The path of the value with a variable in it; empty where there is none."""
    parts = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for part, inner in parts:
        if isinstance(inner, str) and "${" in inner:
            return [part]
        if below := way(inner):
            return [part, *below]
    return []


def test_files_of_variables(lab: Path) -> None:
    (lab / "parts").mkdir()
    (lab / "parts/a.env").write_text("\n# FLANNEL\nA=from a\nB=\"from a\"\n  export C='from a' \r\nD=x=y # z\nE=\n")
    (lab / "b.env").write_text("B=from b\nF='\nG=$A ${A} `id`")
    (lab / "parts/base").write_text("env_file: a.env\nvars: {V: base, W: base}\n")
    (lab / "main").write_text(
        "topology: t\ninclude: parts/base\nenv_file: [b.env]\nvars: {V: main, C: main}\n"
        "defaults:\n  comment: ${A},${B},${C},${D},${E},${F},${G},${V},${W}\n"
    )
    document = load_document(["main"])
    assert document["defaults"]["comment"] == "from a,from b,main,x=y # z,,',$A ${A} `id`,main,base"
    assert document.keys() == {"topology", "defaults"}


def test_subnet_env_of_flannel(lab: Path) -> None:
    """What flanneld writes (WriteSubnetFile in its pkg/subnet)."""
    (lab / "subnet.env").write_text(
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    )
    (lab / "main").write_text(
        "topology: t\nenv_file: subnet.env\nbridges:\n  cni0: {subnet: '${FLANNEL_SUBNET}', mtu: '${FLANNEL_MTU}'}\n"
        "namespaces: {p: {}}\nlinks: [['p:eth0', cni0]]\nforwarding: ${FLANNEL_IPMASQ}\n"
        "nat: {masquerade: [{from: '${FLANNEL_NETWORK}', out: '!cni0'}]}\n"
    )
    facts = lower(load(["main"])).facts
    assert {ref.key[1] for ref in facts if ref.kind == "address"} == {"10.244.1.1/24", "10.244.1.2/24"}
    assert [fact.attrs["mtu"] for ref, fact in facts.items() if ref.key == ("cni0",) and ref.kind == "link"] == [1450]


def test_the_document_is_whole_without_its_variables(lab: Path) -> None:
    """What the record keeps makes the same topology again, without the files."""
    (lab / "a.env").write_text("A=7\n")
    (lab / "main").write_text(
        "topology: t\nenv_file: a.env\nbridges:\n  br0: {comment: '$${A} ${A}', ageing: '${A}'}\n"
    )
    topology = load(["main"])
    again = Topology.model_validate(json.loads(json.dumps(topology.document())))
    assert again.bridges["br0"].comment == topology.bridges["br0"].comment == "${A} 7"
    assert lower(again).facts == lower(topology).facts


def test_what_is_wrong_with_a_value_names_the_variable(lab: Path) -> None:
    (lab / "some.env").write_text("\nM=60\n")
    text = "topology: t\nenv_file: some.env\nvars: {N: br7}\n"
    assert refused(text + "defaults: {mtu: '${M}'}\n") == (
        "lab.yaml:4:17: defaults.mtu: found 60; at least 68 is expected (M is '60' by some.env:2)"
    )
    with pytest.raises(InputError) as caught:
        topology = loads(text + "links: [[a, {bridge: '${N}'}]]\nbridges: {br8: {}}\n", "lab.yaml")
        try:
            lower(topology)
        except InputError as error:
            raise located(error, topology) from None
    assert "'br7'" in str(caught.value) and str(caught.value).startswith("lab.yaml:4:22: ")


@given(st.text(max_size=40))
def test_a_value_is_no_more_than_a_text(text: str) -> None:
    """Whatever a file of variables holds: one text stays one text, and nothing else of the document moves."""
    try:
        values = variables.read(Source("some.env", f"A={text}"))
    except InputError:
        return
    document = {"topology": "t", "vars": None, "defaults": {"comment": "<${A}>"}, "links": [["a", "${A}"]]}
    found = variables.resolved(document, values, Sources([]))
    put = values["A"].text
    assert found == {"topology": "t", "defaults": {"comment": f"<{put}>"}, "links": [["a", put]]}
    assert put.isprintable()


def test_what_variables_stand_for_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variables, "MAX_TEXT", 100)
    message = refused("topology: t\nvars: {A: '" + "x" * 60 + "'}\ndefaults:\n  comment: ${A}${A}\n")
    assert re.match(r"lab.yaml:4:12: defaults.comment: the variables stand for too much", message)


def test_files_without_variables_pay_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "topo.file.variables")
    loads("topology: t\ndefaults: {mtu: 1400}\nbridges: {br0: {comment: costs $5}}\n")
    assert "topo.file.variables" not in sys.modules


def test_many_variables_are_put_in_fast() -> None:
    entry = "  - {{to: '10.${{A}}.{0}.0/24', dev: '${{D}}', mtu: '${{M}}'}}\n"
    routes = "".join(entry.format(number % 256) for number in range(10_000))
    start = time.process_time()
    document = loads_document(f"topology: t\nvars: {{A: 1, D: eth0, M: 1400}}\nroutes:\n{routes}")
    assert document["routes"][-1] == {"to": "10.1.15.0/24", "dev": "eth0", "mtu": 1400}
    assert time.process_time() - start < 3


def test_an_editor_takes_variables_for_what_they_stand_for() -> None:
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid({"topology": "t", "defaults": {"mtu": "${M}", "up": "${U}"}})
    assert not validator.is_valid({"topology": "t", "defaults": {"mtu": "1450"}})
    assert validator.is_valid({"topology": "t", "namespaces": {"n": {"from": {"docker": "${C}"}}}})
    assert not validator.is_valid({"topology": "t", "namespaces": {"n": {"from": {"docker": "$C"}}}})

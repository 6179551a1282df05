"""The documentation is true and whole: examples load, links lead somewhere, the reference is current."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import reference
import tour

import topo
import topo.kinds
from topo.kinds.registry import KINDS, LINK_KINDS
from topo.wire import Attr

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def examples() -> list[tuple[str, str]]:
    """Every YAML block that is a whole topology in itself, with the place where it stands."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for offset, block in tour.blocks(text, "yaml"):
            if re.search(r"^topology:", block, re.MULTILINE) and not re.search(r"^include:", block, re.MULTILINE):
                found.append((f"{name(page)}:{text.count(chr(10), 0, offset) + 1}", block))
    return found


EXAMPLES = dict(examples())


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes anchors of them."""
    text = CODE.sub(lambda code: "" if code[0].startswith("```") else code[0], page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


@pytest.mark.parametrize("place", EXAMPLES)
def test_an_example_is_a_valid_topology(place: str) -> None:
    assert topo.lower(topo.loads(EXAMPLES[place], place)).facts


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 15


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name(page)}: {target} leads nowhere"
        if anchor:
            assert anchor in anchors(there), f"{name(page)}: {target}: no such heading, there are {anchors(there)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_page_can_be_found(page: Path) -> None:
    """From the README, or from the index of the documentation."""
    if page == ROOT / "README.md":
        return
    found = {
        (start.parent / target.partition("#")[0]).resolve()
        for start in (ROOT / "README.md", ROOT / "docs/README.md", ROOT / "docs/reference/README.md")
        for target in LINK.findall(start.read_text(encoding="utf-8"))
    }
    assert page in found, f"no index names {name(page)}"


def test_the_reference_is_current() -> None:
    found = {page.name: page.read_text(encoding="utf-8") for page in reference.PLACE.glob("*.md")}
    assert found == reference.pages(), "run `nox -s reference`"


def test_the_reference_has_every_model_and_every_kind() -> None:
    made = reference.Reference()
    placed = {model for models in made.pages.values() for model in models}
    assert placed == made.models.keys()
    titles = {made.title(model) for model in placed}
    assert {f"kind: {kind.name}" for kind in LINK_KINDS.values() if kind.spec is not None} <= titles


def test_the_picture_in_the_readme_is_current() -> None:
    from topo.planning.drawing import mermaid

    [(_, picture)] = tour.blocks((ROOT / "README.md").read_text(encoding="utf-8"), "mermaid")
    drawn = mermaid(topo.lower(topo.load(ROOT / "samples/nat.yaml")))
    assert picture.strip() == drawn.strip()


FACTS = (ROOT / "docs/facts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_facts_name_every_kind(kind: str) -> None:
    assert re.search(rf"^\| `{kind}` \|", FACTS, re.MULTILINE)


@pytest.mark.parametrize("kind", [kind for kind in LINK_KINDS if kind != "existing"])
def test_the_facts_name_every_kind_of_link_and_its_attributes(kind: str) -> None:
    rows = [row for row in FACTS.splitlines() if row.startswith("| ") and f"`{kind}`" in row.split(" | ")[0]]
    assert rows, f"docs/facts.md has no row for links of kind {kind}"
    words = set(re.findall(r"`(\w+)`", " ".join(rows)))
    record = LINK_KINDS[kind]
    wanted = {attribute.name for attribute in record.data} | ({record.below} - {""})
    assert not wanted - words, f"docs/facts.md does not name {sorted(wanted - words)} of {kind}"


def attributes() -> dict[str, set[str]]:
    """The names in every table of netlink attributes, by module."""
    found: dict[str, set[str]] = {}
    for module in pkgutil.iter_modules(topo.kinds.__path__):
        for value in vars(importlib.import_module(f"topo.kinds.{module.name}")).values():
            table = value if isinstance(value, tuple) and not isinstance(value, Attr) else (value,)
            found.setdefault(module.name, set()).update(attr.name for attr in table if isinstance(attr, Attr))
    return {module: names for module, names in found.items() if names}


ATTRIBUTES = attributes()


@pytest.mark.parametrize("module", ATTRIBUTES)
def test_the_facts_name_every_attribute_of_a_kind(module: str) -> None:
    words = set(re.findall(r"`(\w+)`", FACTS))
    assert not ATTRIBUTES[module] - words


@pytest.mark.parametrize("place", EXAMPLES)
def test_the_facts_name_every_attribute_that_lowering_states(place: str) -> None:
    words = set(re.findall(r"`(\w+)`", FACTS))
    for ref, fact in topo.lower(topo.loads(EXAMPLES[place], place)).facts.items():
        assert not fact.attrs.keys() - words, f"{ref.kind} {ref}: {sorted(fact.attrs.keys() - words)}"

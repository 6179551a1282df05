"""The files under samples/seeds: short, valid, and what an editor says of them before their variables are known."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from topo.file import yaml
from topo.file.loading import load
from topo.file.lowering import lower
from topo.file.schema import schema

SEEDS = Path(__file__).parents[1] / "samples" / "seeds"
FILES = sorted(SEEDS.glob("*.yaml"))
PARTS = sorted(SEEDS.glob("parts/*.yaml"))
SUBNET_ENV = "/run/flannel/subnet.env"


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_seed(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=../../schemas/topology.schema.json\n# ")
    assert len(text.splitlines()) < 50, "a reader is to be struck by how short it is"
    jsonschema.Draft202012Validator(schema()).validate(yaml.build(yaml.Source(path.name, text)))
    if SUBNET_ENV in text:
        env = tmp_path / "subnet.env"
        env.write_text("FLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\n")
        path = tmp_path / path.name
        path.write_text(text.replace(SUBNET_ENV, str(env)))
    assert lower(load([path])).facts


def test_every_part_is_part_of_a_seed() -> None:
    assert PARTS
    texts = [path.read_text() for path in (*FILES, *PARTS)]
    for part in PARTS:
        assert part.read_text().startswith("# ")
        assert any(f"include: {name}\n" in text for text in texts for name in (f"parts/{part.name}", part.name))

"""Writes docs/reference/ from the grammar's models: `python tests/reference.py`; tests/test_docs.py holds it current.

One page for each part of a file, one table for each model. What several models have in common (the settings of
every interface, those of every bridge port) is a table of its own that the others refer to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from topo.api import schema
from topo.file.schema import VARIABLE

Schema = dict[str, Any]

PLACE: Final = Path(__file__).resolve().parents[1] / "docs" / "reference"
COMMON: Final = "Settings of every interface"
PORT: Final = "Settings of every bridge port"
FILE: Final = "The file"

PAGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "file.md": ("The file and its namespaces", (FILE, "Namespace", "Source", "Defaults")),
    "interfaces.md": (
        "Links, bridges, VXLANs and other interfaces",
        (
            COMMON,
            "AddressEntry",
            "Shaping",
            "LossModel",
            "ShapingClass",
            "PacketMatch",
            "Link",
            "InterfaceEnd",
            "BridgeEnd",
            PORT,
            "Bridge",
            "Port",
            "PortVlans",
            "Group",
            "Vxlan",
            "Vni",
            "Peer",
            "WireguardPeer",
        ),
    ),
    "routing.md": (
        "Routes, rules and neighbours",
        (
            "Route",
            "NextHop",
            "NexthopObject",
            "Member",
            "Encap",
            "MplsEncap",
            "IpEncap",
            "Seg6Encap",
            "Seg6Local",
            "Rule",
            "Neighbour",
        ),
    ),
    "nat.md": (
        "NAT and firewall",
        ("Nat", "Masquerade", "Snat", "Dnat", "Publish", "Firewall", "Chain", "FirewallRule"),
    ),
    "checks.md": ("Checks", ("Check",)),
}
NOTE: Final = "<!-- Written by tests/reference.py from the models: change the descriptions there. -->"


class Reference:
    """The grammar, ready to be written: every model by its name in the schema."""

    def __init__(self) -> None:
        whole = schema()
        self.models: dict[str, Schema] = {FILE: whole, **whole["$defs"]}
        self.kinds = [
            part["$ref"].rpartition("/")[2]
            for part in whole["properties"]["interfaces"]["additionalProperties"]["anyOf"]
        ]
        self.common = _without(self.models["Existing"], {"kind"})
        self.port = _without(self.models["Port"], {"interface"})
        self.models[COMMON] = {"properties": self.common, "description": "What every interface takes."}
        self.models[PORT] = {"properties": self.port, "description": "What a bridge knows of a port: bridge(8)."}
        self.pages = {page: [*names] for page, (_, names) in PAGES.items()}
        self.pages["interfaces.md"] += self.kinds

    def page(self, page: str) -> str:
        """The text of one page."""
        parts = [f"# {PAGES[page][0]}", NOTE, *(self.section(name) for name in self.pages[page])]
        return "\n\n".join(parts) + "\n"

    def index(self) -> str:
        """The text of the first page."""
        rows = [
            f"- [{PAGES[page][0]}]({page}): " + ", ".join(self.link(name, "README.md") for name in names)
            for page, names in self.pages.items()
        ]
        words = (
            "Every key of a topology file, its type and what it means. For the same in prose, with examples, "
            "see [the file](../file.md); for editors there is the "
            "[JSON Schema](../../schemas/topology.schema.json)."
        )
        return "\n\n".join(("# Reference of the topology file", NOTE, words, "\n".join(rows))) + "\n"

    def section(self, name: str) -> str:
        model = self.models[name]
        own = dict(model["properties"])
        also = []
        for title, common in ((COMMON, self.common), (PORT, self.port)):
            if title != name and common.keys() <= own.keys():
                own = {key: part for key, part in own.items() if part != common.get(key)}
                also.append(self.link(title, self.home(name)))
        required = set(model.get("required", ()))
        first = sorted(own.items(), key=lambda item: item[0] not in required)
        rows = [self.row(key, part, key in required, self.home(name)) for key, part in first]
        text = f"## {self.title(name)}\n\n{model['description']}"
        if rows:
            text += "\n\n| key | type | meaning |\n|---|---|---|\n" + "\n".join(rows)
        if also:
            text += "\n\n" + " ".join(("And the" if rows else "It takes the", " and the ".join(also))) + "."
        return text

    def row(self, key: str, part: Schema, required: bool, page: str) -> str:
        meaning = part.get("description", "").replace("|", "\\|")
        if required:
            meaning += " (**required**)"
        default = part.get("default")
        if default is not None:
            words = str(default).lower() if isinstance(default, bool) else str(default)
            meaning += f" (default `{words}`)"
        return f"| `{key}` | {self.type(part, page)} | {meaning} |"

    def type(self, part: Schema, page: str) -> str:
        """The type in words, models as links."""
        if "$ref" in part:
            return self.link(part["$ref"].rpartition("/")[2], page)
        if "const" in part:
            return f"`{str(part['const']).lower()}`"
        if "enum" in part:
            return ", ".join(f"`{word}`" for word in part["enum"])
        if choices := _choices(part):
            return _joined([self.type(choice, page) for choice in choices])
        kinds = part["type"] if isinstance(part["type"], list) else [part["type"]]
        if part.get("pattern") == VARIABLE:
            kinds = [kind for kind in kinds if kind != "string"]
        return " or ".join(self.simple(kind, part, page) for kind in kinds if kind != "null")

    def simple(self, kind: str, part: Schema, page: str) -> str:
        if kind == "array":
            inner = self.type(part["items"], page)
            return f"list of ({inner})" if " or " in inner else f"list of {inner}"
        if kind == "object":
            values = part.get("additionalProperties")
            return f"name: {self.type(values, page)}" if isinstance(values, dict) else "mapping"
        words = {"string": "text", "boolean": "true or false", "integer": "integer", "number": "number"}[kind]
        low, high = part.get("minimum"), part.get("maximum")
        return words if low is None or high is None else f"{words}, {low} to {high}"

    def title(self, name: str) -> str:
        """The heading of a model's table."""
        kind = self.models[name]["properties"].get("kind", {}).get("const")
        return f"kind: {kind}" if kind else name

    def home(self, name: str) -> str:
        """The page that a model is on."""
        return next(page for page, names in self.pages.items() if name in names)

    def link(self, name: str, page: str) -> str:
        title = self.title(name)
        anchor = title.lower().replace(":", "").replace(" ", "-")
        home = self.home(name)
        words = title[0].lower() + title[1:] if name in (COMMON, PORT) else title
        return f"[{words}]({home if home != page else ''}#{anchor})"


def _choices(part: Schema) -> list[Schema]:
    """What a schema allows in place of one another, but for nothing at all."""
    return [choice for choice in part.get("anyOf", ()) if choice != {"type": "null"}]


def _joined(types: list[str]) -> str:
    """Alternatives in words: "text, or a list" for a value that stands for a list of one."""
    if len(types) == 2 and types[0] == f"list of {types[1]}":
        return f"{types[1]}, or a list"
    found = [name for name in dict.fromkeys(types) if not (name == "integer" and "number" in types)]
    if f"list of {found[-1]}" in found:  # false, or an address, or a list of them
        found = [*(name for name in found if name != f"list of {found[-1]}"), "a list"]
    return ", ".join(found) if len(found) > 3 else " or ".join(found)


def _without(model: Schema, names: set[str]) -> Schema:
    return {key: part for key, part in model["properties"].items() if key not in names}


def pages() -> dict[str, str]:
    """Every page of docs/reference/: file name and text."""
    reference = Reference()
    return {"README.md": reference.index()} | {page: reference.page(page) for page in PAGES}


def main() -> None:
    PLACE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PLACE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

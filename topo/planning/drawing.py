"""A picture of a topology as text for Mermaid or Graphviz: namespaces as boxes, bridges and interfaces in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from topo.errors import shown
from topo.facts import HOST, Desired, Fact, Ref, link

_INTERFACE: Final = "interface"
_BRIDGE: Final = "bridge"
_VXLAN: Final = "vxlan"
_REMOTE: Final = "remote"


class Node(NamedTuple):
    id: str
    shape: str  # interface | bridge | vxlan | remote
    lines: tuple[str, ...]


class Edge(NamedTuple):
    a: str
    b: str
    label: str = ""
    dashed: bool = False  # not a cable: a device on top of another, a tunnel


class Drawing(NamedTuple):
    """`boxes`: namespace -> what is drawn in it; `outside`: nodes in no namespace (remote VXLAN peers)."""

    name: str
    boxes: dict[str, list[Node]]
    outside: list[Node]
    edges: list[Edge]


def drawing(desired: Desired) -> Drawing:
    """Boxes, nodes and edges of what `desired` holds, in the order of its facts.

    A veth end that is a bridge's port is not a node: the cable leads to the bridge and bears the port's name.
    """
    return _Draughtsman(desired).draw()


class _Draughtsman:
    def __init__(self, desired: Desired) -> None:
        self.desired = desired
        self.links = {ref: fact for ref, fact in desired.facts.items() if ref.kind == "link"}
        self.nodes: dict[Ref, Node] = {}
        self.addresses: dict[Ref, list[str]] = {}
        self.holders: dict[str, Ref] = {}  # address -> the link that has it
        for ref in desired.facts:
            if ref.kind == "address":
                holder = link(ref.ns, ref.key[0])
                self.addresses.setdefault(holder, []).append(ref.key[1])
                self.holders.setdefault(ref.key[1].partition("/")[0], holder)

    def draw(self) -> Drawing:
        boxes: dict[str, list[Node]] = {
            ns: [] for ns in self.desired.namespaces() if ns != HOST or any(ref.ns == HOST for ref in self.links)
        }
        for ref, fact in self.links.items():
            if not self._is_cable_end(fact):
                self.nodes[ref] = self._node(ref, fact)
                boxes[ref.ns].append(self.nodes[ref])
        for ns, inside in boxes.items():
            if not inside:
                inside.append(Node(f"n{len(self.nodes)}", _INTERFACE, ("lo",)))
                self.nodes[link(ns, "lo")] = inside[0]
        edges = [*self._cables(), *self._stacked()]
        outside, tunnels = self._tunnels()
        return Drawing(self.desired.name, boxes, outside, [*edges, *tunnels])

    def _is_cable_end(self, fact: Fact) -> bool:
        master = fact.attrs.get("master")
        return bool(fact.attrs.get("peer")) and bool(master) and link(fact.ref.ns, str(master)) in self.links

    def _node(self, ref: Ref, fact: Fact) -> Node:
        kind = fact.attrs.get("kind", "")
        lines = [ref.key[0], *self.addresses.get(ref, ())]
        if kind == "vxlan":
            lines.insert(1, f"vxlan {fact.attrs.get('id', '')}".rstrip())
        elif kind not in ("veth", "bridge", ""):
            lines.insert(1, kind)
        shape = {"bridge": _BRIDGE, "vxlan": _VXLAN}.get(kind, _INTERFACE)
        return Node(f"n{len(self.nodes)}", shape, tuple(lines))

    def _end(self, ref: Ref) -> tuple[Node | None, str]:
        """Where a cable ends: the node, and the port's name where that is a bridge."""
        if ref in self.nodes:
            return self.nodes[ref], ""
        fact = self.links.get(ref)
        if fact is None:
            return None, ""
        return self.nodes.get(link(ref.ns, str(fact.attrs["master"]))), ref.key[0]

    def _cables(self) -> list[Edge]:
        edges, drawn = [], set()
        for ref, fact in self.links.items():
            peer = fact.attrs.get("peer")
            if peer is None or ref in drawn:
                continue
            other = link(*peer)
            drawn.add(other)
            (a, port_a), (b, port_b) = self._end(ref), self._end(other)
            if a and b:
                edges.append(Edge(a.id, b.id, " - ".join(filter(None, (port_a, port_b)))))
        return edges

    def _stacked(self) -> list[Edge]:
        """Devices on top of others (macvlan, vxlan on its underlay) and ports of a bridge that are no veth ends."""
        edges = []
        for ref, node in self.nodes.items():
            fact = self.links.get(ref)
            if fact is None:
                continue
            below = fact.attrs.get("parent") or fact.attrs.get("dev")
            if below and (under := self.nodes.get(link(*below))):
                edges.append(Edge(node.id, under.id, "", dashed=True))
            master = fact.attrs.get("master")
            if master and (bridge := self.nodes.get(link(ref.ns, str(master)))):
                edges.append(Edge(node.id, bridge.id))
        return edges

    def _tunnels(self) -> tuple[list[Node], list[Edge]]:
        """From each VXLAN device to its peers: to the interface here that has the address, or to a node outside."""
        outside: dict[str, Node] = {}
        edges: dict[Edge, None] = {}
        for vxlan, address in self._peers():
            holder = self.nodes.get(self.holders.get(address, vxlan))
            if holder is None or holder.id == self.nodes[vxlan].id:
                number = len(self.nodes) + len(outside)
                holder = outside.setdefault(address, Node(f"n{number}", _REMOTE, (address,)))
            edges[Edge(self.nodes[vxlan].id, holder.id, "", dashed=True)] = None
        return list(outside.values()), list(edges)

    def _peers(self) -> list[tuple[Ref, str]]:
        found = [
            (ref, str(fact.attrs["group"]))
            for ref, fact in self.links.items()
            if fact.attrs.get("kind") == "vxlan" and fact.attrs.get("group")
        ]
        for ref, fact in self.desired.facts.items():
            if ref.kind == "fdb" and link(ref.ns, ref.key[0]) in self.nodes and fact.attrs.get("dst"):
                found.append((link(ref.ns, ref.key[0]), str(fact.attrs["dst"])))
        return found


_MERMAID_SHAPES: Final = {_INTERFACE: "[{}]", _BRIDGE: "([{}])", _VXLAN: "{{{{{}}}}}", _REMOTE: "(({}))"}


def _mermaid_text(text: str) -> str:
    """Quoted; whatever Mermaid or HTML might read as its own is written as a numeric entity."""
    return re.sub(r"[^\w ./:@+-]", lambda m: f"#{ord(m[0])};", shown(text))


def mermaid(desired: Desired) -> str:
    """A Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html)."""
    picture = drawing(desired)
    out = ["graph LR"]

    def node(item: Node) -> str:
        return item.id + _MERMAID_SHAPES[item.shape].format('"' + "<br/>".join(map(_mermaid_text, item.lines)) + '"')

    for number, (ns, inside) in enumerate(picture.boxes.items()):
        out += [f'  subgraph s{number}["{_mermaid_text(ns)}"]', *(f"    {node(item)}" for item in inside), "  end"]
    out += [f"  {node(item)}" for item in picture.outside]
    for edge in picture.edges:
        label = f'|"{_mermaid_text(edge.label)}"|' if edge.label else ""
        out.append(f"  {edge.a} {'-.-' if edge.dashed else '---'}{label} {edge.b}")
    return "\n".join(out) + "\n"


_DOT_SHAPES: Final = {
    _INTERFACE: "shape=box",
    _BRIDGE: 'shape=box, style="rounded,bold"',
    _VXLAN: "shape=hexagon",
    _REMOTE: "shape=ellipse",
}


def _dot_text(*lines: str) -> str:
    escaped = (shown(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def dot(desired: Desired) -> str:
    """An undirected graph in Graphviz's language (https://graphviz.org/doc/info/lang.html)."""
    picture = drawing(desired)
    out = [f"graph {_dot_text(picture.name)} {{", "  rankdir=LR;"]

    def node(item: Node) -> str:
        return f"{item.id} [{_DOT_SHAPES[item.shape]}, label={_dot_text(*item.lines)}];"

    for number, (ns, inside) in enumerate(picture.boxes.items()):
        out += [f"  subgraph cluster_{number} {{", f"    label={_dot_text(ns)};"]
        out += [*(f"    {node(item)}" for item in inside), "  }"]
    out += [f"  {node(item)}" for item in picture.outside]
    for edge in picture.edges:
        settings = [f"label={_dot_text(edge.label)}"] if edge.label else []
        settings += ["style=dashed"] if edge.dashed else []
        out.append(f"  {edge.a} -- {edge.b}{' [' + ', '.join(settings) + ']' if settings else ''};")
    return "\n".join([*out, "}"]) + "\n"


FORMATS: Final[dict[str, Callable[[Desired], str]]] = {"mermaid": mermaid, "dot": dot}

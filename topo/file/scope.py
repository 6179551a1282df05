"""What lowering knows while it works: the namespaces, what is declared in them, the facts, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from topo.errors import Diagnostic, InputError
from topo.facts import HOST, Fact, Facts, Ref
from topo.file import addressing, ranges
from topo.file.model import Defaults, Section, Topology

if TYPE_CHECKING:
    from topo.file.model import PortVlans

Loc = tuple[str | int, ...]
"""A place in the file, as pydantic has it: ("links", 3, "ends", 0)."""

Span = tuple[int, int, int]
"""An address as a number, its prefix length, and its width in bits."""

_SHOWN: Final = 3  # how many errors one place gives; a range could give thousands
_HINTED: Final = 20  # errors for which the nearest of many names is looked for, which takes long
_LIMIT: Final = ranges.LIMIT


def path(loc: Loc) -> str:
    """`loc` as a user reads it: links[3].ends[0]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint with the name most like `name`; empty where none is like it."""
    from difflib import get_close_matches  # late: for what is wrong only

    found = get_close_matches(name, list(names), 1)
    return f"did you mean {found[0]!r}?" if found else ""


class Problems:
    """Everything wrong so far."""

    def __init__(self) -> None:
        self._found: dict[Loc, dict[str, Diagnostic]] = {}
        self._hinted = 0

    def add(self, loc: Loc, message: str, hint: str | Callable[[], str] = "") -> None:
        here = self._found.setdefault(loc, {})
        if len(here) >= _SHOWN:
            return
        if callable(hint):
            self._hinted += 1
            hint = hint() if self._hinted <= _HINTED else ""
        here[message] = Diagnostic(message, path=path(loc), hint=hint)

    def stop(self, loc: Loc, message: str) -> None:
        """Raise InputError at once with this and all that was found before: there is no going on."""
        self.add(loc, message)
        self.check()

    def check(self) -> None:
        """Raise InputError if anything is wrong."""
        if self._found:
            raise InputError([d for here in self._found.values() for d in here.values()])


class Space:
    """A namespace of the file, ranges expanded: what is declared in it."""

    __slots__ = ("_spans", "bridges", "linked", "links", "loc", "made", "name", "own", "section")

    def __init__(self, name: str, section: Section, loc: Loc, made: bool) -> None:
        self.name, self.section, self.loc, self.made = name, section, loc, made
        self.links: dict[str, Loc] = {}  # ifname -> where it is declared
        self.bridges: dict[str, Bridge] = {}
        self.linked: list[tuple[str, str]] = []  # ifname and address/length of ends of links, in order
        self.own: list[tuple[str, str]] = []  # and of everything else
        self._spans: list[tuple[str, Span]] | None = None

    def addresses(self) -> list[tuple[str, str]]:
        """Interface and address/length, ends of links first, in the order of the file."""
        return self.linked + self.own

    def spans(self) -> list[tuple[str, Span]]:
        """As `addresses`, in numbers. To be asked for when every address is known."""
        if self._spans is None:
            self._spans = [(ifname, addressing.parse_prefix(text)) for ifname, text in self.addresses()]
        return self._spans


class Master:
    """A link of the file that has others as its ports."""

    __slots__ = ("kind", "loc", "name", "space")

    def __init__(self, name: str, space: Space, loc: Loc, kind: str) -> None:
        self.name, self.space, self.loc, self.kind = name, space, loc, kind


class Bridge(Master):
    """A bridge of the file: who is plugged into it, and what its ends get from it."""

    __slots__ = ("gateways", "pools", "ports", "routes", "taken", "used_up", "vlans")

    def __init__(self, name: str, space: Space, loc: Loc) -> None:
        super().__init__(name, space, loc, "bridge")
        self.pools: list[addressing.Pool] = []
        self.gateways: list[str] = []  # the bridge's address in each pool
        self.ports = 0
        self.routes = False  # the file makes it, and its own address is its ends' router
        self.taken: dict[str, Loc] = {}  # addresses in its broadcast domain
        self.used_up = False
        self.vlans: bool | None = False  # whether it keeps them apart; None: that is someone else's to say


class Scope:
    """The whole of one lowering."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.defaults: Defaults = topology.defaults
        self.problems = Problems()
        self.facts: Facts = {}
        self.spaces: dict[str, Space] = {HOST: Space(HOST, topology, (), False)}
        self.aliases: dict[str, str] = {}  # second names of namespaces -> the first
        self.external: set[Ref] = set()
        self.take_over: dict[Ref, Ref] = {}
        self.underlay_mtu: dict[Ref, int] = {}
        self.paths: dict[Ref, str] = {}
        self.secret: set[Ref] = set()
        self.ingresses: dict[Ref, Loc] = {}
        self.named: list[tuple[Space, str, Loc]] = []
        self.masters: dict[Ref, tuple[Master, Loc]] = {}  # links named in `ports` of another
        self.tables: dict[Ref, int] = {}  # links in a VRF -> its routing table
        self.vlans: dict[Ref, tuple[PortVlans, Loc]] = {}  # what ends and ports say of them
        self.below: dict[Ref, tuple[Ref, Loc]] = {}  # link -> the device below it (parent, dev)
        self.default_routes: list[tuple[Space, str, str]] = []  # namespace, gateway, dev: where nothing else is said
        self.stated: dict[int, list[tuple[int, str]]] = {32: [], 128: []}  # see subnets.stated
        self._counts: dict[str, int] = {}
        self.bridge_names: set[str] = set()
        self.any_down = False  # whether an interface is stated to be down
        self.stated_at: dict[Ref, Loc] = {}  # where what can be stated once is stated
        self.listed: list[
            Callable[[], Iterable[tuple[Ref, Loc]]]
        ] = []  # and what is to be asked when something is wrong

    def canonical(self, name: str) -> str:
        return self.aliases.get(name, name)

    def space(self, name: str, loc: Loc) -> Space | None:
        """The namespace of that name, None (and an error) where there is none."""
        found = self.spaces.get(self.aliases.get(name, name))
        if found is None:
            self.problems.add(
                loc,
                f"there is no namespace {name!r}",
                lambda: nearest(name, [*self.spaces, *self.aliases]) or f"add it under namespaces: {name}: {{}}",
            )
        return found

    def declare(self, space: Space, ifname: str, loc: Loc) -> bool:
        """Note where an interface is declared; False (and an error) where it is declared already."""
        links = space.links
        if ifname in links:
            self.problems.add(
                loc, f"interface {shown(space, ifname)} is declared twice, first at {path(links[ifname])}"
            )
            return False
        links[ifname] = loc
        return True

    def add(self, fact: Fact, loc: Loc, what: str) -> bool:
        """Add a fact; False (and an error that names both places) where one of its ref is there already. `what`: its
        name in that error."""
        ref = fact[0]
        if ref in self.facts:
            first = self.first(ref)
            self.problems.add(loc, f"{what} is stated twice" + (f", first at {path(first)}" if first else ""))
            return False
        self.facts[ref] = fact
        self.stated_at[ref] = loc
        return True

    def first(self, ref: Ref) -> Loc | None:
        """Where the fact of this ref is stated."""
        for places in self.listed:
            for other, loc in places():
                self.stated_at.setdefault(other, loc)
        self.listed.clear()
        return self.stated_at.get(ref)

    def device(self, space: Space, ifname: str, loc: Loc) -> bool:
        """See that there is a device to refer to; one that the file does not make must be there already."""
        if ifname in space.links or (ifname == "lo" and space.made):
            return True
        if space.made:
            message = f"there is no interface {ifname!r} in namespace {space.name!r}"
            self.problems.add(loc, message, lambda: nearest(ifname, space.links))
            return False
        ref = Ref("link", space.name, (ifname,))
        if ref not in self.external:
            self.external.add(ref)
            self.facts.setdefault(ref, Fact(ref, {}))
            self.paths.setdefault(ref, path(loc))
        return True

    def names(self, text: str, loc: Loc, check: Any) -> list[str]:
        """What `text` expands to, an error for every name that is none; nothing where it is no range either."""
        if "[" not in text and "]" not in text:
            return [text]  # the model has checked it
        try:
            found = ranges.expand(text)
        except ValueError as error:
            self.problems.add(loc, str(error))
            return []
        try:
            check(max(found, key=len))  # they differ in digits: where the longest is a name, all are
        except ValueError:
            for name in found:
                try:
                    check(name)
                except ValueError as error:
                    self.problems.add(loc, str(error))
        return found

    def count(self, number: int, what: str, loc: Loc) -> None:
        """Add to how many there are of something; stop where the file expands to more than 65,536."""
        total = self._counts[what] = self._counts.get(what, 0) + number
        if total > _LIMIT:
            self.problems.stop(loc, f"the file expands to more than {_LIMIT:,} {what}")


def elsewhere(first: Loc, here: Loc) -> str:
    """The end of a message about a conflict: the other place, where it is another one."""
    return "" if first == here else f", first at {path(first)}"


def shown(space: Space, ifname: str) -> str:
    return ifname if space.name == HOST else f"{space.name}:{ifname}"

"""The protocol of a kind: constant records of pure functions. Nothing here touches a socket.

Semantics that every kind keeps (the conformance suite holds it to them):

- `decode` of what `encode` made gives a fact that `compare` finds equal to the desired one.
- An update touches only the attributes it is told to; an attribute in `replace` is never in an update.
- Deleting what is absent is no error: the executor forgives `absent` errnos on delete.
- Facts are canonical: two facts are equal exactly when the kernel cannot tell them apart.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from topo.changes import Change, Encode, Env, Request
from topo.facts import Fact, Live, Ref
from topo.kinds.alike import Block, Expected
from topo.kinds.secret import Secret
from topo.wire import Attr


class View(Protocol):
    """What decoding may look up: names of indexes, and whose mark means us."""

    ns: str
    mark: int

    def ifname(self, index: int) -> str | None:
        """The name of a link in this namespace."""


Decode = Callable[[int, bytes, int, int, View], Iterable[Fact]]
"""(message type, buffer, offset of the body behind the nlmsghdr, end, view) -> facts; none where it is not ours to tell."""


DecodeAlike = Callable[[Block, View, Expected], "list[Fact] | None"]
"""The same facts as `Decode` of each message, of a block of them that differ in their values only, but for those that it
takes out of what is expected; None where it is not as simple as that."""


class DesiredView(Protocol):
    """What `requires` may look up: desired facts."""

    def get(self, ref: Ref) -> Fact | None:
        """The desired fact of this ref."""

    def on(self, link: Ref, kind: str = "") -> Iterable[Fact]:
        """Every desired fact, or every one of this kind, that sits on this link (`topo.facts.links_of`)."""

    def within(self, ns: str, kind: str) -> Iterable[Fact]:
        """Every desired fact of this kind in this namespace."""

    def near(self, ns: str, ifname: str | None, such: Callable[[Fact], bool]) -> Iterable[Fact]:
        """Such facts as sit on this link, or, of no link, the addresses and routes of the namespace; remembered."""


def stated_differences(desired: Fact, live: Fact) -> tuple[str, ...]:
    """The attributes that `desired` states and `live` has otherwise.

    A name that begins with `_` is a live fact's own: what deleting or making it again needs, never compared.
    """
    have = live.attrs
    return tuple(name for name, value in desired.attrs.items() if have.get(name) != value and name[0] != "_")


def but_for_rare(rare: frozenset[str], desired: Fact, live: Fact) -> tuple[str, ...]:
    """As `stated_differences`; what is not stated of `rare` is not to be."""
    have, want = live.attrs, desired.attrs
    unstated = sorted(name for name in have if name in rare and name not in want and have[name])
    return (*stated_differences(desired, live), *unstated)


def nothing(*_: Any) -> tuple[()]:
    return ()


def in_place(_desired: Fact, _live: Fact) -> frozenset[str]:
    """Every attribute can be changed in place."""
    return frozenset()


class Kind(NamedTuple):
    """A kind of kernel object (a row of rtnetlink's tables, an nft table, a sysctl, a namespace).

    `requires(fact, desired)`: the refs that must be there first.
    `compare(desired, live)`: the names of the attributes that differ.
    `replace(desired, live)`: the attributes that the kernel cannot change in place from the one to the other.
    `takes(change, live)`: live refs that executing the change takes down, beside what sits on a
        deleted link or in a deleted namespace (the planner knows those).
    `claims(fact)`: keys of which the kernel allows one at a time; a holder is deleted before the next is made.
    `decode_alike`: a quicker way for long tables. `expect(facts, expected)`: notes such desired facts as it can tell by the
        bytes of their values.
    `literal`: whether `compare` finds no difference where all that is stated is in the live fact as it is stated.
    `absent`: errnos that on delete mean "not there".
    `describe(fact)`: what a plan says of it beside its name. `explain(desired, live)`: an update in lines of its own,
        where attributes are too large to be shown.
    `unset(attrs)`: whether there is nothing in those of a live fact that deleting it would put back.
    `secrets`: the attributes of desired facts that say where a key is to be had.
    """

    name: str
    encode: Encode
    decode: Decode = nothing
    requires: Callable[[Fact, DesiredView], Iterable[Ref]] = nothing
    compare: Callable[[Fact, Fact], tuple[str, ...]] = stated_differences
    replace: Callable[[Fact, Fact], frozenset[str]] = in_place
    takes: Callable[[Change, Live], Iterable[Ref]] = nothing
    claims: Callable[[Fact], Iterable[tuple[Any, ...]]] = nothing
    absent: frozenset[int] = frozenset({errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL})
    describe: Callable[[Fact], str] = lambda fact: ""
    decode_alike: DecodeAlike | None = None
    expect: Callable[[Sequence[Fact], Expected], object] = nothing
    literal: bool = False
    explain: Callable[[Fact, Fact], Iterable[str]] | None = None
    units: Mapping[str, str] = MappingProxyType({})
    unset: Callable[[Mapping[str, Any]], bool] = lambda attrs: False
    secrets: Mapping[str, Secret] = MappingProxyType({})


class Ports(NamedTuple):
    """What a kind of link asks of those that it is the master of.

    `refuses(master, port)`: why a link of this file cannot be one; empty where it can.
    `down`: a link has to be down to become one (EPERM), comes up by that, and is down when it leaves.
    `cycled`: a link that is up goes down and up again when it becomes one, and when it leaves.
    `told`: the attribute of the master that names one of its ports, so that it can be told only when that is one.
    `table(master)`: the routing table that the routes of its ports are in; None for the main one.
    """

    refuses: Callable[[Fact, Fact], str] = lambda master, port: ""
    down: bool = False
    cycled: bool = False
    told: str = ""
    table: Callable[[Fact], int | None] = lambda master: None


class Pair(NamedTuple):
    """What a kind of link is that comes in pairs.

    `peer`: the attribute of IFLA_INFO_DATA in which the other end travels when the two are made.
    `cannot`: settings of an end, `bridge` among them, that it does not take, and why.
    """

    peer: int
    cannot: Mapping[str, str] = MappingProxyType({})


class LinkKind(NamedTuple):
    """A kind of link: IFLA_INFO_KIND with its IFLA_INFO_DATA.

    `spec` is the pydantic model of an entry of `interfaces` with this `kind` (a topo.kinds.spec.InterfaceSpec);
        None where the file has a section or a syntax of its own for it (veth, bridge, vxlan).
    `data`: what travels in IFLA_INFO_DATA and can be stated, read back and compared.
    `replace(desired, live)`: attributes of `data`, or of every link, that this kind cannot change in place.
    `below`: the attribute that names another device by IFLA_LINK: `parent`, `peer`; empty where there is none.
    `home(fact)`: the namespace in which it is made, where that is not its own.
    `option`: the kernel option that brings it, told where the kernel lacks it.
    `one_queue`: it is made with one queue each way, which spares it the waiting for RCU.
    `whole`: what an update leaves out of IFLA_INFO_DATA the driver resets, so that an update carries all that is not
        the default.
    `stays`: the attributes which, against that, stay as they are where they are left out.
    `bare`: what is the default is left out when one is made: in some modes the driver refuses to be told even that.
    `sinks(fact)`: whether it goes down with the device below.
    `mtu`, `txqueuelen`: what the driver gives it where nothing is stated; None where that depends.
    `follows`: the attribute that names the link whose MTU it gets where none is stated; `ports`, the least of its ports'.
    `make(fact)`: the request that makes it, where rtnetlink cannot; what else is stated is set afterwards.
    `extra(attrs, env)`: the attributes of IFLA_INFO_DATA that need more than a format; `more` are their names.
    `decode_extra(data, attrs, view)`: reads them into `attrs`.
    `shared`: what all links of this kind on one device below have in common.
    `unstated`: what attributes beside `data` are where the file no longer states them; None where there is none.
    `requires`, `claims`: as in Kind, beside those of every link.
    `ports`: what other links are to it as their master; None where it takes none.
    `pair`: of one that comes in pairs, which are entries of `links`.
    `at_first(attrs)`: what it is told at first of these; whatever of the MTU is other than stated, it is told before that.
    `mtu_again`: the driver heeds no MTU as it makes one: it is told afterwards.
    `over`: the attributes that name links which it takes by itself, as the kernel makes it: these are told of no master.
    """

    name: str
    spec: type[Any] | None = None
    option: str = ""
    data: tuple[Attr, ...] = ()
    replace: Callable[[Fact, Fact], frozenset[str]] = in_place
    below: str = ""
    home: Callable[[Fact], str] = lambda fact: fact.ref.ns
    one_queue: bool = False
    whole: bool = False
    stays: frozenset[str] = frozenset()
    bare: bool = False
    sinks: Callable[[Fact], bool] = lambda fact: False
    mtu: int | None = 1500
    txqueuelen: int | None = 1000
    follows: str = ""
    make: Callable[[Fact], Request] | None = None
    extra: Callable[[Mapping[str, Any], Env], bytes] | None = None
    more: frozenset[str] = frozenset()
    decode_extra: Callable[[dict[int, bytes], dict[str, Any], View], None] | None = None
    shared: frozenset[str] = frozenset()
    unstated: Mapping[str, Any] = MappingProxyType({})
    requires: Callable[[Fact, DesiredView], Iterable[Ref]] = nothing
    claims: Callable[[Fact], Iterable[tuple[Any, ...]]] = nothing
    ports: Ports | None = None
    pair: Pair | None = None
    at_first: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda attrs: attrs
    mtu_again: bool = False
    over: tuple[str, ...] = ()

    @property
    def own(self) -> frozenset[str]:
        """The names of all that travels in IFLA_INFO_DATA."""
        return self.more.union(attr.name for attr in self.data)

    def default(self, name: str) -> Any:
        """What the driver gives an attribute of IFLA_INFO_DATA where nothing is stated; None where that is not known."""
        return next((attr.default for attr in self.data if attr.name == name), self.unstated.get(name))

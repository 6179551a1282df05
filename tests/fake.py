"""A kernel made of facts, for tests of planning: it refuses what a kernel refuses, and one thing takes others down.

Its side effects are written from the kernel's documentation, not from the kinds' `takes`: that the two
agree is what the property tests find out.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from topo.changes import AGAIN, CREATE, DELETE, OWNER, Change, Op
from topo.errors import KernelError
from topo.facts import FOREIGN, HOST, ON_LINK, OWN, STATIC, TAGGED, Desired, Fact, Facts, Live, Ref, link, namespace
from topo.kernel.outcome import Outcome
from topo.kinds.bridge_vlan import UNSTATED, numbers
from topo.kinds.nexthop import members, used, written
from topo.kinds.registry import KINDS, LINK_KINDS
from topo.kinds.route import RARE
from topo.kinds.veth import leads
from topo.planning.touched import Touched, is_in

_ORIGIN = {"route": TAGGED, "address": TAGGED, "rule": TAGGED, "neighbour": TAGGED, "nexthop": TAGGED}
_SECOND = {"sysctl": FOREIGN, **dict.fromkeys(
    ("fdb", "mdb", "vlan_state", "vni", "bridge_vlan", "port", "inet6", "shaping", "shaping_class", "shaping_filter"), STATIC
)}  # fmt: skip
_CLASSES = ("shaping_class", "shaping_filter")


_QUEUES: Final = {"tun": 500, "macvtap": 500, "ipvtap": 500, "ifb": 32}
"""Lengths: TUN_READQ_SIZE in drivers/net/tun.c and tap.c, TX_Q_LIMIT in ifb.c; others have 1,000."""


class FakeKernel:
    """`fail_at`: the number of the op, counted from 0, that is refused with EIO."""

    def __init__(self, facts: Iterable[Fact] = (), fail_at: int | None = None) -> None:
        self.facts: Facts = {fact.ref: fact for fact in facts}
        self.fail_at = fail_at
        self.count = 0
        self.serial = 0
        self.lingering: set[Ref] = set()  # links that die with their namespace, but not at once
        self.lingering_claims: set[tuple[Any, ...]] = set()
        self.log: list[Op] = []

    # The interface of topo.kernel.Kernel

    def begin(self, desired: Desired, earlier: Sequence[Desired], recorded: Mapping[str, int]) -> dict[str, str]:
        return {}

    def told(self, desired: Desired) -> Desired:
        return desired

    def read(self, desired: Desired, previous: Desired | None = None) -> Live:
        self.lingering.clear()
        self.lingering_claims.clear()
        facts = dict(self.facts)
        for ref in (*desired.facts, *(previous.facts if previous else ())):
            if ref.kind == "sysctl" and ref not in facts and self._has_sysctl(ref):
                facts[ref] = Fact(ref, {"value": "0"}, FOREIGN)
        return Live(facts)

    def reread(self, known: Live, where: Touched, desired: Desired, previous: Desired | None) -> Live:
        live = self.read(desired, previous)
        return Live({ref: fact for ref, fact in live.facts.items() if is_in(ref, where)})

    def execute(
        self, stages: list[list[Op]], desired: Desired, progress: Callable[[int], None] | None = None
    ) -> Outcome:
        done: list[Op] = []
        before: list[Fact] = []
        failed: list[tuple[Op, KernelError]] = []
        for stage in stages:
            for op in stage:
                try:
                    self._run(op, desired)
                    done.append(op)
                    if op.ref.kind == "sysctl" and op.verb == CREATE:
                        before.append(Fact(op.ref, {"value": "0"}, FOREIGN))
                except KernelError as error:
                    failed.append((op, error))
            if failed:
                break
        return Outcome(done, failed, before)

    def require(self, changes: Sequence[Change], desired: Desired) -> None:
        """It lacks nothing."""

    def warnings(self, desired: Desired, changes: Iterable[Change]) -> list[str]:
        return []

    def close(self) -> None:
        self.lingering.clear()

    def show(self) -> str:
        """The state as text."""
        return "\n".join(
            f"{ref.kind} {ref} {sorted((k, v) for k, v in fact.attrs.items() if k[0] != '_')} {fact.origin}"
            for ref, fact in sorted(self.facts.items(), key=repr)
        )

    # One op

    def _run(self, op: Op, desired: Desired) -> None:
        number, self.count = self.count, self.count + 1
        self.log.append(op)
        if number == self.fail_at:
            raise KernelError(errno.EIO, "as the test wants it", op.ref, op.verb)
        try:
            if op.verb == DELETE:
                self._delete(op.ref)
            elif op.verb == CREATE:
                assert op.new is not None
                self._create(op.new, op.attrs, desired)
            else:
                self._update(op)
            self._follow_ports()
        except KernelError as error:
            if op.verb == DELETE and error.errno in KINDS[op.ref.kind].absent:
                return
            raise

    def _create(self, new: Fact, attrs: tuple[str, ...], desired: Desired) -> None:
        ref = new.ref
        if ref.kind != "namespace" and ref.ns != HOST and namespace(ref.ns) not in self.facts:
            _refuse(errno.ENOENT, ref, "no such namespace")
        if ref.kind == "link":
            self._make_link(new, desired)
            return
        if ref.kind == "sysctl" and not self._has_sysctl(ref):
            _refuse(errno.ENOENT, ref)
        if (
            ref in self.facts
            and AGAIN not in attrs
            and ref.kind not in ("sysctl", "nft", "neighbour", "port", "bridge_vlan", "vlan_state", "mdb", "fdb")
        ):
            _refuse(errno.EEXIST, ref)
        self._check(new)
        self.facts[ref] = self._as_live(new)

    def _check(self, new: Fact) -> None:
        """What the kernel wants to be there first."""
        ref, attrs = new.ref, new.attrs
        if ref.kind in ON_LINK and link(ref.ns, ref.key[0]) not in self.facts:
            _refuse(errno.ENODEV, ref)
        if ref.kind == "port" and not self.facts[link(ref.ns, ref.key[0])].attrs.get("master"):
            _refuse(errno.EOPNOTSUPP, ref, "not a bridge port")
        if ref.kind in _CLASSES and self._queue(ref).attrs.get("kind") != "htb":
            _refuse(errno.EINVAL, ref, "no htb")
        for other in used(new) if ref.kind in ("route", "nexthop") else ():
            if other not in self.facts:
                _refuse(errno.EINVAL, ref, "Nexthop id does not exist")
        if ref.kind not in ("route", "nexthop"):
            return
        for gateway, name, onlink in _hops(attrs):  # in the order of fib_check_nh in net/ipv4/fib_semantics.c
            dev = self.facts.get(link(ref.ns, name))
            if dev is None:
                _refuse(errno.ENODEV, ref)
                return
            near = self._on(link(ref.ns, name), "address") if dev.attrs["up"] else ()
            if gateway and not onlink and not any(_reaches(other.key[1], gateway) for other in near):
                _refuse(errno.ENETUNREACH, ref, "Nexthop has invalid gateway.")
            if not dev.attrs["up"]:
                _refuse(errno.ENETDOWN, ref)
        if attrs.get("src") and not any(
            other.kind == "address" and other.ns == ref.ns and other.key[1].partition("/")[0] == attrs["src"]
            for other in self.facts
        ):
            _refuse(errno.EINVAL, ref, "Invalid prefsrc address.")

    def _queue(self, ref: Ref) -> Fact:
        root = Ref("shaping", ref.ns, ref.key[:1])
        return self.facts.get(root, Fact(root, {}))

    def _as_live(self, new: Fact) -> Fact:
        attrs, ref = dict(new.attrs), new.ref
        origin = _ORIGIN.get(ref.kind, _SECOND.get(ref.kind, OWN))
        if "_protocol" in attrs:  # another's, put back or moved
            origin = FOREIGN if new.origin == OWN else new.origin
        if ref.kind == "route" and attrs.get("mtu") is None and any(attrs.get(name) for name in RARE):
            attrs.pop("mtu", None)  # as topo.kinds.route reads them
        if ref.kind == "port" and self.facts[link(ref.ns, ref.key[0])].attrs["kind"] == "veth":
            attrs["_cost"] = 2  # of no other kind is the usual one known (topo.kinds.port)
        if ref.kind == "address":
            attrs = live_address(ref, attrs)
            attrs["_protocol"] = attrs.get("_protocol", 116)
            same = [a for a in self._on(link(ref.ns, ref.key[0]), "address") if _net(a.key[1]) == _net(ref.key[1])]
            if ":" not in ref.key[1] and any(a != ref for a in same):
                attrs["_secondary"] = True
        return Fact(ref, attrs, origin)

    # Links

    def _follow_ports(self) -> None:
        """A bridge that was never told an MTU has the least of its ports' (br_mtu_auto_adjust in net/bridge/br_if.c)."""
        for ref, fact in list(self.facts.items()):
            if not fact.attrs.get("_follows"):
                continue
            ports = (f for f in self.facts.values() if f.ref.kind == "link" and f.ref.ns == ref.ns)
            mtus = [f.attrs["mtu"] for f in ports if f.attrs.get("master") == ref.key[0]]
            self.facts[ref] = fact._replace(attrs={**fact.attrs, "mtu": min(mtus, default=1500)})

    def _make_link(self, new: Fact, desired: Desired) -> None:
        ref, attrs = new.ref, new.attrs
        there = self.facts.get(ref)
        if there is not None and there.attrs.get("_half"):
            self._finish_link(new, there)
            return
        peer = desired.facts.get(link(*attrs["peer"])) if "peer" in attrs else None
        if "peer" in attrs and (peer is None or not leads(new, peer)):
            if there is None:
                _refuse(errno.ENODEV, ref, "the other end makes it")
            return  # it is made already: what it brings along is told to the kernel once more
        # Names are looked up before the kernel is asked.
        if peer is not None and peer.ref.ns != HOST and namespace(peer.ref.ns) not in self.facts:
            _refuse(errno.ENOENT, peer.ref)
        for below in (
            attrs.get("parent"),
            attrs.get("dev"),
            (ref.ns, attrs["master"]) if attrs.get("master") else None,
        ):
            if below and link(*below) not in self.facts:
                _refuse(errno.ENODEV, ref, "below or above")
        if there is not None or ref in self.lingering:
            _refuse(errno.EEXIST, ref)
        claim = _vni(new)
        if claim and (claim in self.lingering_claims or any(_vni(f) == claim for f in self.facts.values())):
            _refuse(errno.EEXIST, ref, "A VXLAN device with the specified VNI already exists")
        if peer is not None and (peer.ref in self.facts or peer.ref in self.lingering):
            _refuse(errno.EEXIST, peer.ref)
        self._finish_link(new, None)
        if peer is not None:
            self.facts[peer.ref] = Fact(
                peer.ref, {**self._defaults(attrs["kind"]), "peer": (ref.ns, *ref.key), "_half": True}
            )

    def _finish_link(self, new: Fact, there: Fact | None) -> None:
        master = new.attrs.get("master")
        if master and link(new.ref.ns, master) not in self.facts:
            _refuse(errno.ENODEV, new.ref, "master")
        attrs = {**(there.attrs if there else self._defaults(new.attrs["kind"])), **new.attrs}
        if "mtu" not in new.attrs and "parent" in new.attrs:  # macvlan_common_newlink in drivers/net/macvlan.c
            attrs["mtu"] = self.facts[link(*new.attrs["parent"])].attrs["mtu"]
        attrs.pop("_half", None)
        if attrs["kind"] == "bridge":
            attrs["_follows"] = "mtu" not in new.attrs
        if attrs.get("created_in") is None:
            attrs.pop("created_in", None)
        self.facts[new.ref] = Fact(new.ref, attrs)

    def _defaults(self, kind: str) -> dict[str, Any]:
        self.serial += 1
        data = {a.name: a.default for a in LINK_KINDS[kind].data}
        base = {
            "kind": kind,
            "up": False,
            "master": None,
            "mtu": 1500,
            "txqueuelen": _QUEUES.get(kind, 1000),
            "alias": "",
        }
        return {**base, "mac": f"02:00:00:00:{self.serial >> 8:02x}:{self.serial & 255:02x}", **data}

    def _update(self, op: Op) -> None:
        assert op.new is not None and op.old is not None
        ref = op.ref
        if op.old.ref != ref:
            self._rename(op.old.ref, ref)
        there = self.facts.get(ref)
        if there is None:
            if ref.kind in ("sysctl", "route"):
                self._create(op.new, (AGAIN,), Desired("", {}))
                return
            _refuse(errno.ENODEV if ref.kind == "link" else errno.ENOENT, ref)
            return
        names = [name for name in op.attrs if name != OWNER]
        if not KINDS[ref.kind].replace(op.new, there).isdisjoint(names):
            _refuse(errno.EOPNOTSUPP, ref, ", ".join(names))
        if ref.kind not in ("link", "namespace"):
            self._check(op.new)
            if ref.kind == "shaping" and op.new.attrs["kind"] != there.attrs["kind"]:
                self._drop_on(ref, lambda other: other.kind in _CLASSES)
            self.facts[ref] = self._as_live(op.new)
            return
        attrs = {**there.attrs, **{name: op.new.attrs[name] for name in names if name in op.new.attrs}}
        master = attrs.get("master")
        if "master" in names and master and link(ref.ns, master) not in self.facts:
            _refuse(errno.ENODEV, ref, "master")
        if "mtu" in names and "_follows" in attrs:
            attrs["_follows"] = False
        self.facts[ref] = Fact(ref, attrs, OWN if OWNER in op.attrs else there.origin)
        if ref.kind == "link":
            self._after_update(ref, there.attrs, attrs)
        elif ref.kind == "bridge_vlan":
            self._leave_vlans(ref, attrs)

    def _leave_vlans(self, port: Ref, attrs: Mapping[str, Any]) -> None:
        """What is said of a VLAN goes when the port is no longer in it."""
        stay = numbers(attrs["untagged"]) | numbers(attrs["tagged"])
        home = link(port.ns, port.key[0])
        self._drop_on(home, lambda other: other.kind == "vlan_state" and other.key[1] not in stay)

    def _after_update(self, ref: Ref, before: dict[str, Any], after: dict[str, Any]) -> None:
        if before.get("master") != after.get("master"):
            for kind in ("port", "bridge_vlan"):
                self.facts.pop(Ref(kind, ref.ns, ref.key), None)
            self._drop_on(ref, lambda gone: gone.kind in ("mdb", "vlan_state"))
        for other, fact in list(self.facts.items()):  # macvlan_device_event: NETDEV_CHANGEMTU
            if fact.attrs.get("parent") == (ref.ns, *ref.key) and fact.attrs["mtu"] > after["mtu"]:
                self.facts[other] = fact._replace(attrs={**fact.attrs, "mtu": after["mtu"]})
        if before["up"] and not after["up"]:
            self._drop_on(ref, lambda other: other.kind in ("route", "nexthop", "neighbour") or _is_ipv6(other))
        if before["mtu"] >= 1280 > after["mtu"]:
            self._drop_on(ref, lambda other: _is_ipv6(other) or (other.kind == "route" and other.key[0] == 6))

    def _rename(self, old: Ref, new: Ref) -> None:
        if new in self.facts:
            _refuse(errno.EEXIST, new)
        if old not in self.facts:
            _refuse(errno.ENODEV, old)
        facts: Facts = {}
        for ref, fact in self.facts.items():
            attrs = dict(fact.attrs)
            if ref.kind == "link":
                for name in ("peer", "parent", "dev"):
                    if attrs.get(name) == (old.ns, *old.key):
                        attrs[name] = (new.ns, *new.key)
                if ref.ns == old.ns and attrs.get("master") == old.key[0]:
                    attrs["master"] = new.key[0]
            if ref.ns == old.ns and ref.kind in ("route", "nexthop"):
                _rename_hops(attrs, old.key[0], new.key[0])
            if ref == old:
                ref = new
            elif ref.ns == old.ns and ref.kind in ON_LINK and ref.key[0] == old.key[0]:
                ref = Ref(ref.kind, ref.ns, (new.key[0], *ref.key[1:]))
            elif ref.ns == old.ns and ref.kind == "sysctl":
                ref = Ref("sysctl", ref.ns, (ref.key[0].replace(f"/{old.key[0]}/", f"/{new.key[0]}/"),))
            facts[ref] = Fact(ref, attrs, fact.origin)
        self.facts = facts

    # Going down

    def _delete(self, ref: Ref) -> None:
        if ref.kind == "sysctl":
            return
        if ref in self.lingering:
            self.lingering.discard(ref)
            return
        if ref not in self.facts:
            _refuse(errno.ENODEV if ref.kind in ("link", "port") else errno.ENOENT, ref)
        if ref.kind == "namespace":
            self._delete_namespace(ref)
        elif ref.kind == "link":
            self._delete_link(ref)
        elif ref.kind == "address":
            self._delete_address(ref)
        elif ref.kind == "nexthop":
            self._delete_nexthop(ref)
        elif ref.kind == "shaping_class" and self._filters(ref):
            _refuse(errno.EBUSY, ref)
        else:
            if ref.kind == "shaping":
                self._drop_on(ref, lambda other: other.kind in _CLASSES)
            if ref.kind == "bridge_vlan":
                self._leave_vlans(ref, UNSTATED)
            del self.facts[ref]

    def _filters(self, class_: Ref) -> list[Ref]:
        """Those that lead to a class."""
        found = self._on(class_, "shaping_filter")
        return [ref for ref in found if self.facts[ref].attrs["class"] == class_.key[1]]

    def _delete_namespace(self, ref: Ref) -> None:
        """What is in it goes later; until then its links hold their names elsewhere, and their VNIs."""
        claims = {claim for fact in self.facts.values() if fact.ref.ns == ref.ns and (claim := _vni(fact))}
        outside = {other for other in self.facts if other.kind == "link" and other.ns != ref.ns}
        for other in [other for other in self.facts if other.ns == ref.ns and other.kind == "link"]:
            if other in self.facts:
                self._delete_link(other)
        self.lingering |= {other for other in outside if other not in self.facts}
        self.lingering_claims |= {claim for claim in claims if claim[0] != ref.ns}
        for other in [other for other in self.facts if other.ns == ref.ns]:
            del self.facts[other]

    def _delete_link(self, ref: Ref) -> None:
        gone = self.facts.pop(ref)
        me = (ref.ns, *ref.key)
        self._drop_on(ref, lambda other: True)
        for other, fact in list(self.facts.items()):
            if other.kind != "link" or other not in self.facts:
                continue
            if (
                fact.attrs.get("parent") == me
                or fact.attrs.get("dev") == me
                or other[1:] == gone.attrs.get("peer")
                or (other.kind == "link" and gone.attrs.get("peer") == (other.ns, *other.key))
            ):
                self._delete_link(other)
            elif other.ns == ref.ns and fact.attrs.get("master") == ref.key[0]:
                self.facts[other] = fact._replace(attrs={**fact.attrs, "master": None})
                for kind in ("port", "bridge_vlan"):
                    self.facts.pop(Ref(kind, other.ns, other.key), None)
                self._drop_on(other, lambda gone: gone.kind in ("mdb", "vlan_state"))

    def _delete_address(self, ref: Ref) -> None:
        gone, home = self.facts.pop(ref), link(ref.ns, ref.key[0])
        if ":" not in ref.key[1]:
            if not gone.attrs.get("_secondary"):
                for other in self._on(home, "address"):
                    if ":" not in other.key[1] and _net(other.key[1]) == _net(ref.key[1]):
                        del self.facts[other]
            if not any(":" not in other.key[1] for other in self._on(home, "address")):
                self._drop_on(home, lambda other: other.kind == "route" and other.key[0] == 4)
        ip = ref.key[1].partition("/")[0]
        if not any(o.kind == "address" and o.ns == ref.ns and o.key[1].partition("/")[0] == ip for o in self.facts):
            for other, fact in list(self.facts.items()):
                if other.kind == "route" and other.ns == ref.ns and fact.attrs.get("src") == ip:
                    del self.facts[other]

    def _delete_nexthop(self, ref: Ref) -> None:
        """Its routes go with it, and groups of which it was the last."""
        del self.facts[ref]
        for other, fact in [(o, f) for o, f in self.facts.items() if o.kind in ("route", "nexthop") and ref in used(f)]:
            left = written(one for one in members(fact.attrs.get("group")) if one[0] != ref.key[0])
            if left:
                self.facts[other] = fact._replace(attrs={**fact.attrs, "group": left})
            elif other.kind == "route":
                del self.facts[other]
            else:
                self._delete_nexthop(other)

    def _drop_on(self, home: Ref, which: Callable[[Ref], bool]) -> None:
        for other, fact in list(self.facts.items()):
            on = other.kind in ON_LINK and other.key[0] == home.key[0]
            on = on or (other.kind in ("route", "nexthop") and home.key[0] in [dev for _, dev, _ in _hops(fact.attrs)])
            on = on or (other.kind == "sysctl" and _device(other) == home.key[0])
            if on and other.ns == home.ns and which(other) and other in self.facts:
                if other.kind == "nexthop":
                    self._delete_nexthop(other)
                else:
                    del self.facts[other]

    def _on(self, home: Ref, kind: str) -> list[Ref]:
        return [ref for ref in self.facts if ref.kind == kind and ref.ns == home.ns and ref.key[0] == home.key[0]]

    def _has_sysctl(self, ref: Ref) -> bool:
        if ref.ns != HOST and namespace(ref.ns) not in self.facts:
            return False
        device = _device(ref)
        return device in (None, "all", "default", "lo") or link(ref.ns, str(device)) in self.facts


def _refuse(number: int, ref: Ref, words: str = "") -> None:
    raise KernelError(number, words, ref)


def _hops(attrs: Mapping[str, Any]) -> list[tuple[str | None, str, bool]]:
    """(gateway, device, onlink) of each way that a route goes."""
    if hops := attrs.get("nexthops"):
        return [(gateway, dev, onlink) for gateway, dev, _, onlink, *_ in hops]
    return [(attrs.get("gateway"), attrs["dev"], bool(attrs.get("onlink")))] if attrs.get("dev") else []


def _rename_hops(attrs: dict[str, Any], old: str, new: str) -> None:
    if attrs.get("dev") == old:
        attrs["dev"] = new
    if hops := attrs.get("nexthops"):
        attrs["nexthops"] = tuple((hop[0], new if hop[1] == old else hop[1], *hop[2:]) for hop in hops)


def _is_ipv6(ref: Ref) -> bool:
    return ref.kind == "address" and ":" in ref.key[1]


def _device(ref: Ref) -> str | None:
    parts = ref.key[0].split("/")
    return parts[3] if len(parts) > 4 and parts[2] in ("conf", "neigh") else None


def _vni(fact: Fact) -> tuple[Any, ...]:
    attrs = fact.attrs
    if attrs.get("kind") != "vxlan" or attrs.get("external"):
        return ()
    v6 = ":" in str(attrs.get("local") or attrs.get("group") or "")
    return attrs.get("created_in") or fact.ref.ns, attrs["id"], attrs.get("port"), v6


def _net(address: str) -> object:
    return ipaddress.ip_interface(address).network


def _reaches(address: str, gateway: str) -> bool:
    return ipaddress.ip_address(gateway) in ipaddress.ip_interface(address).network


_FLAGS = {"home": 0x10, "mngtmpaddr": 0x100, "noprefixroute": 0x200}
_SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254}


def live_address(ref: Ref, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """What is stated of an address as the kernel tells it."""
    found = {name: value for name, value in attrs.items() if name[0] == "_"}
    found.setdefault("_flags", sum(bit for name, bit in _FLAGS.items() if attrs.get(name)))
    found.setdefault("_scope", _SCOPES[attrs.get("scope", "global")])
    for name, told in (("label", "_label"), ("broadcast", "_broadcast"), ("metric", "_priority")):
        if attrs.get(name) and attrs[name] != ref.key[0]:
            found[told] = attrs[name]
    if "valid_lft" in attrs:
        found["_lifetime"] = (attrs["preferred_lft"], attrs["valid_lft"])
    return found

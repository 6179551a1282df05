"""The cases of IP tunnels, which only a full kernel has."""

from __future__ import annotations

from typing import Any

from conformance.case import Case, State, each, underlay
from conformance.links import again, changes, link_case

Own = dict[str, tuple[State, ...]]
ByHand = dict[str, tuple[str, ...]]

_FLAT = {"mac": "it has no Ethernet", "master": "a bridge takes Ethernet only"}


def tunnel_cases(ns: str) -> list[Case]:
    """Every kind of tunnel, in this namespace."""
    return [
        *(_gre(ns, "gre"), _gre(ns, "gretap"), _gre(ns, "ip6gre"), _gre(ns, "ip6gretap")),
        *(_erspan(ns, "erspan"), _erspan(ns, "ip6erspan")),
        *(_ip(ns, "ipip", "ipip", "any", "mplsip"), _ip(ns, "sit", "ip6ip", "ipip", "any")),
        *(_ip(ns, "ip6tnl", "any", "ip6ip6", "ipip6"), _vti(ns), _xfrm(ns)),
    ]


def _tunnel(ns: str, kind: str, base: dict[str, Any], own: Own, by_hand: ByHand) -> Case:
    own = {**each("link", (ns, "u0"), (ns, "u5"), None), **own}
    by_hand = {**changes(kind, link="dev u5"), **by_hand}
    no = {} if kind.endswith(("tap", "erspan")) else _FLAT
    return link_case(ns, kind, base, own, by_hand, no, underlay(ns), full=True)


def _four(kind: str) -> tuple[dict[str, Any], Own, ByHand]:
    own = {
        **each("local", "10.9.0.1", "10.9.0.9"),
        **each("remote", "10.9.0.2", "10.9.0.3", "0.0.0.0"),
        **each("ttl", 9, 10, 0),
        **each("tos", 4, 8),
        **each("pmtudisc", True, False, also={"ttl": 0}),  # a fixed TTL and no path MTU discovery do not go together
    }
    words = {"local": "local 10.9.0.7", "remote": "remote 10.9.0.8", "ttl": "ttl 50", "tos": "tos 12"}
    by_hand = changes(kind, pmtudisc="ttl 0 nopmtudisc", **words)
    return {"local": "10.9.0.1", "remote": "10.9.0.2"}, own, by_hand


def _six(kind: str) -> tuple[dict[str, Any], Own, ByHand]:
    own = {
        **each("local", "fd09::1", "fd09::9"),
        **each("remote", "fd09::2", "fd09::3", "::"),
        **each("ttl", 9, 10),
        **each("encaplimit", 4, 5, "none"),
        **each("tclass", 0, 4, "inherit"),
        **each("flowlabel", 0, 7, "inherit"),
    }
    words = {"local": "local fd09::7", "remote": "remote fd09::8", "ttl": "ttl 50", "encaplimit": "encaplimit 6"}
    by_hand = changes(kind, tclass="tclass 0x8", flowlabel="flowlabel 0x9", **words)
    return {"local": "fd09::1", "remote": "fd09::2", "encaplimit": 4}, own, by_hand


def _gre(ns: str, kind: str) -> Case:
    base, own, by_hand = _six(kind) if "6" in kind else _four(kind)
    for side in ("i", "o"):
        own |= {**each(f"{side}key", 5, 6, None), **each(f"{side}seq", False, True), **each(f"{side}csum", False, True)}
        by_hand |= changes(
            kind, **{f"{side}key": f"{side}key 9", f"{side}seq": f"{side}seq", f"{side}csum": f"{side}csum"}
        )
    if "6" not in kind:
        own |= each("ignore_df", False, True, also={"pmtudisc": False})
        by_hand |= changes(kind, ignore_df="ignore-df nopmtudisc")
    return _tunnel(ns, kind, base, own, by_hand)


def _erspan(ns: str, kind: str) -> Case:
    """What it has beside its key, its version says."""
    base, own, by_hand = _six(kind) if "6" in kind else _four(kind)
    one, two = {"erspan_index": 0, "erspan_ver": 1}, {"erspan_dir": "ingress", "erspan_hwid": 0, "erspan_ver": 2}
    own |= {name: ({**one, "ikey": 5, "okey": 5}, {**one, "ikey": 6, "okey": 6}) for name in ("ikey", "okey")}
    own |= {**each("erspan_index", 0, 9, also=one), "erspan_ver": (one, two)}
    own |= {**each("erspan_dir", "ingress", "egress", also=two), **each("erspan_hwid", 0, 9, also=two)}
    words = {"erspan_index": "erspan 7", "erspan_ver": "erspan_ver 2", "erspan_hwid": "erspan_ver 2 erspan_hwid 5"}
    key = {name: f"seq key 9 {name[0]}key 9" for name in ("ikey", "okey")}
    words |= {"erspan_dir": "erspan_ver 2 erspan_dir egress"}
    by_hand |= changes(kind, **key, **{name: f"seq key 5 {text}" for name, text in words.items()})
    return _tunnel(ns, kind, {**base, "ikey": 5, "okey": 5, "erspan_ver": 1}, own, by_hand)


def _ip(ns: str, kind: str, *modes: str) -> Case:
    base, own, by_hand = _six(kind) if "6" in kind else _four(kind)
    if kind == "ip6tnl":
        by_hand |= changes(kind, mode=f"mode {modes[2]}")
    else:
        by_hand["mode"] = again(f"type {kind} local 10.9.0.1 remote 10.9.0.2 mode {modes[1]}")
    return _tunnel(ns, kind, base, own | each("mode", *modes), by_hand)


def _vti(ns: str) -> Case:
    own = {
        **each("local", "10.9.0.1", "10.9.0.9"),
        **each("remote", "10.9.0.2", "10.9.0.3"),
        **each("ikey", 5, 6),
        **each("okey", 5, 6),
    }
    words = {"local": "local 10.9.0.7", "remote": "remote 10.9.0.8", "ikey": "ikey 9", "okey": "okey 9"}
    return _tunnel(ns, "vti", {"local": "10.9.0.1", "remote": "10.9.0.2"}, own, changes("vti", **words))


def _xfrm(ns: str) -> Case:
    made = "type xfrm dev {} if_id {}"
    by_hand = {"if_id": again(made.format("u0", 9)), "link": again(made.format("u5", 5))}
    return _tunnel(ns, "xfrm", {"if_id": 5, "link": (ns, "u0")}, each("if_id", 5, 6), by_hand)

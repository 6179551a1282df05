"""What differs between two nftables tables, in words for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from topo.kinds.nfttable import Attrs


def differences(desired: Attrs, live: Attrs) -> list[str]:
    """What applying would do to the live table, one line for each set element, chain and rule."""
    lines: list[str] = []
    for name in sorted(desired["sets"].keys() | live["sets"].keys()):
        lines += _set_differences(name, desired["sets"].get(name), live["sets"].get(name))
    for name in sorted(desired["chains"].keys() | live["chains"].keys()):
        lines += _chain_differences(name, desired["chains"].get(name), live["chains"].get(name))
    return lines + [f"- {json.dumps(entry)}" for entry in live["other"] if entry not in desired["other"]]


def _set_differences(name: str, want: Attrs | None, have: Attrs | None) -> Iterator[str]:
    if want is None or have is None:
        yield f"{'-' if want is None else '+'} set {name}"
    after, before = (want or {}).get("elements", {}), (have or {}).get("elements", {})
    for key in sorted(before.keys() | after.keys(), key=lambda k: (len(k), k)):
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            to = f" : {new or old}" if new or old else ""
            yield f"{'+' if old is None else '-'} element {name} {key}{to}"
        elif old != new:
            yield f"~ element {name} {key} : {old} -> {new}"
    for key in sorted(({*(want or {})} & {*(have or {})}) - {"elements"}):
        if (want or {})[key] != (have or {})[key]:
            yield f"~ set {name} {key} {(have or {})[key]} -> {(want or {})[key]}"


def _chain_differences(name: str, want: Attrs | None, have: Attrs | None) -> Iterator[str]:
    if want is None or have is None:
        yield f"{'-' if want is None else '+'} chain {name}"
    want, have = want or {"rules": []}, have or {"rules": []}
    for key in sorted((want.keys() & have.keys()) - {"rules"}):
        if want[key] != have[key]:
            yield f"~ chain {name} {key} {have[key]} -> {want[key]}"
    after, before = ([show(rule) for rule in chain["rules"]] for chain in (want, have))
    if sorted(after) == sorted(before) and after != before:
        yield f"~ chain {name}: the rules stand in another order"
    yield from (f"- rule {name}: {rule}" for rule in (Counter(before) - Counter(after)).elements())
    yield from (f"+ rule {name}: {rule}" for rule in (Counter(after) - Counter(before)).elements())


def show(value: Any) -> str:
    """A rule, or a part of one, in the manner of nft's own language; for reading only."""
    if isinstance(value, list):
        return " ".join(map(show, value))
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    if len(value) != 1:
        return json.dumps(value)
    ((what, body),) = value.items()
    words = _WORDS.get(what)
    if words:
        return words(body)
    if what in ("dnat", "snat"):
        port = f":{show(body['port'])}" if "port" in body else ""
        return f"{what} {body.get('family', '')} to {show(body['addr'])}{port}"
    return f"{what} {json.dumps(body) if isinstance(body, dict) else show(body)}".rstrip()


def _match(body: dict[str, Any]) -> str:
    op, right = body["op"], body["right"]
    shown = ",".join(map(show, right)) if isinstance(right, list) else show(right)
    return f"{show(body['left'])} {shown if op in ('==', 'in') else f'{op} {shown}'}"


_BARE: Final = frozenset({"iif", "iifname", "oif", "oifname"})
_WORDS: Final[dict[str, Callable[[Any], str]]] = {
    "match": _match,
    "payload": lambda body: f"{body['protocol']} {body['field']}",
    "meta": lambda body: ("" if body["key"] in _BARE else "meta ") + body["key"],
    "ct": lambda body: f"ct {body['key']}",
    "fib": lambda body: f"fib {' '.join(body['flags'])} {body['result']}",
    "prefix": lambda body: f"{body['addr']}/{body['len']}",
    "range": lambda body: "-".join(map(str, body)),
    "concat": lambda body: " . ".join(map(show, body)),
    "set": lambda body: f"{{ {', '.join(map(show, body))} }}",
    "map": lambda body: f"{show(body['key'])} map {show(body['data'])}",
    "jump": lambda body: f"jump {body['target']}",
    "log": lambda body: f"log prefix {json.dumps((body or {}).get('prefix', ''))}",
    "reject": lambda body: "reject",
    "masquerade": lambda body: f"masquerade {(body or {}).get('flags', '')}".rstrip(),
    "&": lambda body: f"{show(body[0])} & {hex(body[1])} ==",
}

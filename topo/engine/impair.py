"""Impairments: shaping that is laid over what the file states, until it is cleared (`topo impair`).

They are kept in the record, and are part of what is desired: an apply leaves them, or puts them right, and a diff
tells them from drift. What goes with its interface is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from topo.errors import Diagnostic, InputError
from topo.facts import Desired, Fact, Ref, altered, link, parts
from topo.file import yaml
from topo.file.explaining import hint, message
from topo.file.yaml import Source
from topo.kinds.shaping import INSIDE


def over(desired: Desired, impaired: Mapping[Ref, Fact]) -> tuple[Desired, Mapping[Ref, Fact]]:
    """`desired` with the impairments of the interfaces that it has, and these."""
    there = {ref: fact for ref, fact in impaired.items() if link(ref.ns, ref.key[0]) in desired.facts}
    if not there:
        return desired, {}
    facts, places = desired.facts, {(ref.ns, ref.key[0]) for ref in there}
    classes = {ref for ref in parts(facts).few if ref.kind in INSIDE and (ref.ns, ref.key[0]) in places}
    if classes:  # of the htb whose place is taken
        facts = {ref: fact for ref, fact in facts.items() if ref not in classes}
    return desired._replace(facts=altered(facts, there)), there


def shaped(desired: Desired, ns: str, ifname: str, words: Mapping[str, str]) -> Fact:
    """What `words`, those of `shaping` in a file with their values as a file has them, make of an interface.

    Raises InputError where there is no such interface, and for what is no shaping.
    """
    from topo.kinds.shaping_spec import Shaping, attributes  # late, as its model is made when it is used

    if link(ns, ifname) not in desired.facts:
        have = [ref.key[0] for ref in desired.facts if ref.kind == "link" and ref.ns == ns]
        raise InputError(
            f"{desired.name}:{ns} has no interface {ifname!r}; it has {', '.join(have) or 'none'}"
            if have or ns in desired.namespaces()
            else f"{desired.name} has no namespace {ns!r}; it has {', '.join(desired.namespaces()) or 'none'}"
        )
    try:
        shaping = Shaping.model_validate({word: _value(word, text) for word, text in words.items()})
    except ValidationError as error:
        raise InputError([Diagnostic(text) for text in dict.fromkeys(map(_problem, error.errors()))]) from None
    ref = Ref("shaping", ns, (ifname,))
    return Fact(ref, attributes(shaping))


def _problem(details: ErrorDetails) -> str:
    from topo.kinds.shaping_spec import Shaping

    loc = details["loc"]
    if details["type"] == "extra_forbidden" and len(loc) == 1:
        return f"{loc[0]} is not known here; {hint(str(loc[0]), tuple(sorted(Shaping.model_fields)))}"
    return ": ".join([*(f"{part}" for part in loc if isinstance(part, str)), message(details)])


def _value(word: str, text: str) -> Any:
    """The value that `word: text` has in a file. Raises InputError."""
    return yaml.build(Source(word, text)) if text[:1] in ("{", "[") else yaml.plain(text)

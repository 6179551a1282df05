"""The words of the grammar: names, addresses, ports and targets, each checked where it stands.

Every check takes what the file says and returns it in canonical form, or raises ValueError with
one clear sentence. A value that can be written in several types (a number or a text) has a check
of its own instead of a union of pydantic's, so that an error names its place and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from topo.facts import HOST
from topo.file import addressing, ranges
from topo.file.spans import span
from topo.kinds.later import Either
from topo.kinds.words import canonical_ip, interface_name
from topo.patterns import late

_NAMESPACE: Final = late(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOPOLOGY: Final = late(r"[a-z0-9][a-z0-9-]{0,31}")
_SYSCTL: Final = late(r"net(?:[./][A-Za-z0-9_@-]+){2,}")
_DOTTED: Final = late(r"[0-9.]+")


class Entry(BaseModel):
    """The base of the models: nothing unknown is taken, no type is guessed, nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, strict=True, populate_by_name=True)


def wrong(message: str, *loc: str | int, value: Any = None) -> ValidationError:
    """An error at `loc` below the value that is being validated; to be raised in a validator."""
    kind = PydanticCustomError("value_error", "{reason}", {"reason": message})
    return ValidationError.from_exception_data("topology", [InitErrorDetails(type=kind, loc=loc, input=value)])


def missing(name: str) -> ValidationError:
    """As pydantic's own error for a required field, where only a validator knows that it is required."""
    return ValidationError.from_exception_data("topology", [InitErrorDetails(type="missing", loc=(name,), input=None)])


def plain(value: Any) -> Any:
    """`value` with every model in it as the data that it was, or could have been, made from."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if not isinstance(value, BaseModel):
        return value
    from topo.kinds.shaping_spec import Shaping  # late, as in every model

    if isinstance(value, Shaping):  # its rates are validated to bytes/s, where a number is bits/s
        rates = {name: f"{getattr(value, name) * 8}bit" for name in ("rate", "ceil") if getattr(value, name)}
        return value.model_dump(exclude_none=True) | rates
    fields = type(value).model_fields
    return {
        fields[name].alias or name: plain(getattr(value, name)) for name in fields if name in value.model_fields_set
    }


def no_entries() -> list[Any]:
    """What a list is where it is not stated. Of `list` itself pydantic would parse the signature, in a millisecond."""
    return []


def nothing() -> dict[str, Any]:
    """What a mapping is where it is not stated."""
    return {}


def empty(value: Any) -> Any:
    """A mapping that has nothing behind its key."""
    return {} if value is None else value


def namespace_name(text: str) -> str:
    """`text` as a name of a namespace of this file. Raises ValueError."""
    if text == HOST:
        raise ValueError("'host' is the name of the outermost namespace: its sections stand at the top level")
    if not _NAMESPACE.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a namespace: 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first")
    return text


def _ranged(check: Callable[[str], str]) -> Callable[[str], str]:
    """`check` for a name, or for what a range expands to (of which lowering checks every name)."""

    def checked(text: str) -> str:
        if not ranges.is_range(text):
            return check(text)
        ranges.count(text)
        return text

    return checked


def _topology_name(text: str) -> str:
    if not _TOPOLOGY.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a topology: 1 to 32 of a-z 0-9 -, a letter or digit first")
    return text


def end_name(text: str) -> str:
    ns, colon, ifname = text.rpartition(":")
    if colon and ns != HOST:
        _ranged(namespace_name)(ns)
    _ranged(interface_name)(ifname)
    return text


def _namespace_or_host(text: str) -> str:
    return text if text == HOST else namespace_name(text)


def prefix(text: str) -> str:
    """A prefix in canonical form; an address alone is a prefix of full length. Raises ValueError."""
    if "/" not in text:
        address = canonical_ip(text)
        return f"{address}/{128 if ':' in address else 32}"
    number, length, bits = addressing.parse_prefix(text)
    base = number >> (bits - length) << (bits - length)
    if base == number and bits == 32:  # as in `canonical_ip`
        return f"{text.partition('/')[0]}/{length}"
    canonical = f"{addressing.address_text(base, bits)}/{length}"
    if base != number:
        raise ValueError(f"{text!r} has host bits set; the prefix is {canonical}")
    return canonical


def _matched_prefix(text: str) -> str:
    bare = text.removeprefix("!")
    found = prefix(bare)
    if bare != text and found.endswith("/0"):
        raise ValueError(f"nothing is outside of {bare}")
    return text[: len(text) - len(bare)] + found


def _all_or_none_negated(values: list[str]) -> list[str]:
    if len({value.startswith("!") for value in values}) > 1:
        raise ValueError('either each prefix is negated ("!10.0.0.0/8"), or none')
    return values


def _subnet(text: str) -> str:
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length")
    return prefix(text)


def _bridge_subnet(text: str) -> str:
    """A prefix, or an address with its prefix length: the address that the bridge is to have."""
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length")
    number, length, bits = addressing.parse_prefix(text)
    if bits == 32 and length < 31 and ~number & (1 << (bits - length)) - 1 == 0:
        raise ValueError(f"{text!r} is the broadcast address of its subnet")
    return f"{addressing.address_text(number, bits)}/{length}"


def _destination(text: str) -> str:
    return text if text == "default" else prefix(text)


def _one_per_family(values: list[str]) -> list[str]:
    if len(values) > 2 or len({":" in value for value in values}) < len(values):
        raise ValueError("one of each family at most: one IPv4, one IPv6")
    return values


def ports(value: Any) -> tuple[int, int]:
    """First and last of a port (80) or a range of ports ("8000-8010"). Raises ValueError."""
    return span(value, "port", 1, 65535, "80, or 8000-8010")


def port(value: Any) -> Any:
    """`value` as it is, which has to be what `ports` takes. Raises ValueError."""
    if type(value) is not int or not 1 <= value <= 65535:
        ports(value)
    return value


def endpoint(text: str) -> tuple[str, tuple[int, int] | None]:
    """Name or address, and ports where stated: web, web:80, 10.0.0.1:22, [::1]:80, ::1. Raises ValueError."""
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in inner:
            raise ValueError(f"{text!r} is no target: write [::1]:80 for a port of an IPv6 address")
        return canonical_ip(inner), ports(rest[1:]) if rest else None
    if text.count(":") > 1:
        return canonical_ip(text), None
    name, colon, port = text.partition(":")
    return _target(name), ports(port) if colon else None


@lru_cache(1024)  # thousands of published ports lead to few
def _target(name: str) -> str:
    if _DOTTED.fullmatch(name) and "." in name:
        return canonical_ip(name)
    return name if name == HOST else namespace_name(name)


def _endpoint(text: str) -> str:
    where, _, port = text.rpartition(":")
    if where in _sound and len(port) <= 5 and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535:
        return text
    endpoint(text)
    if text.count(":") == 1 and len(_sound) < 1024:
        _sound.add(where)
    return text


_sound: Final[set[str]] = set()
"""Targets with a port that were found sound: thousands of published ports lead to few."""


def as_written(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A check that takes what `parse` can read, and leaves it as it is."""

    def check(value: Any) -> Any:
        parse(value)
        return value

    return check


def seconds(value: Any) -> float:
    """Seconds of 5, 2.5, "5s" or "200ms". Raises ValueError."""
    from topo.kinds.units import parse_duration  # late: few files have times in them

    return parse_duration(value, "s") / 1e6


def milliseconds(value: Any) -> int:
    """Whole milliseconds of 5, "200ms" or "1.5s", at least one. Raises ValueError."""
    from topo.kinds.units import parse_duration  # late: few files have times in them

    time: int = parse_duration(value, "ms")
    if time < 1000 or time > 0xFFFF * 1000:
        raise ValueError(f"{value!r} is no time of 1 ms to 65 s")
    return time // 1000


def _tos(value: Any) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
    if not number and value != "inherit":
        raise ValueError(f"{value!r}: 0 to 255 is expected, or inherit")
    return value


def _sysctl_name(text: str) -> str:
    if not _SYSCTL.fullmatch(text):
        raise ValueError(f"{text!r} is no sysctl of a network namespace, such as net.ipv4.ip_forward")
    return text


def _sysctl_value(value: Any) -> Any:
    """A text, number or truth value, as `sysctl` takes it."""
    if not isinstance(value, str | int | bool) or (isinstance(value, str) and "\n" in value.strip()):
        raise ValueError("a number, a text or true/false is expected")
    return value


def sysctl_text(value: str | int | bool) -> str:
    """What /proc/sys reads back for `value`, white space folded."""
    return str(int(value)) if isinstance(value, bool) else " ".join(str(value).split())


def _matched_interface(text: str) -> str:
    interface_name(text.removeprefix("!"))
    return text


def single(value: Any) -> Any:
    """A value that stands for a list of one."""
    return [value] if isinstance(value, str | int) and not isinstance(value, bool) else value


TopologyName = Annotated[str, AfterValidator(_topology_name)]
NamespaceName = Annotated[str, AfterValidator(namespace_name)]
NamespaceNames = Annotated[str, AfterValidator(_ranged(namespace_name))]
NamespaceOrHost = Annotated[str, AfterValidator(_namespace_or_host)]
NamespacesOrHost = Annotated[str, AfterValidator(_ranged(_namespace_or_host))]
Ifname = Annotated[str, AfterValidator(interface_name)]
Ifnames = Annotated[str, AfterValidator(_ranged(interface_name))]
EndName = Annotated[str, AfterValidator(end_name)]
MatchedInterface = Annotated[str, AfterValidator(_matched_interface)]
Words = Annotated[
    list[str],
    BeforeValidator(lambda v: [v] if isinstance(v, str) else v, json_schema_input_type=list[str] | str),
]
Prefix = Annotated[str, AfterValidator(prefix)]
Prefixes = Annotated[list[Prefix], BeforeValidator(single, json_schema_input_type=list[str] | str)]
Subnets = Annotated[
    list[Annotated[str, AfterValidator(_subnet)]],
    AfterValidator(_one_per_family),
    BeforeValidator(single, json_schema_input_type=list[str] | str),
]
BridgeSubnets = Annotated[
    list[Annotated[str, AfterValidator(_bridge_subnet)]],
    AfterValidator(_one_per_family),
    BeforeValidator(single, json_schema_input_type=list[str] | str),
]
MatchedPrefixes = Annotated[
    list[Annotated[str, AfterValidator(_matched_prefix)]],
    AfterValidator(_all_or_none_negated),
    BeforeValidator(single, json_schema_input_type=list[str] | str),
]
Destination = Annotated[str, AfterValidator(_destination)]
PortNumber = Annotated[StrictInt, Field(ge=1, le=65535)]
PortRange = Annotated[int | str, Either(port)]
PortRanges = Annotated[list[PortRange], BeforeValidator(single, json_schema_input_type=list[int | str] | int | str)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Seconds = Annotated[int | float | str, Either(as_written(seconds))]
Milliseconds = Annotated[int | str, Either(as_written(milliseconds))]
Tos = Annotated[int | str, Either(_tos)]
SysctlName = Annotated[str, AfterValidator(_sysctl_name)]
SysctlValue = Annotated[bool | int | str, Either(_sysctl_value)]
Mtu = Annotated[StrictInt, Field(ge=68, le=65535)]
QueueLength = Annotated[StrictInt, Field(ge=0, le=0x7FFFFFFF)]
U32 = Annotated[StrictInt, Field(ge=0, le=0xFFFFFFFF)]
U8 = Annotated[StrictInt, Field(ge=0, le=255)]
Positive = Annotated[StrictInt, Field(ge=1, le=0xFFFFFFFF)]

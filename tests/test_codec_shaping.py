"""Rate limits: what users write, its rounding, and the bytes against pyroute2's message classes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from topo.changes import CREATE, DELETE, UPDATE, Change, Op, Rtnl
from topo.facts import STATIC, Fact, Live, Ref
from topo.kinds import cake, fq_codel, netem
from topo.kinds.cake import ACK_FILTERS, ATMS, DIFFSERVS, FLOW_MODES
from topo.kinds.netem import CORRELATIONS, UNSTATED
from topo.kinds.shaping import SHAPING, TC_H_ROOT, canonical, htb_device
from topo.kinds.shaping_spec import Shaping, attributes
from topo.kinds.units import parse_duration, parse_rate, parse_size
from topo.wire import NLM_F_CREATE, NLM_F_REPLACE, NLMSGHDR, RTM_DELQDISC, RTM_NEWQDISC, RTM_NEWTCLASS

NS = "web"
REF = Ref("shaping", NS, ("eth0",))


class Indexes:
    ns, mark = NS, 0

    def index(self, ns: str, ifname: str) -> int:
        assert (ns, ifname) == (NS, "eth0")
        return 258

    def ifname(self, index: int) -> str | None:
        return "eth0" if index == 258 else None


LINKS: Any = Indexes()


def encoded(verb: str, new: dict[str, Any] | None, old: dict[str, Any] | None = None, ref: Ref = REF) -> list[Rtnl]:
    op = Op(verb, ref, Fact(ref, new) if new else None, Fact(ref, old) if old else None)
    return [request for request in SHAPING.encode(op, LINKS) if isinstance(request, Rtnl)]


def decoded(number: int, body: bytes) -> list[Fact]:
    return list(SHAPING.decode(number, b"\xaa" * 16 + body + b"\x55" * 8, 16, 16 + len(body), LINKS))


def parsed(request: Rtnl) -> tcmsg:
    message = tcmsg(NLMSGHDR.pack(16 + len(request.body), request.type, 0, 0, 0) + request.body)
    message.decode()
    return message


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10mbit", 1_250_000),
        ("10Mbit", 1_250_000),
        ("1.5gbit", 187_500_000),
        ("8kibit", 1024),
        ("500kbps", 500_000),
        ("1mibps", 1_048_576),
        (" 64 kbit ", 8000),
        (8000, 1000),
        ("8000", 1000),
        (8000.0, 1000),
        ("1tbit", 125_000_000_000),
    ],
)
def test_rates(text: object, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(("text", "size"), [("32kb", 32768), ("32k", 32768), ("1mb", 1 << 20), ("1500b", 1500),
                                            (1500, 1500), ("8kbit", 1024), ("1.5k", 1536)])  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "time"), [("50ms", 50_000), ("2s", 2_000_000), ("100us", 100), (100, 100),
                                            ("0.5msec", 500), ("3secs", 3_000_000)])  # fmt: skip
def test_durations(text: object, time: int) -> None:
    assert parse_duration(text) == time


def test_durations_in_other_units() -> None:
    assert parse_duration(5, bare="s") == 5_000_000 and parse_duration("5ms", bare="s") == 5000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "mbit",
        "10 m bit",
        "10mb",
        "-1mbit",
        "1e6",
        True,
        None,
        "9" * 999,
        "\N{ARABIC-INDIC DIGIT ONE}mbit",
        "0",
    ],
)
@pytest.mark.parametrize("parse", [parse_rate, parse_size, parse_duration])
def test_nonsense(text: object, parse: Any) -> None:
    fine = {parse_rate: ("10",), parse_size: ("10", "10mb"), parse_duration: ("10", "0")}[parse]
    if text in fine:
        assert parse(text) >= 0
    else:
        with pytest.raises(ValueError, match=r"is no|out of range"):
            parse(text)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({}, "rate"),
        ({"kind": "tbf", "rate": "10mbit", "delay": "10ms"}, "delay is no setting of tbf"),
        ({"kind": "htb", "rate": "10mbit", "loss": "1%"}, "loss is no setting of htb"),
        ({"delay": "10ms", "rate": "10mbit", "burst": "32kb"}, "burst is no setting of netem"),
        ({"loss": "1%", "jitter": "1ms"}, "jitter needs delay"),
        ({"delay": 0, "reorder": "25%"}, "reorder needs delay"),
        ({"delay": "1ms", "gap": 5}, "gap needs reorder"),
        ({"delay": "1ms", "distribution": "normal"}, "distribution needs jitter"),
        ({"delay": "1ms", "loss_correlation": "5%"}, "loss_correlation needs loss"),
        ({"delay": "9s", "jitter": "3s"}, "2147ms"),
        ({"loss": "101%"}, "more than 100%"),
        ({"loss": "1ms"}, "is no share"),
        ({"loss": {}}, "either gemodel or state"),
        ({"loss": {"gemodel": [1, 2, 3, 4, 5]}}, "at most 4"),
        ({"loss": {"gemodel": [1]}, "loss_correlation": 5}, "plain loss only"),
        ({"rate": "10mbit", "colour": 1}, "colour"),
        ({"rate": "10mbit", "ceil": "20mbit"}, "ceil is no setting of tbf"),
        ({"rate": "10mbit", "kind": "htb", "latency": "20ms"}, "latency is no setting of htb"),
        ({"rate": "10mbit", "kind": "htb", "ceil": "1mbit"}, "ceil is below rate"),
        ({"rate": "10mbit", "kind": "sfq"}, "tbf"),
        ({"rate": "10mbit", "latency": "20ms", "limit": "20kb"}, "state one"),
        ({"rate": "10mbit", "burst": "20kb", "limit": "20kb"}, "more than burst"),
        ({"rate": "10mbit", "burst": 1000}, "nothing would pass"),
        ({"rate": "1kbit", "burst": "1mb"}, "274 seconds"),
        ({"rate": "1tbit", "latency": "1s"}, "4 GiB"),
        ({"kind": "fq_codel", "rate": "1mbit"}, "rate is no setting of fq_codel"),
        ({"kind": "fq_codel", "quantum": 255}, "quantum is at least 256"),
        ({"kind": "cake", "limit": 5}, "limit is no setting of cake"),
    ],
)
def test_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        Shaping(**wrong)


def test_defaults() -> None:
    assert attributes(Shaping(rate="10mbit")) == {"kind": "tbf", "rate": 1_250_000, "burst": 16384, "latency": 50_000}
    assert attributes(Shaping(rate="8mbit", burst=10_000, limit=110_000))["latency"] == 100_000
    assert attributes(Shaping(kind="htb", rate="80mbit", ceil="800mbit")) == {
        "kind": "htb", "rate": 10_000_000, "burst": 100_000, "ceil": 100_000_000, "cburst": 1_000_000,
    }  # fmt: skip


def test_netem_as_written() -> None:
    written = Shaping(delay="50ms", jitter="5ms", loss="1%", reorder=25, rate="10mbit")
    expected = {"delay": 50_000, "jitter": 5000, "loss": 1.0, "reorder": 25.0, "gap": 1, "rate": 1_250_000}
    assert attributes(written) == {"kind": "netem", **UNSTATED, **expected}
    assert attributes(Shaping(kind="netem")) == {"kind": "netem", **UNSTATED}
    burst = Shaping(loss={"gemodel": ["1%"]}), Shaping(loss={"state": [1, "90%"]})
    assert [attributes(one)["loss"] for one in burst] == [
        ("gemodel", 1.0, 99.0, 100.0, 0.0),
        ("state", 1.0, 90.0, 0.0, 100.0, 0.0),
    ]
    assert SHAPING.describe(Fact(REF, attributes(written))) == (
        "netem delay 50ms 5ms loss 1% reorder 25% rate 10000000bit"
    )


@pytest.mark.parametrize("name", ["normal", "pareto", "paretonormal"])
def test_distributions_are_those_of_tc(name: str) -> None:
    """Quantile by quantile, but for the farthest, which tc's own tables have by accident; in either order."""
    paths = [path for lib in ("lib", "lib64", "share") for path in Path("/usr", lib).glob(f"**/tc/{name}.dist")]
    lines = [line for line in paths[0].read_text().splitlines() if not line.startswith("#")]
    theirs = sorted(int(word) for line in lines for word in line.split())
    ours = struct.unpack(f"={len(theirs)}h", netem.table(name))
    assert max(abs(a - b) for a, b in list(zip(ours, theirs, strict=True))[4:-4]) < 1000
    assert sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(theirs) < 8


def test_a_distribution_is_known_by_its_handle() -> None:
    even, normal = (attributes(Shaping(delay="50ms", jitter="5ms", distribution=name)) for name in (None, "normal"))
    (made,) = encoded(CREATE, normal)
    assert parsed(made)["handle"] == 0x7FF10000
    assert netem.table("normal") in made.body
    assert len(netem.table("normal")) == 8192 and not netem.table("uniform")
    assert decoded(made.type, made.body) == [Fact(REF, normal, STATIC)]
    (changed,) = encoded(UPDATE, {**normal, "delay": 7000}, normal)
    assert parsed(changed)["handle"] == 0x7FF10000
    for new, old, handle in ((even, normal, 0), (normal, even, 0x7FF10000)):
        other, change = encoded(UPDATE, new, old)
        assert parsed(other).get_attr("TCA_KIND") == "pfifo"
        assert parsed(change)["handle"] == handle
    assert SHAPING.describe(Fact(REF, normal)) == "netem delay 50ms 5ms distribution normal"


SHARES = st.integers(0, 2**32 - 1).map(lambda number: number * 100 / (2**32 - 1)) | st.sampled_from([1.0, 0.1, 33.3])


@st.composite
def netems(draw: st.DrawFn) -> dict[str, Any]:
    models = st.tuples(st.just("gemodel"), *[SHARES] * 4) | st.tuples(st.just("state"), *[SHARES] * 5)
    attrs: dict[str, Any] = {name: draw(SHARES) for name in (*CORRELATIONS, "duplicate", "corrupt")}
    attrs |= {"loss": draw(SHARES | models), "limit": draw(st.integers(1, 2**32 - 1))}
    attrs |= {"delay": draw(st.integers(0, 10**12)), "jitter": draw(st.integers(0, 2_147_483))}
    if draw(st.booleans()):
        attrs |= {"reorder": draw(SHARES), "gap": draw(st.integers(1, 99))}
    if isinstance(attrs["loss"], tuple):
        attrs["loss_correlation"] = 0.0
    edges = st.integers(2**32 - 2, 2**32 + 2)
    attrs["rate"] = draw(st.just(0) | st.integers(1, 2 * 10**11) | edges)
    return canonical({"kind": "netem", **attrs})


@given(netems())
def test_netem_is_rounded_once_and_read_back(attrs: dict[str, Any]) -> None:
    assert canonical(attrs) == attrs
    (request,) = encoded(CREATE, attrs)
    (live,) = decoded(request.type, with_handle(request.body, 0x80010000))
    assert live == Fact(REF, attrs, STATIC) and SHAPING.compare(Fact(REF, attrs), live) == ()


@given(netems())
def test_bytes_of_netem(attrs: dict[str, Any]) -> None:
    (request,) = encoded(CREATE, attrs)
    options = parsed(request).get_attr("TCA_OPTIONS")
    whole = 2**32 - 1
    share = {name: attrs[name] * whole / 100 for name in (*CORRELATIONS, "duplicate", "reorder", "corrupt")}
    near = partial(pytest.approx, abs=0.51)
    assert (options["limit"], options["gap"]) == (attrs["limit"], attrs["gap"])
    assert options["duplicate"] == near(share["duplicate"])
    assert options["delay"] == min(attrs["delay"] * 1000 // 64, whole)
    assert options["jitter"] == attrs["jitter"] * 1000 // 64
    corr = options.get_attr("TCA_NETEM_CORR")
    for name, field in (("delay", "delay_corr"), ("loss", "loss_corr"), ("duplicate", "dup_corr")):
        assert corr[field] == near(share[f"{name}_correlation"])
    for name, field in (("reorder", "prob_reorder"), ("corrupt", "prob_corrupt")):
        found = options.get_attr(f"TCA_NETEM_{name.upper()}")
        assert found[field] == near(share[name])
        assert found[field.replace("prob", "corr")] == near(share[f"{name}_correlation"])
    assert options.get_attr("TCA_NETEM_RATE")["rate"] == min(attrs["rate"], whole)
    assert options["loss"] == (0 if isinstance(attrs["loss"], tuple) else near(attrs["loss"] * whole / 100))


def test_netem_beyond_topos_words_is_kept_whole() -> None:
    (made,) = encoded(CREATE, canonical({"kind": "netem", "delay": 1000}))
    ecn = made.body.replace(b"\x08\0\x07\0\0\0\0\0", b"\x08\0\x07\0\1\0\0\0")
    (live,) = decoded(RTM_NEWQDISC, with_handle(ecn, 0x80010000))
    assert live.attrs.keys() == {"kind", "_options"}
    wanted = canonical({"kind": "netem", "delay": 1000})
    assert "delay" in SHAPING.compare(Fact(REF, wanted), live)
    assert [parsed(r).get_attr("TCA_KIND") for r in encoded(UPDATE, wanted, dict(live.attrs))] == ["pfifo", "netem"]
    (back,) = encoded(UPDATE, dict(live.attrs), wanted)
    assert back.body == ecn, "and can be put back"


@st.composite
def shapings(draw: st.DrawFn) -> dict[str, Any]:
    edges = st.integers(2**32 - 2, 2**32 + 2)  # where the kernel's field of 32 bits ends
    rate = draw(st.integers(100, 10**6) | st.integers(100, 2 * 10**11) | edges)
    sizes = st.integers(1514, 2**20)
    attrs: dict[str, Any] = {"kind": draw(st.sampled_from(["tbf", "htb"])), "rate": rate, "burst": draw(sizes)}
    assume(attrs["burst"] < rate * 270)
    if attrs["kind"] == "tbf":
        attrs["latency"] = draw(st.integers(0, min(10**7, (2**32 - 2**21) * 10**6 // rate)))
    else:
        attrs["ceil"] = rate + draw(st.integers(0, 10**9))
        attrs["cburst"] = draw(sizes)
        assume(attrs["cburst"] < attrs["ceil"] * 270)
    return canonical(attrs)


@given(shapings())
def test_rounding_is_done_once(attrs: dict[str, Any]) -> None:
    assert canonical(attrs) == attrs


@given(shapings(), st.integers(0, 1000), st.integers(0, 1000))
def test_rounding_is_small(attrs: dict[str, Any], burst: int, latency: int) -> None:
    tick = attrs["rate"] * 64 // 10**9 + 1
    asked = {**attrs, "burst": attrs["burst"] + burst}
    assert 0 <= canonical(asked)["burst"] - asked["burst"] <= tick
    if attrs["kind"] == "tbf":
        asked["latency"] += latency
        assume(
            attrs["rate"] * asked["latency"] // 10**6 + asked["burst"] + tick < 2**32
        )  # all that the kernel can keep
        assert 0 <= canonical(asked)["latency"] - asked["latency"] <= 10**6 // attrs["rate"] + 1


@given(shapings())
def test_bytes(attrs: dict[str, Any]) -> None:
    requests = encoded(CREATE, attrs)
    messages = [parsed(request) for request in requests]
    assert all(m["index"] == 258 and m["parent"] == TC_H_ROOT and m["family"] == 0 for m in messages)
    last = messages[-1].get_attr("TCA_OPTIONS")
    if attrs["kind"] == "tbf":
        assert [(r.type, r.flags) for r in requests] == [(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE)]
        parms = last.get_attr("TCA_TBF_PARMS")
        assert parms["rate"] == min(attrs["rate"], 2**32 - 1) and parms["peak"] == parms["mtu"] == 0
        assert parms["limit"] - attrs["burst"] == pytest.approx(attrs["rate"] * attrs["latency"] / 10**6, abs=1)
        assert parms["buffer"] * 64 / 10**9 == pytest.approx(attrs["burst"] / attrs["rate"], abs=64e-9)
    else:
        assert [r.type for r in requests] == [RTM_NEWQDISC, RTM_NEWQDISC, RTM_NEWTCLASS]
        assert [(m["handle"], m.get_attr("TCA_KIND")) for m in messages[1:]] == [(0x10000, "htb"), (0x10001, "htb")]
        init = messages[1].get_attr("TCA_OPTIONS").get_attr("TCA_HTB_INIT")
        assert (init["version"], init["rate2quantum"], init["defcls"]) == (3, 10, 1)
        parms = last.get_attr("TCA_HTB_PARMS")
        for name, wide in (("rate", "TCA_HTB_RATE64"), ("ceil", "TCA_HTB_CEIL64")):
            assert parms[name] == min(attrs[name], 2**32 - 1)
            assert last.get_attr(wide) == (attrs[name] if attrs[name] >= 2**32 else None)
        assert parms["cbuffer"] * 64 / 10**9 == pytest.approx(attrs["cburst"] / attrs["ceil"], abs=64e-9)
    # TC_LINKLAYER_ETHERNET, so that the kernel asks for no table of rates
    assert parms["rate___reserved"] == 1


def with_handle(body: bytes, handle: int) -> bytes:
    """As the kernel answers: it has given the qdisc a handle."""
    return body[:8] + handle.to_bytes(4, "little") + body[12:]


@given(shapings())
def test_read_back(attrs: dict[str, Any]) -> None:
    *roots, last = encoded(CREATE, attrs)
    body = last.body if attrs["kind"] == "htb" else with_handle(last.body, 0x80010000)
    (live,) = decoded(last.type, body)
    assert live == Fact(REF, attrs, STATIC) and SHAPING.compare(Fact(REF, attrs), live) == ()
    assert [decoded(root.type, root.body) for root in roots[1:]] == [[]] * (len(roots) - 1)  # the class says it all
    assert htb_device(last.body, 0, len(last.body)) == (258 if attrs["kind"] == "htb" else 0)


@given(shapings(), shapings())
def test_update(old: dict[str, Any], new: dict[str, Any]) -> None:
    requests = encoded(UPDATE, new, old)
    made = encoded(CREATE, new)
    assert requests == (made[-1:] if old["kind"] == new["kind"] else made)


def test_delete() -> None:
    (request,) = encoded(DELETE, None, {"kind": "tbf"})
    assert (request.type, parsed(request)["parent"]) == (RTM_DELQDISC, TC_H_ROOT)


def test_qdisc_of_the_kernel_and_of_others() -> None:
    (made,) = encoded(CREATE, {"kind": "pfifo", "_options": b"\x37\0\0\0"})
    assert decoded(RTM_NEWQDISC, made.body) == []  # the default qdisc has no handle
    (live,) = decoded(RTM_NEWQDISC, with_handle(made.body, 0x80010000))
    assert live == Fact(REF, {"kind": "pfifo", "_options": b"\x37\0\0\0"}, STATIC)
    assert encoded(CREATE, live.attrs) == [made]  # and can be put back
    below = made.body[:12] + b"\1\0\1\0" + made.body[16:]
    assert decoded(RTM_NEWQDISC, with_handle(below, 0x80010000)) == []


def test_htb_of_others() -> None:
    _, root, class_ = encoded(CREATE, attributes(Shaping(kind="htb", rate="1mbit")))
    (other,) = decoded(RTM_NEWQDISC, with_handle(root.body, 0x90000))
    assert other.ref.key == ("eth0", "htb") and other.attrs["kind"] == "htb"
    (mine,) = decoded(RTM_NEWTCLASS, class_.body)
    assert mine.ref == REF
    live = Live({other.ref: other, mine.ref: mine})
    assert tuple(SHAPING.takes(Change(DELETE, other.ref, None, other), live)) == (REF,)
    assert tuple(SHAPING.takes(Change(DELETE, mine.ref, None, mine), live)) == ()
    assert SHAPING.claims(other) == SHAPING.claims(mine)


def test_tbf_with_a_peak_rate_differs() -> None:
    attrs = attributes(Shaping(rate="1mbit"))
    (made,) = encoded(CREATE, attrs)
    at = made.body.rindex((125_000).to_bytes(4, "little")) + 4 + 8
    peak = made.body[:at] + (250_000).to_bytes(4, "little") + made.body[at + 4 :]
    assert parsed(made._replace(body=peak)).get_attr("TCA_OPTIONS").get_attr("TCA_TBF_PARMS")["peak"] == 250_000
    (live,) = decoded(RTM_NEWQDISC, with_handle(peak, 0x80010000))
    assert "rate" in SHAPING.compare(Fact(REF, attrs), live)


@given(st.binary(max_size=160), st.sampled_from([RTM_NEWQDISC, RTM_NEWTCLASS]))
def test_garbage_does_not_raise(body: bytes, number: int) -> None:
    for live in decoded(number, body):
        assert live.ref.kind == "shaping"
    assert htb_device(body, 0, len(body)) == 0


def _any_of(model: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the words of a qdisc with other values than these, its unstated ones."""
    times, words = ("target", "interval", "rtt"), {"diffserv": DIFFSERVS, "flowmode": FLOW_MODES, "atm": ATMS}
    values: dict[str, st.SearchStrategy[Any]] = {}
    for name, unstated in model.items():
        if isinstance(unstated, bool):
            values[name] = st.booleans()
        elif isinstance(unstated, str):
            values[name] = st.sampled_from(words.get(name, ACK_FILTERS))
        elif name == "overhead":
            values[name] = st.none() | st.integers(-64, 256)
        else:
            values[name] = st.integers(20 if name in times else 256, (1 << 32) // 2000)
    return st.fixed_dictionaries({}, optional=values)


queues = _any_of(fq_codel.UNSTATED).map(lambda attrs: canonical({"kind": "fq_codel", **attrs})) | _any_of(
    cake.UNSTATED
).map(lambda attrs: canonical({"kind": "cake", **attrs}))


@given(queues)
def test_queues_are_read_back_as_they_are_sent(attrs: dict[str, Any]) -> None:
    """But for times of fq_codel, which the kernel rounds down to units of 1024 ns, as this does."""
    (request,) = encoded(CREATE, attrs)
    (live,) = decoded(request.type, with_handle(request.body, 0x10000))
    found = dict(live.attrs)
    if attrs["kind"] == "fq_codel":
        found |= {name: ((found[name] * 1000 >> 10) << 10) // 1000 for name in ("target", "interval")}
    assert found == attrs
    assert canonical(attrs) == attrs


def test_another_number_of_flows_is_another_qdisc() -> None:
    one, other = (canonical({"kind": "fq_codel", "flows": flows}) for flows in (64, 128))
    assert [parsed(r).get_attr("TCA_KIND") for r in encoded(UPDATE, other, one)] == ["pfifo", "fq_codel"]
    assert [parsed(r).get_attr("TCA_KIND") for r in encoded(UPDATE, {**one, "limit": 5}, one)] == ["fq_codel"]


@given(shapings() | netems() | queues, st.data())
def test_damage_does_not_raise(attrs: dict[str, Any], data: st.DataObject) -> None:
    request = encoded(CREATE, attrs)[-1]
    body = bytearray(with_handle(request.body, 0x10001))
    for place in data.draw(st.lists(st.integers(20, len(body) - 1), max_size=4)):
        body[place] = data.draw(st.integers(0, 255))
    decoded(request.type, bytes(body))

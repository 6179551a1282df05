"""The VLANs of bridges: what lowering makes of a file, and the bytes against pyroute2's message class."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

import topo
from topo.changes import CREATE, DELETE, Op, Rtnl
from topo.errors import InputError
from topo.facts import STATIC, Fact, Ref
from topo.kinds.bridge_vlan import BRIDGE_VLAN, UNSTATED, numbers, ranges
from topo.wire import AF_BRIDGE, NLMSGHDR, RTM_DELLINK, RTM_NEWLINK, RTM_SETLINK

PORT, SELF = (Ref("bridge_vlan", "sw", key) for key in (("p0",), ("br0", "self")))


class Names:
    """br0 is 7, p0 is 8."""

    ns, mark = "sw", 0

    def index(self, ns: str, ifname: str) -> int:
        return {"br0": 7, "p0": 8}[ifname]

    def ifname(self, index: int) -> str | None:
        return {7: "br0", 8: "p0"}.get(index)


NAMES: Any = Names()


@st.composite
def vlans(draw: st.DrawFn) -> dict[str, Any]:
    of = draw(st.dictionaries(st.integers(1, 4094) | st.integers(1, 9), st.booleans(), max_size=12))
    pvid = draw(st.sampled_from([0, *of]))
    untagged = {vid for vid, plain in of.items() if plain}
    return {"pvid": pvid, "untagged": ranges(untagged), "tagged": ranges(of.keys() - untagged)}


def encoded(verb: str, ref: Ref, attrs: dict[str, Any] | None) -> list[Rtnl]:
    found = BRIDGE_VLAN.encode(Op(verb, ref, Fact(ref, attrs) if attrs is not None else None, None), NAMES)
    return [request for request in found if isinstance(request, Rtnl)]


def parsed(request: Rtnl) -> tuple[int, list[tuple[int, int]], Any]:
    """The side that is meant, and the entries as pyroute2 reads them: flags and VLAN."""
    message = ifinfmsg(NLMSGHDR.pack(16 + len(request.body), request.type, 0, 0, 0) + request.body)
    message.decode()
    spec = message.get_attr("IFLA_AF_SPEC")
    infos = [value for name, value in spec["attrs"] if name == "IFLA_BRIDGE_VLAN_INFO"]
    return spec.get_attr("IFLA_BRIDGE_VLAN_FLAGS"), [(info["flags"], info["vid"]) for info in infos], message


def spread(infos: list[tuple[int, int]]) -> dict[int, int]:
    """The flags of each VLAN, ranges spread out as the kernel does (br_process_vlan_info)."""
    found: dict[int, int] = {}
    first = 0
    for flags, vid in infos:
        if flags & 8:
            assert not flags & 2, "a range is no pvid (EINVAL)"
            first = vid
        elif flags & 16:
            assert vid > first, "EINVAL"
            found |= dict.fromkeys(range(first, vid + 1), flags & ~24)
        else:
            found[vid] = flags
    return found


@given(st.sets(st.integers(1, 4094)))
def test_ranges(vids: set[int]) -> None:
    assert numbers(ranges(vids)) == vids


def test_ranges_are_short() -> None:
    assert ranges([3, 1, 2, 9, 4094]) == "1-3,9,4094" and ranges([]) == ""


@given(vlans(), st.sampled_from([PORT, SELF]))
def test_bytes(attrs: dict[str, Any], ref: Ref) -> None:
    """All that is wanted is set, all else is taken away."""
    requests = encoded(CREATE, ref, attrs)
    wanted = numbers(attrs["untagged"]) | numbers(attrs["tagged"])
    assert [r.type for r in requests] == ([RTM_SETLINK] if wanted else []) + [RTM_DELLINK]
    for request in requests:
        side, infos, message = parsed(request)
        assert (message["family"], message["index"], side) == ((AF_BRIDGE, 8, 1) if ref == PORT else (AF_BRIDGE, 7, 2))
        if request.type == RTM_DELLINK:
            assert spread(infos).keys() == set(range(1, 4095)) - wanted
            continue
        flags = spread(infos)
        assert flags.keys() == wanted
        assert {vid for vid, of in flags.items() if of & 4} == numbers(attrs["untagged"])
        assert [vid for vid, of in flags.items() if of & 2] == [attrs["pvid"]] * bool(attrs["pvid"])
        if attrs["pvid"]:
            assert infos[-1][1] == attrs["pvid"], "it comes last"


@given(vlans(), st.sampled_from([PORT, SELF]))
def test_read_back(attrs: dict[str, Any], ref: Ref) -> None:
    """As the kernel tells it: the same entries, with the bridge as the master, of itself too."""
    message = ifinfmsg()
    message["family"], message["index"] = AF_BRIDGE, NAMES.index("sw", ref.key[0])
    spec = [["IFLA_BRIDGE_VLAN_INFO", {"flags": f, "vid": v}] for r in encoded(CREATE, ref, attrs)
            if r.type == RTM_SETLINK for f, v in parsed(r)[1]]  # fmt: skip
    message["attrs"] = [["IFLA_MASTER", 7], ["IFLA_AF_SPEC", {"attrs": spec}]]
    message["header"]["type"] = RTM_NEWLINK
    message.encode()
    data = bytes(message.data)
    live = list(BRIDGE_VLAN.decode(RTM_NEWLINK, data, 16, len(data), NAMES))
    assert live == ([] if attrs == UNSTATED else [Fact(ref, attrs, STATIC)])


def test_deleting_puts_the_default_back() -> None:
    there, gone = encoded(DELETE, PORT, None)
    assert parsed(there)[1] == [(6, 1)]
    assert parsed(gone)[1] == [(8, 2), (16, 4094)]


@given(st.binary(max_size=120))
def test_garbage_does_not_raise(data: bytes) -> None:
    for fact in BRIDGE_VLAN.decode(RTM_NEWLINK, data, 0, len(data), NAMES):
        assert fact.ref.kind == "bridge_vlan"


def lowered(text: str) -> dict[tuple[str, ...], dict[str, Any]]:
    desired = topo.lower(topo.loads(text))
    return {ref.key: dict(fact.attrs) for ref, fact in desired.facts.items() if ref.kind == "bridge_vlan"}


def test_every_port_of_an_aware_bridge_is_stated() -> None:
    found = lowered("""
topology: lab
namespaces: {a: {}, b: {}, c: {}}
bridges:
  br0: {vlan_filtering: true, vlan_default_pvid: 5, vlan: {pvid: 9, tagged: 10-12}, ports: [{interface: d0, vlan: {tagged: 7}}]}
  plain: {}
interfaces: {d0: {kind: dummy}}
links:
  - [a:x, br0]
  - [b:x, {bridge: br0, name: trunk, vlan: {tagged: [20, 30-32], untagged: 40}}]
  - [c:x, {bridge: br0, name: odd, vlan: {pvid: 20, tagged: [20]}}]
  - [c:y, plain]
""")
    (derived,) = (key for key in found if key[0].startswith("v"))
    assert found == {
        ("br0", "self"): {"pvid": 9, "untagged": "9", "tagged": "10-12"},
        ("d0",): {"pvid": 0, "untagged": "", "tagged": "7"},
        ("trunk",): {"pvid": 0, "untagged": "40", "tagged": "20,30-32"},
        ("odd",): {"pvid": 20, "untagged": "", "tagged": "20"},
        derived: {"pvid": 5, "untagged": "5", "tagged": ""},
    }


def test_nothing_is_stated_of_other_bridges_and_of_what_is_so_anyway() -> None:
    aware = "topology: lab\nbridges: {br0: {vlan_filtering: true}}\nlinks: [[a, {bridge: br0, vlan: {pvid: 1}}], [b, br0]]\n"
    assert lowered(aware) == {}
    assert lowered("topology: lab\nbridges: {br0: {vlan_filtering: false}}\nlinks: [[a, br0]]\n") == {}


def test_a_bridge_that_heeds_none() -> None:
    with pytest.raises(InputError) as error:
        lowered("topology: lab\nbridges: {br0: {}}\nlinks: [[a, {bridge: br0, vlan: {pvid: 3}}]]\n")
    (found,) = error.value.diagnostics
    assert (found.path, found.message) == ("links[0].ends[1].vlan", "bridge br0 does not heed VLANs")
    assert found.hint == "state `vlan_filtering: true` there"

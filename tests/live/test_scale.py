"""A thousand namespaces. The bounds are generous: they tell a mistake of kind, not of degree; that is the bench's."""

from __future__ import annotations

import time

import pytest
from sandbox.host import SAMPLES, Host

STAR = SAMPLES / "star-1000.yaml"


def _seconds(host: Host, *arguments: object) -> float:
    start = time.monotonic()
    host.ok(*map(str, arguments))
    return time.monotonic() - start


@pytest.mark.crowd
def test_a_thousand_namespaces(host: Host) -> None:
    before = host.settled()
    took = {"apply": _seconds(host, "apply", STAR)}
    assert len(host.namespaces()) == 1000
    index = host.ifindex("h500", "eth0")
    took["again"] = _seconds(host, "apply", STAR)
    took["diff"] = _seconds(host, "diff", STAR)
    host.run("ip route del default", "h500")
    host.run("ip netns del h777")
    assert host.topo("diff", STAR).code == 1
    took["repair"] = _seconds(host, "apply", STAR)
    assert host.routes("h500", "default")[0]["gateway"] == "10.100.0.1"
    assert host.ping("h777", "10.100.0.1")
    assert host.ifindex("h500", "eth0") == index
    took["destroy"] = _seconds(host, "destroy", STAR)
    host.same(before)
    assert took["apply"] < 15, took
    assert took["again"] < 6, took
    assert took["diff"] < 6, took
    assert took["repair"] < 15, took
    assert took["destroy"] < 15, took


def test_answers_at_once(host: Host) -> None:
    """Of commands that look at no kernel; the imports are lazy."""
    assert _seconds(host, "--help") < 2
    assert _seconds(host, "validate", SAMPLES / "two-hosts.yaml") < 3

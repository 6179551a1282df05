"""The host around a lab, as iproute2, nft and the file system tell of it: before, after, and what is not the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from sandbox.enter import processes
from sandbox.host import NETNS, Host
from sandbox.leaks import RECORD, _listing, _mounts
from sandbox.snapshot import changed, shape, snapshot, sysctls

from faults.labs import FOREIGN, Lab

SHOWN: Final = 12
PATIENCE: Final = 3.0  # seconds in which all that ends by itself has to end
Seen = dict[str, dict[str, Any]]


class World:
    """One lab's host. `before`: all of it before topo came."""

    def __init__(self, host: Host, lab: Lab) -> None:
        self.host, self.lab = host, lab.prepare(host)
        self.first = host.file(self.lab.first, "first.yaml")
        self.second = host.file(self.lab.second, "second.yaml")
        self.name = self.lab.topology
        host.settle()
        host.settled()
        self.before = self.whole()

    def whole(self) -> Seen:
        """Everything: links and all that is on them, everywhere; names, records, mounts, processes, sysctls."""
        files: dict[str, Any] = {
            "namespaces": _listing(NETNS),
            "records": _listing(RECORD),
            "mounts": _mounts(),
            "processes": sorted(processes().values()),
            "sysctls": [f"{path} {value}" for path, value in sorted(sysctls("host").items())],
        }
        names = [ns for ns in sorted(self.host.namespaces()) if (NETNS / ns).stat().st_dev != NETNS.stat().st_dev]
        return {**{ns: snapshot(ns) for ns in ("host", *names)}, "files": files}

    def as_before(self) -> list[str]:
        """What is not as it was before topo came, once all that ends by itself has had 3 seconds to."""
        return self.differs(self.before)

    def differs(self, wanted: Seen, form: Callable[[Seen], Seen] = dict) -> list[str]:
        """What is not, and does not come to be within 3 seconds, as `wanted`; compared in `form`."""
        deadline = time.monotonic() + PATIENCE
        while form(now := self.whole()) != form(wanted) and time.monotonic() < deadline:
            time.sleep(0.02)
        found = changed(form(wanted), form(now))
        return sorted(found, key=lambda line: "sysctls: " in line)[:SHOWN]

    def settled(self) -> Seen:
        """As `whole`, once the kernel is done with what it does by itself."""
        self.host.settle()
        return self.whole()

    def clear(self) -> None:
        """Take away what was there before: the next test begins with an empty host."""
        for line in (self.lab.given + FOREIGN).splitlines():
            words = line.split()
            if words[:3] == ["ip", "link", "add"]:
                self.host.fails(f"ip link del {words[3]}")
            elif words[:2] == ["sysctl", "-qw"]:
                self.host.run(line.replace("=1", "=0"))
            elif "netns add" in line or "rule add" in line or "add table" in line:
                self.host.run(line.replace(" add ", " delete "))


def like(seen: Seen) -> Seen:
    """But for what is another each time: random MAC addresses, and when the record was written."""
    links = {ns: sections for ns, sections in seen.items() if ns != "files"}
    return {**shape(links), "files": {k: v for k, v in seen["files"].items() if k != "processes"}}

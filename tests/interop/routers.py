"""Routing daemons in topo's namespaces: FRR's and BIRD, each with its files in a directory of its own.

    frr = Frr(host, "r2", directory)
    frr.start("bgpd", "router bgp 65002 ...")     # zebra with it
    frr.sessions()                                # neighbour -> how often it came up, and went down
    bird = Bird(host, "r3", directory, "router id ...")
    bird.since()                                  # protocol -> its state, and since when

They are started without their own scripts, in the foreground, and end with the test (man zebra, man bird).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from sandbox.host import Host
from sandbox.snapshot import output

from interop.needs import program

FRR = "/usr/lib/frr"


class Frr:
    """zebra and what hangs on it, in one namespace."""

    def __init__(self, host: Host, ns: str, directory: Path) -> None:
        self.host, self.ns, self.directory = host, ns, directory / ns
        self.directory.mkdir()
        shutil.chown(self.directory, "frr", "frr")  # its daemons let go of root
        self.vtysh = program("vtysh", "frr")
        self.start("zebra", f"hostname {ns}")

    def start(self, daemon: str, configuration: str) -> None:
        file = self.directory / f"{daemon}.conf"
        file.write_text(configuration + "\n")
        place = [f"{option}{self.directory}/{name}" for option, name in (("-z", "zserv"), ("-i", f"{daemon}.pid"))]
        words = [*place, "--vty_socket", str(self.directory), "-f", str(file), "-u", "frr", "-g", "frr", "-P", "0"]
        self.host.start(f"{FRR}/{daemon}", *words, ns=self.ns)

    def show(self, command: str) -> Any:
        """What `show COMMAND json` says."""
        words = [self.vtysh, "--vty_socket", str(self.directory), "-c", f"show {command} json"]
        return json.loads(output(self.ns, *words))

    def sessions(self) -> dict[str, tuple[str, int, int]]:
        """Of each neighbour: its state, how often it was established, and how often that was lost."""
        found = self.show("bgp neighbors")
        return {
            neighbour: (said["bgpState"], said["connectionsEstablished"], said["connectionsDropped"])
            for neighbour, said in found.items()
            if isinstance(said, dict)
        }


class Bird:
    """BIRD in one namespace."""

    def __init__(self, host: Host, ns: str, directory: Path, configuration: str) -> None:
        self.host, self.ns, self.directory = host, ns, directory / ns
        self.directory.mkdir()
        file, self.control = self.directory / "bird.conf", self.directory / "bird.ctl"
        file.write_text(configuration)
        self.birdc = program("birdc", "bird2")
        host.start(program("bird", "bird2"), "-f", "-c", str(file), "-s", str(self.control), ns=ns)

    def since(self) -> dict[str, tuple[str, str]]:
        """Of each protocol with a session: what it says of it, and since when."""
        lines = self.host.run(f"{self.birdc} -s {self.control} show protocols", self.ns).splitlines()
        words = [line.split() for line in lines]
        return {w[0]: (w[-1], w[4]) for w in words if len(w) > 5 and w[1] in ("BGP", "OSPF")}

"""CNI's plugins, called as a container runtime calls them: the network on stdin, what to do in the environment.

    cni = Cni(host)
    c1 = cni.add("c1", bridge_network("lab", "lab0", ...), ports={8080: 80})  # makes the namespace c1
    c1.address                             # what CNI gave it
    c1.check()                             # "" where all is as CNI left it, else CNI's words
    c1.delete()                            # DEL, and the namespace

The plugins run in the sandbox's outermost network namespace, where topo runs too (github.com/containernetworking/cni,
SPEC.md, version 1.0.0).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sandbox.host import Host

PLUGINS = Path("/usr/lib/cni")
VERSION = "1.0.0"
Json = dict[str, Any]


def bridge_network(name: str, bridge: str, *ranges: tuple[str, str, str]) -> Json:
    """A network of the plugin `bridge`; each range is a subnet, where it begins in it, and the gateway."""
    routes = ["::/0" if ":" in subnet else "0.0.0.0/0" for subnet, _, _ in ranges]
    return {
        "cniVersion": VERSION,
        "name": name,
        "type": "bridge",
        "bridge": bridge,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": net, "rangeStart": start, "gateway": gateway}] for net, start, gateway in ranges],
            "routes": [{"dst": dst} for dst in routes],
        },
    }


class Container:
    """A namespace with an interface of CNI's; `result` is what the chain of plugins said last."""

    def __init__(self, cni: Cni, name: str, network: Json, ports: dict[int, int]) -> None:
        self.cni, self.name, self.network = cni, name, network
        self.chain = [network]
        if ports:
            mappings = [{"hostPort": port, "containerPort": to, "protocol": "tcp"} for port, to in ports.items()]
            plain = {"cniVersion": VERSION, "name": network["name"], "type": "portmap"}
            capabilities = {"capabilities": {"portMappings": True}, "runtimeConfig": {"portMappings": mappings}}
            self.chain.append({**plain, **capabilities})
        self.result: Json | None = None
        for plugin in self.chain:
            self.result = json.loads(self._call("ADD", plugin))

    @property
    def address(self) -> str:
        """Its first address."""
        assert self.result
        return str(self.result["ips"][0]["address"]).partition("/")[0]

    @property
    def port(self) -> str:
        """The interface at the bridge that CNI made for it."""
        assert self.result
        return next(str(i["name"]) for i in self.result["interfaces"] if i["name"].startswith("veth"))

    def check(self) -> str:
        """CHECK of the plugin `bridge`: empty where all is as it was added, else what is wrong.

        Not of `portmap`: that of version 1.1 asks for IPv6 rules that its own ADD does not make for an IPv4 container.
        """
        done = self._run("CHECK", self.network)
        return done.stdout if done.returncode else ""

    def delete(self) -> None:
        for plugin in reversed(self.chain):
            self._call("DEL", plugin)
        self.cni.host.run(f"ip netns del {self.name}")

    def _call(self, verb: str, plugin: Json) -> str:
        done = self._run(verb, plugin)
        assert done.returncode == 0, f"CNI {verb} {plugin['type']}: {done.stdout}{done.stderr}"
        return done.stdout

    def _run(self, verb: str, plugin: Json) -> subprocess.CompletedProcess[str]:
        network = {**plugin, **({"prevResult": self.result} if self.result else {})}
        about = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": self.name,
            "CNI_NETNS": f"/run/netns/{self.name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(PLUGINS),
        }
        return subprocess.run(
            [str(PLUGINS / plugin["type"])],
            input=json.dumps(network),
            env=os.environ | about,
            capture_output=True,
            text=True,
            check=False,
        )


class Cni:
    """The plugins, with a store of addresses that ends with the test."""

    def __init__(self, host: Host) -> None:
        for plugin in ("bridge", "portmap", "host-local"):
            if not (PLUGINS / plugin).exists():
                pytest.fail(f"{PLUGINS / plugin} is not here: apt-get install containernetworking-plugins", False)
        self.host = host

    def add(self, name: str, network: Json, ports: dict[int, int] | None = None) -> Container:
        """Make the namespace `name` and ADD it to the network, with these ports published (host -> container)."""
        ipam = {**network["ipam"], "dataDir": str(self.host.directory / "cni")}
        self.host.run(f"ip netns add {name}")
        self.host.run("ip link set lo up", name)
        return Container(self, name, {**network, "ipam": ipam}, ports or {})

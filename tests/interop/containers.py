"""Containers, and the command line that Docker and Podman have in common."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from interop import image
from interop.needs import PLACES


class Container:
    """A container by its name."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name

    @property
    def pid(self) -> int:
        """Its first process as the sandbox sees it; 0 where it is not running."""
        pid: int = self.engine.inspect(self.name)["State"]["Pid"]
        return pid

    @property
    def ns(self) -> str:
        """Its network namespace as a path, which is a `ns` for everything in sandbox.host.Host."""
        return f"/proc/{self.pid}/ns/net"

    def ip(self, network: str | None = None) -> str:
        """Its IPv4 address in a network of the engine's, by default its own."""
        return self._in(network, "IPAddress")

    def ip6(self, network: str | None = None) -> str:
        return self._in(network, "GlobalIPv6Address")

    def mac(self, network: str | None = None) -> str:
        return self._in(network, "MacAddress")

    def _in(self, network: str | None, key: str) -> str:
        return str(self.engine.inspect(self.name)["NetworkSettings"]["Networks"][network or self.engine.network][key])

    def exec(self, *command: str, detach: bool = False) -> str:
        """Run a program of busybox's in it; its output."""
        return self.engine("exec", *(["-d"] if detach else []), self.name, *command)

    def stop(self) -> None:
        self.engine("stop", "-t", "0", self.name)

    def start(self) -> None:
        self.engine("start", self.name)

    def restart(self) -> None:
        self.engine("restart", "-t", "0", self.name)

    def rm(self) -> None:
        self.engine("rm", *self.engine.force, self.name)


class Engine:
    """An engine's command line, `client`; `network` is the one that containers are in unless told otherwise."""

    force: ClassVar[tuple[str, ...]] = ("-f",)  # what `rm` is told so that it does not wait

    def __init__(self, client: str, network: str) -> None:
        self.name = Path(client).name
        self.network = network
        self.cgroup = f"topo-{secrets.token_hex(4)}"  # of all containers
        self.client = client
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "CONTAINER"))}
        self.env["PATH"] = f"{PLACES}:{os.environ.get('PATH', '')}"

    def __call__(self, *words: str) -> str:
        """The command line with WORDS, which must succeed; its output."""
        done = self.attempt(*words)
        assert done.returncode == 0, f"{self.client} {' '.join(words)}: {done.stderr}"
        return done.stdout

    def fails(self, *words: str) -> str:
        """The command line with WORDS, which must fail; its error."""
        done = self.attempt(*words)
        assert done.returncode != 0, f"{self.client} {' '.join(words)} succeeded"
        return done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words))

    def run(self, name: str, *options: str, command: tuple[str, ...] = ()) -> Container:
        """`docker run` in the background. The image's own command serves `name` on port 80."""
        shares = any(word.removeprefix("--network=").startswith("container:") for word in options)
        names = ["--name", name, *([] if shares else ["--hostname", name])]
        self("run", "-d", *self.run_options(), *names, *options, image.NAME, *command)
        return Container(self, name)

    def run_options(self) -> tuple[str, ...]:
        """What this engine needs for every `run`."""
        return ()

    def inspect(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = self.json("container", "inspect", container)[0]
        return found

    def import_image(self) -> None:
        changes = [word for change in image.CHANGES for word in ("--change", change)]
        command = [*self.words(), "import", *changes, "-", image.NAME]
        done = subprocess.run(command, input=image.tar(), capture_output=True, env=self.env, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def clean(self) -> None:
        """Remove all containers, and every network but the engine's own."""
        containers = self("ps", "-aq").split()
        for container in reversed(containers):  # Podman wants those gone first that share another's namespace
            self("rm", *self.force, "-v", container)
        if networks := set(self("network", "ls", "--format", "{{.Name}}").split()) - {self.network, "host", "none"}:
            self("network", "rm", *networks)

    def words(self) -> list[str]:
        """The command line with what it always needs."""
        return [self.client]

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line with WORDS, however it ends."""
        return subprocess.run([*self.words(), *words], capture_output=True, text=True, env=self.env, check=False)

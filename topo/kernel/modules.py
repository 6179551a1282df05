"""What the kernel would load as a module if it were asked for it (modprobe(8)): known without asking, so that nothing is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple, Self

DIRECTORY: Final = "/lib/modules"
LOADED: Final = "/proc/modules"


class Modules(NamedTuple):
    """The modules of the running kernel. `loads`: whether it can load any; `listed`: whether those are known here, which
    in a container they often are not."""

    loads: bool
    listed: bool
    aliases: dict[str, str]  # and each module by its own name
    loaded: frozenset[str]

    @classmethod
    def read(cls, directory: str = DIRECTORY, loaded: str = LOADED) -> Self:
        """Raises nothing: what cannot be read is not known."""
        lines = _lines(Path(loaded))
        where = Path(directory) / os.uname().release
        aliases = {}
        for line in _lines(where / "modules.alias") or ():
            words = line.split()
            if words[:1] == ["alias"] and len(words) == 3:
                aliases[words[1]] = _plain(words[2])
        files = _lines(where / "modules.dep")
        for line in files or ():
            name = _plain(line.partition(":")[0].rpartition("/")[2].partition(".ko")[0])
            aliases[name] = name
        here = frozenset(_plain(line.split()[0]) for line in lines or () if line.split())
        return cls(lines is not None, files is not None, aliases, here)

    def unloaded(self, names: tuple[str, ...]) -> str | None:
        """The module that would be loaded for one of `names`, "" where none would; None where that cannot be told."""
        found = [module for name in names if (module := self.aliases.get(name))]
        if not names or not self.loads or self.loaded.intersection(found or map(_likely, names)):
            return ""
        return found[0] if found else "" if self.listed else None


def _likely(alias: str) -> str:
    """The name of the module with an alias such as rtnl-link-dummy, where it is named after what it brings."""
    return _plain(alias.removeprefix("rtnl-link-"))


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _lines(path: Path) -> list[str] | None:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return None

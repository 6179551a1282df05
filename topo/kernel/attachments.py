"""Namespaces that others made: what the names of a run lead to, and what they led to before.

Each is opened once, when the run begins, and held until it has ended. So it stays the same one all along, whatever
becomes of its pid or container; and a name that was taken away can be given back though nothing else holds what it led to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from topo.errors import InputError
from topo.facts import Desired, former, lasting, namespace, parts
from topo.kernel import netns
from topo.kernel.sources import open_source

Source = dict[str, Any]
_NOTHING: Final[dict[str, int]] = {}
_ALIAS: Final[Source] = {"share": ""}


class Attachments:
    """`at`: the number of the namespace by its name: the file's, or `former` of it for one that the name led to before
    and in which topo still has things. `wrong`: why a namespace that the file names could not be opened."""

    def __init__(self) -> None:
        self.at: dict[str, int] = {}
        self.wrong: dict[str, InputError] = {}
        self.fds: dict[int, int] = {}
        self._ours: set[int] = set()
        self._recorded: dict[str, dict[str, int]] = {}  # by the lasting name
        self._sources: dict[tuple[str, int], Source] = {}  # what led to it, of what the last applies stated

    def begin(
        self, desired: Desired, earlier: Sequence[Desired], recorded: Mapping[str, int], home: int
    ) -> dict[str, str]:
        """Open all of a run. `earlier`: what the last applies stated, `recorded`: the namespaces that they were in.

        Returns what the recorded ones go by now, where that is not, or not only, what they went by: empty for
        one that is gone.
        """
        self.close()
        wanted = _sources_of(desired)
        before: dict[str, list[Source]] = {}
        for stated in earlier:
            for name, source in (wanted if stated is desired else _sources_of(stated)).items():
                before.setdefault(name, []).append(source)
        for name, inode in recorded.items():
            self._recorded.setdefault(lasting(name), {})[name] = inode
        for name, source in wanted.items():
            if "share" not in source:
                try:
                    self.at[name] = self._keep(open_source(source, home))
                except InputError as error:
                    self.wrong[name] = error
        attached = dict.fromkeys((*wanted, *before))
        names = [  # second names aside: those have nothing of their own but the name
            name
            for name in attached
            if any("share" not in source for source in (*before.get(name, ()), wanted.get(name, _ALIAS)))
        ]
        others = {inode for name, of in self._recorded.items() if name not in attached for inode in of.values()}
        others.add(netns.inode(home))
        for name in names:
            slot = former(name) if namespace(name) in desired.facts else name
            for inode in self._places(name, before.get(name, ()), wanted.get(name), home):
                if inode not in others and inode not in self.at.values():
                    while slot in self.at:
                        slot = former(slot)
                    self.at[slot] = inode
        self._ours = {*self.at.values(), *recorded.values()}
        return self._homes(names)

    def _places(self, name: str, before: Iterable[Source], wanted: Source | None, home: int) -> Iterable[int]:
        """The namespaces in which topo's things under this name are, as far as they can be found."""
        label = self.label(name)
        found = {label} if label else set()
        own = [source for source in before if "share" not in source]
        for source in own:
            inode = self.at.get(name, 0) if source == wanted else self._found(source, home)
            if inode:
                self._sources[name, inode] = source
                found.add(inode)
        if of := self._recorded.get(name):
            return [inode for inode in of.values() if inode in found]
        return [label] if label else found

    def _found(self, source: Source, home: int) -> int:
        try:
            return self._keep(open_source(source, home))
        except InputError:
            return 0

    def _homes(self, names: Iterable[str]) -> dict[str, str]:
        by_inode = {inode: name for name, inode in self.at.items()}
        homes: dict[str, str] = {}
        for name in names:
            of = self._recorded.get(name, _NOTHING)
            now = {was: by_inode.get(inode, "") for was, inode in of.items()}
            if now != {name: name}:
                homes.update(now)
        return homes

    def label(self, name: str) -> int:
        """The number of the namespace that has this name in /run/netns, which is held from now on; 0 for none."""
        fd = netns.open_path(netns.path(name))
        return 0 if fd is None else self._keep(fd)

    def strange(self, name: str, label: int) -> bool:
        """Whether someone has led the name elsewhere since topo gave it: to `label`."""
        return name in self._recorded and label not in self._ours

    def source(self, name: str, inode: int) -> Source:
        """What leads to the namespace, of what the last applies stated; else its number."""
        return self._sources.get((name, inode)) or {"inode": inode}

    def formers(self) -> Iterator[str]:
        return (name for name in self.at if name != lasting(name))

    def _keep(self, fd: int) -> int:
        inode = netns.inode(fd)
        if self.fds.setdefault(inode, fd) != fd:
            os.close(fd)
        return inode

    def close(self) -> None:
        for fd in self.fds.values():
            os.close(fd)
        for known in (self.at, self.wrong, self.fds, self._recorded, self._sources):
            known.clear()


def _sources_of(stated: Desired) -> dict[str, Source]:
    """The `from` of each namespace that is attached."""
    return {
        ref.ns: source
        for ref, fact in parts(stated.facts).few.items()
        if ref.kind == "namespace" and (source := fact.attrs.get("from"))
    }

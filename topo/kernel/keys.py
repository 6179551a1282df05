"""Keys from where the file says that they are: a file, or a command. Facts get what can be told of them (topo.kinds.secret)."""

from __future__ import annotations

import os
import stat
import subprocess
from typing import Any, Final

from topo.errors import Diagnostic, InputError
from topo.facts import Desired, Fact, Facts, Ref
from topo.kinds.registry import KINDS
from topo.kinds.secret import Secret, Source

_MOST_BYTES: Final = 4096
_SECONDS: Final = 30


class _NoKeyError(Exception):
    """The key is not to be had; why, without a word of the key."""


class Keys:
    """The keys of one run: `known` by what is told of them; each source is asked once."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self.warnings: list[str] = []
        self._texts: dict[Source, str] = {}

    def told(self, desired: Desired) -> Desired:
        """`desired`, with what is told of keys in place of where they are to be had. Raises InputError with the place of
        each that is not."""
        if not desired.secret:
            return desired
        facts, wrong = dict(desired.facts), []
        self.warnings, self._texts = [], {}
        for ref, fact in desired.facts.items():
            if ref not in desired.secret:
                continue
            try:
                facts[ref] = self._told(fact)
            except _NoKeyError as error:
                wrong.append(Diagnostic(str(error), path=desired.paths.get(ref, "")))
        wrong += _own_peers(facts, desired)
        if wrong:
            raise InputError(wrong)
        return desired._replace(facts=facts, secret=frozenset())

    def _told(self, fact: Fact) -> Fact:
        attrs: dict[str, Any] = {}
        for name, value in fact.attrs.items():
            secret = KINDS[fact.ref.kind].secrets.get(name)
            if secret is None or not isinstance(value, Source):
                attrs[name] = value
                continue
            key = self._key(value, secret)
            attrs[secret.public] = told = secret.tell(key)
            self.known[told] = key
        return fact._replace(attrs=attrs)

    def _key(self, source: Source, secret: Secret) -> bytes:
        if source not in self._texts:
            self._texts[source] = self._read(str(source.what)) if source.how == "file" else _run(source)
        try:
            return secret.parse(self._texts[source])
        except ValueError as error:
            of = "in" if source.how == "file" else "of"
            raise _NoKeyError(f"there is no such key {of} {source}: {error}") from None

    def _read(self, path: str) -> str:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            raise _NoKeyError(f"cannot read the key in {path}: {error.strerror}") from None
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                raise _NoKeyError(f"{path} is no regular file: a key is read from one only")
            data = file.read(_MOST_BYTES)
        if mode & stat.S_IRWXO:
            self.warnings.append(f"{path} is there for everybody to read, though it holds a key: chmod 600 it")
        return data.decode("ascii", "replace")


def _run(source: Source) -> str:
    """What a command writes; what it says on stderr goes to ours."""
    try:
        done = subprocess.run(
            source.what, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=_SECONDS, check=False
        )
    except OSError as error:
        raise _NoKeyError(f"cannot run {source}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise _NoKeyError(f"{source} was not done within {_SECONDS} seconds") from None
    if done.returncode:
        how = f"failed (exit code {done.returncode})" if done.returncode > 0 else f"was killed ({-done.returncode})"
        raise _NoKeyError(f"{source} {how}: it was to write a key")
    return done.stdout[:_MOST_BYTES].decode("ascii", "replace")


def _own_peers(facts: Facts, desired: Desired) -> list[Diagnostic]:
    """Peers that have the key of their own interface: the kernel drops them without a word."""
    wrong = []
    for ref in facts:
        if ref.kind == "wireguard_peer":
            device = facts.get(Ref("wireguard", ref.ns, ref.key[:1]))
            if device and device.attrs.get("public_key") == ref.key[1]:
                words = f"this is the public key of {ref.key[0]} itself: a peer has another one"
                wrong.append(Diagnostic(words, path=desired.paths.get(ref, "")))
    return wrong

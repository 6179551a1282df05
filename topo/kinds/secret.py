"""Secrets of kinds: keys that facts never hold.

A file says where a key is to be had (`Source`). Before anything is compared, what can be said of it in public, the public
key or a digest, takes its place in the desired fact (topo.kernel.keys), and live facts hold the same of the key that
the kernel has. The keys themselves stay in the memory of one run, by that name, and `Env.secret` gives them to whoever
encodes a request. So no plan, record, difference or message can hold one.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

_DIGEST_BYTES: Final = 8


class Source(NamedTuple):
    """Where a key is to be had: `how` is `file` or `command`, `what` its path, or its words."""

    how: str
    what: str | tuple[str, ...]

    def __str__(self) -> str:
        return str(self.what) if self.how == "file" else f"the command {self.what[0]}"


class Secret(NamedTuple):
    """An attribute of desired facts that is a `Source`.

    `public`: the attribute that stands in its place when the key is known. `parse`: the key of the text that the source
    gives; raises ValueError with what is expected, and no word of what was found. `tell`: what stands for it.
    """

    public: str
    parse: Callable[[str], bytes]
    tell: Callable[[bytes], str]


def digest(key: bytes) -> str:
    """What stands for a key that has no public half: enough to tell two apart, and nothing to be had from it."""
    return "digest " + hashlib.blake2b(key, digest_size=_DIGEST_BYTES, person=b"topo secret").hexdigest()


def base64_key(text: str) -> bytes:
    """A key as wg(8) writes it: 32 bytes in base64."""
    try:
        key = binascii.a2b_base64(text.strip(), strict_mode=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32 or not any(key):
        raise ValueError("44 characters of base64 are expected, as `wg genkey` and `wg genpsk` write them")
    return key

"""The public key of a private one: X25519 with the base point 9 (RFC 7748, section 5).

In Python it takes some milliseconds, and their number tells something of the key to whoever can measure them on this
machine. It is done to compare keys; what protects packets is the kernel's own.
"""

from __future__ import annotations

from typing import Final

_P: Final = 2**255 - 19
_A24: Final = 121665
SIZE: Final = 32


def public(private: bytes) -> bytes:
    """The public key of 32 bytes that need not be clamped."""
    scalar = int.from_bytes(private, "little") & ~(7 | 1 << 255) | 1 << 254
    x1, x2, z2, x3, z3, swap = 9, 1, 0, 9, 1, 0
    for at in reversed(range(255)):
        bit = scalar >> at & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % _P, b * b % _P, d * a % _P, c * b % _P
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % _P, x1 * (da - cb) ** 2 % _P
        x2, z2 = aa * bb % _P, e * (aa + _A24 * e) % _P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, _P - 2, _P) % _P).to_bytes(SIZE, "little")

"""One BPF program: what comes in on one link is received by another one (bpf(2), linux/bpf.h, since Linux 6.6).

It hangs on the tcx hook of ingress by a link, a descriptor: when that is closed, or its process dies, it is gone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import cache
from typing import Final

_NUMBER: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}
_PROG_LOAD, _LINK_CREATE = 5, 28  # enum bpf_cmd
_SCHED_CLS, _TCX_INGRESS, _F_BEFORE = 3, 46, 8  # BPF_PROG_TYPE_, BPF_, BPF_
_REDIRECT: Final = 23  # BPF_FUNC_redirect
_F_INGRESS: Final = 1
_TCX_NEXT: Final = -1
_PROTOCOL, _VLAN_PRESENT = 16, 20  # struct __sk_buff
_ETHERTYPES: Final = (0x0800, 0x86DD, 0x0806)  # linux/if_ether.h; tagged frames are for devices above the link
_LDX_W, _MOV_K, _JEQ_K, _JNE_K, _CALL, _EXIT = 0x61, 0xB7, 0x15, 0x55, 0x85, 0x95  # opcodes (linux/bpf_common.h)
_PROG: Final = struct.Struct(
    "=IIQQIIQII"
)  # type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, flags
_LINK: Final = struct.Struct(
    "=IIIIIIQ"
)  # prog_fd, target_ifindex, attach_type, flags, relative_fd, pad, expected_revision


def redirect(source: int, target: int) -> int:
    """From now on IP and ARP that link `source` (an ifindex of this thread's namespace) gets is received by `target`.

    Returns the descriptor that holds it. Raises OSError where the kernel has no tcx, or does not let us.
    """
    code = _program(target)
    insns, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    where = (ctypes.addressof(insns), ctypes.addressof(licence))
    program = _bpf(_PROG_LOAD, _PROG.pack(_SCHED_CLS, len(code) // 8, *where, 0, 0, 0, 0, 0))
    try:
        return _bpf(_LINK_CREATE, _LINK.pack(program, source, _TCX_INGRESS, _F_BEFORE, 0, 0, 0))
    finally:
        os.close(program)


def _program(target: int) -> bytes:
    """r1 is the packet at first, then the first argument of the call; r0 is what is returned."""
    found = len(_ETHERTYPES) + 2  # instructions from the first comparison to the redirection
    return b"".join(
        (
            _insn(_LDX_W, 0, 1, _VLAN_PRESENT),
            _insn(_JNE_K, 0, 0, found - 1),
            _insn(_LDX_W, 0, 1, _PROTOCOL),
            *(_insn(_JEQ_K, 0, 0, found - 1 - i, _network(word)) for i, word in enumerate(_ETHERTYPES)),
            _insn(_MOV_K, 0, 0, 0, _TCX_NEXT),
            _insn(_EXIT),
            _insn(_MOV_K, 1, 0, 0, target),
            _insn(_MOV_K, 2, 0, 0, _F_INGRESS),
            _insn(_CALL, 0, 0, 0, _REDIRECT),
            _insn(_EXIT),
        )
    )


def _insn(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """struct bpf_insn; the halves of the byte of registers change places with the byte order of the machine."""
    registers = source << 4 | to if struct.pack("=H", 1)[0] else to << 4 | source
    return struct.pack("=BBhi", code, registers, offset, value)


def _network(word: int) -> int:
    return int(struct.unpack("=H", struct.pack(">H", word))[0])


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    number = _NUMBER.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    fd = int(_libc().syscall(number, command, buffer, len(attributes)))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.set_inheritable(fd, False)
    return fd

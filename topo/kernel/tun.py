"""Persistent TUN and TAP devices (linux/if_tun.h, Documentation/networking/tuntap.rst)."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from topo.changes import Tun
from topo.errors import KernelError

_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER, _TUNSETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
_IFF_TUN, _IFF_TAP, _IFF_TUN_EXCL = 1, 2, 0x8000
_IFREQ: Final = struct.Struct("16sH22x")


def make(request: Tun, claim: Callable[[int], None]) -> int:
    """Make the device in this thread's namespace, and return its ifindex. Raises KernelError.

    `claim` gets the ifindex before the device is made to last: killed until then, the run leaves none.
    """
    mode = _IFF_TAP if request.mode == "tap" else _IFF_TUN
    flags = mode | request.flags | _IFF_TUN_EXCL
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "/dev/net/tun: is the tun module loaded?") from None
    try:
        # IFF_TUN_EXCL: EBUSY where the name is taken, instead of attaching to what has it.
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(request.ifname.encode(), flags))
        if request.owner is not None:
            fcntl.ioctl(fd, _TUNSETOWNER, request.owner)
        if request.group is not None:
            fcntl.ioctl(fd, _TUNSETGROUP, request.group)
        index = socket.if_nametoindex(request.ifname)
        claim(index)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
        return index
    except OSError as error:
        raise KernelError(error.errno or 0) from None
    finally:
        os.close(fd)

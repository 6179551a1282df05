"""Files under /proc/sys/net, as the thread's network namespace shows them (proc_sys(5))."""

from __future__ import annotations

import errno
import os

from topo.errors import KernelError
from topo.facts import Fact, Facts, links_of


def _file(path: str) -> str:
    parts = path.split("/")
    if parts[0] != "net" or any(part in ("", ".", "..") for part in parts):
        raise KernelError(errno.EINVAL, "only sysctls below net belong to a network namespace", doing=path)
    return f"/proc/sys/{path}"


def read(path: str) -> str | None:
    """The value with its white space folded; None where there is no such sysctl. Raises KernelError."""
    try:
        fd = os.open(_file(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError(error.errno or 0, doing=f"reading sysctl {path}") from None
    try:
        return " ".join(os.read(fd, 65536).decode(errors="replace").split())
    except OSError:
        return ""  # write-only, or unset (stable_secret)
    finally:
        os.close(fd)


def needless(stated: Fact | None, live: Facts) -> bool:
    """Whether an optional sysctl of a device is not there and will not be: the device has no IPv6 (its MTU is too
    small, say), or the kernel has none."""
    if stated is None or not stated.attrs.get("optional"):
        return False
    (device,) = links_of(stated)
    return device in live or read(stated.ref.key[0].replace(f"/{device.key[0]}/", "/all/")) is None


def write(path: str, value: str, optional: bool = False) -> None:
    """Raises KernelError; not for an `optional` one that is not there."""
    try:
        fd = os.open(_file(path), os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        if optional and error.errno == errno.ENOENT:
            return
        raise KernelError(error.errno or 0) from None
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise KernelError(error.errno or 0) from None
    finally:
        os.close(fd)

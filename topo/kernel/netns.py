"""Network namespaces: the system calls, and their names in /run/netns (ip-netns(8), setns(2), unshare(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Final

DIRECTORY: Final = "/run/netns"
SELF: Final = "/proc/thread-self/ns/net"

CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
CLONE_NEWNS: Final = 0x00020000
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 0x100000  # linux/mount.h
MNT_DETACH: Final = 2
_OPEN_TREE: Final = 428  # its number everywhere (asm-generic/unistd.h); glibc has no name for it before 2.36
_AT_FDCWD, _OPEN_TREE_CLONE = -100, 1  # linux/fcntl.h, linux/mount.h
_NSFS_MAGIC: Final = 0x6E736673  # linux/magic.h


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
    return libc


def _checked(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Move this thread into the namespace of `fd`. Raises OSError."""
    _checked(_libc().setns(fd, kind), "setns")


def unshare(flags: int) -> None:
    """Give this thread new namespaces. Raises OSError."""
    _checked(_libc().unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int) -> None:
    """Raises OSError."""
    _checked(_libc().mount(source.encode(), target.encode(), kind.encode(), flags, None), target)


def umount(target: str, flags: int = 0) -> None:
    """Raises OSError."""
    _checked(_libc().umount2(target.encode(), flags), target)


def path(name: str) -> str:
    return f"{DIRECTORY}/{name}"


def here() -> int:
    """A descriptor of this thread's namespace."""
    return os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)


def open_path(where: str) -> int | None:
    """A descriptor of the namespace at `where`; None where there is none (a leftover file counts as none)."""
    try:
        fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ESRCH):
            return None
        raise
    if is_namespace(fd):
        return fd
    os.close(fd)
    return None


def is_namespace(fd: int) -> bool:
    """Whether `fd` is of nsfs; a namespace of another kind is told apart only by setns."""
    buffer = ctypes.create_string_buffer(256)
    return not _libc().fstatfs(fd, buffer) and ctypes.c_long.from_buffer(buffer).value == _NSFS_MAGIC


def inode(fd: int) -> int:
    """The number of a namespace: two descriptors of one namespace have the same."""
    return os.fstat(fd).st_ino


def named(label: str) -> int:
    """The number of the namespace that has this name in /run/netns; 0 for none."""
    fd = open_path(path(label))
    if fd is None:
        return 0
    try:
        return inode(fd)
    finally:
        os.close(fd)


def names() -> list[str]:
    """What has a name in /run/netns."""
    try:
        return sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        return []


def prepare() -> None:
    """Make /run/netns what iproute2 makes it: a shared mount, so that names reach every mount namespace."""
    os.makedirs(DIRECTORY, 0o755, exist_ok=True)
    try:
        mount("", DIRECTORY, "none", MS_SHARED | MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL or propagates() is not None:
            raise
        mount(DIRECTORY, DIRECTORY, "none", MS_BIND | MS_REC)
        mount("", DIRECTORY, "none", MS_SHARED | MS_REC)


def propagates() -> bool | None:
    """Whether /run/netns is a shared mount (proc_pid_mountinfo(5)); None where it is no mount yet. One that lies below another
    mount is not what the name leads to."""
    try:
        fd = os.open(DIRECTORY, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        with open(f"/proc/thread-self/fdinfo/{fd}", encoding="ascii") as about:
            number = next(line.split()[1] for line in about if line.startswith("mnt_id:"))
    finally:
        os.close(fd)
    with open("/proc/thread-self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        found = next((words for line in mounts if (words := line.split(" - ")[0].split())[0] == number), None)
    if found is None or found[4] != DIRECTORY:
        return None
    return any(word.startswith("shared:") for word in found[6:])


def name(where: str, label: str, sign: int) -> None:
    """Bind the namespace at `where` to a new name. Raises OSError (EEXIST where something real has the name).

    `sign`: by which the name can be told from one that someone else gave (`signed`); a number below 2**32.
    """
    target = path(label)
    try:
        _cover(target, sign)
    except FileExistsError:
        if not leftover(target):
            raise
        os.unlink(target)
        _cover(target, sign)
    try:
        mount(where, target, "none", MS_BIND)
    except OSError:
        os.unlink(target)
        raise


def _cover(target: str, sign: int) -> None:
    """Make the empty file that a mount is to cover. It has its sign from the first: a run that is killed then leaves it so."""
    try:
        fd = os.open(DIRECTORY, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # a file system without O_TMPFILE (open(2))
            raise
        os.close(os.open(target, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        os.utime(target, ns=(sign, sign), follow_symlinks=False)
        return
    try:
        os.utime(fd, ns=(sign, sign))
        os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd)  # a descriptor makes it linkat(2), which follows it
    finally:
        os.close(fd)


def signed(label: str) -> int:
    """The `sign` of a name; another number for a name of someone else's, 0 where the kernel does not tell.

    It is the time stamp, in nanoseconds, of the file that the mount covers; a copy of the directory without the mounts in
    it, which nobody else sees, shows it.
    """
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | os.O_CLOEXEC)
    tree = _libc().syscall(ctypes.c_long(_OPEN_TREE), ctypes.c_int(_AT_FDCWD), DIRECTORY.encode(), flags)
    if tree < 0:  # before Linux 5.2, or mounts of somebody with more privileges
        return 0
    try:
        return os.stat(label, dir_fd=tree, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 0
    finally:
        os.close(tree)


def leftover(target: str) -> bool:
    """Whether `target` is the empty file that a killed run (topo's or iproute2's) left where a name was to be."""
    try:
        found = os.lstat(target)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == 0 and found.st_dev == os.stat(DIRECTORY).st_dev


def unname(label: str) -> None:
    """Take a name away; the namespace goes when nothing else holds it. What is not there is no error."""
    target, refused = path(label), None
    try:
        umount(target, MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        refused = error
    try:
        os.unlink(target)
    except FileNotFoundError:
        pass
    except OSError as error:  # a mount all the same, which this mount namespace may not take away (mount_namespaces(7))
        raise (refused if refused and error.errno == errno.EBUSY else error) from None


def sweep(labels: Iterable[str], sign: int) -> None:
    """Remove the empty files that a killed run left: where these names were to be, and those that bear the sign."""
    known = {*labels}
    for label in names():
        target = path(label)
        with suppress(FileNotFoundError):
            if (label in known or os.lstat(target).st_mtime_ns == sign) and leftover(target):
                os.unlink(target)

"""An image for containers, made of the distribution's busybox: no registry is asked."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from interop.needs import program

NAME: Final = "page"
CHANGES: Final = (  # of `docker import --change`: the host name is served on port 80
    "ENV PATH=/bin",
    'CMD ["sh", "-c", "hostname >/www/index.html; exec httpd -f -p 80 -h /www"]',
)
_FROM: Final = "#!/bin/sh\necho\nfrom=${REMOTE_ADDR#[}; from=${from%]}\necho $(hostname) ${from#::ffff:}\n"


def tar() -> bytes:
    """A root file system: busybox, a directory for pages, and /cgi-bin/from, which tells who asks."""
    busybox = program("busybox", "busybox-static")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "www", "www/cgi-bin"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        programs = {"bin/busybox": Path(busybox).read_bytes(), "www/cgi-bin/from": _FROM.encode()}
        for name, content in programs.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for applet in sorted({*applets} - {"busybox"}):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(entry)
    return packed.getvalue()

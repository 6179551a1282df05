"""Servers that tell who asked them, and clients that ask many questions at once, over TCP and UDP."""

from __future__ import annotations

import json
import subprocess
import sys

from sandbox.host import Host
from sandbox.snapshot import inside

_SERVER = """
import selectors, socket, sys
name, only, ports = sys.argv[1], sys.argv[2], [int(p) for p in sys.argv[3:]]
sel = selectors.DefaultSelector()
for port in ports:
    for family, any_ in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        if only and (":" in only) != (family == socket.AF_INET6):
            continue
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            s = socket.socket(family, kind)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((only or any_, port))
            if kind == socket.SOCK_STREAM:
                s.listen(64)
            sel.register(s, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in sel.select():
        s = key.fileobj
        port = s.getsockname()[1]
        if s.type == socket.SOCK_STREAM:
            c, peer = s.accept()
            c.sendall(f"{name}:{port} {peer[0]}".encode())
            c.close()
        else:
            data, peer = s.recvfrom(100)
            s.sendto(f"{name}:{port} {peer[0]}".encode(), peer)
"""

_CLIENT = """
import json, socket, sys, concurrent.futures as f
def ask(protocol, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    s.settimeout(1.2)
    try:
        s.connect((address, port))
        if protocol == "udp":
            s.send(b"?")
        return s.recv(100).decode()
    except OSError:
        return ""
questions = json.loads(sys.argv[1])
with f.ThreadPoolExecutor(len(questions)) as pool:
    print(json.dumps(list(pool.map(lambda q: ask(*q), questions))))
"""

Question = tuple[str, str, int]
"""tcp or udp, an address, a port."""


def answer(host: Host, ns: str, name: str, *ports: int, only: str = "") -> None:
    """Serve these ports of both families in the namespace, or `only` on one address: "name:port who-asked"."""
    process = host.start(sys.executable, "-S", "-c", _SERVER, name, only, *map(str, ports), ns=ns)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"


def ask(ns: str, *questions: Question) -> list[str]:
    """What is answered, all asked at once; "" for no answer."""
    command = inside(ns, [sys.executable, "-S", "-c", _CLIENT, json.dumps(questions)])
    found: list[str] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found

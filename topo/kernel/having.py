"""What the running kernel has, and lets this process use. Nothing of the host is changed: no module is loaded, and what is tried
is tried by a child in a network namespace that goes with it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from topo.changes import CREATE, Change
from topo.errors import UnsupportedError
from topo.facts import Desired, Ref
from topo.kernel import bpf, features, netns, nft_features, routing_features, rtnl
from topo.kernel.feature import Feature
from topo.kernel.features import LINK
from topo.kernel.modules import Modules

YES, MODULE, NO, UNKNOWN = "yes", "module", "no", "unknown"

OTHER: Final = "other"
TUN: Final = Feature(
    LINK,
    "tun and tap",
    "CONFIG_TUN",
    "has no /dev/net/tun, which {} needs",
    ("devname:net/tun", "char-major-10-200", "tun"),
)
IPV6: Final = Feature(OTHER, "IPv6", "CONFIG_IPV6", "has no IPv6, which {} is of")
TCX: Final = Feature(
    OTHER, "tcx", "CONFIG_NET_XGRESS", "has no BPF on the tcx hook (Linux 6.6), without which {} may lose a packet"
)

_CLONE_NEWUSER: Final = 0x10000000  # linux/sched.h
_LO: Final = 1


class Answer(NamedTuple):
    """`state`: yes; module, of which `detail` is the name, loaded when it is first asked for; no; or unknown, and why."""

    state: str
    detail: str = ""


class Allowed(NamedTuple):
    """Why this process may not make namespaces; empty where it may. `user`: of users and network, by a user without rights."""

    net: str
    user: str


def everything() -> list[Feature]:
    """All that a topology may need of the kernel."""
    links = [*features.links(), TUN, features.VLANS]
    return [*links, *features.qdiscs(), *nft_features.features(), *routing_features.features(), IPV6, TCX]


def wanted(desired: Desired) -> dict[Feature, list[Ref]]:
    """What `desired` needs of the kernel, each with the objects that need it. TCX is the one that it can do without."""
    found = features.wanted(Change(CREATE, ref, fact, None) for ref, fact in desired.facts.items())
    for ref, fact in desired.facts.items():
        more: Iterable[Feature] = ()
        if ref.kind == "nft":
            more = nft_features.wanted(fact.attrs)
        elif ref.kind == "link" and fact.attrs.get("kind") in ("tun", "tap"):
            more = (TUN,)
        elif ref.kind == "address" and ":" in ref.key[1]:
            more = (IPV6,)
        for feature in more:
            found.setdefault(feature, []).append(ref)
    for bridge in desired.take_over:
        found.setdefault(TCX, []).append(bridge)
    return found


def answers(asked: Iterable[Feature], modules: Modules) -> dict[Feature, Answer]:
    """What the kernel has of these."""
    found: dict[Feature, Answer] = {}
    for feature in asked:
        module = modules.unloaded(feature.modules)
        if module is None:
            found[feature] = Answer(
                UNKNOWN, "whether it is a module cannot be seen: /lib/modules has none of this kernel"
            )
        else:
            found[feature] = Answer(MODULE, module) if module else Answer(YES)
    tried = [feature for feature, answer in found.items() if answer.state == YES]
    refused = _in_child(lambda: _refused(tried))
    for number, feature in enumerate(tried):
        if isinstance(refused, str):
            found[feature] = Answer(UNKNOWN, f"the kernel cannot be asked: no network namespace ({refused})")
        elif str(number) in refused:
            found[feature] = Answer(NO, refused[str(number)])
    return found


def allowed() -> Allowed:
    """Which namespaces this process may make."""
    net, user = (_in_child(dict, flags) for flags in (netns.CLONE_NEWNET, netns.CLONE_NEWNET | _CLONE_NEWUSER))
    return Allowed(net if isinstance(net, str) else "", user if isinstance(user, str) else "")


def _in_child(work: Callable[[], dict[str, str]], flags: int = 0) -> dict[str, str] | str:
    """What `work` finds in new namespaces; the kernel's words where it gives none. In a child, for a thread could not
    leave a user namespace again. Without `flags` a network namespace, by way of one of users where there is no other."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with open(writing, "w", encoding="utf-8") as answer, suppress(BaseException):
            answer.write(_report(work, flags))
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    died, found = json.loads(text or '["it was killed", ""]')
    if died:
        raise RuntimeError(f"in the child that asks the kernel: {died}")
    return dict(found) if isinstance(found, dict) else str(found)


def _report(work: Callable[[], dict[str, str]], flags: int) -> str:
    try:
        return json.dumps(["", _within(work, flags)])
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        return json.dumps([f"{type(error).__name__}: {error}", ""])


def _within(work: Callable[[], dict[str, str]], flags: int) -> dict[str, str] | str:
    try:
        try:
            netns.unshare(flags or netns.CLONE_NEWNET)
        except OSError as error:
            if flags or error.errno != errno.EPERM:
                raise
            netns.unshare(netns.CLONE_NEWNET | _CLONE_NEWUSER)
        return work()
    except OSError as error:
        return os.strerror(error.errno or 0)


def _refused(tried: list[Feature]) -> dict[str, str]:
    """Which of these the kernel does not have, by their number, and why."""
    words: dict[Feature, str] = {}
    with rtnl.open_socket() as sock:
        words |= dict.fromkeys(features.lacking(sock, [feature for feature in tried if feature not in _OTHERS]), "")
    if nft := [feature for feature in tried if feature.group == nft_features.NFT]:
        try:
            words |= nft_features.lacking(nft)
        except UnsupportedError as error:
            words |= dict.fromkeys(nft, str(error))
    for feature, trying in _OTHERS.items():
        if feature in tried:
            try:
                trying()
            except OSError as error:
                words[feature] = os.strerror(error.errno or 0)
    return {str(number): words[feature] for number, feature in enumerate(tried) if feature in words}


def _redirect() -> None:
    os.close(bpf.redirect(_LO, _LO))


_OTHERS: Final[dict[Feature, Callable[[], object]]] = {
    TUN: lambda: os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)),
    IPV6: lambda: os.stat("/proc/thread-self/net/if_inet6"),
    TCX: _redirect,
}

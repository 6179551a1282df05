"""What the running kernel, this host and this process's privileges allow; for one topology, or for all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from topo.engine import record
from topo.errors import Diagnostic, UnsupportedError
from topo.facts import Desired
from topo.kernel import features, having, netns, nftables, privileges, sysctl, xtables
from topo.kernel.having import NO, UNKNOWN, YES
from topo.kernel.modules import Modules
from topo.kernel.verdicts import IPV4, IPV6

NOTE: Final = "note"
PRIVILEGES, HOST = "privileges", "host"

_USERS: Final = {
    "user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=15000"),
    "kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
}
"""Below /proc/sys: what keeps users from namespaces of their own, and the cure."""

_BRIDGED: Final = {4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables"}
_FORWARDING: Final = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


class Finding(NamedTuple):
    """One thing that topologies may need.

    `state`: yes, module (one that is loaded when it is first asked for), no, unknown, or note: nothing is wrong, but
    worth knowing. `needed`: whether the topology does not work without it, or none does. `option`: the kernel's.
    """

    group: str
    name: str
    state: str
    needed: bool = False
    detail: str = ""
    option: str = ""
    cure: str = ""


class Diagnosis(NamedTuple):
    """`diagnostics`: what of the file finds no ground here, each with the path of its place."""

    findings: tuple[Finding, ...]
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def sufficient(self) -> bool:
        """Whether all is there that is needed."""
        return not any(finding.needed and finding.state in (NO, UNKNOWN) for finding in self.findings)


def examine(desired: Desired | None) -> Diagnosis:
    """What `desired` needs, or everything that a topology may need. Changes nothing on the host."""
    wanted = {} if desired is None else having.wanted(desired)
    modules = Modules.read()
    answers = having.answers(having.everything() if desired is None else wanted, modules)
    findings = [*_privileges(desired), *_host(desired)]
    diagnostics: list[Diagnostic] = []
    for feature, (state, detail) in answers.items():
        needed = desired is not None and feature is not having.TCX
        cure = f"it takes a kernel with {feature.option}" if state == NO and feature.option else ""
        if state == NO and modules.loads:
            cure += f", or a package that has it as a module for {os.uname().release}"
        findings.append(Finding(feature.group, feature.name, state, needed, detail, feature.option, cure))
        if desired is not None and needed and state == NO:
            diagnostics += features.diagnostics(feature, wanted[feature], desired)
    return Diagnosis(tuple(findings), tuple(diagnostics))


def _privileges(desired: Desired | None) -> Iterator[Finding]:
    pings = desired is None or any(check.method == "ping" for check in desired.checks)
    raw = privileges.RAW if pings else {}
    lacking = privileges.missing(privileges.NEEDED | raw)
    for name in privileges.NEEDED.values():
        yield _finding(PRIVILEGES, name, name not in lacking, True, cure=privileges.CURE)
    for name in raw.values():
        yield _finding(
            PRIVILEGES, name, name not in lacking, desired is not None, "for checks by ping", cure=privileges.CURE
        )
    may = having.allowed()
    if not lacking:
        cure = "it takes a kernel with CONFIG_NET_NS"
        yield _finding(PRIVILEGES, "network namespaces", not may.net, True, may.net, "CONFIG_NET_NS", cure)
    if desired is None or lacking:
        ways = [cure for path, (bad, cure) in _USERS.items() if _read(path) == bad] or [
            "it takes a kernel with CONFIG_USER_NS"
        ]
        words = may.user or "for use without root"
        yield _finding(PRIVILEGES, "user namespaces", not may.user, False, words, "CONFIG_USER_NS", ways[0])


def _finding(
    group: str, name: str, there: bool, needed: bool, detail: str = "", option: str = "", cure: str = ""
) -> Finding:
    return Finding(group, name, YES if there else NO, needed, detail, option, "" if there else cure)


def _host(desired: Desired | None) -> Iterator[Finding]:
    detail, _, cure = record.obstacle().partition("; ")
    yield _finding(HOST, str(record.DIRECTORY), not detail, True, detail, cure=cure)
    shared = netns.propagates()
    words = {
        None: "topo makes it a shared mount",
        True: "a shared mount",
        False: "a private mount; topo makes it a shared one",
    }
    yield Finding(HOST, netns.DIRECTORY, YES, True, words[shared])
    if desired is None or any(ref.kind == "nft" for ref in desired.facts):
        yield _libnftables(desired)
    if desired is None:  # of a file, a plan's warnings say what is in its way
        yield from _notes()


def _libnftables(desired: Desired | None) -> Finding:
    try:
        return Finding(HOST, "libnftables", YES, desired is not None, nftables.file())
    except UnsupportedError as error:
        return Finding(HOST, "libnftables", NO, desired is not None, "NAT and firewall need it", cure=str(error))


def _notes() -> Iterator[Finding]:
    """What is there of others, or set, that packets of a topology meet."""
    for family, path in _FORWARDING.items():
        value = sysctl.read(path)
        if value is not None:
            words = (
                "on" if value == "1" else "off; NAT and `forwarding: true` switch it on for as long as they are applied"
            )
            yield Finding(HOST, f"forwarding of IPv{family}", NOTE, detail=words)
    for family, path in _BRIDGED.items():
        if sysctl.read(path) == "1":
            words = f"br_netfilter: the FORWARD chains of IPv{family} see what bridges forward ({path} is 1)"
            yield Finding(HOST, f"bridged IPv{family}", NOTE, detail=words)
    for family, program in ((IPV4, xtables.PROGRAMS[IPV4]), (IPV6, xtables.PROGRAMS[IPV6])):
        with suppress(OSError):
            if tables := xtables.names(family):
                words = f"tables of others ({', '.join(sorted(tables))}): what they drop is dropped for a topology, too"
                yield Finding(HOST, program, NOTE, detail=words)


def _read(path: str) -> str:
    try:
        return Path("/proc/sys", path).read_text().strip()
    except OSError:
        return ""

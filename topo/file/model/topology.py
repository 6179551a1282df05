"""The whole file: the host's sections, its namespaces with the same ones, and the links between them."""

from __future__ import annotations

import marshal
from typing import Annotated, Any, Final, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StrictBool,
    StrictInt,
    model_validator,
)

from topo.file.model.interfaces import Bridge, Ends, Interface, Link, Vxlan, link_form
from topo.file.model.rules import Check, Firewall, Nat, Neighbour, Route, Rule
from topo.file.model.settings import Defaults
from topo.file.model.values import (
    Entry,
    Ifnames,
    NamespaceName,
    NamespaceNames,
    SysctlName,
    SysctlValue,
    TopologyName,
    plain,
    wrong,
)

_SOURCES: Final = ("pid", "path", "name", "docker", "podman", "share")


def _empty(value: Any) -> Any:
    return {} if value is None else value


def _without_nothing(value: Any) -> Any:
    """A mapping without the keys that have nothing behind them: `routes:` alone is as good as none."""
    if isinstance(value, dict) and None in value.values():
        return {key: item for key, item in value.items() if item is not None}
    return value


class Source(Entry):
    """Where a namespace that someone else made is found: exactly one of these."""

    pid: Annotated[StrictInt, Field(ge=1, le=0x7FFFFFFF)] | None = Field(None, description="a process that is in it")
    path: str | None = Field(None, pattern=r"^/[^\x00]+$", description="a file of it: /proc/1310/ns/net")
    name: str | None = Field(None, pattern=r"^[^/\x00]{1,255}$", description="its name in /run/netns")
    docker: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="a container of Docker")
    podman: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="a container of Podman")
    share: NamespaceName | None = Field(None, description="a namespace of this file, of which this is a second name")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        stated = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(stated) != 1:
            raise ValueError(f"exactly one of {', '.join(_SOURCES)} is needed, {len(stated)} are stated")
        if self.name in (".", ".."):
            raise wrong(f"{self.name!r} is no name of a namespace", "name", value=self.name)
        return self


class Section(Entry):
    """What every namespace holds, the host included."""

    bridges: dict[Ifnames, Annotated[Bridge, BeforeValidator(_empty, json_schema_input_type=Bridge | None)]] = Field(
        default_factory=dict, description="bridges by name"
    )
    vxlans: dict[Ifnames, Vxlan] = Field(default_factory=dict, description="VXLAN devices by name")
    interfaces: dict[Ifnames, Interface] = Field(
        default_factory=dict, description="interfaces of other kinds by name, and existing ones"
    )
    routes: list[Route] = Field(default_factory=list, description="routes")
    rules: list[Rule] = Field(default_factory=list, description="policy routing rules")
    neighbours: list[Neighbour] = Field(default_factory=list, description="permanent neighbour entries")
    nat: Nat = Field(default_factory=Nat, description="network address translation")
    firewall: Firewall = Field(default_factory=Firewall, description="packet filtering")
    sysctls: dict[SysctlName, SysctlValue] = Field(
        default_factory=dict, description="sysctls of the namespace by dotted name: net.ipv4.tcp_syncookies: 1"
    )
    forwarding: StrictBool | None = Field(
        None, description="whether IPv4 and IPv6 packets are forwarded; unset, `nat` turns on what it needs"
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, value: Any) -> Any:
        return _without_nothing(value)


class Namespace(Section):
    """A network namespace; one that topo makes unless `from` says where it is."""

    from_: Source | None = Field(None, alias="from", description="attach to a namespace that someone else made")


class Topology(Section):
    """A topology file: the network of one host."""

    topology: TopologyName = Field(description="its name: a-z, 0-9 and -, at most 32; it marks what topo owns")
    include: Annotated[
        list[str],
        BeforeValidator(lambda v: [v] if isinstance(v, str) else v, json_schema_input_type=list[str] | str),
    ] = Field(default_factory=list, description="more files, relative to this one, merged before it")
    vars: dict[str, str | StrictInt | StrictBool | float] = Field(
        default_factory=dict, description="variables: each ${NAME} in a value of the file is replaced"
    )
    env_file: Annotated[
        list[str],
        BeforeValidator(lambda v: [v] if isinstance(v, str) else v, json_schema_input_type=list[str] | str),
    ] = Field(default_factory=list, description="files with NAME=VALUE lines, more variables; `vars` comes before them")
    defaults: Defaults = Field(default_factory=Defaults, description="settings for every interface that is made")
    namespaces: dict[
        NamespaceNames, Annotated[Namespace, BeforeValidator(_empty, json_schema_input_type=Namespace | None)]
    ] = Field(default_factory=dict, description="network namespaces by name")
    links: list[Annotated[Link, BeforeValidator(link_form, json_schema_input_type=Link | Ends)]] = Field(
        default_factory=list, description="veth pairs"
    )
    checks: list[Check] = Field(default_factory=list, description="what must be reachable, and what must not")
    _document: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_document(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        topology = handler(value)
        if topology is not value:
            topology._document = value
        return topology

    def document(self) -> dict[str, Any]:
        """The topology as plain data, as a file would hold it, from which `Topology.model_validate` makes it again."""
        document = dict(self._document)
        try:
            marshal.dumps(document)  # the fastest way to tell that there is nothing but plain data in it
        except ValueError:
            document = plain(document)
        return document

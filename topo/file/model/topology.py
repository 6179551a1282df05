"""The whole file: the host's sections, its namespaces with the same ones, and the links between them."""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StrictBool,
    StrictInt,
    model_validator,
)

from topo.file.model.sections import Defaults, Namespace, Section
from topo.file.model.values import (
    NamespaceNames,
    TopologyName,
    Words,
    empty,
    no_entries,
    nothing,
    plain,
)
from topo.kinds.later import later

if TYPE_CHECKING:
    from topo.file.model.checks import Checks
    from topo.file.model.links import Links
else:
    Checks = later("topo.file.model.checks", "Checks")
    Links = later("topo.file.model.links", "Links")


class Topology(Section):
    """A topology file: the network of one host."""

    topology: TopologyName = Field(description="its name: a-z, 0-9 and -, at most 32; it marks what topo owns")
    include: Words = Field(default_factory=no_entries, description="more files, relative to this one, merged before it")
    vars: dict[str, str | StrictInt | StrictBool | float] = Field(
        default_factory=nothing, description="variables: each ${NAME} in a value of the file is replaced"
    )
    env_file: Words = Field(
        default_factory=no_entries, description="files with NAME=VALUE lines, more variables; `vars` comes before them"
    )
    defaults: Defaults = Field(
        default_factory=Defaults.model_construct, description="settings for every interface that is made"
    )
    namespaces: dict[
        NamespaceNames, Annotated[Namespace, BeforeValidator(empty, json_schema_input_type=Namespace | None)]
    ] = Field(default_factory=nothing, description="network namespaces by name")
    links: Links = Field(default_factory=no_entries, description="veth pairs")
    checks: Checks = Field(default_factory=no_entries, description="what must be reachable, and what must not")
    _document: dict[str, Any] = PrivateAttr(default_factory=nothing)

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

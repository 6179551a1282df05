"""Where a namespace that someone else made is found."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, StrictInt, model_validator

from topo.file.model.values import Entry, NamespaceName, wrong

_SOURCES: Final = ("pid", "path", "name", "docker", "podman", "share")


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

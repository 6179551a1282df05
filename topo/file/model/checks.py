"""The entries of `checks`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from topo.file.model.values import Endpoint, Entry, NamespacesOrHost, Seconds, endpoint, wrong


class Check(Entry):
    """Something that must be reachable, or must not."""

    from_: NamespacesOrHost = Field(alias="from", description="the namespace to try from, or host")
    ping: Endpoint | None = Field(None, description="a namespace or an address to ping")
    tcp: Endpoint | None = Field(None, description="where to connect to: web:80, 10.0.0.1:22, [::1]:80")
    udp: Endpoint | None = Field(None, description="where to send a datagram to and wait for an answer: web:53")
    expect: Literal["reachable", "blocked"] = Field("reachable", description="what must come of it")
    within: Seconds = Field(5, description="how long it may take: 5s, 200ms, or seconds")

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        stated = [name for name in ("ping", "tcp", "udp") if getattr(self, name) is not None]
        if len(stated) != 1:
            raise ValueError("one of `ping`, `tcp` and `udp` is needed")
        method = stated[0]
        target = getattr(self, method)
        port = endpoint(target)[1]
        if method == "ping" and port is not None:
            raise wrong("a ping has no port", "ping", value=target)
        if method != "ping" and (port is None or port[0] != port[1]):
            raise wrong(f"one port is needed: {target}:80", method, value=target)
        return self


Checks = list[Check]

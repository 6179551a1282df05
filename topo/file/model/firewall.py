"""The chains of `firewall`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from topo.file.model.nat import Match
from topo.file.model.values import Entry, Prefixes, Words, no_entries, wrong


class FirewallRule(Match):
    """A rule; the first that matches decides."""

    to: Prefixes | None = Field(None, description="its destination: a prefix, or several")
    state: (
        Annotated[Words, Field(description="what conntrack says of it: established, related, new, invalid")] | None
    ) = None
    icmp: Words | None = Field(None, description="its ICMP type, with protocol icmp or icmpv6: echo-request")
    action: Literal["accept", "drop", "reject"] = Field(description="what befalls it")
    log: str | None = Field(None, min_length=1, max_length=127, description="a prefix to log it with")

    @model_validator(mode="after")
    def _words(self) -> Self:
        for index, word in enumerate(self.state or ()):
            if word not in ("new", "established", "related", "invalid", "untracked"):
                raise wrong(f"{word!r} is no state: new, established, related, invalid, untracked", "state", index)
        if self.icmp is not None and self.protocol not in ("icmp", "icmpv6"):
            raise wrong("`icmp` needs `protocol`: icmp or icmpv6", "icmp")
        return self


class Chain(Entry):
    """What befalls packets at one place: the rules in order, then the policy."""

    policy: Literal["accept", "drop"] = Field("accept", description="what befalls a packet that no rule decides")
    rules: list[FirewallRule] = Field(
        default_factory=no_entries, description="the rules, the first that matches decides"
    )

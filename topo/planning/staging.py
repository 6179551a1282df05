"""Stages: how late each op is, and that a handover goes at once, behind all else (planning.underlay)."""

from __future__ import annotations

from collections.abc import Sequence

from topo.planning.underlay import Steps

Graph = list[dict[int, None]]
"""Of each op, by its place in `Ordering.ops`: those that it waits for."""

Socket = tuple[str, bool]
"""The namespace of an rtnetlink socket; and whether what it carries deletes a link, which is sent apart: names and
indexes change with it."""


def levels(
    waits: Graph, found: Sequence[int], sockets: Sequence[Socket | None], handovers: Sequence[Steps]
) -> list[int]:
    """The stage of each op: after the last one that it waits for, or the same one where both travel in one packed send.

    `found`: an order that respects `waits`. All of a handover is in the stage in which the last of it can be.
    """
    least = [0] * len(waits)
    stage = least
    for _ in range(1 + len(handovers)):
        stage = list(least)
        for i in found:
            mine = sockets[i]
            for j in waits[i]:
                stage[i] = max(stage[i], stage[j] + (mine is None or sockets[j] != mine))
        for steps in handovers:
            last = max(stage[i] for step in steps for i in step)
            least = [last if any(i in step for step in steps) else at_least for i, at_least in enumerate(least)]
        if all(there >= at_least for there, at_least in zip(stage, least, strict=True)):
            break
    return stage


def handovers_last(
    waits: Graph, found: Sequence[int], stage: Sequence[int], handovers: Sequence[Steps]
) -> Sequence[int]:
    """The same order, but for what is handed over, and what waits for it, being at the end of its stage."""
    late = {i for steps in handovers for step in steps for i in step}
    if not late:
        return found
    for i in found:
        if any(j in late and stage[j] == stage[i] for j in waits[i]):
            late.add(i)
    return [*(i for i in found if i not in late), *(i for i in found if i in late)]

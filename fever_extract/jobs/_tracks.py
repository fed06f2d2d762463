"""Join face ids across the stretches of a clip, which are extracted separately.

The worker of a stretch begins about a second earlier, and so sees the faces that come into it as
its neighbour does: by time and place they are the same. Ids are counted through the clip.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

_SAME = 0.1  # of a box's width: what one face may differ by, seen twice in one frame


@dataclass(frozen=True)
class Tracks:
    """The faces of a clip at the end of a stretch.

    Attributes:
        count: ids that were given so far.
        alive: of each face that may go on: id, time when it was seen last, and its box then.
    """

    count: int = 0
    alive: list[list[float]] = field(default_factory=list)


def link(links: str, before: Tracks) -> tuple[dict[int, int], Tracks]:
    """Give the faces of a stretch their ids in the clip.

    Args:
        links: `fever_extract.video.frames.Links` of the stretch, as JSON; empty if it has none.
        before: of the stretch before it.

    Returns:
        The id in the clip for each of the stretch, and how things stand at its end.
    """
    if not links:
        return {}, Tracks(before.count)
    found = json.loads(links)
    if not found["ids"] and not found["exit"]:
        # Nothing was seen; where there were no frames either, who was there may be there still.
        return {}, before
    ids: dict[int, int] = {}
    waiting = list(before.alive)
    for track, time, *box in found["entry"]:
        same = [one for one in waiting if one[1] == time and _differ(one[2:], box) < _SAME]
        if same:
            nearest = min(same, key=lambda one: _differ(one[2:], box))
            waiting.remove(nearest)
            ids[int(track)] = int(nearest[0])
    count = before.count
    for track in found["ids"]:
        if track not in ids:
            ids[track] = count
            count += 1
    alive = [[ids[track], *last] for track, *last in found["exit"] if track in ids]
    return ids, Tracks(count, alive)


def _differ(a: list[float], b: list[float]) -> float:
    width = max(b[2] - b[0], 1.0)
    return max(abs(x - y) for x, y in zip(a, b)) / width

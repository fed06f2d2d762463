"""The signals of a course, and the names that they go by."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from fever_extract.records import Face

SIGNALS = {
    "smile": ("bs_mouthSmileLeft", "bs_mouthSmileRight"),
    "blink": ("bs_eyeBlinkLeft", "bs_eyeBlinkRight"),
}
"""Those that are the mean of several blendshapes."""


def names_of(face: Face) -> tuple[str, ...]:
    """The columns of a face, named as in a table: ``p_happiness``, ``valence``, ``bs_jawOpen``."""
    return (
        *(f"p_{name}" for name in face.expressions),
        *(() if face.valence is None else ("valence", "arousal")),
        *(f"bs_{name}" for name in face.blendshapes),
    )


def values_of(face: Face) -> list[float]:
    """What stands in those columns."""
    affect = [] if face.valence is None or face.arousal is None else [face.valence, face.arousal]
    return [*face.expressions.values(), *affect, *face.blendshapes.values()]


def columns_of(name: str, names: Sequence[str]) -> list[int]:
    """Find the columns whose mean is a signal.

    Args:
        name: a column, an expression or a blendshape without its prefix, or one of `SIGNALS`.
        names: of the columns there are.

    Raises:
        ValueError: if there is no such signal, or the weights have no head for it.
    """
    for candidates in (SIGNALS.get(name, ()), [name], [f"p_{name}"], [f"bs_{name}"]):
        if candidates and set(candidates) <= set(names):
            return [names.index(candidate) for candidate in candidates]
    if name in SIGNALS:
        raise ValueError(
            f"signal {name!r} is the mean of {' and '.join(SIGNALS[name])}, which these weights "
            "don't give"
        )
    known = [*SIGNALS, *(n.partition("_")[2] or n for n in names)]
    close = difflib.get_close_matches(name, known, 1, 0.5)
    meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
    raise ValueError(f"unknown signal {name!r}; {meant}")

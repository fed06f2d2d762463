"""What a course consists of: means by face and step, and what was seen in each frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from fever_extract.records import Frame
from fever_extract.video.aggregation import Observations, Steps
from fever_extract.video.signals import columns_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of the faces of a clip.

    Attributes:
        clip: its name.
        step: in seconds; steps are counted from the clip's beginning.
        names: of the values: ``p_happiness``, ``bs_jawOpen``, ``valence`` and so on.
        frames: how many frames were looked at.
        problems: a frame for each thing that could not be read, or one that says that there is no
            face at all; empty if all is well.
        about: what made it: weights, smoothing, neutral.
        steps: means and spreads, by face.
        kept: what was measured in each frame, by face; None if only means were kept.
    """

    clip: str
    step: float
    names: tuple[str, ...] = field(repr=False)
    frames: int
    problems: tuple[Frame, ...]
    about: Mapping[str, Any] = field(repr=False)
    steps: Mapping[int, Steps] = field(repr=False)
    kept: Mapping[int, Observations] | None = field(repr=False)

    @property
    def faces(self) -> tuple[int, ...]:
        """The ids of the faces, in the order in which they came."""
        return tuple(sorted(self.steps))

    def seconds(self, face: int) -> float:
        """For how long a face was seen."""
        return float(self._of(self.steps, face).seconds.sum())

    def signal(
        self, face: int, name: str
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """The times of a face's frames in seconds, and the signal in each; both ``(n,)``."""
        seen = self._signal(face, name)
        return seen.times, seen.values[:, 0]

    def seen(self) -> Mapping[int, Observations]:
        """What was measured in each frame, by face.

        Raises:
            ValueError: if it was not kept.
        """
        if self.kept is None:
            raise ValueError(
                "this course has means only, and that needs its frames: make it with "
                "keep_frames=True"
            )
        return self.kept

    def _signal(self, face: int, name: str) -> Observations:
        seen = self._of(self.seen(), face)
        values = seen.values[:, columns_of(name, self.names)].mean(axis=1, keepdims=True)
        return seen.replaced(values)

    def _of(self, values: Mapping[int, T], face: int) -> T:
        if face not in values:
            raise ValueError(
                f"there is no face {face} in {self.clip or 'the clip'}; faces are "
                f"{', '.join(map(str, self.faces)) or 'not in it'}"
            )
        return values[face]

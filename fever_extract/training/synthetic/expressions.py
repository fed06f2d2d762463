"""Expressions as strengths of the face units: real ones, recipes, and a few units at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.data.columns import numbers, read_columns

if TYPE_CHECKING:
    import numpy.typing as npt

NEUTRAL = "_neutral"
SIDES = ("Left", "Right")

_Range = tuple[float, float]
_Recipe = Mapping[str, _Range]

# Strengths at full intensity, drawn between the two numbers. A name without a side is both sides,
# which then differ a little. After FACS (Ekman and Friesen), with ARKit's units for its own; of
# several variants one is drawn.
EXPRESSIONS: Mapping[str, Sequence[_Recipe]] = {
    "neutral": [{}],
    "happiness": [
        {"mouthSmile": (0.5, 1), "cheekSquint": (0.3, 0.9), "eyeSquint": (0.2, 0.7),
         "mouthDimple": (0, 0.3)},
        {"mouthSmile": (0.6, 1), "cheekSquint": (0.4, 1), "eyeSquint": (0.2, 0.8),
         "mouthUpperUp": (0.3, 0.8), "mouthLowerDown": (0.1, 0.6), "jawOpen": (0, 0.45)},
    ],
    "surprise": [
        {"browInnerUp": (0.6, 1), "browOuterUp": (0.6, 1), "eyeWide": (0.4, 1),
         "jawOpen": (0.3, 0.9), "mouthFunnel": (0, 0.4)},
        {"browInnerUp": (0.6, 1), "browOuterUp": (0.6, 1), "eyeWide": (0.5, 1),
         "jawOpen": (0.05, 0.3)},
    ],
    "sadness": [
        {"browInnerUp": (0.6, 1), "browDown": (0, 0.4), "mouthFrown": (0.4, 1),
         "mouthShrugLower": (0.2, 0.8), "eyeSquint": (0, 0.4), "eyeLookDown": (0, 0.5)},
        {"browInnerUp": (0.6, 1), "browDown": (0.1, 0.5), "mouthFrown": (0.4, 1),
         "mouthStretch": (0.1, 0.6), "mouthLowerDown": (0, 0.3), "eyeSquint": (0.2, 0.7),
         "cheekSquint": (0.2, 0.6), "jawOpen": (0, 0.25)},
    ],
    "anger": [
        {"browDown": (0.7, 1), "eyeSquint": (0.2, 0.7), "noseSneer": (0.1, 0.5),
         "mouthPress": (0.4, 1), "mouthRollUpper": (0, 0.4), "mouthRollLower": (0, 0.4),
         "mouthFrown": (0, 0.4), "jawForward": (0, 0.3)},
        {"browDown": (0.7, 1), "eyeWide": (0.1, 0.7), "noseSneer": (0.3, 0.8),
         "mouthUpperUp": (0.2, 0.7), "mouthLowerDown": (0.4, 1), "mouthStretch": (0.1, 0.5),
         "jawOpen": (0.1, 0.6), "jawForward": (0, 0.4)},
    ],
    "disgust": [
        {"noseSneer": (0.7, 1), "mouthUpperUp": (0.4, 1), "browDown": (0.3, 0.7),
         "cheekSquint": (0.2, 0.7), "eyeSquint": (0.3, 0.8), "mouthFrown": (0, 0.5),
         "mouthShrugLower": (0, 0.5)},
        {"noseSneer": (0.6, 1), "mouthUpperUp": (0.4, 1), "mouthLowerDown": (0.2, 0.6),
         "mouthFrown": (0.2, 0.7), "browDown": (0.2, 0.6), "eyeSquint": (0.3, 0.8),
         "jawOpen": (0.05, 0.35)},
    ],
    "fear": [
        {"browInnerUp": (0.7, 1), "browOuterUp": (0.2, 0.7), "browDown": (0.2, 0.5),
         "eyeWide": (0.6, 1), "mouthStretch": (0.4, 1), "jawOpen": (0.1, 0.6),
         "mouthLowerDown": (0.1, 0.5)},
        {"browInnerUp": (0.7, 1), "browDown": (0.1, 0.4), "eyeWide": (0.5, 1),
         "mouthStretch": (0.4, 1), "mouthFrown": (0, 0.4), "jawOpen": (0, 0.2)},
    ],
    "contempt": [
        {"mouthSmileLeft": (0.3, 0.7), "mouthDimpleLeft": (0.5, 1), "mouthPressLeft": (0, 0.6),
         "eyeSquint": (0, 0.4), "cheekSquintLeft": (0, 0.4)},
        {"mouthDimpleLeft": (0.6, 1), "mouthUpperUpLeft": (0.2, 0.6), "noseSneerLeft": (0.1, 0.5),
         "browOuterUpLeft": (0, 0.6), "eyeLookDown": (0, 0.4), "mouthLeft": (0, 0.3)},
    ],
}  # fmt: skip

_OTHERS: Mapping[str, Sequence[_Recipe]] = {
    "pain": [
        {"browDown": (0.5, 1), "cheekSquint": (0.6, 1), "eyeSquint": (0.5, 1),
         "eyeBlink": (0.2, 0.9), "noseSneer": (0.3, 0.8), "mouthUpperUp": (0.3, 0.8),
         "mouthStretch": (0.2, 0.7), "jawOpen": (0, 0.5)},
    ],
    "eyes": [
        {"eyeBlink": (0.9, 1)},
        {"eyeBlinkLeft": (0.8, 1), "cheekSquintLeft": (0, 0.6)},
        {"eyeBlink": (0.3, 0.7)},
        {"eyeWide": (0.5, 1)},
        {"eyeSquint": (0.5, 1)},
    ],
    # Visemes: what the mouth does at a, e, i, o, u, m, f, l and sh.
    "speech": [
        {"jawOpen": (0.3, 0.7), "mouthLowerDown": (0.1, 0.4)},
        {"jawOpen": (0.15, 0.4), "mouthStretch": (0.2, 0.5), "mouthUpperUp": (0.1, 0.3)},
        {"jawOpen": (0.05, 0.2), "mouthStretch": (0.3, 0.7), "mouthSmile": (0.1, 0.3)},
        {"jawOpen": (0.15, 0.4), "mouthFunnel": (0.5, 1)},
        {"jawOpen": (0.05, 0.2), "mouthPucker": (0.5, 1)},
        {"mouthPress": (0.2, 0.6), "mouthRollLower": (0.2, 0.6), "mouthRollUpper": (0.2, 0.6)},
        {"mouthRollLower": (0.5, 1), "mouthUpperUp": (0.1, 0.4), "jawOpen": (0.02, 0.1)},
        {"jawOpen": (0.15, 0.35)},
        {"mouthFunnel": (0.4, 0.8), "mouthPucker": (0.1, 0.4), "jawOpen": (0.05, 0.15)},
    ],
}  # fmt: skip

_SHOWN = 0.5
"""Intensity from which a recipe's expression can be seen, and is named."""
_WITH_REAL = {"real": 0.5, "recipe": 0.38, "sparse": 0.12}
_WITHOUT = {"recipe": 0.75, "sparse": 0.25}
_RECIPES = {"plain": 0.5, "one-sided": 0.1, "compound": 0.12, "talking": 0.08, "others": 0.2}


@dataclass(frozen=True)
class Expression:
    """What a face shows.

    Attributes:
        units: ``(52,)`` float32 in 0 to 1, by `Expressions.names`.
        source: ``real``, ``recipe`` or ``sparse``.
        recipe: one of the eight expressions where the recipe shows it, and it alone.
    """

    units: npt.NDArray[np.float32]
    source: str
    recipe: str | None


class Expressions:
    """Draw expressions.

    Args:
        names: of the blendshapes, ``_neutral`` among them, which stays 0.
        rows: ``(n, 52)`` float32, blendshapes of real faces to draw from; may be empty.
    """

    def __init__(self, names: Sequence[str], rows: npt.NDArray[np.float32]) -> None:
        self.names, self.rows = tuple(names), rows
        self._index = {name: column for column, name in enumerate(names)}
        self.mirrored = np.array([self._index[_other_side(name)] for name in names])
        weights = np.ones(len(rows))
        if len(rows):
            # Half of the draws prefer what is rare: most photographs are neutral or smile.
            weights = np.linalg.norm(rows - np.median(rows, axis=0), axis=1) ** 2 + 1e-6
        self._rare = weights / max(weights.sum(), 1e-6)

    def draw(self, rng: np.random.Generator) -> Expression:
        """Draw one."""
        shares = _WITH_REAL if len(self.rows) else _WITHOUT
        source = str(rng.choice(list(shares), p=list(shares.values())))
        recipe = None
        if source == "real":
            units = self._real(rng)
        elif source == "recipe":
            units, recipe = self._recipe(rng)
            self._look_about(units, rng)
        else:
            units = self._sparse(rng)
            self._look_about(units, rng)
        units = np.clip(units, 0, 1).astype(np.float32)
        units[self._index[NEUTRAL]] = 0
        # `mouthClose` undoes what `jawOpen` does to the lips, so it means nothing without.
        close, jaw = self._index["mouthClose"], self._index["jawOpen"]
        units[close] = min(units[close], units[jaw])
        return Expression(units, source, recipe)

    def _real(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Draw a real face's units, made a little stronger or weaker, or mixed with another's."""
        prefer = self._rare if rng.random() < 0.5 else None
        first, second = self.rows[rng.choice(len(self.rows), 2, p=prefer)]
        share = rng.random() * 0.5 if rng.random() < 0.2 else 0.0
        units = (1 - share) * first + share * second
        if rng.random() < 0.5:
            units = units[self.mirrored]
        units = units * np.exp(rng.normal(0, 0.15, len(units)))
        stronger = rng.uniform(1, 1.5) if rng.random() < 0.3 else 1.0
        real: npt.NDArray[np.float32] = (stronger * units).astype(np.float32)
        return real

    def _recipe(self, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], str | None]:
        kind = rng.choice(list(_RECIPES), p=list(_RECIPES.values()))
        intensity = rng.uniform(0.1, 1.0)
        name = str(rng.choice(list(EXPRESSIONS)))
        if kind == "others":
            other = str(rng.choice(list(_OTHERS)))
            return intensity**0.5 * self._of(_OTHERS[other], rng), None
        units = self._of(EXPRESSIONS[name], rng)
        if kind == "one-sided" and name != "contempt":  # which is so by itself
            side = SIDES[rng.integers(2)]
            weaker = [column for name, column in self._index.items() if name.endswith(side)]
            units[weaker] *= rng.uniform(0.2, 0.7)
        elif kind == "compound":
            second = str(rng.choice(list(EXPRESSIONS)))
            units = np.float32(0.8) * np.maximum(units, self._of(EXPRESSIONS[second], rng))
            name = name if second == name else ""
        elif kind == "talking":
            speech = np.float32(rng.uniform(0.5, 1)) * self._of(_OTHERS["speech"], rng)
            units = np.maximum(units, speech)
            name = ""
        if name == "neutral":
            return rng.uniform(0, 0.08, len(units)).astype(np.float32), name
        return intensity * units, name if name and intensity >= _SHOWN else None

    def _of(self, variants: Sequence[_Recipe], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Draw the strengths of one variant, mirrored half of the time."""
        units = rng.uniform(0, 0.04, len(self.names)).astype(np.float32)
        for name, (low, high) in variants[int(rng.integers(len(variants)))].items():
            strength = rng.uniform(low, high)
            if name in self._index:
                units[self._index[name]] = strength
            else:
                for side in SIDES:
                    units[self._index[name + side]] = strength * np.exp(rng.normal(0, 0.1))
        mirrored: npt.NDArray[np.float32] = units[self.mirrored]
        return mirrored if rng.random() < 0.5 else units

    def _sparse(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Draw one to five units of any strength, often on both sides."""
        units = np.zeros(len(self.names), np.float32)
        for column in rng.choice(len(units), rng.integers(1, 6), replace=False):
            units[column] = rng.uniform(0.2, 1)
            if rng.random() < 0.6:
                units[self.mirrored[column]] = units[column]
        return units

    def _look_about(self, units: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
        """Turn both eyes the same way, on most faces a little."""
        if rng.random() < 0.4:
            return
        left, up = rng.normal(0, 0.3, 2)
        turned = {
            "eyeLookOutLeft": left, "eyeLookInRight": left, "eyeLookOutRight": -left,
            "eyeLookInLeft": -left, "eyeLookUpLeft": up, "eyeLookUpRight": up,
            "eyeLookDownLeft": -up, "eyeLookDownRight": -up,
        }  # fmt: skip
        for name, strength in turned.items():
            column = self._index[name]
            units[column] = max(float(strength), float(units[column]) if strength > 0 else 0.0)


def read_rows(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Read the blendshapes of real faces from a table, of its split ``train`` where it has splits.

    Returns:
        Their names, and rows ``(n, 52)`` float32.

    Raises:
        FileNotFoundError: if there is no such table.
        ValueError: if it has no blendshapes with names.
    """
    table = read_columns(path)
    names = (table.schema.metadata or {}).get(b"blendshape_names", b"").decode()
    if not names or "blendshapes" not in table.column_names:
        raise ValueError(f"{path} has no blendshapes; give another table, or none")
    if "split" in table.column_names:
        table = table.filter(np.array(table["split"].to_pylist()) == "train")
    rows = numbers(table, "blendshapes", len(names.split(",")))
    return tuple(names.split(",")), rows[np.isfinite(rows).all(axis=1)]


def _other_side(name: str) -> str:
    for side, other in (SIDES, SIDES[::-1]):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name

"""Draw people: the shape of their heads, skin, hair, brows, eyes and teeth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.synthetic.assets import Assets, Cloth
from fever_extract.training.synthetic.head import AGES, RACES, Head
from fever_extract.training.synthetic.paint import BROWN_EYES
from fever_extract.training.synthetic.raster import mix

if TYPE_CHECKING:
    import numpy.typing as npt

Colour = tuple[float, float, float]

_HAIR: Sequence[Colour] = (
    (0.012, 0.011, 0.01), (0.03, 0.02, 0.015), (0.07, 0.04, 0.022), (0.13, 0.075, 0.04),
    (0.24, 0.16, 0.08), (0.38, 0.28, 0.16), (0.20, 0.07, 0.03),
)  # fmt: skip
_GREY: Sequence[Colour] = ((0.13, 0.13, 0.13), (0.26, 0.26, 0.255), (0.42, 0.415, 0.4))
_LONG = ("bob", "long", "braid", "ponytail")
_OVER_EYE = ("bob01", "bob02", "short03")
# Ethnic shares of skins, by the names of MakeHuman's textures.
_DARK_SHARE = {"african": 0.95, "asian": 0.1, "caucasian": 0.03}


@dataclass(frozen=True, eq=False)
class Person:
    """Somebody, before any expression.

    Attributes:
        rest: ``(v, 3)`` float32, the head.
        size: of it, to one of the base mesh.
        skin: row of the texture.
        tint: ``(3,)``, what the skin's colour is multiplied by.
        hair, brows, lashes, teeth: what is worn; None without.
        hair_colour, lips: linear RGB; the second multiplies the skin's.
        beard: how much of one, 0 to 1.
        eyes: row among the textures of eyes.
        freckles: how uneven the skin is, 0 to 1.
        oily: strength of highlights.
    """

    rest: npt.NDArray[np.float32]
    size: float
    skin: int
    tint: npt.NDArray[np.float32]
    hair: Cloth | None
    brows: Cloth
    lashes: Cloth | None
    teeth: Cloth
    hair_colour: Colour
    lips: Colour
    beard: float
    eyes: int
    freckles: float
    oily: float


def draw_person(rng: np.random.Generator, head: Head, assets: Assets, eyes: int) -> Person:
    """Draw one.

    Args:
        rng: what decides.
        head: that is shaped.
        assets: that are put on.
        eyes: number of textures of eyes there are.
    """
    race = dict(zip(RACES, rng.dirichlet([0.35] * 3).tolist()))
    male = float(np.clip(rng.choice([rng.normal(0.08, 0.12), rng.normal(0.92, 0.12)]), 0, 1))
    # Few small children, many adults, every age up to 90.
    age = float(rng.choice([rng.uniform(0.2, 0.4), rng.uniform(0.4, 0.7), rng.uniform(0.6, 1)],
                           p=[0.15, 0.55, 0.3]))  # fmt: skip
    rest = head.base + _macro(head, race, male, age, rng) + _details(head, rng)
    dark = rng.random() < sum(share * _DARK_SHARE[name] for name, share in race.items())
    years = "young" if age < 0.6 else "middleage" if age < 0.8 else "old"
    look = f"{years}_{'dark' if dark else 'light'}skinned_{'male' if male > 0.5 else 'female'}"
    skins = [row for name, row in assets.skins.items() if name.startswith(look)]
    skin = int(rng.choice(skins or list(assets.skins.values())))
    light = np.exp(rng.normal(-0.05 if dark else -0.15 - 0.25 * race["asian"], 0.25))
    tint = light * np.exp(rng.normal(0, 0.05, 3))
    brows, lashes, teeth = (_pick(rng, assets.cloths[kind])
                            for kind in ("eyebrows", "eyelashes", "teeth"))  # fmt: skip
    colour = _hair_colour(rng, race["caucasian"], age)
    adult = max(0.0, min(1.0, (age - 0.4) * 10))
    bearded = male > 0.5 and rng.random() < 0.45
    made_up = male < 0.5 and rng.random() < 0.35
    lips = np.array([1.0, 0.55, 0.6]) if made_up else np.array([1.0, 0.9, 0.9])
    lips = lips * np.exp(rng.normal(0, 0.1, 3))
    return Person(
        rest.astype(np.float32),
        float(np.ptp(rest[head.eye_triangles, 0]) / np.ptp(head.base[head.eye_triangles, 0])),
        skin,
        tint.astype(np.float32),
        _pick_hair(rng, assets, male, age),
        brows,
        lashes if rng.random() < (0.9 if male < 0.5 else 0.4) else None,
        teeth,
        colour,
        (float(lips[0]), float(lips[1]), float(lips[2])),
        adult * float(rng.uniform(0.15, 1)) if bearded else 0.0,
        int(rng.integers(eyes if rng.random() < race["caucasian"] else BROWN_EYES)),
        float(rng.uniform(0, 1) ** 2),
        float(rng.uniform(0.05, 1)),
    )


def _macro(
    head: Head, race: dict[str, float], male: float, age: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Age, sex, ethnicity, muscle and weight together, as MakeHuman interpolates its targets."""
    muscle, weight = rng.uniform(0.2, 0.8), float(np.clip(rng.normal(0.5, 0.25), 0, 1))
    sexes = {"female": 1 - male, "male": male}
    ages = _between(age, dict(list(AGES.items())[1:]))
    muscles = _between(muscle, {"minmuscle": 0.0, "averagemuscle": 0.5, "maxmuscle": 1.0})
    weights = _between(weight, {"minweight": 0.0, "averageweight": 0.5, "maxweight": 1.0})
    strengths = np.zeros(len(head.macro), np.float32)
    for sex, of_sex in sexes.items():
        for years, of_age in ages.items():
            for name, share in race.items():
                strengths[head.macro[f"{name}-{sex}-{years}"]] = share * of_sex * of_age
            for muscle_name, of_muscle in muscles.items():
                for weight_name, of_weight in weights.items():
                    row = head.macro[f"universal-{sex}-{years}-{muscle_name}-{weight_name}"]
                    strengths[row] = of_sex * of_age * of_muscle * of_weight
    mixed: npt.NDArray[np.float32] = mix(strengths, head.macro_offsets)
    return mixed


def _between(value: float, anchors: dict[str, float]) -> dict[str, float]:
    """Shares of the two anchors that a value lies between."""
    names, places = list(anchors), list(anchors.values())
    shares = [float(np.interp(value, places, np.eye(len(names))[i])) for i in range(len(names))]
    return {name: share for name, share in zip(names, shares) if share}


def _details(head: Head, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Features that differ from the average, a few of them much; sides differ a little."""
    strengths = np.zeros(len(head.detail_offsets), np.float32)
    for name, (less, more) in sorted(head.details.items()):
        if name.startswith("r-"):
            continue
        value = rng.normal(0, 0.3) if rng.random() < 0.6 else 0.0
        # A place or an angle shifted from the middle is an asymmetry: seldom strong.
        if name.endswith("-trans") or name in ("head-angle", "eyebrows-angle", "mouth-angles"):
            value *= 0.4
        if less < 0:
            value = abs(value)
        strengths[less if value < 0 else more] = min(abs(value), 1)
        if name.startswith("l-"):
            value += rng.normal(0, 0.03) if value else 0.0
            less_right, more_right = head.details["r-" + name.removeprefix("l-")]
            strengths[less_right if value < 0 <= less_right else more_right] = min(abs(value), 1)
    mixed: npt.NDArray[np.float32] = mix(strengths, head.detail_offsets)
    return mixed


def _pick(rng: np.random.Generator, cloths: Sequence[Cloth]) -> Cloth:
    return cloths[int(rng.integers(len(cloths)))]


def _pick_hair(rng: np.random.Generator, assets: Assets, male: float, age: float) -> Cloth | None:
    """Long hair is mostly a woman's; some men have none."""
    if rng.random() < (0.03 if male < 0.5 else 0.1 + 0.3 * max(0.0, age - 0.5)):
        return None
    cloths = list(assets.cloths["hair"])
    long = np.array([cloth.name.startswith(_LONG) for cloth in cloths])
    weights = np.where(long, 0.06, 1.0) if male > 0.5 else np.where(long, 1.0, 0.3)
    weights = weights * [0.12 if cloth.name in _OVER_EYE else 1 for cloth in cloths]
    return cloths[int(rng.choice(len(cloths), p=weights / weights.sum()))]


def _hair_colour(rng: np.random.Generator, caucasian: float, age: float) -> Colour:
    if rng.random() < max(0.0, (age - 0.6) * 2):
        colour = _GREY[int(rng.integers(len(_GREY)))]
    elif rng.random() < caucasian:
        colour = _HAIR[int(rng.integers(len(_HAIR)))]
    else:
        colour = _HAIR[int(rng.integers(2))]
    red, green, blue = (np.array(colour) * np.exp(rng.normal(0, 0.12))).tolist()
    return red, green, blue

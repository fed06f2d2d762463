"""Expressions are what their names say, and in the range of blendshapes."""

import numpy as np
import pytest

from fever_extract import Extractor
from fever_extract.models.config import EXPRESSIONS as NAMES
from fever_extract.training.synthetic.expressions import EXPRESSIONS, Expressions, read_rows


@pytest.fixture(scope="module")
def blendshapes() -> tuple[str, ...]:
    return tuple(Extractor(device="cpu").config.blendshapes)


def draw(expressions: Expressions, count: int) -> list:
    rng = np.random.default_rng(0)
    return [expressions.draw(rng) for _ in range(count)]


def test_recipes_are_of_the_networks_eight_expressions(blendshapes):
    assert tuple(EXPRESSIONS) == NAMES
    units = set(blendshapes) | {name.removesuffix("Left") for name in blendshapes}
    for variants in EXPRESSIONS.values():
        assert {name for recipe in variants for name in recipe} <= units


def test_recipes_move_what_their_expression_moves(blendshapes):
    drawn = draw(Expressions(blendshapes, np.zeros((0, 52), np.float32)), 3000)
    mean = {
        name: np.mean([item.units for item in drawn if item.recipe == name], axis=0)
        for name in NAMES
    }

    def strength(name: str, unit: str) -> float:
        return float(mean[name][blendshapes.index(unit)])

    for name, unit in (
        ("happiness", "mouthSmileLeft"),
        ("surprise", "browOuterUpRight"),
        ("sadness", "mouthFrownLeft"),
        ("anger", "browDownRight"),
        ("disgust", "noseSneerLeft"),
        ("fear", "mouthStretchRight"),
    ):
        others = [strength(other, unit) for other in NAMES if other != name]
        assert strength(name, unit) > max(others), (name, unit)
    assert mean["neutral"].max() < 0.15


def test_contempt_is_on_one_side_either_side(blendshapes):
    drawn = draw(Expressions(blendshapes, np.zeros((0, 52), np.float32)), 3000)
    columns = [blendshapes.index(f"mouthDimple{side}") for side in ("Left", "Right")]
    left, right = np.array([item.units[columns] for item in drawn if item.recipe == "contempt"]).T
    assert (np.maximum(left, right) > 3 * np.minimum(left, right)).all()
    assert 0.3 < (left > right).mean() < 0.7


def test_all_are_blendshapes(blendshapes):
    rows = np.random.default_rng(1).uniform(0, 1, (20, 52)).astype(np.float32)
    drawn = draw(Expressions(blendshapes, rows), 500)
    units = np.array([item.units for item in drawn])
    assert units.dtype == np.float32
    assert units.min() >= 0
    assert units.max() <= 1
    assert (units[:, blendshapes.index("_neutral")] == 0).all()
    close, jaw = blendshapes.index("mouthClose"), blendshapes.index("jawOpen")
    assert (units[:, close] <= units[:, jaw]).all()
    assert {item.source for item in drawn} == {"real", "recipe", "sparse"}
    assert all(item.source == "recipe" for item in drawn if item.recipe)


def test_real_rows_are_of_the_training_split(data):
    names, rows = read_rows(data / "ferplus.parquet")
    assert len(names) == rows.shape[1] == 52
    assert np.isfinite(rows).all()
    assert 20_000 < len(rows) <= 28_558  # train without those that have none


def test_a_table_without_blendshapes_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no blendshapes"):
        read_rows(tmp_path / "a.parquet")

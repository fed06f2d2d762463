"""FeverTransformer in scikit-learn's hands."""

import io
import json
import os
import pickle
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_array

from fever_extract import ExtractionError, FeverTransformer, Options, WeightsError
from fever_extract.pipeline import Pipeline


@pytest.fixture(scope="module")
def faces(tmp_path_factory, astronaut):
    """Twelve files of one face, six of them with the mouth covered, and what they are."""
    folder = tmp_path_factory.mktemp("faces")
    paths = []
    for index in range(12):
        picture = astronaut.crop((120, 0, 340, 220)).rotate(2 * (index // 2), Image.BICUBIC)
        if index % 2:
            picture.paste((90, 60, 50), (80, 130, 150, 170))
        paths.append(str(folder / f"{index}.png"))
        picture.save(paths[-1])
    return paths, np.array(["smiling", "covered"] * 6)


@pytest.fixture
def extracted(monkeypatch):
    """How many images the real pipeline was given."""
    counts = []
    process = Pipeline.process

    def counting(self, batch, *arguments):
        counts.append(len(batch))
        return process(self, batch, *arguments)

    monkeypatch.setattr(Pipeline, "process", counting)
    return counts


def classifier(**parameters):
    return make_pipeline(FeverTransformer(**parameters), StandardScaler(), LogisticRegression())


# The transformer as such


def test_the_same_vectors_as_the_extractors(faces, extractor):
    paths, _ = faces
    X = FeverTransformer().fit_transform(paths)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, extractor.extract(paths))


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        np.array,
        pd.Series,
        pl.Series,
        lambda paths: np.array(paths, object)[:, None],
        lambda paths: pd.DataFrame({"path": paths}),
        lambda paths: pl.DataFrame({"path": paths}),
        lambda paths: [np.asarray(Image.open(path)) for path in paths],
        lambda paths: np.stack([np.asarray(Image.open(path)) for path in paths]),
        lambda paths: [Image.open(path) for path in paths],
        lambda paths: [Path(path).read_bytes() for path in paths],
    ],
)
def test_whatever_holds_images(faces, extractor, container):
    paths = faces[0][:2]
    X = FeverTransformer().transform(container(paths))
    np.testing.assert_allclose(X, extractor.extract(paths), atol=1e-4)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a.jpg", TypeError, "for one image pass it in a list"),
        (np.zeros((4, 4, 3), np.uint8), ValueError, "got an array of shape"),
        (np.zeros((4, 9)), ValueError, "got an array of shape"),
        (iter(["a.jpg"]), TypeError, "not an iterator"),
        (["a.jpg", None], TypeError, "image 1: expected a path"),
        (pd.Series(["a.jpg", np.nan]), TypeError, "image 1: expected a path"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), ValueError, "the columns a, b: pass the one"),
        (np.zeros((2, 9, 9, 3)), TypeError, r"image 0: .* need .astype"),
    ],
)
def test_what_can_not_be_images(X, error, message):
    with pytest.raises(error, match=message):
        FeverTransformer().fit(X)
    with pytest.raises(error, match=message):
        FeverTransformer().transform(X)


def test_parameters_are_those_of_options_and_checked_in_fit():
    parameters = FeverTransformer().get_params()
    for field in fields(Options):
        if field.name != "prior":  # vectors don't depend on it
            assert parameters[field.name] == field.default
    with pytest.raises(ValueError, match="select must be one of"):
        FeverTransformer(select="best").fit(["a.jpg"])
    with pytest.raises(WeightsError, match="neither a folder"):
        FeverTransformer("nowhere").fit(["a.jpg"])


def test_images_without_a_vector(faces, landscape):
    X = [faces[0][0], landscape, "nowhere.jpg"]
    for memory in (None, joblib.Memory(None)):
        with pytest.warns(UserWarning, match="2 of 3 .*1 no_face, 1 not_found"):
            rows = FeverTransformer(memory=memory).transform(X)
        assert np.isfinite(rows).all(axis=1).tolist() == [True, False, False]
        with pytest.raises(ExtractionError, match="image 1: no face"):
            FeverTransformer(on_error="raise", memory=memory).transform(X)


def test_set_params_takes_effect(faces):
    transformer = FeverTransformer().fit(faces[0])
    transformer.set_params(normalize=True)
    X = transformer.transform(faces[0][:2])
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-5)
    transformer.set_params(weights="nowhere")
    with pytest.raises(WeightsError):
        transformer.transform(faces[0])


def test_names_and_data_frames(faces):
    series = pd.Series(faces[0][:3], index=["a", "b", "c"])
    transformer = FeverTransformer().set_output(transform="pandas")
    frame = transformer.fit_transform(series.to_frame("path"))
    assert frame.columns.tolist() == transformer.get_feature_names_out().tolist()
    assert frame.columns[:2].tolist() == ["embedding_0", "embedding_1"]
    assert frame.index.tolist() == ["a", "b", "c"]
    assert (frame.dtypes == np.float32).all()
    polars = transformer.set_output(transform="polars").transform(series)
    np.testing.assert_array_equal(polars.to_numpy(), frame.to_numpy())


def test_clone_repr_and_pickle(faces):
    transformer = FeverTransformer(normalize=True, select="center").fit(faces[0])
    assert repr(transformer) == "FeverTransformer(normalize=True, select='center')"
    copy = clone(transformer)
    assert copy.get_params() == transformer.get_params()
    data = pickle.dumps(transformer)
    assert len(data) < 2000, "no weights inside"
    np.testing.assert_array_equal(
        pickle.loads(data).transform(faces[0][:2]), transformer.transform(faces[0][:2])
    )


def test_a_fitted_pipeline_on_disk(faces, tmp_path):
    paths, labels = faces
    model = classifier().fit(paths, labels)
    joblib.dump(model, tmp_path / "model.joblib")
    assert (tmp_path / "model.joblib").stat().st_size < 50_000
    assert joblib.load(tmp_path / "model.joblib").predict(paths).tolist() == labels.tolist()


def test_beside_other_features(faces):
    paths, labels = faces
    both = make_union(FeverTransformer(), FeverTransformer(normalize=True))
    assert both.fit_transform(paths[:2]).shape == (2, 1024)
    frame = pd.DataFrame({"path": paths, "age": range(12)})
    columns = make_column_transformer((FeverTransformer(), "path"), (StandardScaler(), ["age"]))
    model = make_pipeline(columns, LogisticRegression()).fit(frame, labels)
    assert model.score(frame, labels) == 1
    assert columns.get_feature_names_out()[-1] == "standardscaler__age"


def test_cross_validation_in_two_processes(faces, tmp_path):
    paths, labels = faces
    scores = cross_val_score(classifier(memory=tmp_path), paths, labels, cv=2, n_jobs=2)
    np.testing.assert_array_equal(
        scores, cross_val_score(classifier(memory=tmp_path), paths, labels, cv=2)
    )
    # The workers share the cores: what joblib tells them, torch obeys.
    threads = joblib.Parallel(n_jobs=2)([joblib.delayed(torch.get_num_threads)()] * 2)
    assert max(threads) <= max(1, joblib.cpu_count() // 2)


def test_scikit_learn_is_imported_only_for_the_transformer():
    code = (
        "import sys, fever_extract; assert 'sklearn' not in sys.modules; "
        "from fever_extract import *; assert 'sklearn' not in sys.modules; "
        "sys.modules['sklearn'] = None; fever_extract.FeverTransformer"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'fever-extract[sklearn]'")
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        from fever_extract import Nothing  # noqa: F401


# The cache


def test_a_grid_search_extracts_each_image_once(faces, tmp_path, extracted):
    paths, labels = faces
    steps = make_pipeline(
        FeverTransformer(memory=tmp_path), StandardScaler(), KNeighborsClassifier()
    )
    grid = {"kneighborsclassifier__n_neighbors": [1, 2, 3]}
    GridSearchCV(steps, grid, cv=2).fit(paths, labels)
    assert sum(extracted) == len(paths)


def test_a_changed_or_added_photo_is_all_that_is_extracted(faces, tmp_path, astronaut, extracted):
    paths = []
    for name in ("a.png", "b.png"):
        paths.append(str(tmp_path / name))
        astronaut.rotate(len(paths)).save(paths[-1])
    transformer = FeverTransformer(memory=str(tmp_path / "cache"))
    first = transformer.transform(paths)
    assert extracted == [2]

    os.rename(paths[0], tmp_path / "renamed.png")
    again = transformer.transform([tmp_path / "renamed.png", paths[1]])
    np.testing.assert_array_equal(again, first)
    assert extracted == [2], "known by content, not by name"

    with_new = transformer.transform([faces[0][0], paths[1], faces[0][0]])
    assert extracted == [2, 1]
    np.testing.assert_array_equal(with_new[1], first[1])
    np.testing.assert_array_equal(with_new[0], with_new[2])

    astronaut.rotate(9).save(paths[1])
    changed = transformer.transform([paths[1]])
    assert extracted == [2, 1, 1]
    assert not np.allclose(changed[0], first[1])


def test_what_changes_a_vector_is_extracted_anew(faces, tmp_path, extracted, extractor):
    def transform(**parameters):
        X = FeverTransformer(memory=tmp_path / "cache", **parameters).transform(faces[0][:2])
        return X, extracted.copy()

    plain, _ = transform()
    assert transform(batch_size=1, on_error="raise", show_progress=False)[1] == [2]
    normalized, counts = transform(normalize=True)
    assert counts == [2, 2]
    np.testing.assert_allclose(
        normalized, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6
    )
    assert transform(min_face_size=40)[1] == [2, 2, 2]

    # Weights are known by content too, and one value of their config makes them others.
    extractor.save_pretrained(tmp_path / "weights")
    assert transform(weights=tmp_path / "weights")[1] == [2, 2, 2], "the same weights"
    config = tmp_path / "weights" / "config.json"
    values = json.loads(config.read_text())
    values["preprocessing"]["mean"] = [v + 0.01 for v in values["preprocessing"]["mean"]]
    config.write_text(json.dumps(values))
    other, counts = transform(weights=tmp_path / "weights")
    assert counts == [2, 2, 2, 2]
    assert not np.allclose(other, plain)


def test_images_in_memory_are_known_by_their_pixels(astronaut, tmp_path, extracted):
    transformer = FeverTransformer(memory=tmp_path)
    pixels = np.asarray(astronaut)
    first = transformer.transform([pixels])
    assert transformer.transform([astronaut, pixels.copy()]).tolist() == [*first.tolist()] * 2
    assert extracted == [1]
    encoded = io.BytesIO()
    astronaut.save(encoded, "PNG")
    transformer.transform([encoded.getvalue()])
    assert extracted == [1, 1], "a file may be decoded otherwise than its pixels are"


def test_lasting_failures_are_kept_and_others_tried_again(landscape, tmp_path, extracted):
    late = tmp_path / "late.png"
    transformer = FeverTransformer(memory=tmp_path / "cache")
    with pytest.warns(UserWarning, match="1 no_face, 1 not_found"):
        transformer.transform([landscape, late])
    Image.fromarray(landscape).save(late)
    with pytest.warns(UserWarning, match="2 no_face"):
        transformer.transform([landscape, late])
    assert extracted == [2, 1]


def test_a_stopped_run_keeps_what_it_had(faces, tmp_path, monkeypatch):
    process, calls = Pipeline.process, []

    def failing(self, batch, *arguments):
        calls.append(len(batch))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return process(self, batch, *arguments)

    monkeypatch.setattr(Pipeline, "process", failing)
    transformer = FeverTransformer(memory=tmp_path, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        transformer.transform(faces[0])
    calls[:] = [0] * 10
    transformer.transform(faces[0])
    assert sum(calls) == 8, "two batches of two were kept"


def test_a_damaged_cache_is_mended(faces, tmp_path, extracted, caplog):
    transformer = FeverTransformer(memory=tmp_path)
    first = transformer.transform(faces[0][:2])
    for file in tmp_path.rglob("output.pkl"):
        file.write_bytes(b"broken")
    again = transformer.transform(faces[0][:2])
    assert "Exception while loading" in caplog.text, "joblib says so"
    np.testing.assert_array_equal(again, first)
    assert extracted == [2, 2]
    transformer.transform(faces[0][:2])
    assert extracted == [2, 2]


# scikit-learn's own checks. They pass numbers, which no photograph is: the subclass draws each
# row of them as a small picture, and is the transformer in all else.


class Drawn(FeverTransformer):
    def fit(self, X, y=None):
        return super().fit(draw(X), y)

    def transform(self, X):
        return super().transform(draw(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def draw(rows):
    rows = check_array(rows, dtype=float)
    grey = [np.resize((row * 37 % 256).astype(np.uint8), (16, 16)) for row in rows]
    return [np.repeat(picture[..., None], 3, axis=2) for picture in grey]


@parametrize_with_checks(
    [Drawn(aligned=True)],
    expected_failed_checks=lambda _: {
        "check_methods_subset_invariance": "asks for a relative 1e-4 of numbers near 0 too; we "
        "promise an absolute 1e-4, which tests/test_extractor.py holds us to",
        "check_methods_sample_order_invariance": "asks for a relative 1e-7; in another place of a "
        "batch, a sum may be rounded otherwise (by 6e-8 here)",
    },
)
def test_scikit_learns_checks_on_drawn_rows(estimator, check):
    check(estimator)

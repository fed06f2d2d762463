"""Calibration of an expression head for either prior."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from faces_maker import drawn_face, make_tables

from fever_extract import Extractor, hub
from fever_extract.models import checkpoint
from fever_extract.models.config import Backbone, WeightsError
from fever_extract.training import __main__ as command
from fever_extract.training.recipes.recipe import Recipe
from fever_extract.training.trainer.calibrate import best_temperature, calibrate, prior_power
from fever_extract.training.trainer.train import train


def test_temperature_and_prior_are_found_again():
    random = torch.Generator().manual_seed(0)
    truth = torch.arange(8).repeat_interleave(600)
    # Two samples of one Gaussian a class: the log likelihoods are the logits.
    centres = torch.randn(8, 5, generator=random).double() * 1.5
    points = centres[truth] + torch.randn(len(truth), 5, generator=random)
    logits = points @ centres.T - centres.square().sum(dim=1) / 2
    assert best_temperature(logits * 1.7, truth) == pytest.approx(1.7, abs=0.1)
    shares = [0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.015, 0.005]
    prior = torch.tensor(shares, dtype=torch.float64)
    counts = (prior / prior.max() * 600).long().tolist()
    kept = torch.cat([(truth == k).nonzero()[:count, 0] for k, count in enumerate(counts)])
    assert best_temperature(logits[kept] * 1.7, truth[kept]) == pytest.approx(1.7, abs=0.2)
    assert prior_power(logits[kept], truth[kept], prior) == pytest.approx(1, abs=0.1)
    assert prior_power(logits[kept], truth[kept], prior**0.5) == pytest.approx(2, abs=0.2)


def test_calibrating_changes_the_head_alone(tmp_path, monkeypatch, capsys):
    recipe = Recipe(
        name="test",
        backbone=Backbone(widths=(8, 16), depths=(1, 1)),
        embedding_dim=8,
        size=32,
        epochs=4,
        batch_size=32,
        unlabelled=0,
        peak_lr=0.01,
    )
    (tmp_path / "data").mkdir()
    run = train(recipe, make_tables(tmp_path / "data"), tmp_path / "run", device="cpu")
    with pytest.raises(WeightsError, match="an expression_prior in the config"):
        calibrate(run, tmp_path / "data", tmp_path / "never", device="cpu")
    trained = hub.load(run)
    config = dataclasses.replace(
        trained.config,
        expression_prior=(0.3, 0.3, *[0.4 / 6] * 6),
        metadata={"evaluation": {"of": "the weights before"}},
    )
    checkpoint.save(run, config, trained.data)
    arguments = ["calibrate", run, "--data", tmp_path / "data", "--output", tmp_path / "after"]
    monkeypatch.setattr("sys.argv", ["training", *map(str, arguments)])
    command.main()
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    after = Extractor(tmp_path / "after", device="cpu")
    assert after.config.metadata == {"calibration": done}
    assert sum(after.config.expression_prior) == pytest.approx(1, abs=1e-5)
    face = drawn_face(True, 48, np.random.default_rng(5))
    before = Extractor(run, device="cpu")
    assert np.array_equal(after.extract(face, aligned=True), before.extract(face, aligned=True))
    old, new = (
        hub.load(folder).state_dict["heads.expression.weight"]
        for folder in (run, tmp_path / "after")
    )
    np.testing.assert_allclose(new.float() * done["temperature"], old.float(), rtol=2e-3)
    again = calibrate(tmp_path / "after", tmp_path / "data", tmp_path / "again", device="cpu")
    assert again.temperature == pytest.approx(1, abs=0.03)

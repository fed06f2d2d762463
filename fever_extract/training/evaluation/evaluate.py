"""Run every protocol of `fever_extract.training.evaluation` on some weights."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract import hub
from fever_extract.hub.card import write_card
from fever_extract.models.checkpoint import save
from fever_extract.models.config import EXPRESSIONS, Preprocessing, WeightsError
from fever_extract.models.inference import for_inference
from fever_extract.models.network import FeverNet, build, pick_device
from fever_extract.training.data.faces import FACES, Faces, majority, read_ferplus, read_unlabelled
from fever_extract.training.evaluation import SEED, bootstrap, corruptions, peers
from fever_extract.training.evaluation.accuracy import (
    Accuracy,
    evaluate_head,
    figures,
    linear_probe,
    predict,
    run,
)
from fever_extract.training.evaluation.calibration import calibration_error
from fever_extract.training.evaluation.cost import cost
from fever_extract.training.evaluation.crops import take
from fever_extract.training.evaluation.embedding_measures import Benchmark, has_votes
from fever_extract.training.evaluation.prior import without_prior
from fever_extract.training.evaluation.robustness import robustness
from fever_extract.training.evaluation.stages import Stages

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "Accuracy",
    "evaluate",
    "evaluate_head",
    "linear_probe",
    "predict",
    "write_evaluation",
]

SPLITS = ("test", "valid")

_OWN_STAGES = 6


def evaluate(
    weights: str | os.PathLike[str] | None,
    data: Path,
    device: str | None = None,
    split: str = "test",
    limit: int | None = None,
) -> dict[str, object]:
    """Measure weights, and what a user could take instead of them, on one split of FER+.

    Args:
        weights: as in `fever_extract.Extractor`.
        data: folder of the Parquet tables.
        device: torch device; the best there is by default.
        split: ``test``, to be read once, or ``valid``, by which to choose.
        limit: measure on and learn from at most so many faces each, drawn at random: for a
            quick look.

    Returns:
        What was measured and what with, ready for JSON; docs/evaluation.md says how, and what
        each is called. Accuracies and errors are 0 to 1, intervals ``[low, high]`` hold 95 %.

    Raises:
        FileNotFoundError: if a table is missing.
        WeightsError: if the weights can't be used, or have other expressions than FER+.
    """
    checkpoint = hub.load(weights)
    if checkpoint.config.expressions != EXPRESSIONS:
        raise WeightsError(f"{checkpoint.source} has not FER+'s expressions in their order")
    network = build(checkpoint.config, checkpoint.state_dict)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    network = for_inference(network).to(pick_device(device))
    stages = Stages(_OWN_STAGES + len(peers.NAMES) + 1)
    with stages("reading"):
        faces, train, people = _read(data, split, limit)
        benchmark = Benchmark.of(train, faces, people)
    named = _measure_names(network, faces, train, stages)
    with stages("robustness"):
        truth = majority(faces.expression)
        robust = robustness(network, take(faces, truth >= 0))
    with stages("vectors"):
        ours = benchmark.measure(lambda asked: run(network, asked).embeddings)
    preprocessing = checkpoint.config.preprocessing
    with stages("cost"):
        costs = cost(network, preprocessing.channels, preprocessing.size)
    others = _measure_peers(benchmark, preprocessing, data, stages)
    stages.close()
    return {
        "weights": checkpoint.config.name,
        "sha256": checkpoint.sha256,
        "command": _command(split, limit),
        "split": split,
        "data": f"FER+ {split}, majority protocol, 8 classes",
        "faces": int((truth >= 0).sum()),
        "faces_by_class": _count(truth[truth >= 0]),
        "train_faces": len(train),
        "seed": SEED,
        "resamples": bootstrap.RESAMPLES,
        **named,
        **robust,
        "vectors": ours,
        "peers": others,
        "cost": {**costs, "parameters": parameters},
        "seconds": stages.seconds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {network.mean.device}",
        "torch": str(torch.__version__),
    }


def write_evaluation(
    folder: str | os.PathLike[str],
    evaluation: Mapping[str, object],
    description: str | None = None,
    name: str = "evaluation",
) -> None:
    """Put figures into a folder's ``config.json``, and make its model card anew.

    Args:
        folder: of the weights that were measured.
        evaluation: what `evaluate` or `evaluate_transfer` returned.
        description: Markdown on how the weights were made; kept as it was if left out.
        name: "evaluation", or "transfer" for the other's.
    """
    weights = hub.load(folder)
    added: dict[str, object] = {name: dict(evaluation)}
    if description is not None:
        added["description"] = description
    metadata = {**weights.config.metadata, **added}
    config = dataclasses.replace(weights.config, metadata=metadata)
    save(folder, config, weights.data)
    write_card(folder, config)


def _read(data: Path, split: str, limit: int | None) -> tuple[Faces, Faces, Faces]:
    """Faces of the split with votes, majority faces of train, and people, where there are any."""
    faces, train = read_ferplus(data, split), read_ferplus(data, "train")
    people = read_unlabelled(data) if (data / FACES).exists() else take(train, np.arange(0))
    faces, train = take(faces, has_votes(faces)), take(train, majority(train.expression) >= 0)
    if limit is not None:
        random = np.random.default_rng(SEED)
        faces, train = (
            take(each, np.sort(random.permutation(len(each))[:limit])) for each in (faces, train)
        )
    return faces, train, people


def _measure_names(
    network: FeverNet, faces: Faces, train: Faces, stages: Stages
) -> dict[str, object]:
    """How often, and how surely, the majority's expression is named."""
    with stages("accuracy"):
        said = run(network, faces, mirror=True)
        unaligned = run(network, corruptions.unalign(faces))
    with stages("linear probe"):
        learned = run(network, train)
        probe = linear_probe(learned.embeddings, majority(train.expression), said.embeddings)
    named = {
        "head": said.head.argmax(axis=1),
        "head_with_mirror_image": said.mirrored.argmax(axis=1),
        "head_without_alignment": unaligned.head.argmax(axis=1),
        "linear_probe": probe,
    }
    truth = majority(faces.expression)
    kept = truth >= 0
    calibration = {
        "head": calibration_error(said.head[kept], truth[kept]),
        "head_with_mirror_image": calibration_error(said.mirrored[kept], truth[kept]),
    }
    if prior := network.config.expression_prior:
        named["head_without_prior"] = without_prior(said.mirrored, prior).argmax(axis=1)
        calibration["head_without_prior"] = calibration_error(
            without_prior(said.head, prior)[kept], truth[kept], classes_alike=True
        )
    return {
        **{row: figures(classes[kept], truth[kept]) for row, classes in named.items()},
        "calibration": calibration,
    }


def _measure_peers(
    benchmark: Benchmark, preprocessing: Preprocessing, data: Path, stages: Stages
) -> dict[str, object]:
    """What each peer is worth, or what it lacks here."""
    measured: dict[str, object] = {}
    truth = majority(benchmark.split.expression)
    for name in (*peers.NAMES, "fer"):
        with stages(name):
            try:
                if name == "fer":  # has classes of its own, and no embeddings to speak of
                    named = peers.fer(benchmark.split)
                    measured[name] = {"head": figures(named[truth >= 0], truth[truth >= 0])}
                else:
                    embeddings = peers.make(name, preprocessing, benchmark.train, data)
                    measured[name] = benchmark.measure(embeddings)
            except peers.PeerMissingError as missing:
                measured[name] = {"missing": str(missing)}
    return measured


def _count(labels: npt.NDArray[np.int64]) -> dict[str, int]:
    return dict(zip(EXPRESSIONS, np.bincount(labels, minlength=len(EXPRESSIONS)).tolist()))


def _command(split: str, limit: int | None) -> str:
    """What to type for the same figures, but for where data and weights are."""
    chosen = "" if split == SPLITS[0] else f" --split {split}"
    limited = "" if limit is None else f" --limit {limit}"
    return f"python -m fever_extract.training evaluate{chosen}{limited}"

"""Transfer: measures of embeddings on labelled sets that training never saw.

`measure` takes any features of one set; `evaluate_transfer` measures weights and their peers on all
sets, and says whether the embeddings keep what the network knows.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fever_extract import hub
from fever_extract._utils import progress
from fever_extract.models.config import EXPRESSIONS
from fever_extract.models.inference import for_inference
from fever_extract.models.network import build, pick_device
from fever_extract.training.evaluation import SEED, bootstrap, probes
from fever_extract.training.evaluation.affect import affect_measures
from fever_extract.training.evaluation.label_probes import LabelProbes
from fever_extract.training.evaluation.prior import ferplus_prior
from fever_extract.training.evaluation.transfer_features import own_features, peer_features
from fever_extract.training.evaluation.transfer_sets import (
    POSE,
    TransferSet,
    given,
    read_transfer,
)

if TYPE_CHECKING:
    import numpy.typing as npt

OURS = "vector"
RIVALS = ("probabilities", "pooled")
"""What embeddings must not fall behind, or they have thrown away what the network knows."""
MARGIN = 0.5
"""Standard errors (of the difference) by which embeddings may fall behind."""

REGIONS = {
    "brows": ("brow",),
    "eyes": ("eye",),
    "cheeks and nose": ("cheek", "nose"),
    "mouth": ("mouth", "tongue"),
    "jaw": ("jaw",),
}
_MOVES = 0.01  # standard deviation of a blendshape, below which it is noise alone


def evaluate_transfer(
    weights: str | os.PathLike[str] | None,
    data: Path,
    tables: Sequence[Path] = (),
    *,
    device: str | None = None,
    limit: int | None = None,
    peers: bool = True,
) -> dict[str, Any]:
    """Measure weights on sets that training never saw, and peers on the same faces and folds.

    Args:
        weights: as in `fever_extract.Extractor`.
        data: folder of the Parquet tables; FER+ there gives the prior.
        tables: to measure on; those of `transfer_sets.GIVEN` by default.
        device: torch device; the best there is by default.
        limit: keep at most so many faces of each, drawn at random: for a quick look.
        peers: whether to measure those, too.

    Returns:
        ``sets``, each as `measure` returns it; ``verdict``; and what was measured with. Ready for
        JSON.

    Raises:
        FileNotFoundError, ValueError: if a table can't be used.
        WeightsError: if the weights can't be used.
    """
    checkpoint = hub.load(weights)
    network = build(checkpoint.config, checkpoint.state_dict)
    network = for_inference(network).to(pick_device(device))
    paths = tables or given(data)
    learned = _learned_from(checkpoint.config.metadata)
    sets = [_marked(read_transfer(path, limit), path.name in learned) for path in paths]
    prior: npt.ArrayLike | None = checkpoint.config.expression_prior or None
    if prior is None and checkpoint.config.expressions == EXPRESSIONS:
        prior = ferplus_prior(data)
    measured: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    for table in progress.bar(sets, unit="set"):
        start = time.monotonic()
        features = own_features(network, table)
        missing: dict[str, str] = {}
        probabilities = features.get("probabilities")
        felt = features.pop("valence_arousal", None)
        if peers:
            others, missing = peer_features(table, checkpoint.config.preprocessing, data)
            features.update(others)
        answers = measure(
            features,
            table,
            probabilities=probabilities,
            expressions=checkpoint.config.expressions,
            prior=prior,
        )
        if felt is not None:
            used = slice(None) if table.learn is None else ~table.learn
            answers["affect"] = affect_measures(felt[used], table.valence_arousal[used])
        measured.append({**answers, "missing": missing})
        seconds[table.name] = round(time.monotonic() - start, 1)
    return {
        "weights": checkpoint.config.name,
        "sha256": checkpoint.sha256,
        "command": _command(tables, limit, peers),
        "seed": SEED,
        "resamples": bootstrap.RESAMPLES,
        "sets": measured,
        "verdict": verdict(measured),
        "prior": None
        if prior is None
        else dict(zip(checkpoint.config.expressions, np.asarray(prior).tolist())),
        "seconds": seconds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {network.mean.device}",
        "torch": str(torch.__version__),
    }


def measure(
    features: Mapping[str, npt.NDArray[np.floating]],
    table: TransferSet,
    *,
    probabilities: npt.NDArray[np.floating] | None = None,
    expressions: Sequence[str] = EXPRESSIONS,
    prior: npt.ArrayLike | None = None,
) -> dict[str, Any]:
    """Ask what features of the same faces are worth.

    Args:
        features: by name, ``(n, d)`` each. If one is called ``vector``, it is compared with all
            others, face by face.
        table: the n faces.
        probabilities: ``(n, classes)`` of the network's head, to be judged as they are.
        expressions: names of their classes.
        prior: their shares in training, ``(classes,)``, to be taken out.

    Returns:
        About the set, and by feature all measures of docs/evaluation.md that its table allows;
        shares are 0 to 1. Ready for JSON.

    Raises:
        ValueError: if features are not ``(n, d)`` and finite.
    """
    for name, embeddings in features.items():
        if embeddings.ndim != 2 or len(embeddings) != len(table):
            raise ValueError(f"{name} must be ({len(table)}, d), not {embeddings.shape}")
        if not np.isfinite(embeddings).all():
            raise ValueError(f"{name} has values that are not finite")
    labelled = np.flatnonzero(table.labels >= 0)
    label_probes = LabelProbes(table, labelled) if len(table.classes) > 1 else None
    answers: dict[str, Any] = {
        "set": table.name,
        "reference": table.reference,
        "faces": len(table),
        "by_class": _count(table),
        "people": len(np.unique(table.people)) if table.people_known else None,
        "protocol": _protocol(table),
        "exact": table.exact,
        "note": table.note,
        "features": {},
    }
    right = {}
    for name, embeddings in progress.bar(
        features.items(), desc=table.name, unit="feature", leave=False
    ):
        answer: dict[str, Any] = {"dimensions": embeddings.shape[1]}
        if label_probes:
            right[name], asked = label_probes.measure(embeddings)
            answer.update(asked)
        scores = None if name == "blendshapes" else _blendshapes(embeddings, table)
        if scores:
            answer["blendshapes"] = scores
        if table.pose.shape[1]:
            found = _regress(embeddings, table.pose, table)
            answer["pose"] = dict(zip(POSE, found.tolist()))
        if table.people_known:
            answer["identity"] = probes.identity(embeddings, table.people)
        answers["features"][name] = answer
    if label_probes and OURS in right:
        answers["ahead"] = {
            name: label_probes.difference(right[OURS], other)
            for name, other in right.items()
            if name != OURS
        }
    if label_probes and probabilities is not None:
        answers["head"] = label_probes.head(probabilities, expressions, prior)
    return answers


def verdict(sets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Judge whether embeddings keep what the network knows, on every set but those for reference.

    Args:
        sets: as `measure` returns them.

    Returns:
        ``keeps``: whether the linear probe on embeddings is nowhere more than `MARGIN` standard
        errors behind one of `RIVALS` (None where none could be compared); and ``behind``: where
        it is, the set, the rival, the difference and its standard error.
    """
    compared = [
        {"set": each["set"], "rival": rival, **each["ahead"][rival]}
        for each in sets
        if not each["reference"]
        for rival in RIVALS
        if rival in each.get("ahead", {})
    ]
    behind = [c for c in compared if c["difference"] < -MARGIN * c["standard_error"]]
    return {"keeps": not behind if compared else None, "behind": behind}


def _blendshapes(embeddings: npt.NDArray[np.floating], table: TransferSet) -> dict[str, Any] | None:
    """R² of the blendshapes that move at all: their mean, and by region of the face."""
    if not np.isfinite(table.blendshapes).any():
        return None
    moves = np.nanstd(table.blendshapes, axis=0) >= _MOVES
    moves &= np.array(table.blendshape_names) != "_neutral"
    names = np.array(table.blendshape_names)[moves]
    if not len(names):
        return None
    scores = _regress(embeddings, table.blendshapes[:, moves], table)
    regions = {}
    for region, prefixes in REGIONS.items():
        inside = np.array([name.startswith(prefixes) for name in names.tolist()])
        if inside.any():
            regions[region] = float(scores[inside].mean())
    return {"r2": float(scores.mean()), "regions": regions, "count": len(names)}


def _regress(
    embeddings: npt.NDArray[np.floating], targets: npt.NDArray[np.floating], table: TransferSet
) -> npt.NDArray[np.float64]:
    """R² of each target, on the faces that have them, labelled or not."""
    known = np.flatnonzero(np.isfinite(targets).all(axis=1))
    people = table.people[known]
    if table.learn is None:
        folds = probes.folds_by_people(np.zeros(len(known), np.int64), people)
    else:
        learn = table.learn[known]
        folds = [(np.flatnonzero(learn), np.flatnonzero(~learn))]
    return probes.ridge(embeddings[known], targets[known], people, folds)


def _learned_from(metadata: Mapping[str, Any]) -> set[str]:
    """Name the tables that weights learned from, by their recipe."""
    recipe = metadata.get("recipe")
    if not isinstance(recipe, Mapping):
        return set()
    parts = recipe.get("tables")
    tables = [part.get("table") for part in parts or () if isinstance(part, Mapping)]
    return {str(name) for name in (recipe.get("labelled"), *tables) if name}


def _marked(table: TransferSet, learned: bool) -> TransferSet:
    """The set, in domain if the weights learned from its table."""
    return dataclasses.replace(table, reference=table.reference or learned)


def _count(table: TransferSet) -> dict[str, int]:
    measured = table.labels if table.learn is None else table.labels[~table.learn]
    return {name: int((measured == index).sum()) for index, name in enumerate(table.classes)}


def _protocol(table: TransferSet) -> str:
    if table.learn is not None:
        return f"learned from {int(table.learn.sum())} faces of its own training split"
    apart = "people apart" if table.people_known else "people unknown"
    return f"{probes.FOLDS} folds, {apart}"


def _command(tables: Sequence[Path], limit: int | None, peers: bool) -> str:
    """What to type for the same figures, but for where data and weights are."""
    parts = ["python -m fever_extract.training evaluate --transfer", *(t.name for t in tables)]
    if limit is not None:
        parts.append(f"--limit {limit}")
    if not peers:
        parts.append("--no-peers")
    return " ".join(parts)

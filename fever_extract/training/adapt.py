"""Fine-tune weights to a user's own classes, from a folder of class folders.

First comes a new expression head, a logistic regression on the embeddings as they are; then,
unless only that is wanted, the whole network goes on from there in small steps. The other heads
are kept, and held to what they said before (learning without forgetting, Li and Hoiem 2016,
arXiv 1606.09282), which also keeps the network from learning few faces by heart.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from tqdm import tqdm

from fever_extract import hub
from fever_extract._utils.extras import require
from fever_extract._utils.names import to_text
from fever_extract.hub.card import write_card
from fever_extract.models import checkpoint
from fever_extract.models.config import Config
from fever_extract.models.network import FeverNet, build, pick_device
from fever_extract.options import Options
from fever_extract.pipeline import Pipeline
from fever_extract.training.data.class_folders import (
    DETAIL,
    LabelledFaces,
    find_classes,
    find_faces,
)
from fever_extract.training.recipes.recipe import ADAPT_EPOCHS
from fever_extract.training.trainer.finetune import BATCH, FineTuning


def adapt(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    head_only: bool = False,
    epochs: int = ADAPT_EPOCHS,
    seed: int = 0,
    device: str | None = None,
    options: Options | None = None,
) -> Path:
    """Learn the classes of a folder and write weights that name them.

    A fifth of each class's faces is set apart to validate with; they choose the epoch, where
    the new head alone counts as epoch 0. On one machine's CPU, equal arguments give equal weights.

    Args:
        folder: has a folder for each class, named after it, with photographs in it.
        output: folder for the weights and their card; must not hold weights yet.
        weights: to begin from, as `fever_extract.Extractor` takes them.
        head_only: learn the head alone; embeddings stay as they are.
        epochs: of fine-tuning.
        seed: of the division, the order and the augmentation.
        device: torch device; the best there is by default.
        options: how faces are found, as in extraction.

    Returns:
        ``output``, a folder that `fever_extract.Extractor` loads.

    Raises:
        OSError, ValueError: if the folder has not two classes with enough faces each, there are
            weights in ``output`` already, or those to begin from can't be used.
        ImportError: if scikit-learn is missing.
    """
    folder, output, options = Path(folder), Path(output), options or Options()
    if epochs < 1:
        raise ValueError(
            f"epochs must be at least 1, not {epochs}; head_only learns the head alone"
        )
    _check(output, folder)
    paths = find_classes(folder)
    first, where = hub.load(weights), pick_device(device)
    config = dataclasses.replace(
        first.config,
        name=to_text(output.resolve().name),
        expressions=tuple(map(to_text, paths)),
        expression_prior=(),  # of other classes
        metadata={},
    )
    output.mkdir(parents=True, exist_ok=True)
    faces = find_faces(paths, Pipeline(first, where), options)
    learnt, valid = faces.divide(seed)
    tqdm.write(f"{len(learnt)} faces to learn from, {len(valid)} to validate with")

    before = build(first.config, first.state_dict).to(where)
    network = with_new_head(before, config, learnt)
    best, score, chosen = copy.deepcopy(network), _validate(network, valid), 0
    tqdm.write(f"head: validation accuracy {score[0]:.3f}")
    tuning = FineTuning(network, before, learnt, epochs, seed)
    for epoch in range(1, 1 if head_only else epochs + 1):
        loss = tuning.train_epoch()
        now = _validate(network, valid)
        tqdm.write(f"epoch {epoch}: loss {loss:.3f}, validation accuracy {now[0]:.3f}")
        if now > score:
            best, score, chosen = copy.deepcopy(network), now, epoch

    adapted = {
        "from": {"name": first.config.name, "sha256": first.sha256},
        "faces": dict(Counter(config.expressions[label] for label in faces.labels.tolist())),
        "options": options.settings(),
        "head_only": head_only,
        "epochs": 0 if head_only else epochs,
        "epoch": chosen,
        "seed": seed,
        "validation": {"accuracy": score[0], "faces": len(valid)},
    }
    config = dataclasses.replace(config, metadata={"adapted": adapted, **_in_words(adapted)})
    stored = {name: tensor.dtype for name, tensor in first.state_dict.items()}
    tensors = best.state_dict().items()
    checkpoint.save(
        output,
        config,
        {name: tensor.to(stored.get(name, tensor.dtype)) for name, tensor in tensors},
    )
    write_card(output, config)
    return output


def _check(output: Path, folder: Path) -> None:
    """Refuse what would be found out too late."""
    require("sklearn", extra="training", needed_by="adapting weights")
    if output.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"output {output} would be a class of {folder}; give a folder elsewhere")
    if any((output / name).exists() for name in (checkpoint.MODEL, checkpoint.CONFIG)):
        raise ValueError(f"output {output} holds weights already; give another, or remove them")


def with_new_head(network: FeverNet, config: Config, faces: LabelledFaces) -> FeverNet:
    """A copy whose expression head is a logistic regression on the faces' embeddings."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    model = LogisticRegression(max_iter=1000)
    model.fit(scaler.fit_transform(faces.embeddings.numpy()), faces.labels.numpy())
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(weight) == 1:  # of two classes, it tells the second's logit over the first's
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    weight = weight / torch.from_numpy(scaler.scale_)
    bias = bias - weight @ torch.from_numpy(scaler.mean_)
    state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    state.update({"heads.expression.weight": weight, "heads.expression.bias": bias})
    return build(config, state).to(network.mean.device)


@torch.inference_mode()
def _validate(network: FeverNet, faces: LabelledFaces) -> tuple[float, float]:
    """Accuracy 0 to 1, then the negative loss, which decides between equal accuracies."""
    right, loss = 0, 0.0
    for indices in torch.split(torch.arange(len(faces)), BATCH):
        crops = F.avg_pool2d(faces.crops[indices].float(), DETAIL)
        logits = network(crops.to(network.mean.device)).heads["expression"].cpu()
        right += int((logits.argmax(dim=1) == faces.labels[indices]).sum())
        loss += F.cross_entropy(logits, faces.labels[indices], reduction="sum").item()
    return right / len(faces), -loss / len(faces)


def _in_words(adapted: dict[str, Any]) -> dict[str, str]:
    """What the model card says of it."""
    validation = adapted["validation"]
    measured = (
        f"Accuracy {validation['accuracy']:.1%} on {validation['faces']} validation faces, drawn "
        "at random from the same photographs as those that were learned from"
    )
    description = (
        f"Adapted from `{adapted['from']['name']}` (SHA-256 `{adapted['from']['sha256']}`) by "
        "`python -m fever_extract.training adapt`. "
    )
    if adapted["epoch"]:
        measured += ". The epoch was chosen by them, so expect a little less elsewhere"
        description += (
            "First a new expression head was learned, then the whole network fine-tuned; of "
            f"{adapted['epochs']} epochs, number {adapted['epoch']} was kept."
        )
    else:
        description += "Only the expression head is new: the embeddings are the same."
    faces = ", ".join(f"{name} ({count})" for name, count in adapted["faces"].items())
    return {"measured": f"{measured}.", "description": f"{description}\n\nFaces by class: {faces}."}

"""Model card, written from a config alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from fever_extract._utils.files import replace_atomically
from fever_extract.hub import card_tables, card_transfer
from fever_extract.hub.card_tables import ROWS
from fever_extract.models.checkpoint import CARD, PROCESSOR
from fever_extract.models.config import Config


def model_card(config: Config) -> str:
    """Write the text of a ``README.md``: the Hub's metadata, use, figures, training and limits.

    Figures come from ``config.metadata["evaluation"]`` (as
    `fever_extract.training.evaluation.evaluate.evaluate` returns it) or the Markdown in
    ``config.metadata["measured"]``, the making from ``config.metadata["description"]``; where
    they are missing, the card says so.
    """
    evaluation = _evaluation(config)
    heads = {
        "expression": f"the probabilities of {len(config.expressions)} expressions "
        f"({', '.join(config.expressions)})",
        "blendshapes": f"{len(config.blendshapes)} blendshapes",
        "valence_arousal": "valence and arousal",
    }
    template = resources.files("fever_extract.hub") / "model_card.md"
    return template.read_text(encoding="utf-8").format(
        front_matter=_front_matter(config, evaluation),
        name=config.name,
        dim=config.embedding_dim,
        size=config.preprocessing.size,
        color=config.preprocessing.color,
        heads="; ".join(heads[name] for name in config.heads) or "nothing",
        measured=_measured(config, evaluation),
        description=str(config.metadata.get("description", "Not recorded.")).strip(),
    )


def _measured(config: Config, evaluation: Mapping[str, Any] | None) -> str:
    """Format all figures as Markdown: transfer first, then FER+."""
    parts = []
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        carried = card_transfer.summary(config.metadata.get("transfer"))
        parts.append(f"### How the embeddings carry over\n\n{carried}")
    if evaluation:
        parts.append(("### FER+\n\n" if parts else "") + card_tables.measured(evaluation))
    elif "measured" in config.metadata or not parts:
        parts.append(str(config.metadata.get("measured", "Nothing has been measured yet.")).strip())
    return "\n\n".join(parts)


def _evaluation(config: Config) -> Mapping[str, Any] | None:
    """Read the figures if they have the shape that `evaluate` writes: a config can hold any."""
    evaluation = config.metadata.get("evaluation")
    try:
        card_tables.measured(evaluation)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return evaluation


def write_card(folder: str | os.PathLike[str], config: Config) -> None:
    """Write the card beside the weights."""
    with replace_atomically(Path(folder) / CARD) as temporary:
        temporary.write_text(model_card(config), encoding="utf-8")


def write_processor(folder: str | os.PathLike[str], config: Config) -> None:
    """Write beside the weights what transformers' ``AutoImageProcessor`` looks for."""
    values = {
        "image_processor_type": "FeverImageProcessor",
        "preprocessing": dataclasses.asdict(config.preprocessing),
    }
    with replace_atomically(Path(folder) / PROCESSOR) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _front_matter(config: Config, evaluation: Mapping[str, Any] | None) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    split = str(evaluation.get("split", "test")) if evaluation else ""
    results = [
        EvalResult(
            task_type="image-classification",
            task_name="Facial expression recognition",
            dataset_type="ferplus",
            dataset_name=f"FER+ {split}, 8 classes, majority",
            dataset_split=split,
            metric_type="accuracy",
            metric_name=f"Accuracy: {title[0].lower()}{title[1:]}",
            metric_value=round(evaluation[row]["accuracy"], 4),
        )
        for row, title in ROWS.items()
        if evaluation and row in evaluation
    ]
    data = ModelCardData(
        license=config.license,
        library_name="fever-extract",
        pipeline_tag="image-feature-extraction",
        tags=["facial-expression-recognition", "face", "feature-extraction"],
        model_name=config.name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml().strip()

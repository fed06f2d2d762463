"""Knowledge distillation: soft labels and relational distillation from teachers.

Distillation is the heart of DeepFEVER (Schoneveld and Othmani 2022, arXiv 2201.07781, section
3): trained teachers say what they see in labelled and unlabelled faces, and a student learns
from that. Teachers see each face once, whole and well lit, and its mirror image; the student
sees it covered, blurred and turned, and should still say the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from fever_extract._utils import progress
from fever_extract._utils.files import replace_atomically
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.models.config import EXPRESSIONS, WeightsError
from fever_extract.models.inference import for_inference
from fever_extract.models.network import FeverNet, build
from fever_extract.training.data import augment
from fever_extract.training.data.faces import Faces

if TYPE_CHECKING:
    import numpy.typing as npt

_AT_ONCE = 128


@dataclass(frozen=True)
class SoftTargets:
    """Teachers' outputs for the n faces of a data set.

    Attributes:
        probabilities: ``(n, 8)`` float32, means over the teachers; n is 0 without teachers.
        embeddings: ``(n, k)`` float32: the teachers' centred embeddings side by side, scaled so
            that inner products of rows are the mean of the teachers' cosines.
        valence_arousal: ``(n, 2)`` float32, means over the teachers that have such a head; NaN
            where none has.
    """

    probabilities: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]
    valence_arousal: npt.NDArray[np.float32]


def soft_targets(
    teachers: Sequence[Checkpoint], faces: Faces, store: Path, device: torch.device
) -> SoftTargets:
    """Run all teachers on all faces, or read their cached outputs.

    Args:
        teachers: weights with FER+'s expressions.
        faces: a data set.
        store: folder of cached outputs.
        device: torch device.

    Raises:
        WeightsError: if a teacher has other expressions.
    """
    if not teachers:
        return SoftTargets(
            np.zeros((0, 8), np.float32),
            np.zeros((len(faces), 0), np.float32),
            np.full((len(faces), 2), np.nan, np.float32),
        )
    probabilities, embeddings, affect = [], [], []
    for teacher in teachers:
        if teacher.config.expressions != EXPRESSIONS:
            raise WeightsError(f"{teacher.source} can't teach: it has other expressions")
        said, seen, felt = _answers(teacher, faces, store, device)
        probabilities.append(said)
        if teacher.config.valence_arousal:
            affect.append(felt)
        centred = seen - seen.mean(axis=0)
        length = np.linalg.norm(centred, axis=1, keepdims=True) * len(teachers) ** 0.5
        embeddings.append(centred / np.maximum(length, 1e-6))
    unknown = np.full((len(faces), 2), np.nan, np.float32)
    return SoftTargets(
        np.mean(probabilities, axis=0),
        np.concatenate(embeddings, axis=1),
        np.mean(affect, axis=0) if affect else unknown,
    )


def mix(faces: Faces, targets: SoftTargets, share: float) -> Faces:
    """The faces with labels that are ``share`` the teachers', the rest their own.

    Faces without labels get the teachers' alone.
    """
    if not len(targets.probabilities):
        return faces
    votes = faces.expression.sum(axis=1, keepdims=True) > 0
    share_of_each = np.where(votes, np.float32(share), np.float32(1))
    mixed = (1 - share_of_each) * faces.expression + share_of_each * targets.probabilities
    own, theirs = faces.valence_arousal, targets.valence_arousal
    theirs = np.where(np.isnan(theirs), own, theirs)
    affect = np.where(np.isnan(own), theirs, (1 - share) * own + share * theirs)
    return dataclasses.replace(faces, expression=mixed, valence_arousal=affect.astype(np.float32))


def likeness(
    expression: torch.Tensor, embeddings: torch.Tensor, share_of_teachers: float
) -> torch.Tensor:
    """How alike each two faces of a batch should be, as a cosine.

    Args:
        expression: ``(n, 8)`` soft labels; a row of zeros is like nothing that is known.
        embeddings: ``(n, k)`` as in `SoftTargets`.
        share_of_teachers: how much the teachers' cosines count; the rest is the overlap of the
            soft labels (Bhattacharyya's coefficient, itself the cosine of their roots).

    Returns:
        ``(n, n)``; NaN for pairs of which one has no label.
    """
    overlap = F.normalize(expression.sqrt())
    similarities = overlap @ overlap.T
    if share_of_teachers:
        cosines = embeddings @ embeddings.T
        similarities = (1 - share_of_teachers) * similarities + share_of_teachers * cosines
    known = expression.sum(dim=1) > 0
    return torch.where(known[:, None] & known, similarities, torch.nan)


def _answers(
    teacher: Checkpoint, faces: Faces, store: Path, device: torch.device
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Compute probabilities ``(n, 8)``, embeddings ``(n, d)``, valence and arousal ``(n, 2)``.

    They are means over mirror images; NaN without a head for valence and arousal.
    """
    content = hashlib.sha256(faces.images.data).hexdigest()
    path = store / f"teacher-{teacher.sha256[:12]}-{content[:12]}.npz"
    if path.exists():
        with np.load(path) as stored:
            # A run that began before teachers told these goes on without.
            unknown = np.full((len(faces), 2), np.nan, np.float32)
            felt = stored.get("valence_arousal", unknown)
            return stored["probabilities"], stored["vectors"], felt
    network = for_inference(build(teacher.config, teacher.state_dict).to(device))
    said, seen, felt = _predict(network, faces, teacher.config.name)
    with replace_atomically(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, probabilities=said, vectors=seen, valence_arousal=felt)
    return said, seen, felt


@torch.inference_mode()
def _predict(
    network: FeverNet, faces: Faces, name: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    preprocessing, device = network.config.preprocessing, network.mean.device
    matrices = augment.crop_matrices(faces, preprocessing)
    said, seen, felt = [], [], []
    batches = torch.split(torch.arange(len(faces)), _AT_ONCE)
    for indices in progress.bar(batches, desc=f"{name} looks", leave=False):
        crops = augment.sample(faces, indices, matrices[indices], preprocessing).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            outputs = [network(view) for view in (crops, crops.flip(3))]
        chances = [
            network.probabilities(o.heads["expression"].float(), "training") for o in outputs
        ]
        said.append(torch.stack(chances).mean(dim=0).cpu())
        seen.append(torch.stack([o.embedding.float() for o in outputs]).mean(dim=0).cpu())
        unknown = torch.full((len(crops), 2), torch.nan)
        affect = [o.heads.get("valence_arousal", unknown).float().cpu() for o in outputs]
        felt.append(torch.stack(affect).mean(dim=0))
    return torch.cat(said).numpy(), torch.cat(seen).numpy(), torch.cat(felt).numpy()

"""Measures of embeddings, ours and the peers', on the same faces and random draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.training.data.faces import Faces, majority
from fever_extract.training.evaluation import SEED, accuracy, few_shot, retrieval
from fever_extract.training.evaluation.crops import take

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.training.evaluation.peers import Embeddings

LEARNED_FROM = 10_000


@dataclass(frozen=True)
class Benchmark:
    """Measure embeddings of the same faces.

    Attributes:
        train: majority faces of FER+ train: a probe learns from them, examples are drawn from
            them. At most 10,000, to keep peers with long embeddings within minutes.
        split: the faces that are measured; with votes, but some without a majority.
        people: pictures of people, of `fever_extract.training.evaluation.retrieval.draw_people`.
        who: who is in each of those.
    """

    train: Faces
    split: Faces
    people: Faces
    who: npt.NDArray[np.int64]

    @classmethod
    def of(cls, train: Faces, split: Faces, unlabelled: Faces) -> Benchmark:
        """Draw them.

        Args:
            train: majority faces.
            split: faces with votes.
            unlabelled: whose names tell the person.
        """
        random = np.random.default_rng(SEED)
        chosen = random.permutation(len(train))[:LEARNED_FROM]
        pictures, who = retrieval.draw_people(unlabelled.names)
        return cls(take(train, np.sort(chosen)), split, take(unlabelled, pictures), who)

    def measure(self, embeddings: Embeddings) -> dict[str, object]:
        """Measure one kind of embeddings; ready for JSON.

        Args:
            embeddings: makes ``(n, d)`` of n faces.
        """
        labels, truth = majority(self.train.expression), majority(self.split.expression)
        kept = truth >= 0
        learned, measured = embeddings(self.train), embeddings(self.split)
        triplets, odd = retrieval.draw_triplets(distributions(self.split))
        answers: dict[str, object] = {
            "dimensions": measured.shape[1],
            "train_faces": len(learned),
            "linear_probe": accuracy.summary(
                accuracy.linear_probe(learned, labels, measured[kept]) == truth[kept], truth[kept]
            ),
            "few_shot": {
                str(shots): few_shot.few_shot(
                    learned, labels, measured[kept], truth[kept], shots=shots
                )
                for shots in few_shot.SHOTS
                if len(few_shot.classes_of(labels, truth[kept], shots)) > 1
            },
        }
        if len(triplets):
            answers["triplets"] = {
                **retrieval.triplet_accuracy(measured, triplets, odd),
                "triplets": len(triplets),
                "images": len(measured),
                "chance": 1 / 3,
            }
        if len(self.who):
            answers["identity_leak"] = retrieval.identity_leak(embeddings(self.people), self.who)
        return answers


def has_votes(faces: Faces) -> npt.NDArray[np.bool_]:
    """Whether most of the vote is for an expression, not "unknown" or "not a face"; ``(n,)``."""
    voted: npt.NDArray[np.bool_] = faces.expression.sum(axis=1) >= 0.5
    return voted


def distributions(faces: Faces) -> npt.NDArray[np.float32]:
    """The votes for expressions alone, ``(n, 8)``; each row sums to one."""
    shares: npt.NDArray[np.float32] = faces.expression / faces.expression.sum(1, keepdims=True)
    return shares

"""What embeddings say about the labels of one set: probes, neighbours, retrieval, few shots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract.training.evaluation import bootstrap, few_shot, probes
from fever_extract.training.evaluation.prior import without_prior
from fever_extract.training.evaluation.transfer_sets import TransferSet

if TYPE_CHECKING:
    import numpy.typing as npt

_DRAWS = 40


class LabelProbes:
    """Measure embeddings by the labels of one set, always in the same folds."""

    def __init__(self, table: TransferSet, labelled: npt.NDArray[np.int64]) -> None:
        self.rows = labelled
        self.classes = table.classes
        self.labels, self.people = table.labels[labelled], table.people[labelled]
        if table.learn is None:
            self.folds = probes.folds_by_people(self.labels, self.people)
        else:
            learn = table.learn[labelled]
            self.folds = [(np.flatnonzero(learn), np.flatnonzero(~learn))]
        self.measured = np.sort(np.concatenate([measured for _, measured in self.folds]))
        self.truth = self.labels[self.measured]
        # A resample draws people, whose faces are not independent.
        who = np.unique(self.people[self.measured], return_inverse=True)[1]
        self.who, self.persons = who, int(who.max()) + 1

    def measure(
        self, embeddings: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.bool_], dict[str, Any]]:
        """Return whether the linear probe is right about each face, and all figures."""
        embeddings = embeddings[self.rows]
        named = probes.linear_probe(embeddings, self.labels, self.people, self.folds)
        right = named[self.measured] == self.truth
        near = {
            metric: self._shares(
                probes.neighbours(embeddings, self.labels, self.folds, metric)[self.measured]
                == self.truth
            )
            for metric in probes.METRICS
        }
        retrieval = {
            metric: probes.average_precision(
                embeddings[self.measured], self.truth, self.people[self.measured], metric
            )
            for metric in probes.METRICS
        }
        return right, {
            "linear_probe": self.summary(right),
            "neighbours": near,
            "retrieval": retrieval,
            "few_shot": {
                str(shots): found
                for shots in few_shot.SHOTS
                if (found := self._few_shot(embeddings, shots)) is not None
            },
        }

    def summary(self, right: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Shares that are right, with standard errors."""
        accuracies, class_means = self._resampled(right)
        by_class = {
            name: float(right[self.truth == index].mean())
            for index, name in enumerate(self.classes)
            if (self.truth == index).any()
        }
        return {
            **self._shares(right),
            "standard_error": float(accuracies.std()),
            "mean_class_standard_error": float(class_means.std()),
            "by_class": by_class,
        }

    def difference(
        self, ours: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]
    ) -> dict[str, float]:
        """How far the first is ahead of the second, with the difference's standard error."""
        apart = self._resampled(ours)[0] - self._resampled(other)[0]
        return {
            "difference": float(ours.mean() - other.mean()),
            "standard_error": float(apart.std()),
        }

    def head(
        self,
        probabilities: npt.NDArray[np.floating],
        expressions: Sequence[str],
        prior: npt.ArrayLike | None,
    ) -> dict[str, Any] | None:
        """What a head names, if it has all classes of the set."""
        if not set(self.classes) <= set(expressions):
            return None
        columns = np.array([expressions.index(name) for name in self.classes])
        truth = columns[self.truth]
        said = {"training": probabilities[self.rows][self.measured].astype(np.float64)}
        if prior is not None:
            said["uniform"] = without_prior(said["training"], prior)
        return {
            name: {
                **self.summary(shares.argmax(axis=1) == truth),
                "among_its_classes": self._shares(
                    columns[shares[:, columns].argmax(axis=1)] == truth
                ),
            }
            for name, shares in said.items()
        }

    def _shares(self, right: npt.NDArray[np.bool_]) -> dict[str, float]:
        by_class = [right[self.truth == index].mean() for index in np.unique(self.truth)]
        return {
            "accuracy": float(right.mean()),
            "mean_class_accuracy": float(np.mean(by_class)),
        }

    def _resampled(
        self, right: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Accuracy and class mean of each resample of people."""
        shape = self.persons, len(self.classes)
        faces, hits = np.zeros(shape), np.zeros(shape)
        np.add.at(faces, (self.who, self.truth), 1)
        np.add.at(hits, (self.who, self.truth), right)
        drawn = bootstrap.multiplicities(self.persons)
        faces, hits = drawn @ faces, drawn @ hits
        shares = np.where(faces > 0, hits / np.maximum(faces, 1), np.nan)
        return hits.sum(axis=1) / faces.sum(axis=1), np.nanmean(shares, axis=1)

    def _few_shot(self, embeddings: npt.NDArray[np.floating], shots: int) -> dict[str, Any] | None:
        """Mean over folds of nearest class means, examples from the faces to learn from."""
        draws = few_shot.DRAWS if len(self.folds) == 1 else _DRAWS
        found: list[dict[str, Any]] = [
            few_shot.few_shot(
                embeddings[learn],
                self.labels[learn],
                embeddings[measured],
                self.labels[measured],
                shots=shots,
                draws=draws,
            )
            for learn, measured in self.folds
            if len(few_shot.classes_of(self.labels[learn], self.labels[measured], shots)) > 1
        ]
        if not found:
            return None
        return {
            "mean_class_accuracy": float(np.mean([each["mean_class_accuracy"] for each in found])),
            "classes": max(each["classes"] for each in found),
            "chance": float(np.mean([each["chance"] for each in found])),
        }

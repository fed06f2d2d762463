"""Losses of the tasks; each counts only the rows that have its label."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def soft_cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with soft labels, meaned over the rows that have a label.

    Args:
        logits: ``(n, classes)``.
        target: ``(n, classes)``; a row of zeros has no label, and a row whose sum is below
            one (votes for "unknown") counts for less.
    """
    losses = -(target * logits.log_softmax(dim=1)).sum(dim=1)
    return losses.sum() / (target.sum(dim=1) > 0).sum().clamp(min=1)


def masked_mean_square(
    values: torch.Tensor, target: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Mean square error in units of ``1 / scale`` a column; NaN targets don't count."""
    known = torch.isfinite(target)
    error = torch.where(known, (values - target.nan_to_num()) * scale, 0)
    return error.square().sum() / known.sum().clamp(min=1)


def concordance(values: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One minus the concordance correlation coefficient (Lin 1989), meaned over columns.

    Args:
        values: ``(n, k)``.
        target: ``(n, k)``; NaN where there is no label. A column with fewer than two
            labels counts nothing.
    """
    losses = []
    for column, labels in zip(values.T, target.T):
        known = torch.isfinite(labels)
        if known.sum() < 2:
            continue
        said, true = column[known], labels[known]
        covariance = ((said - said.mean()) * (true - true.mean())).mean()
        spread = said.var(correction=0) + true.var(correction=0)
        apart = (said.mean() - true.mean()).square()
        losses.append(1 - 2 * covariance / (spread + apart).clamp(min=1e-8))
    return torch.stack(losses).mean() if losses else values.sum() * 0


def triplet(
    first: torch.Tensor, second: torch.Tensor, odd: torch.Tensor, margin: float
) -> torch.Tensor:
    """The two-sided triplet loss of Vemulapalli and Agarwala (2019, arXiv 1811.11283).

    The pair that belongs together must be closer than *either* of the two is to the odd one.

    Args:
        first, second, odd: ``(n, d)`` embeddings, compared at length one.
        margin: by how much closer, in squared distance.
    """
    first, second, odd = (F.normalize(embeddings) for embeddings in (first, second, odd))
    together = (first - second).square().sum(dim=1)
    apart = torch.stack([(one - odd).square().sum(dim=1) for one in (first, second)])
    return (together - apart + margin).clamp(min=0).sum(dim=0).mean()


def geometry(embeddings: torch.Tensor, similarities: torch.Tensor) -> torch.Tensor:
    """How far the cosines between embeddings are from what they should be, squared.

    Relational distillation (Park et al. 2019, arXiv 1904.05068) of cosines.

    Args:
        embeddings: ``(n, d)``.
        similarities: ``(n, n)``; NaN where a pair has none.
    """
    directions = F.normalize(embeddings)
    known = torch.isfinite(similarities)
    known.fill_diagonal_(False)
    error = torch.where(known, directions @ directions.T - similarities.nan_to_num(), 0)
    return error.square().sum() / known.sum().clamp(min=1)

"""Evaluation protocols, one module each; docs/evaluation.md explains them.

`fever_extract.training.evaluation.evaluate` runs them all. Whatever is random is drawn from `SEED`.
"""

SEED = 0

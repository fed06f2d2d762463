"""The protocols by which vectors are measured, one module a job; docs/evaluation.md says why each.

`fever_extract.training.evaluation.evaluate` runs them all. Whatever is random is drawn from `SEED`.
"""

SEED = 0

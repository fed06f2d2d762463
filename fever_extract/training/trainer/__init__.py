"""One training run, from a recipe to a folder of weights, and what may follow: average, finish.

Data is in `fever_extract.training.data`, measuring in `fever_extract.training.evaluation`.
"""

"""Recipes: every choice of a training run, as JSON files, and their type.

What a choice does is in `fever_extract.training.trainer`.
"""

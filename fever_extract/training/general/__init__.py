"""Train on several data sets and tasks at once, for embeddings that transfer to new tasks.

The data set by data set reading is in `sources`, what is made small in `objective`, the run in
`train`, and the folder that is published in `release`. Pieces that other runs use as well are in
`fever_extract.training.trainer`.
"""

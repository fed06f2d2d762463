"""Training data: readers of data sets, tables of faces, augmentation.

What is learned from them is in `fever_extract.training.trainer`.
"""

from fever_extract.training.data.faces import (
    Faces,
    Triplets,
    majority,
    read,
    read_ferplus,
    read_triplets,
    read_unlabelled,
)

__all__ = [
    "Faces",
    "Triplets",
    "majority",
    "read",
    "read_ferplus",
    "read_triplets",
    "read_unlabelled",
]

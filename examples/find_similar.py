"""The photographs of a folder whose expression is most like that of a given one.

python examples/find_similar.py FOLDER PHOTOGRAPH
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.neighbors import NearestNeighbors

from fever_extract import FeverTransformer
from fever_extract.folders import list_images


def main(folder: str, wanted: str) -> None:
    photographs = np.array([str(Path(folder, name)) for name in list_images(folder)])
    X = FeverTransformer(memory="fever-cache").transform(photographs)
    found = np.isfinite(X).all(axis=1)  # a picture without a face is a row of NaN
    index = NearestNeighbors(n_neighbors=min(5, found.sum()), metric="cosine").fit(X[found])

    distances, nearest = index.kneighbors(FeverTransformer(on_error="raise").transform([wanted]))
    for distance, path in zip(distances[0], photographs[found][nearest[0]]):
        print(f"{1 - distance:.3f} {path}")


if __name__ == "__main__":
    main(*sys.argv[1:3])

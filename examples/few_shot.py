"""A new expression from five photographs of it: which of a folder's show it too?

python examples/few_shot.py FIVE OTHERS FOLDER

FIVE and OTHERS are folders: five photographs of the new expression, and some twenty of any
others. FOLDER's photographs are then ranked by how probably they show the new one.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fever_extract import FeverTransformer
from fever_extract.folders import list_images


def embeddings(folder: str) -> tuple[list[str], np.ndarray]:
    names = np.array(list(list_images(folder)))
    X = FeverTransformer().transform([Path(folder, name) for name in names])
    found = np.isfinite(X).all(axis=1)  # a picture without a face is a row of NaN
    return names[found].tolist(), X[found]


def main(five: str, others: str, folder: str) -> None:
    (_, new), (_, rest), (names, X) = map(embeddings, (five, others, folder))
    # Strong regularisation: 512 numbers, five examples.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced"))
    model.fit(np.vstack([new, rest]), [1] * len(new) + [0] * len(rest))
    for probability, name in sorted(zip(model.predict_proba(X)[:, 1], names), reverse=True):
        print(f"{probability:.2f} {name}")


if __name__ == "__main__":
    main(*sys.argv[1:4])

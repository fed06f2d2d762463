"""A folder of class folders to a scikit-learn classifier: cross-validated, trained, saved.

python examples/folder_to_sklearn.py FOLDER      # FOLDER/happy/*.jpg, FOLDER/sad/*.jpg, ...

Embeddings are kept in the folder fever-cache, so that each photograph is extracted once.
"""

import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report, confusion_matrix
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fever_extract import FeverTransformer
from fever_extract.folders import list_images


def main(folder: str) -> None:
    names = list(list_images(folder))
    labels = np.array([Path(name).parts[0] for name in names])
    photographs = np.array([str(Path(folder, name)) for name in names])

    transformer = FeverTransformer(memory="fever-cache")
    found = np.isfinite(transformer.transform(photographs)).all(axis=1)  # no face: a row of NaN
    print(f"{found.sum()} of {len(found)} pictures have a face")
    photographs, labels = photographs[found], labels[found]

    classifier = make_pipeline(transformer, StandardScaler(), LogisticRegression(max_iter=1000))
    predicted = cross_val_predict(classifier, photographs, labels, cv=3)
    print(classification_report(labels, predicted))
    print("rows: what it is; columns: what was said")
    print(confusion_matrix(labels, predicted))

    joblib.dump(classifier.fit(photographs, labels), "classifier.joblib")  # holds no weights
    print("classifier.joblib takes paths: joblib.load('classifier.joblib').predict(['a.jpg'])")


if __name__ == "__main__":
    main(sys.argv[1])

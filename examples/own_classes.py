"""A classifier of your own classes: a scikit-learn head on the embeddings.

The network stays as it is; what is learned is a logistic regression, in seconds, from as few
as some ten photographs a class. fine_tune.py adapts the network itself.

python examples/own_classes.py train FOLDER head.joblib  # FOLDER/bored/*.jpg, FOLDER/amused/*.jpg
python examples/own_classes.py predict head.joblib PHOTOGRAPH ...
"""

import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fever_extract import Extractor
from fever_extract.folders import list_images


def train(folder: Path, output: Path) -> None:
    paths = list(list_images(folder))
    labels = np.array([Path(path).parts[0] for path in paths])
    embeddings = Extractor().extract([folder / path for path in paths])
    found = np.isfinite(embeddings).all(axis=1)  # a photograph without a face is a row of NaN
    embeddings, labels = embeddings[found], labels[found]
    # If a person is in several photographs, keep them together: see GroupShuffleSplit.
    parts = train_test_split(embeddings, labels, stratify=labels, random_state=0)
    known, unseen, known_labels, unseen_labels = parts
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    head.fit(known, known_labels)
    print(f"{len(known)} faces to learn from; on the {len(unseen)} others:")
    print(classification_report(unseen_labels, head.predict(unseen), zero_division=0))
    joblib.dump(head.fit(embeddings, labels), output)


def predict(head_file: Path, photographs: list[str]) -> None:
    head = joblib.load(head_file)  # a pickle: load only what you made yourself
    for photograph, record in zip(photographs, Extractor().extract_records(photographs)):
        if record.face is None:
            print(f"{photograph}: {record.status}, {record.error}")
            continue
        (chances,) = head.predict_proba([record.face.embedding])
        best = chances.argmax()
        print(f"{photograph}: {head.classes_[best]} {chances[best]:.0%}")


if sys.argv[1] == "train":
    train(Path(sys.argv[2]), Path(sys.argv[3]))
else:
    predict(Path(sys.argv[2]), sys.argv[3:])

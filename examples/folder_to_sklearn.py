"""A folder of class folders to a scikit-learn classifier, cross-validated.

python examples/folder_to_sklearn.py FOLDER      # FOLDER/happy/*.jpg, FOLDER/sad/*.jpg, ...
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fever_extract import Extractor
from fever_extract.images import list_images

folder = Path(sys.argv[1])
paths = np.array(list(list_images(folder)))
labels = np.array([Path(path).parts[0] for path in paths])

X = Extractor().extract([folder / path for path in paths])
found = np.isfinite(X).all(axis=1)  # a picture without a face is a row of NaN
print(f"{found.sum()} of {len(X)} pictures have a face")

classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
predicted = cross_val_predict(classifier, X[found], labels[found], cv=3)
print(classification_report(labels[found], predicted))

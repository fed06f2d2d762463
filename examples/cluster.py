"""The photographs of a folder in groups of like expression.

python examples/cluster.py FOLDER [GROUPS]
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans

from fever_extract import Extractor
from fever_extract.folders import list_images


def main(folder: str, groups: str = "4") -> None:
    photographs = [Path(folder, name) for name in list_images(folder)]
    records = Extractor(normalize=True).extract_records(photographs)
    faces = {path: record.face for path, record in zip(photographs, records) if record.face}
    embeddings = np.stack([face.embedding for face in faces.values()])
    labels = KMeans(int(groups), n_init=10, random_state=0).fit_predict(embeddings)

    for label in range(int(groups)):
        members = [path for path, its in zip(faces, labels) if its == label]
        expressions = Counter(faces[path].expression for path in members)
        named = ", ".join(f"{count} {name}" for name, count in expressions.most_common())
        print(f"group {label}: {len(members)} photographs ({named})")
        print("  " + " ".join(path.name for path in members[:8]))


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""Photographs: their expressions, and how alike these are.

python examples/first_steps.py [PHOTOGRAPH ...]
"""

import sys
from importlib import resources
from itertools import combinations

import numpy as np

from fever_extract import Extractor

astronaut = str(resources.files("fever_extract.assets") / "astronaut.jpg")
photographs = sys.argv[1:] or [astronaut]
extractor = Extractor()

for photograph, record in zip(photographs, extractor.extract_records(photographs)):
    face = record.face
    if face is None:
        print(f"{photograph}: {record.status}, {record.error}")
        continue
    print(f"{photograph}: {face.expression} {face.probability:.0%}")
    strongest = sorted(face.blendshapes.items(), key=lambda item: -item[1])[:5]
    print("  muscles at work: " + ", ".join(f"{name} {value:.2f}" for name, value in strongest))

X = extractor.extract(photographs, normalize=True)  # (n, 512); NaN where there is no face
for i, j in combinations(range(len(X)), 2):
    if np.isfinite(X[[i, j]]).all():
        print(f"{photographs[i]} and {photographs[j]}: cosine {X[i] @ X[j]:.2f}")

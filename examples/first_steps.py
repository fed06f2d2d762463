"""One photograph: its vector, its expression, and how alike two expressions are.

python examples/first_steps.py [PHOTOGRAPH]
"""

import sys
from importlib import resources

import numpy as np

from fever_extract import Extractor

photograph = sys.argv[1:] or [str(resources.files("fever_extract.assets") / "astronaut.jpg")]
extractor = Extractor()

for face in extractor.extract_faces(photograph[0]):
    print(f"{face.expression} {face.probability:.0%}, a face of {face.size:.0f} pixels")
    strongest = sorted(face.blendshapes.items(), key=lambda item: -item[1])[:5]
    print("muscles at work: " + ", ".join(f"{name} {value:.2f}" for name, value in strongest))
    print(f"vector of {len(face.vector)}, length {np.linalg.norm(face.vector):.1f}")

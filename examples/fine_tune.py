"""Weights fine-tuned on classes of your own, then embeddings and names by them.

The network itself is adapted, which takes about a minute for a hundred photographs and wants some
tens of them a class; own_classes.py learns a classifier on embeddings as they are, in seconds.

pip install "fever-extract[training]"
python examples/fine_tune.py FOLDER runs/ours PHOTOGRAPH ...  # FOLDER/bored/*, FOLDER/amused/*
"""

import sys

from fever_extract import Extractor
from fever_extract.training.adapt import adapt

folder, weights, *photographs = sys.argv[1:]
adapt(folder, weights)

extractor = Extractor(weights)
made = extractor.config.metadata["adapted"]
print(f"{weights}: {made['validation']['accuracy']:.0%} of {made['validation']['faces']} right")
for photograph, record in zip(photographs, extractor.extract_records(photographs)):
    if record.face is None:
        print(f"{photograph}: {record.status}, {record.error}")
        continue
    face = record.face
    print(f"{photograph}: {face.expression} {face.probability:.0%}, {face.embedding[:3]} ...")

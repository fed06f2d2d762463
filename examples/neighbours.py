"""Each face of a folder with those nearest to it, on a page: is it expression that they share?

python examples/neighbours.py FOLDER PAGE.html [PEOPLE]

FOLDER may have a folder for each expression. PEOPLE is a regular expression that finds who it is in
a path, such as "(Some_Name)_0001" or "(anna|ben)"; without, each file is of another person.
"""

import dataclasses
import math
import re
import sys
import tempfile
from pathlib import Path

import numpy as np

from fever_extract import Extractor, Face, read_table
from fever_extract.report import similar
from fever_extract.tables.reading import Table

NEIGHBOURS = 6


def main(folder: str, output: str, people: str = "^.*$") -> None:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made, "features.parquet")
        Extractor().extract_folder(folder, path, all_faces=True, no_clips=True)
        show(read_table(path).where(status="ok"), folder, output, people)


def show(table: Table, folder: str, output: str, people: str) -> None:
    paths = table.texts("path")
    matched = [re.search(people, path) for path in paths]
    person = np.array([match[0] if match else path for match, path in zip(matched, paths)])
    label = np.array([Path(path).parent.as_posix() for path in paths])
    X = table.X / np.linalg.norm(table.X, axis=1, keepdims=True)
    cosines = X @ X.T
    np.fill_diagonal(cosines, -np.inf)
    same = person[:, None] == person
    same &= np.array(paths)[:, None] != np.array(paths)  # two in one picture are two people
    others = np.where(same, -np.inf, cosines)

    nobody = np.full((5, 2), np.nan, np.float32)
    boxes = table.numbers("box")
    sections = []
    for row, near in enumerate(np.argsort(-cosines, axis=1)[:, :NEIGHBOURS]):
        found = similar.matches(table, near, 1 - cosines[row, near])
        marked = [
            dataclasses.replace(match, expression=f"{match.expression} · same person")
            if same[row, other]
            else match
            for match, other in zip(found, near.tolist())
        ]
        face = Face(boxes[row], math.nan, nobody, table.X[row])
        sections.append((str(Path(folder, paths[row])), face, marked))
    similar.write_page(Path(output), sections, Path(folder))

    known = same.any(axis=1)
    if known.any():
        leak = same[np.arange(len(X)), cosines.argmax(axis=1)][known].mean()
        print(f"{known.sum()} faces of people with several: nearest is the same person {leak:.1%}")
    if len(set(label)) > 1:
        for count in (1, 5):
            near = np.argsort(-others, axis=1)[:, :count]
            share = (label[near] == label[:, None]).mean()
            print(f"of the {count} nearest of other people, in the same folder: {share:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:4])

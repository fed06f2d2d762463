"""Read transfer sets, in full size and colour, from tables."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract.models.config import EXPRESSIONS
from fever_extract.training.data.columns import join_faces, numbers, read_columns, read_pictures
from fever_extract.training.data.faces import FACES, FERPLUS, majority
from fever_extract.training.evaluation import SEED
from fever_extract.training.evaluation.affect import NAMES

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

LABELS = "faces_labels.parquet"
GIVEN = (LABELS, "london.parquet", "synthetic.parquet", FERPLUS)
"""What is measured where no table is named: those of them that are among the data."""

FEWEST = 10
"""Faces of a class, below which its labels are left out: a share of four faces says nothing."""
MOST = 1000
"""Faces of a class, beyond which they are drawn at random: of what is mostly neutral, too little
would be seen of anything else, and probes would take long. Four times as many where a table has a
training split of its own, which is learned from but once."""
OF_A_PERSON = 20
"""Faces of a person in a class, beyond which they are drawn at random: one man has 520."""
POSE = ("yaw", "pitch", "roll")

_HELD_OUT = 5
# `Some_Name_0001.jpg`: capitalised, unlike `train_00001.jpg`, which names no person.
_PERSON = re.compile(r"([A-Z][^/\\]*)_\d+\.\w+")
_VOTES = [f"votes_{name}" for name in (*EXPRESSIONS, "unknown", "not_face")]


def held_out(person_id: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tell which people of the synthetic set are measured on, and must never be trained on.

    Args:
        person_id: ``(n,)`` whole numbers, as in ``synthetic.parquet``.

    Returns:
        ``(n,)``; true for every fifth person.
    """
    return np.asarray(np.asarray(person_id) % _HELD_OUT == 0)


@dataclass(frozen=True)
class TransferSet:
    """n faces to measure on, and all that their table knows of them.

    Attributes:
        name: the table's, without its ending.
        images: n encoded pictures.
        landmarks: ``(n, 5, 2)`` float32 in the picture's pixels; NaN where missing.
        classes: names of the labels that have at least `FEWEST` faces.
        labels: ``(n,)`` int64 into ``classes``; -1 without a label, or with a rarer one.
        people: ``(n,)`` int64, who it is; every face is a person of its own where the table
            doesn't say.
        learn: ``(n,)`` bool, the faces that probes learn from (a table's own training split), the
            others being measured; None to cross-validate.
        blendshapes: ``(n, b)`` float32, NaN where missing; ``(n, 0)`` where there are none.
        blendshape_names: what their columns are.
        exact: whether blendshapes are the truth (rendered faces), not MediaPipe's estimate.
        pose: ``(n, 3)`` float32, yaw, pitch and roll in degrees; ``(n, 0)`` where unknown.
        valence_arousal: ``(n, 2)`` float32 in -1 to 1; NaN where missing.
        reference: whether it is of the data that training saw: a yardstick, and no transfer.
        note: what was left out, for people to read.
    """

    name: str
    images: Sequence[bytes]
    landmarks: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    people: npt.NDArray[np.int64]
    learn: npt.NDArray[np.bool_] | None
    blendshapes: npt.NDArray[np.float32]
    blendshape_names: tuple[str, ...]
    exact: bool
    pose: npt.NDArray[np.float32]
    valence_arousal: npt.NDArray[np.float32]
    reference: bool = False
    note: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def people_known(self) -> bool:
        """Whether somebody has several pictures here."""
        return len(np.unique(self.people)) < len(self)


def given(data: Path) -> list[Path]:
    """List the tables of `GIVEN` that are in a folder.

    Raises:
        FileNotFoundError: if there is none.
    """
    tables = [data / name for name in GIVEN if (data / name).is_file()]
    if not tables:
        raise FileNotFoundError(f"{data} has none of {', '.join(GIVEN)}: name tables to measure on")
    return tables


def read_transfer(path: Path, limit: int | None = None) -> TransferSet:
    """Read a labelled table as a transfer set.

    Labels are those of ``label`` (names, of any classes), ``expression`` or votes (their
    majority), or ``recipe``. A table without pictures, like ``faces_labels.parquet``, takes
    those of ``faces.parquet`` beside it by ``name``. Only these rows are used: ``part``
    "transfer"; of synthetic people those `held_out`; of FER+ the split ``valid``. A table
    with the splits train and test (or valid) is learned from on the first, measured on the other.

    Args:
        path: the table.
        limit: keep at most so many faces, drawn at random: for a quick look.

    Raises:
        FileNotFoundError: if the table, or the one with its pictures, is not there.
        ValueError: if it is no Parquet file, or has no pictures or labels.
    """
    table, pictures = read_columns(path), path
    if "image" not in table.column_names:
        table, pictures = join_faces(table, path), path.with_name(FACES)
    if "part" in table.column_names:
        table = table.filter(np.array(table["part"].to_pylist()) == "transfer")
    synthetic = {"person_id", "expression_id"} <= set(table.column_names)
    if synthetic:
        table = table.filter(held_out(table["person_id"].to_numpy()))
    learn: npt.NDArray[np.bool_] | None = None
    if "split" in table.column_names:
        table, learn = _split(table, ferplus=path.name == FERPLUS)
    if not table.num_rows:
        raise ValueError(f"{path} has no face to measure on")
    named = _labels(table, path)
    people = _people(table)
    kept = _keep(named, people, learn, limit)
    note = "" if len(kept) == len(named) else f"{len(kept)} of {len(named)} faces, drawn at random"
    table, named, people = table.take(kept), named[kept], people[kept]
    names, counts = np.unique(named[named != ""], return_counts=True)
    known = set(names[counts >= FEWEST].tolist())
    classes = (*(n for n in EXPRESSIONS if n in known), *sorted(known - set(EXPRESSIONS)))
    rare = [f"{n} ({c})" for n, c in zip(names.tolist(), counts.tolist()) if n not in known]
    if rare:
        note = "; ".join(filter(None, [note, f"too few of {', '.join(rare)}"]))
    index = {name: number for number, name in enumerate(classes)}
    metadata = table.schema.metadata or {}
    text = metadata.get(b"blendshape_names", b"").decode()
    blendshape_names = tuple(text.split(",")) if text else ()
    posed = set(POSE) <= set(table.column_names)
    return TransferSet(
        name=path.stem,
        images=read_pictures(pictures, table["image"].to_numpy()),
        landmarks=numbers(table, "landmarks", 10).reshape(-1, 5, 2),
        classes=classes,
        labels=np.array([index.get(name, -1) for name in named.tolist()], np.int64),
        people=people,
        learn=None if learn is None else learn[kept],
        blendshapes=numbers(table, "blendshapes", len(blendshape_names)),
        blendshape_names=blendshape_names,
        exact=synthetic,
        pose=np.concatenate([numbers(table, name, 1) for name in POSE if posed], axis=1)
        if posed
        else np.zeros((table.num_rows, 0), np.float32),
        valence_arousal=np.concatenate([numbers(table, name, 1) for name in NAMES], axis=1),
        reference=path.name == FERPLUS,
        note=note,
    )


def take(
    table: TransferSet, chosen: npt.NDArray[np.integer] | npt.NDArray[np.bool_]
) -> TransferSet:
    """Take the faces with these indices, or where a mask ``(n,)`` is true."""
    columns: dict[str, Any] = {
        item.name: value[chosen]
        for item in dataclasses.fields(table)
        if isinstance(value := getattr(table, item.name), np.ndarray)
    }
    rows = np.arange(len(table))[chosen].tolist()
    return dataclasses.replace(table, images=[table.images[row] for row in rows], **columns)


def _split(table: pa.Table, ferplus: bool) -> tuple[pa.Table, npt.NDArray[np.bool_] | None]:
    """The rows that are used, and which of them are to be learned from."""
    splits = np.array(table["split"].to_pylist())
    if ferplus:  # training saw its train, and its test is read once a release
        return table.filter(splits == "valid"), None
    measured = next((name for name in ("test", "valid") if (splits == name).any()), None)
    if measured is None or not (splits == "train").any():
        return table, None
    used = (splits == "train") | (splits == measured)
    return table.filter(used), splits[used] == "train"


def _labels(table: pa.Table, path: Path) -> npt.NDArray[np.str_]:
    """The name of each row's class, empty where there is none."""
    columns = set(table.column_names)
    for name in ("label", "recipe"):
        if name in columns:
            return np.array([value or "" for value in table[name].to_pylist()])
    if set(_VOTES) <= columns:
        votes = np.stack([table[name].to_numpy() for name in _VOTES], axis=1).astype(np.float32)
        votes[votes <= 1] = 0
        shares = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)
        classes = majority(shares)
        classes[classes >= len(EXPRESSIONS)] = -1
    elif "expression" in columns:
        classes = majority(np.nan_to_num(numbers(table, "expression", len(EXPRESSIONS))))
    else:
        raise ValueError(f"{path} has no labels: no column label, expression, recipe or votes_...")
    return np.array([*EXPRESSIONS, ""])[classes]


def _keep(
    named: npt.NDArray[np.str_],
    people: npt.NDArray[np.int64],
    learn: npt.NDArray[np.bool_] | None,
    limit: int | None,
) -> npt.NDArray[np.int64]:
    """Rows that are kept: all, unless a class or a person has too many, or there is a limit."""
    order = np.random.default_rng(SEED).permutation(len(named))
    split = np.zeros(len(named), np.int64) if learn is None else learn.astype(np.int64)
    classes = np.unique(named, return_inverse=True)[1] * 2 + split
    cells = np.unique(np.stack([classes, people]), axis=1, return_inverse=True)[1].reshape(-1)
    order = order[_turn(cells[order]) < OF_A_PERSON]
    # Faces without a label are there for blendshapes and pose, which are soon learned.
    quick = (named[order] == "") | (learn is not None)
    order = order[_turn(classes[order]) < np.where(quick, 4 * MOST, MOST)]
    return np.sort(order[:limit])


def _turn(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of the same group come before each."""
    order = np.argsort(groups, kind="stable")
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    turn = np.empty(len(groups), np.int64)
    turn[order] = np.arange(len(groups)) - np.repeat(starts, counts)
    return turn


def _people(table: pa.Table) -> npt.NDArray[np.int64]:
    """Who is in each row: numbers from 0."""
    names: list[Any] = list(range(table.num_rows))
    for column in ("person", "person_id"):
        if column in table.column_names:
            names = table[column].to_pylist()
            break
    else:
        if "name" in table.column_names:
            matches = map(_PERSON.fullmatch, table["name"].to_pylist())
            told = [match[1] if match else row for row, match in enumerate(matches)]
            # A name that most files share is not a person's.
            if max(Counter(told).values()) <= len(told) / 2:
                names = told
    return np.unique([str(name) for name in names], return_inverse=True)[1].astype(np.int64)

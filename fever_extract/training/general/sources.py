"""The sets of a run, read from their tables into crops and labels of one form.

Cutting takes minutes, so its result is kept in the run's folder, by the content of the tables.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fever_extract._utils.files import replace_atomically
from fever_extract.models.config import EXPRESSIONS, Config
from fever_extract.training.data.columns import join_faces, numbers, read_columns, read_pictures
from fever_extract.training.data.faces import FACES, FERPLUS, majority, read_ferplus
from fever_extract.training.data.sets import select
from fever_extract.training.evaluation.transfer_sets import LABELS, held_out
from fever_extract.training.general.crops import cut
from fever_extract.training.general.web_teacher import WebTeacher
from fever_extract.training.recipes.general import GeneralRecipe

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

PORTRAITS = "portraits.parquet"
SYNTHETIC = "synthetic*.parquet"  # one table or several


@dataclass(frozen=True)
class Source:
    """n faces of one set, and what is known of each.

    Attributes:
        crops: ``(n, side, side)`` uint8, as `fever_extract.training.general.crops.cut` cuts them.
        web: ``(n, 7)`` float32, probabilities of the teacher that learned elsewhere.
        expression: ``(n, 8)`` float32 soft labels; rows of zeros have none.
        blendshapes: ``(n, 52)`` float32 in 0 to 1; NaN where missing.
    """

    crops: npt.NDArray[np.uint8]
    web: npt.NDArray[np.float32]
    expression: npt.NDArray[np.float32]
    blendshapes: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.crops)


@dataclass(frozen=True)
class Sources:
    """All that a run reads; a set that its recipe leaves out has no faces.

    Attributes:
        ferplus: FER+ train, without faces of which most said that they can't say.
        faces: the labelled faces in the wild that are there to train on.
        portraits: faces without labels.
        synthetic: in pairs, rows 2 k and 2 k + 1: one expression on two people.
        valid: FER+ valid, faces with a majority; to choose by.
    """

    ferplus: Source
    faces: Source
    portraits: Source
    synthetic: Source
    valid: Source


_Rows = tuple[Iterator["npt.NDArray[np.uint8]"], "npt.NDArray[np.float32]", "pa.Table | None"]


def read_sources(recipe: GeneralRecipe, data: Path, store: Path, config: Config) -> Sources:
    """Read the tables of a run, or what was cut from them before.

    Args:
        recipe: says which sets there are, and the teacher.
        data: folder of the tables.
        store: folder of the run, where crops are kept.
        config: of the network: its alignment, and the names of its blendshapes.

    Raises:
        FileNotFoundError: if a table or the teacher is missing.
        ValueError: if a table is none, or has other blendshapes or labels.
    """
    reader = _Reader(recipe, data, store, config)
    ferplus, valid = reader.ferplus("train"), reader.ferplus("valid")
    if not np.isfinite(ferplus.blendshapes).any():
        raise ValueError(f"{data / FERPLUS} has no blendshapes, which this run learns from")
    empty = Source(*(getattr(ferplus, item.name)[:0] for item in dataclasses.fields(Source)))
    return Sources(
        ferplus,
        reader.faces() if recipe.faces else empty,
        reader.portraits() if recipe.portraits else empty,
        reader.synthetic() if recipe.synthetic else empty,
        valid,
    )


class _Reader:
    def __init__(self, recipe: GeneralRecipe, data: Path, store: Path, config: Config) -> None:
        self.data, self.store, self.config = data, store, config
        self.teacher, self.key = None, repr((config.preprocessing, config.blendshapes))
        if recipe.web_teacher:
            path = data / recipe.web_teacher
            self.teacher = WebTeacher.read(path, recipe.web_teacher_sha256)
            self.key += hashlib.sha256(path.read_bytes()).hexdigest()

    def ferplus(self, split: str) -> Source:
        def read() -> Source:
            faces = read_ferplus(self.data, split)
            if faces.blendshape_names not in ((), self.config.blendshapes):
                raise ValueError(self._other_blendshapes(self.data / FERPLUS))
            # Where most of the vote said "unknown" or "no face", there is nothing to learn.
            learned = faces.expression.sum(axis=1) >= 0.5
            faces = select(faces, learned if split == "train" else majority(faces.expression) >= 0)
            grey = (np.repeat(image[:, :, None], 3, axis=2) for image in faces.images)
            blendshapes = faces.blendshapes
            if not faces.blendshape_names:
                shape = (len(faces), len(self.config.blendshapes))
                blendshapes = np.full(shape, np.nan, np.float32)
            return self._cut(grey, faces.landmarks, faces.expression, blendshapes, f"FER+ {split}")

        return self._kept(f"ferplus-{split}", [FERPLUS], read)

    def faces(self) -> Source:
        def read() -> Source:
            path = self.data / LABELS
            table = join_faces(read_columns(path), path)
            table = table.filter(np.array(table["part"].to_pylist()) == "train")
            return self._source(table, self.data / FACES, "label")

        return self._kept("faces", [LABELS, FACES], read)

    def portraits(self) -> Source:
        def read() -> Source:
            path = self.data / PORTRAITS
            return self._source(read_columns(path), path)

        return self._kept("portraits", [PORTRAITS], read)

    def synthetic(self) -> Source:
        tables = sorted(path.name for path in self.data.glob(SYNTHETIC))

        def read() -> Source:
            parts = [vars(self._pairs(self.data / name)) for name in tables]
            return Source(**{what: np.concatenate([p[what] for p in parts]) for what in parts[0]})

        return self._kept("synthetic", tables or [SYNTHETIC.replace("*", "")], read)

    def _pairs(self, path: Path) -> Source:
        """Rendered faces whose people are there to train on, each after its pair."""
        table = read_columns(path)
        table = table.filter(~held_out(table["person_id"].to_numpy()))
        _, groups, counts = np.unique(
            table["expression_id"].to_numpy(), return_inverse=True, return_counts=True
        )
        order = np.argsort(groups, kind="stable")
        table = table.take(order[counts[groups[order]] == 2])
        return self._source(table, path, "recipe")

    def _source(self, table: pa.Table, path: Path, labels: str = "") -> Source:
        """The faces of a table whose ``image`` has the numbers of rows of another's pictures."""
        if not table.num_rows:
            raise ValueError(f"{path}: no face of it is there to train on")
        names = (table.schema.metadata or {}).get(b"blendshape_names", b"").decode()
        if names and tuple(names.split(",")) != self.config.blendshapes:
            raise ValueError(self._other_blendshapes(path))
        named = table[labels].to_pylist() if labels else [None] * table.num_rows
        return self._cut(
            map(_decode, read_pictures(path, table["image"].to_numpy())),
            numbers(table, "landmarks", 10).reshape(-1, 5, 2),
            _one_hot(named, path),
            numbers(table, "blendshapes", len(self.config.blendshapes)),
            path.stem,
        )

    def _cut(
        self,
        pictures: Iterator[npt.NDArray[np.uint8]],
        landmarks: npt.NDArray[np.float32],
        expression: npt.NDArray[np.float32],
        blendshapes: npt.NDArray[np.float32],
        what: str,
    ) -> Source:
        preprocessing = self.config.preprocessing
        crops, web = cut(pictures, landmarks, preprocessing, self.teacher, what)
        return Source(crops, web, expression, blendshapes)

    def _kept(self, name: str, tables: Sequence[str], read: Callable[[], Source]) -> Source:
        """What is in the store, else what is read, which is then put there."""
        digest = hashlib.sha256(self.key.encode())
        for table in tables:
            if not (self.data / table).is_file():
                raise FileNotFoundError(
                    f"{self.data / table} is missing; see docs/data.md, or give a recipe without it"
                )
            digest.update((self.data / table).read_bytes())
        path = self.store / f"crops-{name}-{digest.hexdigest()[:12]}.npz"
        if path.exists():
            with np.load(path) as stored:
                return Source(**stored)
        source = read()
        with replace_atomically(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **vars(source))
        return source

    def _other_blendshapes(self, path: Path) -> str:
        return f"{path} has other blendshapes than the weights that the run begins from (--init)"


def _decode(data: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as file:
        return np.array(file.convert("RGB"))


def _one_hot(names: Sequence[str | None], path: Path) -> npt.NDArray[np.float32]:
    """Labels ``(n, 8)``, zero where there is none."""
    unknown = {name for name in names if name} - set(EXPRESSIONS)
    if unknown:
        raise ValueError(f"{path}: no expression of ours: {', '.join(sorted(unknown))}")
    classes = np.array([EXPRESSIONS.index(name) if name else -1 for name in names])
    rows: npt.NDArray[np.float32] = np.eye(len(EXPRESSIONS) + 1, dtype=np.float32)[classes, :-1]
    return rows

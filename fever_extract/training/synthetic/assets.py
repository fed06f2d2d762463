"""Hair, brows, lashes and teeth that fit any head, and textures, from a zip file or a folder.

The layout is that of MakeHuman's assets: ``meshes/KIND/NAME/NAME.obj`` and ``NAME.mhclo``, and
``textures/KIND/*.png``, for the kinds hair, eyebrows, eyelashes, teeth and skins.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fever_extract.training.synthetic.wavefront import read_obj

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE = 512
"""Of every texture, in pixels."""
KINDS = ("hair", "eyebrows", "eyelashes", "teeth")
# By how much textures are shrunk and enlarged again: in a face of 128 px a brow's hairs are much
# thinner than a pixel, and would be hit or missed.
_SMOOTHING = {"hair": 2, "eyebrows": 4, "eyelashes": 4, "teeth": 2, "skins": 1}


@dataclass(frozen=True)
class Cloth:
    """A mesh that hangs on vertices of the body.

    Attributes:
        name: of the asset.
        on: ``(n, 3)`` int64, the body's vertices that each vertex hangs on.
        weights: ``(n, 3)`` float32 of these.
        offsets: ``(n, 3)`` float32, in units of ``scales``.
        scales: for x, y and z two vertices of the body and their distance on the base mesh.
        triangles, uv: ``(t, 3)`` int32 and ``(t, 3, 2)`` float32.
        texture: row in `Assets.textures`.
    """

    name: str
    on: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.float32]
    scales: tuple[tuple[int, int, float], ...]
    triangles: npt.NDArray[np.int32]
    uv: npt.NDArray[np.float32]
    texture: int

    def fit(
        self,
        vertices: npt.NDArray[np.float32],
        rest: npt.NDArray[np.float32],
        index: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """Place the mesh on a head.

        Args:
            vertices: ``(v, 3)`` of the head, with its expression.
            rest: the same without, which says how large the head is.
            index: `Head.index`.

        Returns:
            ``(n, 3)`` float32.
        """
        size = np.array(
            [
                abs(rest[index[first], axis] - rest[index[second], axis]) / length
                for axis, (first, second, length) in enumerate(self.scales)
            ],
            np.float32,
        )
        hung = np.einsum("nk,nkd->nd", self.weights, vertices[index[self.on]])
        placed: npt.NDArray[np.float32] = hung + self.offsets * size
        return placed


@dataclass(frozen=True)
class Assets:
    """All that is put on heads.

    Attributes:
        cloths: for each of `KINDS` its meshes, by name.
        textures: ``(n, 512, 512, 4)`` uint8, RGBA.
        tones: ``(n,)`` float32, mean brightness (0 to 1) of what is opaque in each.
        skins: names of skins, to rows of ``textures``.
    """

    cloths: Mapping[str, Sequence[Cloth]]
    textures: npt.NDArray[np.uint8]
    tones: npt.NDArray[np.float32]
    skins: Mapping[str, int]


def read_assets(path: Path) -> Assets:
    """Read all assets of a zip file or folder.

    Raises:
        FileNotFoundError: if it is not there, or a kind has no mesh or texture in it.
        ValueError: if a file of it is not in its format.
    """
    files = _read_files(path)
    rows: dict[str, int] = {}
    textures: list[npt.NDArray[np.uint8]] = []

    def load(name: str) -> int:
        if name not in rows:
            rows[name] = len(textures)
            kind = name.split("/")[1]
            textures.append(_read_texture(files[name], _SMOOTHING[kind], name))
        return rows[name]

    cloths: dict[str, list[Cloth]] = {}
    for kind in KINDS:
        names = sorted(re.findall(rf"^meshes/{kind}/([^/]+)/\1\.mhclo$", "\n".join(files), re.M))
        pictures = sorted(name for name in files if name.startswith(f"textures/{kind}/"))
        if not names or not pictures:
            raise FileNotFoundError(f"{path} has no {kind}: see docs/synthetic.md for its layout")
        for name in names:
            at = f"meshes/{kind}/{name}/{name}"
            picture = _texture_of(name, pictures)
            try:
                cloth = _read_cloth(name, files[f"{at}.mhclo"], files[f"{at}.obj"], load(picture))
            except (KeyError, ValueError) as error:
                raise ValueError(f"{path}: {at}.mhclo can't be read: {error}") from None
            cloths.setdefault(kind, []).append(cloth)
    skins = {
        name.split("/")[-1].removesuffix(".png"): load(name)
        for name in sorted(files)
        if name.startswith("textures/skins/")
    }
    if not skins:
        raise FileNotFoundError(f"{path} has no skins: see docs/synthetic.md for its layout")
    stack = np.stack(textures)
    return Assets(cloths, stack, _tones(stack), skins)


def _read_files(path: Path) -> dict[str, bytes]:
    """The files by name, from ``meshes`` or ``textures`` on."""
    wanted = re.compile(r"(?:^|/)((?:meshes|textures)/.+\.(?:obj|mhclo|png))$")
    files: dict[str, bytes] = {}
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if match := wanted.search(file.relative_to(path).as_posix()):
                files[match[1]] = file.read_bytes()
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if match := wanted.search(name):
                        files[match[1]] = archive.read(name)
        except zipfile.BadZipFile:
            raise ValueError(f"{path} is neither a folder nor a whole zip file") from None
    return files


def _texture_of(name: str, pictures: Sequence[str]) -> str:
    """The picture named like the mesh, or like it without its number, else the first."""
    for start in (name, name.rstrip("0123456789")):
        for picture in pictures:
            if picture.split("/")[-1].startswith(start):
                return picture
    return pictures[0]


def _read_texture(data: bytes, smoothing: int, name: str) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data)) as file:
            # Premultiplied, so that what is transparent lends no colour to what is not.
            picture = file.convert("RGBA").convert("RGBa").resize((SIDE, SIDE))
    except OSError as error:
        raise ValueError(f"{name} is no picture: {error}") from None
    if smoothing > 1:
        small = picture.resize((SIDE // smoothing,) * 2, Image.Resampling.BOX)
        picture = small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.array(picture.convert("RGBA"))


def _tones(textures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    small = textures[:, ::4, ::4].astype(np.float32)
    opaque = small[..., 3]
    bright = (small[..., :3].mean(axis=-1) * opaque).sum(axis=(1, 2))
    tones = bright / np.maximum(opaque.sum(axis=(1, 2)), 1) / 255
    floor: npt.NDArray[np.float32] = np.maximum(tones, np.float32(0.02))
    return floor


def _read_cloth(name: str, mhclo: bytes, obj: bytes, texture: int) -> Cloth:
    mesh = read_obj(obj.decode("utf-8"))
    scales: dict[str, tuple[int, int, float]] = {}
    on, weights, offsets = [], [], []
    for line in mhclo.decode("utf-8").splitlines():
        words = line.split()
        if words and words[0] in ("x_scale", "y_scale", "z_scale"):
            scales[words[0]] = int(words[1]), int(words[2]), float(words[3])
        elif len(words) == 9 and words[0].isdigit():
            on.append([int(word) for word in words[:3]])
            weights.append([float(word) for word in words[3:6]])
            offsets.append([float(word) for word in words[6:]])
        elif len(words) == 1 and words[0].isdigit():
            on.append([int(words[0])] * 3)
            weights.append([1.0, 0.0, 0.0])
            offsets.append([0.0] * 3)
    if len(on) != len(mesh.vertices):
        raise ValueError(f"{len(on)} vertices hang on the body, the mesh has {len(mesh.vertices)}")
    return Cloth(
        name,
        np.array(on),
        np.array(weights, np.float32),
        np.array(offsets, np.float32),
        tuple(scales[f"{axis}_scale"] for axis in "xyz"),
        mesh.triangles,
        mesh.uv,
        texture,
    )

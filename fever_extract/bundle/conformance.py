"""Conformance test of a bundle: free pictures, the package's results on them, a comparison.

All are made of the package's own photograph, which is in the public domain: turned as EXIF can
turn it, in every mode that Pillow writes, small and large, with several faces and with none.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from fever_extract.bundle.precision import LEAST_COSINE
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.options import Options
from fever_extract.pipeline import Pipeline
from fever_extract.records import Record

FOLDER = "conformance"
EXPECTED = "expected.json"
COSINE, PIXELS = LEAST_COSINE["float32"], 1.0
"""The least cosine of two embeddings, and how far corners of boxes may be apart."""

Extract = Callable[[list[Path]], Iterable[Record]]
"""Paths to records with all faces, in the same order."""

# How a picture is stored that EXIF says to turn: the inverse of what a viewer does.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
DECODERS_VARY = ("cmyk.jpg", "grey16.png")
"""A browser decodes these by rules of its own: colours of print, and more than eight bits."""


@dataclass(frozen=True)
class Difference:
    """What became of one picture, beside what the package makes of it.

    Attributes:
        picture: its file's name.
        problem: what is not as it has to be; None if all is.
        cosine: the least of its faces' embeddings; 1 without a face.
        pixels: the largest of its boxes' corners; 0 without a face.
    """

    picture: str
    problem: str | None
    cosine: float = 1.0
    pixels: float = 0.0


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the pictures, and ``expected.json`` with what the package makes of them.

    Args:
        folder: made by this.
        checkpoint: the weights.
    """
    folder.mkdir()
    for name, data in pictures().items():
        (folder / name).write_bytes(data)
    names = sorted(path.name for path in folder.iterdir())
    records = by_package(checkpoint)([folder / name for name in names])
    rows = [
        {"file": name, "decoders_vary": name in DECODERS_VARY, **_to_json(record)}
        for name, record in zip(names, records)
    ]
    limits = {"cosine": LEAST_COSINE, "pixels": PIXELS}
    text = json.dumps({**limits, "pictures": rows}) + "\n"
    (folder / EXPECTED).write_text(text, encoding="utf-8")


def by_package(checkpoint: Checkpoint) -> Extract:
    """The package's way from paths to records, on the CPU."""
    pipeline = Pipeline(checkpoint, "cpu")
    return lambda paths: pipeline.process(paths, Options(), all_faces=True)


def compare(folder: Path, extract: Extract, least_cosine: float = COSINE) -> list[Difference]:
    """Compare what some program makes of the pictures with what the package made of them.

    Args:
        folder: as `write` left it.
        extract: paths to records with all faces, in the same order.
        least_cosine: of two embeddings that agree.
    """
    expected = json.loads((folder / EXPECTED).read_bytes())["pictures"]
    records = extract([folder / row["file"] for row in expected])
    return [_difference(row, record, least_cosine) for row, record in zip(expected, records)]


def pictures() -> dict[str, bytes]:
    """Encoded pictures by file name."""
    data = (resources.files("fever_extract.assets") / "astronaut.jpg").read_bytes()
    photograph = Image.open(io.BytesIO(data)).convert("RGB")
    portrait = photograph.crop((110, 0, 350, 320))
    face = photograph.crop((160, 20, 290, 190))
    files = {"photograph.jpg": data}
    for orientation in range(1, 9):
        stored = portrait.transpose(_STORED[orientation]) if orientation > 1 else portrait
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        files[f"orientation_{orientation}.jpg"] = _encode(stored, "JPEG", exif=exif)
    grey = portrait.convert("L")
    shade = Image.linear_gradient("L").resize(portrait.size)
    files |= {
        "grey.png": _encode(grey, "PNG"),
        "grey_alpha.png": _encode(Image.merge("LA", (grey, shade)), "PNG"),
        "alpha.png": _encode(Image.merge("RGBA", (*portrait.split(), shade)), "PNG"),
        "palette.png": _encode(portrait.quantize(64), "PNG"),
        "grey16.png": _encode(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG"),
        "cmyk.jpg": _encode(portrait.convert("CMYK"), "JPEG"),
        "grey.jpg": _encode(grey, "JPEG"),
        "progressive.jpg": _encode(portrait, "JPEG", progressive=True),
        "full_chroma.jpg": _encode(portrait, "JPEG", subsampling=0),
        "photograph.webp": _encode(portrait, "WEBP"),
        "photograph.gif": _encode(portrait.quantize(128), "GIF"),
        "photograph.bmp": _encode(portrait.resize((150, 200)), "BMP"),
        "small.png": _encode(face.resize((78, 102), Image.Resampling.LANCZOS), "PNG"),
        "too_small.png": _encode(face.resize((15, 19), Image.Resampling.LANCZOS), "PNG"),
        "large.jpg": _encode(photograph.resize((2400, 2400), Image.Resampling.BICUBIC), "JPEG"),
        "turned.jpg": _encode(photograph.rotate(35, Image.Resampling.BICUBIC), "JPEG"),
        "cut.jpg": _encode(photograph.crop((210, 0, 512, 300)), "JPEG"),
        "group.jpg": _encode(_group(photograph), "JPEG"),
        "no_face.jpg": _encode(photograph.crop((0, 290, 512, 512)), "JPEG"),
        "truncated.jpg": data[: len(data) // 2],
        "no_picture.jpg": b"This is no picture.\n",
    }
    return files


def _group(photograph: Image.Image) -> Image.Image:
    """Several faces, of several sizes and turned."""
    group = Image.new("RGB", (900, 600), (90, 110, 130))
    bust = photograph.crop((90, 0, 390, 300))
    for side, angle, left, top in ((280, 0, 20, 30), (200, 12, 360, 60), (140, -15, 620, 40)):
        small = bust.resize((side, side), Image.Resampling.LANCZOS)
        group.paste(small.rotate(angle, Image.Resampling.BICUBIC), (left, top))
    mirrored = bust.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    group.paste(mirrored.resize((240, 240), Image.Resampling.LANCZOS), (640, 330))
    group.paste(mirrored.resize((110, 110), Image.Resampling.LANCZOS), (120, 400))
    return group


def _encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    if format_ in ("JPEG", "WEBP"):
        options = {"quality": 90, **options}
    image.save(file, format_, **options)
    return file.getvalue()


def _to_json(record: Record) -> dict[str, Any]:
    faces = [
        {
            "box": [round(value, 3) for value in face.box.tolist()],
            "score": round(face.score, 5),
            "landmarks": np.round(face.landmarks.astype(float), 3).tolist(),
            "embedding": [float(f"{value:.6g}") for value in face.embedding.tolist()],
            "expressions": {name: round(value, 6) for name, value in face.expressions.items()},
        }
        for face in record.faces
    ]
    return {"status": str(record.status), "faces": faces}


def _difference(row: Mapping[str, Any], record: Record, least_cosine: float) -> Difference:
    name, faces = row["file"], row["faces"]
    if str(record.status) != row["status"] or len(record.faces) != len(faces):
        said = f"{row['status']} with {len(faces)} face(s)"
        return Difference(name, f"{record.status} with {len(record.faces)}, and not {said}")
    pairs = list(zip(faces, record.faces))
    cosine = min(
        (_cosine(face["embedding"], other.embedding) for face, other in pairs), default=1.0
    )
    pixels = max((np.abs(face["box"] - other.box).max() for face, other in pairs), default=0.0)
    problem = None
    if not cosine >= least_cosine:
        problem = f"an embedding has a cosine of only {cosine:.6f}, not {least_cosine}"
    elif not pixels <= PIXELS:
        problem = f"a box is {pixels:.2f} pixels away"
    return Difference(name, problem, cosine, float(pixels))


def _cosine(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

"""Do we find the faces that facenet-pytorch's MTCNN finds at its defaults, and no others?

python benchmarks/recall.py PHOTOS FACES.parquet [--composites 2000] [--crops 400]

Pictures: the photographs; faces of a table like ../shared/data/faces.parquet, each pasted at
a random scale on a landscape; random crops of the photographs. All seeded. Its faces of 40
pixels or more count; a face is found if a box of ours overlaps it by more than half (IoU). Of
faces that the border cuts, its boxes and landmarks are those of a stretched crop, so that ours
differ: they are where they are in the whole picture.
"""

import argparse
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.ops import box_iou

from fever_extract import images
from fever_extract.detection.detector import Detector
from fever_extract.detection.parameters import smallest_face
from fever_extract.folders import list_images

SEED = 7
SMALLEST = 40  # pixels; smaller faces of the baseline don't count
CONFIDENT = 0.9


@dataclass
class Counts:
    """Faces of the baseline, those of them that we find, and ours that it has not.

    ``errors``: how far apart the landmarks of a found face are, in sides of the face.
    """

    baseline: int = 0
    found: int = 0
    new: int = 0
    errors: tuple[float, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.baseline:5} faces, recall {self.found / max(1, self.baseline):7.2%}, "
            f"new {self.new / max(1, self.baseline):6.2%}, "
            f"landmarks {np.mean(self.errors or [0]):.2%} of the face apart on average"
        )


def photographs(folder: Path) -> Iterator[Image.Image]:
    for name in list_images(folder):
        yield Image.fromarray(images.read(folder / name))


def composites(table: Path, count: int) -> Iterator[Image.Image]:
    """Faces of the table, each on a landscape."""
    random = np.random.default_rng(SEED)
    faces = pq.read_table(table, columns=["image"])["image"]
    landscapes = [Image.fromarray(picture) for picture in load_sample_images().images]
    for index in random.permutation(len(faces))[:count]:
        landscape = landscapes[random.integers(len(landscapes))]
        width = round(np.exp(random.uniform(np.log(320), np.log(1600))))
        scene = landscape.resize((width, width * landscape.height // landscape.width))
        # In these pictures the face fills about half a side.
        side = round(np.exp(random.uniform(np.log(80), np.log(scene.height))))
        face = Image.open(io.BytesIO(faces[int(index)].as_py())).convert("RGB")
        place = random.integers(scene.width - side + 1), random.integers(scene.height - side + 1)
        scene.paste(face.resize((side, side), Image.Resampling.BICUBIC), tuple(map(int, place)))
        yield scene


def crops(folder: Path, count: int) -> Iterator[Image.Image]:
    """Random parts of the photographs, at random sizes."""
    random = np.random.default_rng(SEED)
    pictures = list(photographs(folder))
    for _ in range(count):
        picture = pictures[random.integers(len(pictures))]
        width, height = (round(side * random.uniform(0.3, 1)) for side in picture.size)
        left, top = (int(random.integers(a - b + 1)) for a, b in zip(picture.size, (width, height)))
        scale = np.exp(random.uniform(np.log(0.25), 0)) * min(1, 1600 / max(width, height))
        size = tuple(max(48, round(side * scale)) for side in (width, height))
        box = (left, top, left + width, top + height)
        yield picture.resize(size, Image.Resampling.LANCZOS, box=box)


def baseline(mtcnn: MTCNN, image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Boxes ``(k, 4)`` and landmarks ``(k, 5, 2)``."""
    try:
        boxes, scores, landmarks = mtcnn.detect(image, landmarks=True)
    except RuntimeError:  # it fails where there is no candidate at all
        boxes = None
    if boxes is None:
        return np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32)
    keep = scores >= CONFIDENT
    return boxes[keep].astype(np.float32), landmarks[keep].astype(np.float32)


def sides(boxes: np.ndarray) -> np.ndarray:
    return np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))


def inside(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """How much of each box lies in the picture, 0 to 1."""
    cut = np.clip(boxes, 0, [width, height, width, height])
    return sides(cut) ** 2 / sides(boxes) ** 2


def compare(
    theirs: tuple[np.ndarray, np.ndarray],
    ours: tuple[np.ndarray, np.ndarray],
    size: tuple[int, int],
    counts: Counts,
    cut: Counts,
) -> None:
    """Add one picture to the counts: faces that are mostly in it, and those that are not."""
    kinds = [inside(boxes, *size) >= 0.5 for boxes, _ in (theirs, ours)]
    tally(theirs, ours, *kinds, counts)
    tally(theirs, ours, *(~kind for kind in kinds), cut)


def tally(
    theirs: tuple[np.ndarray, np.ndarray],
    ours: tuple[np.ndarray, np.ndarray],
    of_theirs: np.ndarray,
    of_ours: np.ndarray,
    counts: Counts,
) -> None:
    overlaps = box_iou(torch.from_numpy(theirs[0]), torch.from_numpy(ours[0])).numpy()
    # Any face of theirs will do here: near 40 pixels, one may say 39 where the other says 41.
    counts.new += int(
        (of_ours & (overlaps.max(axis=0, initial=0) <= 0.5) & (sides(ours[0]) >= SMALLEST)).sum()
    )
    large = of_theirs & (sides(theirs[0]) >= SMALLEST)
    found = large & (overlaps.max(axis=1, initial=0) > 0.5)
    counts.baseline += int(large.sum())
    counts.found += int(found.sum())
    for index in np.flatnonzero(found):
        match = ours[1][overlaps[index].argmax()]
        apart = np.linalg.norm(theirs[1][index] - match, axis=1).mean()
        counts.errors += (float(apart / sides(theirs[0][[index]])[0]),)


def measure(
    pictures: Iterator[Image.Image], cache: dict[str, np.ndarray], name: str
) -> tuple[Counts, Counts]:
    """Faces that are mostly in the picture, and faces that its border cuts in two."""
    mtcnn, detector, counts, cut = MTCNN(keep_all=True), Detector(), Counts(), Counts()
    for index, picture in enumerate(pictures):
        key = f"{name}-{index}"
        if f"{key}-boxes" not in cache:
            cache[f"{key}-boxes"], cache[f"{key}-landmarks"] = baseline(mtcnn, picture)
        pixels = np.array(picture)
        (found,) = detector.detect([pixels], [smallest_face(*pixels.shape[:2])], CONFIDENT)
        theirs = cache[f"{key}-boxes"], cache[f"{key}-landmarks"]
        compare(theirs, (found.boxes, found.landmarks), picture.size, counts, cut)
    return counts, cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--composites", type=int, default=2000)
    parser.add_argument("--crops", type=int, default=400)
    parser.add_argument("--cache", type=Path, help="an .npz file for the baseline's answers")
    chosen = parser.parse_args()
    cache = dict(np.load(chosen.cache)) if chosen.cache and chosen.cache.exists() else {}
    for name, pictures in (
        ("photographs", photographs(chosen.photos)),
        ("composites", composites(chosen.faces, chosen.composites)),
        ("crops", crops(chosen.photos, chosen.crops)),
    ):
        counts, cut = measure(pictures, cache, name)
        print(f"{name:12} {counts}", flush=True)
        if cut.baseline:
            print(f"{'  cut in two':12} {cut}", flush=True)
    if chosen.cache:
        np.savez(chosen.cache, **cache)


if __name__ == "__main__":
    main()

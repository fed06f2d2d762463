"""Ids of faces that leave and return, are cut away, or cross: by people before one wall.

python benchmarks/tracking.py ../shared/data/london.parquet ../shared/photos/clip_*.m*

The London set is the hardest case there is for colours: 102 people, each neutral and smiling, in
white shirts before the same grey wall, in the same place and size. Each is shown in a made-up
clip of 640x400 pixels, ten frames a second. In clips, some seconds are cut out.
"""

import io
import itertools
import sys

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from fever_extract import Extractor
from fever_extract.video.decoding import Clip, upright
from fever_extract.video.frames import sample
from fever_extract.video.tracking import Tracker

SIZE = 300  # pixels of a portrait
WALL = (640, 400)
PAIRS = 1000  # of different people, of 10,302
CROSSINGS = 100
FPS = 4


class Portrait:
    """A picture and the box of its face."""

    def __init__(self, data: bytes) -> None:
        self.picture = Image.open(io.BytesIO(data)).convert("RGB").resize((SIZE, SIZE))
        self.box = np.zeros(4, np.float32)


def read(path: str) -> list[tuple[Portrait, Portrait]]:
    """The people, each neutral and smiling."""
    table = pq.read_table(path, columns=["image", "person", "label"]).to_pylist()
    table.sort(key=lambda row: (row["person"], row["label"] != "neutral"))
    portraits = [Portrait(row["image"]) for row in table]
    records = Extractor(device="cpu").extract_records([p.picture for p in portraits])
    for portrait, record in zip(portraits, records):
        assert record.face is not None
        portrait.box = record.face.box
    return list(zip(portraits[::2], portraits[1::2]))


class Film:
    """Frames of portraits at places on the wall, and the ids that they get."""

    def __init__(self) -> None:
        self.tracker, self.time = Tracker(), 0.0

    def show(self, *shown: tuple[Portrait, int], after: float = 0.1) -> list[int]:
        self.time += after
        wall = Image.new("RGB", WALL, (205, 205, 205))
        for portrait, left in shown:
            wall.paste(portrait.picture, (left, 60))
        boxes = [portrait.box + np.array([left, 60] * 2) for portrait, left in shown]
        ids = np.array(boxes, np.float32).reshape(-1, 4)
        return self.tracker.update(ids, self.time, np.asarray(wall))


def replaced(first: Portrait, second: Portrait, left: int, gap: float) -> bool:
    """Whether the second gets the first's id: at once (a cut), or after a gap."""
    film = Film()
    before = film.show((first, 20))
    film.show((first, 22))
    if gap > 0.1:
        film.show()
        film.show(after=gap)
    return film.show((second, left)) == before


def crossed(first: Portrait, second: Portrait) -> str:
    """What becomes of two ids when the first walks past before the second."""
    film = Film()
    before = after = film.show((first, 0), (second, 340))
    for step in range(0, 341, 10):
        places = [(second, 340 - step), (first, step)]
        hidden = abs(340 - 2 * step) < 130
        ids = film.show(*(places[1:] if hidden else places))
        after = ids if hidden else ids[::-1]
    if after == before:
        return "kept"
    return "swapped" if set(after) & set(before) and _swapped(before, after) else "new id"


def returns(clip: str, gap: int) -> tuple[int, int]:
    """How often the face of a clip has its id after so many seconds cut out, and of how often."""
    shown = []
    with Clip(clip) as opened:
        for time, frame in sample(opened.frames(), FPS):
            shown.append((time, upright(frame, opened.pixel_aspect)))
    records = Extractor(device="cpu").extract_records([pixels for _, pixels in shown])
    back = tries = 0
    for start in range(len(shown) - gap * FPS):
        if not (records[start].faces and records[start + gap * FPS].faces):
            continue
        tracker = Tracker()
        ids = []
        for index in (start, start + gap * FPS):
            time, pixels = shown[index]
            boxes = np.array([face.box for face in records[index].faces], np.float32)
            tracker.update(boxes[:0], time - 0.1, pixels)
            ids.append(tracker.update(boxes, time, pixels))
        tries += 1
        back += ids[0] == ids[1]
    return back, tries


def _swapped(before: list[int], after: list[int]) -> bool:
    return after[0] == before[1] or after[1] == before[0]


def main(path: str, *clips: str) -> None:
    for clip, gap in itertools.product(clips, (2, 5, 10)):
        back, tries = returns(clip, gap)
        if tries:
            print(f"{clip}, {gap} s cut out: the id is back in {back} of {tries}")
    people = read(path)
    rng = np.random.default_rng(0)
    pairs = list(itertools.permutations(range(len(people)), 2))
    pairs = [pairs[index] for index in rng.choice(len(pairs), PAIRS, replace=False)]
    print(f"{len(people)} people, {len(pairs)} pairs of different people")
    for what, left, gap in (
        ("at once, in the same place", 22, 0.1),
        ("after 5 s, in the same place", 22, 5.0),
        ("after 5 s, elsewhere", 300, 5.0),
    ):
        back = sum(replaced(neutral, smiling, left, gap) for neutral, smiling in people)
        wrong = sum(replaced(people[a][0], people[b][0], left, gap) for a, b in pairs)
        print(
            f"{what}: the same person, now smiling, has the id in {back} of {len(people)}; another "
            f"in {wrong} of {len(pairs)}"
        )
    ends = [crossed(people[a][0], people[b][0]) for a, b in pairs[:CROSSINGS]]
    counts = ", ".join(f"{end} {ends.count(end)}" for end in ("kept", "new id", "swapped"))
    print(f"crossing, {len(ends)} pairs: {counts}")


if __name__ == "__main__":
    main(*sys.argv[1:])

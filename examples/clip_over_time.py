"""How the expressions of each face in a clip change over time.

python examples/clip_over_time.py CLIP

Five frames a second are looked at, and each is averaged with the two beside it; a line is printed
where the most probable expression changes.
"""

import sys
from collections import defaultdict

import numpy as np

from fever_extract import Extractor, Status


def main(clip: str) -> None:
    times, rows = defaultdict(list), defaultdict(list)
    for frame in Extractor().extract_video(clip, fps=5):
        if frame.status not in (Status.OK, Status.NO_FACE):
            print(f"{frame.time:.1f} s: {frame.error}")
        for face in frame.faces:
            times[face.track].append(frame.time)
            rows[face.track].append(list(face.expressions.values()))
            names = list(face.expressions)

    for track in rows:
        print(f"face {track}, from {times[track][0]:.1f} to {times[track][-1]:.1f} s")
        last = None
        for index, time in enumerate(times[track]):
            probabilities = np.mean(rows[track][max(0, index - 1) : index + 2], axis=0)
            best = int(np.argmax(probabilities))
            if best != last:
                bar = "#" * round(20 * probabilities[best])
                print(f"  {time:6.1f} s  {names[best]:10} {probabilities[best]:4.0%} {bar}")
            last = best


if __name__ == "__main__":
    main(sys.argv[1])

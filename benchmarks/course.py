"""Courses against two clips that were labelled by eye, frame by frame.

python benchmarks/course.py ../shared/photos [DETECT_EVERY]

The labels were written before the network's outputs were looked at. Frames in which the eye is not
sure either (a mouth that begins to smile, or speaks) are left out.
"""

import sys
from pathlib import Path

import numpy as np

from fever_extract import Extractor

# Seconds, from and to before: smiling, not smiling, and crying with pulled lip corners.
SMILING = {
    "clip_face.mp4": [(0.59, 2.32)],
    "clip_long.mp4": [(10.35, 11.32), (12.40, 19.70)],
}
SERIOUS = {
    "clip_face.mp4": [(0.0, 0.55), (2.35, 2.45)],
    "clip_long.mp4": [(0.0, 0.70), (2.45, 9.42)],
}
CRYING = {"clip_face.mp4": [], "clip_long.mp4": [(0.75, 2.40)]}
# When the eyes are most closed; and when they are closed for longer, or look down under lids.
BLINKS = {"clip_face.mp4": [0.90], "clip_long.mp4": [6.40, 8.43, 10.34, 12.01, 16.12, 17.87]}
CLOSED = {"clip_face.mp4": [], "clip_long.mp4": [(0.0, 5.85), (18.30, 19.70)]}
NEAR = 0.1  # seconds from a labelled blink to a found one


def within(times: np.ndarray, stretches: list[tuple[float, float]]) -> np.ndarray:
    inside = [(times >= start) & (times < end) for start, end in stretches]
    return np.logical_or.reduce([np.zeros(len(times), bool), *inside])


def main(folder: str, detect_every: str = "1") -> None:
    extractor = Extractor(device="cpu")
    for name, smiling in SMILING.items():
        clip = Path(folder) / name
        course = extractor.extract_course(clip, step=1.0, detect_every=int(detect_every))
        print(f"{name}: {course.frames} frames, face {course.faces}")
        for signal in ("smile", "happiness"):
            times, values = course.signal(0, signal)
            for label, stretches, expected in (
                ("smiling", smiling, True),
                ("serious", SERIOUS[name], False),
                ("crying", CRYING[name], False),
            ):
                chosen = values[within(times, stretches)] >= 0.5
                if len(chosen):
                    right = int((chosen == expected).sum())
                    print(f"  {signal} 0.5 or more, {label}: right in {right} of {len(chosen)}")
        for event in course.events("smile"):
            print(f"  smile from {event.onset:.2f} to {event.offset:.2f} s")
        found = np.array([event.apex for event in course.events("blink")])
        seen = [bool(len(found)) and np.abs(found - time).min() <= NEAR for time in BLINKS[name]]
        false = [t for t in found if np.abs(np.array(BLINKS[name]) - t).min() > NEAR]
        closed = int(within(np.array(false), CLOSED[name]).sum()) if false else 0
        print(
            f"  blinks: {sum(seen)} of {len(seen)} found, {len(false)} that are none "
            f"({closed} of them while eyes are closed)"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

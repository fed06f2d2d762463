"""How the expressions of each face in a clip change over time.

python examples/clip_over_time.py CLIP

Prints when each expression begins, is strongest and ends, counts smiles and blinks, and writes a
figure and a table beside the clip. Needs the extra "course".
"""

import sys
from pathlib import Path

from fever_extract import Extractor


def main(clip: str) -> None:
    course = Extractor().extract_course(clip, step=0.5).smooth("savgol", window=0.3)
    for problem in course.problems:
        print(problem.error)
    smiles = course.per_minute("smile")
    for face in course.faces:
        print(f"face {face}, seen for {course.seconds(face):.1f} s: {smiles[face]:.0f} smiles/min")
        for name in course.names:
            for event in course.events(name, face=face) if name.startswith("p_") else ():
                print(
                    f"  {event.onset:6.1f} to {event.offset:6.1f} s  {name[2:]:10} "
                    f"{event.peak:4.0%} at {event.apex:.1f} s"
                )
    course.plot(Path(clip).with_suffix(".png"))
    course.save(Path(clip).with_suffix(".course.csv"))


if __name__ == "__main__":
    main(sys.argv[1])

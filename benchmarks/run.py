"""A folder of photographs through us and through the plain pipeline, in one run.

The plain pipeline is facenet-pytorch's MTCNN at its defaults, then EfficientNet-B0 at 224
pixels on each face, image by image: what one writes in an afternoon.

    python benchmarks/run.py FOLDER
"""

import platform
import sys
import tempfile
import time
from pathlib import Path

import torch
from facenet_pytorch import MTCNN
from PIL import Image
from torchvision.models import efficientnet_b0
from torchvision.transforms import functional as transforms

from fever_extract import Extractor
from fever_extract.images import list_images


def decode(paths: list[Path]) -> int:
    for path in paths:
        Image.open(path).convert("RGB").load()
    return len(paths)


@torch.inference_mode()
def plain(paths: list[Path]) -> int:
    mtcnn, network = MTCNN(keep_all=True), efficientnet_b0().eval()
    faces = 0
    for path in paths:
        image = Image.open(path).convert("RGB")
        boxes, scores = mtcnn.detect(image)
        for box, score in zip([] if boxes is None else boxes, scores):
            if score > 0.9:
                crop = image.crop(box.tolist()).resize((224, 224))
                network(transforms.to_tensor(crop)[None])
                faces += 1
    return faces


def ours(folder: Path) -> int:
    extractor = Extractor(device="cpu")
    with tempfile.TemporaryDirectory() as output:
        summary = extractor.extract_folder(
            folder, Path(output) / "features.parquet", all_faces=True, show_progress=False
        )
    return summary.faces


def main() -> None:
    folder = Path(sys.argv[1])
    paths = [folder / name for name in list_images(folder)]
    print(
        f"{len(paths)} photographs, {platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    rates = {}
    for name, job, argument in (
        ("plain pipeline", plain, paths),
        ("decoding alone, one core", decode, paths),
        ("fever-extract, to Parquet", ours, folder),
    ):
        start = time.perf_counter()
        found = job(argument)
        rates[name] = len(paths) / (time.perf_counter() - start)
        what = "images" if job is decode else "faces"
        ratio = rates[name] / rates["plain pipeline"]
        print(f"{name:28} {rates[name]:7.1f} images/s  x{ratio:5.1f}  {found} {what}")


if __name__ == "__main__":
    main()

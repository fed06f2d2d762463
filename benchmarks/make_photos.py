"""Make the benchmark's folder: JPEGs of 0.1 to 4.1 megapixels, several sizes of each photograph.

python benchmarks/make_photos.py SOURCE TARGET [COUNT]
"""

import sys
from pathlib import Path

from PIL import Image, ImageOps

from fever_extract.folders import list_images

MEGAPIXELS = (0.1, 0.5, 1.3, 2.5, 4.1)


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 72
    target.mkdir(parents=True, exist_ok=True)
    pictures = [
        ImageOps.exif_transpose(Image.open(source / name)).convert("RGB")
        for name in list_images(source)
    ]
    # Small before large, so that any count is a mixture of all photographs; never enlarged.
    jobs = [
        (megapixels, index)
        for megapixels in MEGAPIXELS
        for index, picture in enumerate(pictures)
        if picture.width * picture.height >= megapixels * 0.95e6
    ]
    total = 0.0
    for number in range(count):
        megapixels, index = jobs[number % len(jobs)]
        picture = pictures[index]
        # A repeated job differs a little, so that no two files are the same.
        scale = (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
        scale = min(1.0, scale) * (1 - 0.03 * (number // len(jobs)))
        size = (round(picture.width * scale), round(picture.height * scale))
        picture.resize(size, Image.Resampling.LANCZOS).save(target / f"{number:04}.jpg", quality=90)
        total += size[0] * size[1] / 1e6
    print(f"{count} JPEGs, {total / count:.2f} megapixels on average, in {target}")


if __name__ == "__main__":
    main()

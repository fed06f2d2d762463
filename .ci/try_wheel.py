"""Use the installed package as its users do, in the working directory, away from the checkout.

Leaves ``photos/`` and ``features.parquet`` there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fever_extract

CHECKOUT = Path(__file__).resolve().parents[1]
COMMAND = shutil.which("fever-extract", path=os.path.dirname(sys.executable))


def run(*arguments: str) -> None:
    """Run the command; whatever it exits with other than 0 is an error."""
    print("$ fever-extract", *arguments, flush=True)
    subprocess.run([COMMAND, *arguments], check=True)


def main() -> None:
    """Run the demo, extract to every format that this system has, and read the tables back."""
    if CHECKOUT in Path(fever_extract.__file__).resolve().parents:
        sys.exit(f"this is the checkout's package, not the wheel's: {fever_extract.__file__}")
    run("demo")
    run("info")
    Path("photos").mkdir(exist_ok=True)
    shutil.copy("fever-demo.jpg", "photos")
    outputs = ["features.parquet", "features.npz", "features.csv"]
    if os.name != "nt":  # a folder of shards needs Linux or macOS
        outputs.append("features/")
    for output in outputs:
        run("extract", "photos", "-o", output)
    for output in (name for name in outputs if name.endswith((".parquet", "/"))):
        vectors, table = fever_extract.load(output)
        assert table["status"].to_pylist() == ["ok"], table["status"]
        assert abs(vectors).max() > 0
    print("the wheel works")


if __name__ == "__main__":
    main()

"""The public interface as a typed program uses it: `mypy` reads this file, strictly, and nothing
in it is run."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from typing_extensions import assert_type

from fever_extract import ExtractionError, Extractor, Face, Options, Record, Status, Summary
from fever_extract.jobs.crops import crop_path
from fever_extract.report import Report, write_report
from fever_extract.report.drawing import annotate
from fever_extract.tables.reading import Table, read_table

extractor = Extractor("org/name", revision="v1.0", device="cpu", batch_size=8, select="center")
pixels: npt.NDArray[np.uint8] = np.zeros((64, 64, 3), np.uint8)

assert_type(extractor.extract("a.jpg"), npt.NDArray[np.float32])
assert_type(
    extractor.extract(["a.jpg", Path("b.jpg"), b"", Image.new("RGB", (1, 1)), pixels]),
    npt.NDArray[np.float32],
)
assert_type(extractor.extract_records(["a.jpg"], all_faces=True), list[Record])
assert_type(extractor.extract_faces(pixels, min_confidence=0.5), list[Face])
assert_type(extractor.extract_folder("photos", "f.npz", save_crops="crops"), Summary)
assert_type(extractor.push_to_hub("org/name"), str)

record = extractor.extract_records("a.jpg")[0]
if record.face is not None:
    assert_type(record.face.vector, npt.NDArray[np.float32])
    assert_type(record.face.expression, str | None)
assert_type(record.status is Status.OK, bool)
assert_type(annotate(pixels, record.faces), Image.Image)
assert_type(write_report("f.npz", "r.html", photos="photos"), Report)
assert_type(read_table(Path("f.npz")), Table)
assert_type(crop_path("a.jpg", 0).name, str)
Options(batch_size=4)
try:
    extractor.extract("a.jpg", on_error="raise")
except ExtractionError as error:
    assert_type(error.status, Status)

# A checker must refuse these; mypy complains of an ignore that is not needed.
extractor.extract("a.jpg", select="best")  # type: ignore[arg-type]
extractor.extract("a.jpg", batchsize=8)  # type: ignore[call-arg]
extractor.extract(3)  # type: ignore[arg-type]

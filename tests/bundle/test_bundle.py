"""A bundle gives the package's vectors, without the package."""

import ast
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from helpers import cosine, in_process
from PIL import Image

from fever_extract import ExtractionError, Options, hub
from fever_extract.bundle import conformance, precision, runtime, writing
from fever_extract.bundle.files import BundleError
from fever_extract.bundle.inlining import inline
from fever_extract.detection import onnx as detection
from fever_extract.detection.mtcnn import Mtcnn


@pytest.fixture(scope="module")
def bundled(bundle):
    return runtime.Extractor(bundle, threads=1)


def test_conform(bundle, capsys):
    """Package and program agree on every conformance picture, and the command says so."""
    code, out, err = in_process(capsys, "conform", bundle)
    assert (code, err) == (0, "")
    count = len(conformance.pictures())
    lines = [line.split(": ") for line in out.splitlines()]
    assert [name for name, _ in lines] == ["package", "float32", "float16", "int8"]
    assert all(said.startswith(f"{count} of {count} pictures agree") for _, said in lines)
    bars = [said.partition("(")[2].partition(" passes")[0] for _, said in lines]
    assert bars == ["0.9999", "0.9999", "0.9999", "0.999"]


def test_the_conformance_pictures_are_what_they_are_for(bundle):
    rows = json.loads((bundle / "conformance/expected.json").read_text())["pictures"]
    statuses = {row["file"]: row["status"] for row in rows}
    assert set(statuses.values()) == {"ok", "no_face", "too_small", "decode_error"}
    assert len(next(row for row in rows if row["file"] == "group.jpg")["faces"]) == 4
    upright = [row["faces"] for row in rows if row["file"].startswith("orientation_")]
    assert len(upright) == 8
    for (face,) in upright:
        assert cosine(*(np.array(one["embedding"]) for one in (face, upright[0][0]))) > 0.99
    sizes = sum(path.stat().st_size for path in (bundle / "conformance").iterdir())
    assert sizes < 2_500_000


def test_the_program_needs_numpy_pillow_and_onnxruntime_only(bundle, astronaut_path, extractor):
    """Where torch and this package can't be imported."""
    code = (
        "import json, sys\n"
        "for name in ('torch', 'torchvision', 'fever_extract', 'facenet_pytorch', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from fever_onnx import Extractor\n"
        "print(json.dumps(Extractor(sys.argv[1]).extract(sys.argv[2]).tolist()))\n"
    )
    command = [sys.executable, "-c", code, str(bundle), str(astronaut_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    vector = np.array(json.loads(done.stdout))
    assert cosine(vector, extractor.extract(astronaut_path)) > conformance.COSINE


def test_the_program_run_as_one(bundle, astronaut_path, tmp_path):
    program = [sys.executable, str(bundle / "fever_onnx.py")]
    done = subprocess.run(
        [*program, astronaut_path, tmp_path / "none.jpg"],
        capture_output=True,
        text=True,
        check=False,
    )
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert first["status"] == "ok"
    assert first["expression"] == "happiness"
    assert second["status"] == "not_found"


def test_the_inlined_program_is_whole():
    """It imports no more than it says, every name in it is known, and nothing stands idle."""
    text = inline("fever_extract.bundle.runtime")
    roots = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.partition(".")[0])
    # The last only for HEIC, where it is installed.
    needed = {"numpy", "PIL", "onnxruntime", "pillow_heif"}
    assert roots - set(sys.stdlib_module_names) == needed
    command = "-m ruff check --isolated --select F,E9 --stdin-filename fever_onnx.py -".split()
    done = subprocess.run(
        [sys.executable, *command], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_what_is_said_of_each_image_is_what_the_package_says(
    bundled, extractor, astronaut, landscape, tmp_path
):
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    Image.new("1", (10_000, 10_001)).save(tmp_path / "huge.png")
    inputs = [
        astronaut,
        landscape,
        astronaut.resize((16, 16)),
        tmp_path / "missing.jpg",
        tmp_path,
        tmp_path / "damaged.jpg",
        tmp_path / "phone.heic",
        tmp_path / "huge.png",
        np.asarray(astronaut.convert("L")),
    ]
    mine, theirs = bundled.extract_records(inputs), extractor.extract_records(inputs)
    assert [(r.status, r.error) for r in mine] == [(r.status, r.error) for r in theirs]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = bundled.extract(inputs)
    # Pillow has its own warning of huge pictures.
    own = [one for one in caught if one.category is UserWarning]
    assert [str(one.message).split(" and are")[0] for one in own] == [
        "7 of 9 images have no embedding"
    ]
    assert np.isnan(rows).all(axis=1).tolist() == [False, *[True] * 7, False]
    with pytest.raises(ExtractionError, match="image 1: no face"):
        bundled.extract(inputs, on_error="raise")
    assert bundled.extract(astronaut).shape == (bundled.embedding_dim,)


@pytest.mark.parametrize(
    "options",
    [
        {"select": "center"},
        {"select": "most_confident"},
        {"min_face_size": 70},
        {"min_confidence": 0.9993},
        {"aligned": True},
        {"normalize": True},
    ],
    ids=str,
)
def test_options(bundled, extractor, bundle, options):
    picture = bundle / "conformance" / "group.jpg"
    (mine,) = bundled.extract_records([picture], all_faces=True, **options)
    (theirs,) = extractor.extract_records([picture], all_faces=True, **options)
    assert len(mine.faces) == len(theirs.faces) > 0
    for a, b in zip(mine.faces, theirs.faces):
        np.testing.assert_allclose(a.box, b.box, atol=1)
        assert cosine(a.embedding, b.embedding) > conformance.COSINE
        assert np.linalg.norm(a.embedding) == pytest.approx(np.linalg.norm(b.embedding), rel=0.01)
        assert a.expressions == pytest.approx(b.expressions, abs=0.01)
        assert a.blendshapes == pytest.approx(b.blendshapes, abs=0.01)
        assert a.detected == b.detected


def test_fallback(bundled, extractor, landscape):
    mine, theirs = (one.extract(landscape, fallback="whole") for one in (bundled, extractor))
    assert cosine(mine, theirs) > conformance.COSINE


def test_what_is_no_option_or_no_image_is_refused(bundled):
    with pytest.raises(TypeError, match="no option detect_size; there are select"):
        bundled.extract(["a.jpg"], detect_size=100)
    with pytest.raises(ValueError, match="select must be one of"):
        bundled.extract(["a.jpg"], select="best")
    with pytest.raises(TypeError, match="image 1: expected a path"):
        bundled.extract(["a.jpg", 3])


@pytest.mark.parametrize("inputs", [{"path": "a.jpg"}, {"a.jpg"}])
def test_what_is_no_list_of_images_is_refused(bundled, inputs):
    with pytest.raises(TypeError, match="pass"):
        bundled.extract(inputs)
    with pytest.raises(TypeError, match="pass"):
        bundled.extract_records(inputs)


def test_images_are_taken_as_they_are_used(bundled, landscape):
    taken = []

    def pictures():
        for index in range(3):
            taken.append(index)
            yield landscape[:60, :60]
        yield 3

    records = bundled._stream(pictures(), Options(), False)
    assert taken == []
    assert next(records).face is None
    assert taken == [0]
    with pytest.raises(TypeError, match="image 3: expected a path"):
        list(records)


def test_the_program_pickles_by_its_folder(bundle, astronaut):
    extractor = runtime.Extractor(bundle, normalize=True)
    sent = pickle.loads(pickle.dumps(extractor))
    assert np.array_equal(sent.extract(astronaut), extractor.extract(astronaut))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_the_program_with_nowhere_to_print(bundle):
    program = [sys.executable, str(bundle / "fever_onnx.py"), "none.jpg"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "standard output can't be written to" in done.stderr


@pytest.fixture
def copied(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


def test_a_changed_or_missing_file_is_named(copied, capsys):
    (copied / "rnet.onnx").write_bytes((copied / "rnet.onnx").read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"rnet\.onnx is not the file .* SHA-256"):
        runtime.Extractor(copied)
    code, _, err = in_process(capsys, "conform", copied)
    assert code == 2
    assert "rnet.onnx" in err
    assert err.count("\n") == 1
    (copied / "rnet.onnx").unlink()
    with pytest.raises(BundleError, match=r"rnet\.onnx can't be read"):
        runtime.Extractor(copied)


def test_other_versions_and_damaged_manifests(copied, tmp_path, monkeypatch):
    manifest = json.loads((copied / "bundle.json").read_text())
    (copied / "bundle.json").write_text(json.dumps({**manifest, "bundle_version": 2}))
    with pytest.raises(BundleError, match="version 2, and this program reads version 1"):
        runtime.Extractor(copied)
    odd = [json.dumps({**manifest, "embedders": {"float32": name}}) for name in ("../a.onnx", 3)]
    for text in ("{", "[]", '{"bundle_version": 1}', *odd):
        (copied / "bundle.json").write_text(text)
        with pytest.raises(BundleError, match=r"bundle\.json is damaged"):
            runtime.Extractor(copied)
    with pytest.raises(BundleError, match="is no bundle"):
        runtime.Extractor(tmp_path)


def test_an_old_onnx_runtime_and_an_absent_precision(bundle, copied, monkeypatch):
    manifest = json.loads((copied / "bundle.json").read_text())
    del manifest["embedders"]["int8"]
    (copied / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="no weights in int8, but in float32, float16"):
        runtime.Extractor(copied, precision="int8")
    monkeypatch.setattr(onnxruntime, "__version__", "1.17.3")
    with pytest.raises(BundleError, match=r"ONNX Runtime 1\.17\.3 is too old, 1\.18 is needed"):
        runtime.Extractor(bundle)


def test_the_bar_decides(bundle, bundled, tmp_path):
    """An embedding that does not reach the bar is a problem, and the same reaches a lower one."""
    rows = json.loads((bundle / "conformance" / "expected.json").read_text())["pictures"]
    (row,) = (row for row in rows if row["file"] == "small.png")
    (face,) = row["faces"]
    face["embedding"] = [value + 0.1 for value in face["embedding"]]
    (tmp_path / "expected.json").write_text(json.dumps({"pictures": [row]}))
    shutil.copy(bundle / "conformance" / "small.png", tmp_path)
    (strict,) = conformance.compare(tmp_path, bundled.extract_records, 0.9999)
    assert "has a cosine of only 0.99" in strict.problem
    (lax,) = conformance.compare(tmp_path, bundled.extract_records, 0.9)
    assert lax.problem is None


def test_programs_of_another_version_are_not_run(copied, capsys):
    """Nor is any other program that lies in the folder, though its hash be right."""
    (copied / "fever_onnx.py").write_text("raise SystemExit('run!')\n")
    files = writing._describe(copied)
    manifest = json.loads((copied / "bundle.json").read_text())
    del files["bundle.json"]
    (copied / "bundle.json").write_text(json.dumps({**manifest, "files": files}))
    code, out, err = in_process(capsys, "conform", copied)
    assert (code, out) == (2, "")
    assert "fever_onnx.py" in err
    assert "the bundle was made by fever-extract" in err


def test_export_refuses(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for arguments, said in (
        (("--bundle", tmp_path / "full"), "no empty folder"),
        (("--bundle", tmp_path / "none" / "out"), "does not exist"),
        (("--bundle", tmp_path / "out", "--precision", "float8"), "float32, float16, int8"),
        ((), "either MODEL.onnx or --bundle"),
        ((tmp_path / "a.onnx", "--bundle", tmp_path / "out"), "either MODEL.onnx or --bundle"),
        ((tmp_path / "a.onnx", "--precision", "int8"), "--precision is for --bundle"),
    ):
        code, _, err = in_process(capsys, "export", *arguments)
        assert code == 2
        assert said in err
        assert err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


def test_precisions(bundle, extractor, astronaut):
    """What each costs in cosine, and in bytes."""
    expected = extractor.extract(astronaut)
    sizes, cosines = {}, {}
    for name in precision.PRECISIONS:
        suffix = "" if name == "float32" else f"_{name}"
        sizes[name] = (bundle / f"embedder{suffix}.onnx").stat().st_size
        other = runtime.Extractor(bundle, precision=name, threads=1)
        cosines[name] = cosine(other.extract(astronaut), expected)
    assert sizes["float16"] < 0.55 * sizes["float32"]
    assert sizes["int8"] < 0.32 * sizes["float32"]
    assert cosines["float16"] > 0.99999
    assert cosines["int8"] > 0.99


def test_the_detectors_networks_are_the_packages():
    random = np.random.default_rng(0)
    mtcnn = Mtcnn(torch.device("cpu"))

    def run(name, **inputs):
        model = detection.to_onnx(name).SerializeToString()
        return onnxruntime.InferenceSession(model).run(None, inputs)

    image = random.integers(0, 256, (40, 62, 3), dtype=np.uint8)
    scores, offsets = run("pnet", image=image)
    _, rows, columns, *theirs = mtcnn.propose([torch.from_numpy(image)], 1e-9)
    assert scores.shape == (15, 26)
    for mine, other in zip((scores, offsets), theirs):
        np.testing.assert_allclose(mine[rows, columns], other, atol=1e-4)
    for name, side, network in (("rnet", 24, mtcnn.refine), ("onet", 48, mtcnn.locate)):
        crops = random.random((3, side, side, 3), dtype=np.float32) * 255
        for mine, other in zip(run(name, crops=crops), network(torch.from_numpy(crops))):
            np.testing.assert_allclose(mine, other, atol=1e-4)


def test_photographs(bundled, extractor, photos):
    names = "alpha.png disgust.jpg group_1.jpg group_2.jpg portrait_4.jpg single.jpg".split()
    paths = [photos / name for name in names]
    mine, theirs = (one.extract_records(paths, all_faces=True) for one in (bundled, extractor))
    for path, a, b in zip(paths, mine, theirs):
        assert (a.status, len(a.faces)) == (b.status, len(b.faces)), path
        for face, other in zip(a.faces, b.faces):
            assert cosine(face.embedding, other.embedding) > conformance.COSINE, path
            np.testing.assert_allclose(face.box, other.box, atol=1, err_msg=str(path))


def test_other_weights(tmp_path):
    """A bundle of other weights has their size, heads and precisions only."""
    from tiny import config

    from fever_extract.models import checkpoint
    from fever_extract.models.network import FeverNet

    chosen = config(expressions=("a", "b"), valence_arousal=True)
    checkpoint.save(tmp_path / "tiny", chosen, FeverNet(chosen).state_dict())
    sizes = writing.write(hub.load(tmp_path / "tiny"), tmp_path / "out", ["float16"])
    assert [name for name in sizes if name.startswith("embedder")] == ["embedder_float16.onnx"]
    extractor = runtime.Extractor(tmp_path / "out", precision="float16")
    (record,) = extractor.extract_records(Image.new("RGB", (50, 40)), aligned=True)
    assert record.face.embedding.shape == (12,)
    assert list(record.face.expressions) == ["a", "b"]
    assert record.face.valence is not None

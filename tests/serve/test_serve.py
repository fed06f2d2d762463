"""The service as its clients meet it: a real process on a free port of loopback."""

import base64
import concurrent.futures
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow as pa
import pytest
from helpers import in_process
from PIL import Image
from service import running

from fever_extract.records import Record, Status
from fever_extract.serve.batching import Batcher, QueueFullError
from fever_extract.serve.settings import Settings
from fever_extract.tables.schema import METADATA_KEY

ROOT = Path(__file__).parents[2]
SECONDS = 4  # for a request to arrive
IMAGES = 8
HEAD = "POST /extract HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\n{}\r\n\r\n"
ARROW = {"Accept": "application/vnd.apache.arrow.stream"}


@pytest.fixture(scope="module")
def service():
    options = {"--timeout": SECONDS, "--max-images": IMAGES, "--max-queue": IMAGES}
    options |= {"--max-body": 1, "--max-pixels": 5, "--port": 0}
    with running("serve", *(part for pair in options.items() for part in pair)) as process:
        yield process


@pytest.fixture
def client(service):
    with httpx.Client(base_url=service.url, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def pictures(astronaut):
    """Eight photographs that differ, as JPEG: the face turned, and no face."""
    return [jpeg(astronaut.rotate(4 * index)) for index in range(7)] + [
        jpeg(Image.new("RGB", (200, 150), "grey"))
    ]


def jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def form(images):
    return [("images", (f"{index}.jpg", image)) for index, image in enumerate(images)]


def embeddings(records):
    return np.array([record["faces"][0]["embedding"] for record in records if record["faces"]])


def connect(service) -> socket.socket:
    parts = urlsplit(service.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_record_an_image_in_order_as_the_extractor_gives_them(client, pictures, extractor):
    expected = extractor.extract_records(pictures)
    body = client.post("/extract", files=form(pictures)).raise_for_status().json()
    records = body["records"]
    assert [record["status"] for record in records] == [str(one.status) for one in expected]
    assert [record["path"] for record in records] == [f"{index}.jpg" for index in range(8)]
    assert records[7]["error"] == expected[7].error
    assert records[7]["faces"] == []
    own = np.array([one.face.embedding for one in expected[:7]])
    np.testing.assert_allclose(embeddings(records), own, atol=1e-4)
    face, own = records[0]["faces"][0], expected[0].face
    np.testing.assert_allclose(face["box"], own.box, atol=0.01)
    np.testing.assert_allclose(face["landmarks"], own.landmarks, atol=0.01)
    assert face["expressions"] == pytest.approx(own.expressions, abs=1e-4)
    assert list(face["blendshapes"]) == list(own.blendshapes)
    assert body["weights"] == {"name": extractor.config.name, "sha256": extractor.sha256}


def test_all_forms_of_a_request_are_the_same_to_it(client, pictures):
    image = pictures[0]
    encoded = base64.b64encode(image).decode()
    answers = [
        client.post("/extract", files=form([image])),
        client.post("/extract", json={"images": [encoded]}),
        client.post("/extract", json={"images": [f"data:image/jpeg;base64,{encoded}"]}),
        client.post("/extract", content=image, headers={"Content-Type": "image/jpeg"}),
        client.post(
            "/extract", content=iter([image[:9], image[9:]]), headers={"Content-Type": "image/jpeg"}
        ),
    ]
    rows = [embeddings(answer.raise_for_status().json()["records"])[0] for answer in answers]
    np.testing.assert_allclose(rows, [rows[0]] * len(rows), atol=1e-4)


def test_arrow_has_a_table_s_columns(client, pictures, extractor):
    answer = client.post("/extract?all_faces=true", files=form(pictures[6:]), headers=ARROW)
    assert answer.headers["content-type"] == ARROW["Accept"]
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table["status"].to_pylist() == ["ok", "no_face"]
    embedding = extractor.extract(pictures[6])
    np.testing.assert_allclose(table["embedding"][0].as_py(), embedding, atol=1e-4)
    metadata = json.loads(table.schema.metadata[METADATA_KEY.encode()])
    assert metadata["weights_sha256"] == extractor.sha256
    small = client.post("/extract?embedding=false", files=form(pictures[6:]), headers=ARROW)
    assert "embedding" not in pa.ipc.open_stream(small.content).read_all().schema.names


def test_without_embedding(client, pictures):
    records = client.post("/extract?embedding=false", files=form(pictures[:1])).json()["records"]
    assert "embedding" not in records[0]["faces"][0]


def test_concurrent_clients_get_their_own_answers(service, pictures, extractor):
    expected = extractor.extract(pictures[:7])

    def ask(index: int) -> tuple[int, np.ndarray]:
        answer = httpx.post(f"{service.url}/extract", files=form([pictures[index]]), timeout=60)
        return index, embeddings(answer.raise_for_status().json()["records"])[0]

    with concurrent.futures.ThreadPoolExecutor(IMAGES) as pool:
        for index, embedding in pool.map(ask, [number % 7 for number in range(24)]):
            np.testing.assert_allclose(embedding, expected[index], atol=1e-4)
    metrics = httpx.get(f"{service.url}/metrics").text
    batches = float(re.search(r"^fever_batch_images_count (\S+)", metrics, re.M)[1])
    images = float(re.search(r"^fever_batch_images_sum (\S+)", metrics, re.M)[1])
    assert images > batches, "requests were joined to batches"


def test_a_full_queue_refuses_and_says_for_how_long(service, pictures):
    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{service.url}/extract", files=form(pictures), timeout=60)

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(10)))
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 200:
            assert len(answer.json()["records"]) == IMAGES
        else:
            assert int(answer.headers["retry-after"]) >= 1


def test_what_is_no_image_is_a_record(client, pictures):
    bomb = io.BytesIO()
    Image.new("1", (3000, 3000)).save(bomb, "PNG")
    images = [b"", b"no image", pictures[0][:2000], bomb.getvalue(), pictures[0]]
    records = client.post("/extract", files=form(images)).raise_for_status().json()["records"]
    assert [record["status"] for record in records] == ["decode_error"] * 4 + ["ok"]
    assert "bomb" in records[3]["error"]
    (record,) = client.post("/extract", json={"images": ["~~~"]}).json()["records"]
    assert record["status"] == "decode_error"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"content": b"a", "headers": {"Content-Type": "text/plain"}}, 415),
        ({}, 415),
        ({"content": b"", "headers": {"Content-Type": "image/png"}}, 400),
        ({"json": {}}, 400),
        ({"json": {"images": []}}, 400),
        ({"json": {"images": [1]}}, 400),
        ({"json": {"images": "a"}}, 400),
        ({"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"files": [("url", (None, "http://localhost/a.jpg"))]}, 400),
        ({"files": form([b"a"] * (IMAGES + 1))}, 413),
        ({"files": form([b"a"] * 100)}, 413),
        ({"json": {"images": ["YQ=="] * (IMAGES + 1)}}, 413),
        ({"files": form([bytes(2**21)])}, 413),
        ({"json": {"images": ["YQ=="]}, "params": {"all_faces": "perhaps"}}, 422),
    ],
)
def test_bad_requests_say_what_is_wrong(client, request_, code):
    answer = client.post("/extract", **request_)
    assert answer.status_code == code, answer.text
    assert answer.json()["detail"]


def test_too_large_is_told_while_it_is_read(service):
    head = HEAD.format("Transfer-Encoding: chunked").encode()
    with connect(service) as connection:
        connection.sendall(head)
        for _ in range(20):  # of 64 KiB, and the last chunk never comes
            connection.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
        assert answer_of(connection).startswith(b"HTTP/1.1 413 ")


def test_what_never_ends_is_cut_off(service):
    """Two heads and a body, which wait at the same time."""
    begun = [b"", b"POST /extract HTTP/1.1\r\nHost: a\r\nX-A: "]
    begun.append(HEAD.format("Content-Length: 99").encode() + b"begins")
    with ExitStack() as opened:
        connections = [opened.enter_context(connect(service)) for _ in begun]
        for connection, sent in zip(connections, begun):
            connection.sendall(sent)
        *heads, body = map(answer_of, connections)
    assert heads == [b"", b""]
    assert body.startswith(b"HTTP/1.1 408 ")
    assert f"within {SECONDS} s".encode() in body


def test_a_client_that_leaves_spoils_nothing(service, client, pictures):
    body = pictures[0]
    head = HEAD.format(f"Content-Length: {len(body)}")
    for sent in (head.encode() + body, head.encode() + body[:100]):
        with connect(service) as connection:
            connection.sendall(sent)
    assert client.post("/extract", files=form([body])).status_code == 200


def test_state(client, extractor):
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json()["status"] == "ready"
    info = client.get("/info").json()
    assert info["weights_sha256"] == extractor.sha256
    assert info["expressions"] == list(extractor.config.expressions)
    assert info["blendshapes"] == list(extractor.config.blendshapes)
    metrics = client.get("/metrics").text
    assert re.search(r'^fever_requests_total\{code="200",path="/health"\} [1-9]', metrics, re.M)
    assert "fever_queue_images 0.0" in metrics
    assert client.get("/nothing").status_code == 404
    assert client.get("/extract").status_code == 405


def test_the_description_needs_nothing_from_elsewhere(client):
    page = client.get("/docs").text
    assert re.findall(r'(?:src|href)="(?!/)[^"]*"', page) == []
    for address in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert client.get(address).status_code == 200, address
    description = client.get("/openapi.json").json()
    body = description["paths"]["/extract"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json", "image/*"}


def test_the_page_s_requests_work(service, tmp_path, monkeypatch, astronaut, capsys):
    text = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    text = text.replace("http://127.0.0.1:8000", service.url)
    (tmp_path / "photos").mkdir()
    for name in "ab":
        astronaut.save(tmp_path / "photos" / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    commands = "".join(re.findall(r"```bash\n(.*?)```", text, re.S)).splitlines()
    served = 0
    for program, *arguments in map(shlex.split, commands):
        if program == "curl" and shutil.which("curl"):
            run = subprocess.run(["curl", "-s", *arguments], capture_output=True, check=True)
            assert {record["status"] for record in json.loads(run.stdout)["records"]} == {"ok"}
        elif program == "fever-extract":
            served += 1
            code, _, err = in_process(capsys, *arguments, "--max-batch", 0)
            assert (code, err) == (2, "fever-extract: max_batch must be more than 0, not 0\n")
    assert served
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(compile(block, "service.md", "exec"), {})
    assert "'status': ['ok', 'ok']" in capsys.readouterr().out


def test_the_container_s_commands_work(service, capsys):
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    _, *start = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.M)[1])
    code, _, err = in_process(capsys, *start, "--max-batch", 0)
    assert (code, err) == (2, "fever-extract: max_batch must be more than 0, not 0\n")
    _, *check = json.loads(re.search(r"^HEALTHCHECK .*\\\n    CMD (.*)$", text, re.M)[1])
    check[-1] = check[-1].replace("http://127.0.0.1:8000", service.url)
    assert subprocess.run([sys.executable, *check], check=False).returncode == 0
    check[-1] = check[-1].replace(service.url, "http://127.0.0.1:9")
    assert (
        subprocess.run([sys.executable, *check], check=False, stderr=subprocess.DEVNULL).returncode
        != 0
    )


def test_the_dockerfile_is_in_order():
    folders = [sysconfig.get_path("scripts"), os.environ["PATH"]]
    hadolint = shutil.which("hadolint", path=os.pathsep.join(folders))
    if hadolint is None:
        pytest.skip("needs hadolint, which dev installs on Linux")
    run = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, check=False)
    assert (run.returncode, run.stdout) == (0, b"")
    wanted = [sys.executable, ROOT / ".ci" / "requirements.py", "serve", "ray"]
    lines = subprocess.run(wanted, capture_output=True, text=True, check=True).stdout.splitlines()
    names = {re.match(r"[\w-]+", line)[0] for line in lines}
    assert {"torch", "fastapi", "uvicorn", "ray", "pyarrow"} <= names  # ray's are parquet's, too
    assert "fever-extract" not in names


def test_sigterm_answers_what_has_come_and_takes_no_more(service, pictures):
    head = HEAD.format(f"Content-Length: {len(pictures[0])}")
    with connect(service) as connection:
        connection.sendall(head.encode() + pictures[0][:1000])
        httpx.get(f"{service.url}/health")  # what was sent before has come
        ended = []
        ending = threading.Thread(target=lambda: ended.append(service.end(signal.SIGTERM)))
        ending.start()
        while True:
            try:
                connect(service).close()
            except OSError:
                break
            time.sleep(0.02)
        connection.sendall(pictures[0][1000:])
        answer = answer_of(connection)
        ending.join()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"status":"ok"' in answer
    assert ended == [0]
    lines = "".join(service.lines)
    assert lines == "ended; every request that had come was answered\n", "nothing was complained of"


def test_wrong_usage_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = in_process(capsys, "serve", "--port", port)
    assert code == 2
    assert err == (
        f"fever-extract: can't listen on 127.0.0.1, port {port}: Address already in use; choose "
        "another with --port\n"
    )
    code, _, err = in_process(capsys, "serve", "--max-queue", 4)
    assert (code, err.count("\n")) == (2, 1)
    assert "max_queue must be at least max_images" in err
    code, _, err = in_process(capsys, "serve", "--host", "no.such.host.invalid")
    assert (code, err.count("\n")) == (2, 1)


def test_settings_that_can_t_work_are_refused():
    with pytest.raises(ValueError, match="max_batch must be more than 0"):
        Settings(max_batch=0)
    with pytest.raises(ValueError, match="max_bodies must be at least max_body"):
        Settings(max_bodies=10)


def waiting_batcher(go: threading.Event, **limits):
    """Answers every image with its own bytes, once it may; notes its calls."""
    calls = []

    def extract(images, all_faces):
        calls.append((list(images), all_faces))
        assert go.wait(60)
        return [Record(Status.NO_FACE, image.decode()) for image in images]

    return calls, Batcher(extract, **{"max_batch": 4, "max_wait": 0, "max_queue": 6, **limits})


def test_a_batch_is_bounded_and_the_queue_too():
    go = threading.Event()
    calls, batcher = waiting_batcher(go)
    first = batcher.submit([b"0"], False)
    while batcher.waiting:  # until it is being worked on
        pass
    rest = batcher.submit([b"%d" % index for index in range(1, 7)], False)
    with pytest.raises(QueueFullError):
        batcher.submit([b"7"], False)
    go.set()
    assert [one.result(60).error for one in first + rest] == [str(index) for index in range(7)]
    assert [len(images) for images, _ in calls] == [1, 4, 2]
    batcher.close()
    assert not batcher.alive


def test_what_nobody_waits_for_is_not_worked_on():
    go = threading.Event()
    calls, batcher = waiting_batcher(go)
    first = batcher.submit([b"0"], False)
    while batcher.waiting:
        pass
    gone, kept = batcher.submit([b"1"], False), batcher.submit([b"2"], True)
    assert gone[0].cancel()
    go.set()
    assert kept[0].result(60).error == "2"
    assert first[0].result(60).error == "0"
    assert calls == [([b"0"], False), ([b"2"], True)]
    batcher.close()


def test_a_batch_that_fails_fails_alone():
    def extract(images, all_faces):
        if b"bad" in images:
            raise MemoryError("no room")
        return [Record(Status.NO_FACE, "fine") for _ in images]

    batcher = Batcher(extract, max_batch=4, max_wait=0, max_queue=6)
    (bad,) = batcher.submit([b"bad"], False)
    with pytest.raises(MemoryError, match="no room"):
        bad.result(60)
    (fine,) = batcher.submit([b"good"], False)
    assert fine.result(60).error == "fine"
    batcher.close()

"""The process behind POST predict: what it answers to strangers' images, and which weights it believes."""

import io
import json
import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.unit.training.conftest import ENVIRONMENT
from tests.unit.training.jobs import Job
from worker.messages import CheckpointWritten, FileRef
from worker.training import checkpoint
from worker.training.predictor import Predictor


@pytest.fixture
def job(new_job: Callable[..., Job]) -> Job:
    return new_job(epochs=2, freeze="backbone")


@pytest.fixture
def written(job: Job) -> list[CheckpointWritten]:
    return job.run().all(CheckpointWritten)


def request(job: Job, written: CheckpointWritten, top_k: int = 2) -> dict[str, Any]:
    assert written.frozen is not None
    files = {"checkpoint": asdict(written.file), "frozen": asdict(written.frozen)}
    return {"storage_url": job.store.as_uri(), **files, "top_k": top_k}


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def png(width: int, height: int) -> bytes:
    """A header that promises an image, and next to nothing after it."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk


GOOD = {
    "colours": encoded(Image.new("RGB", (50, 40), (200, 60, 60)), "JPEG"),
    "CMYK": encoded(Image.new("CMYK", (50, 40)), "JPEG"),
    "transparency": encoded(Image.new("RGBA", (50, 40)), "WEBP"),
    "a palette": encoded(Image.new("P", (50, 40)), "GIF"),
    "16 bits": encoded(Image.new("I;16", (50, 40)), "TIFF"),
    "one pixel": encoded(Image.new("L", (1, 1)), "BMP"),
    "a narrow one": encoded(Image.new("L", (1, 3000))),
}
BAD = {
    "a header of 100 000²": png(100_000, 100_000),
    "a header alone": png(10, 10),
    "a bomb": encoded(Image.new("L", (10_000, 10_000))),
    "one row of a million": encoded(Image.new("L", (1_000_000, 1))),
    "half a JPEG": GOOD["colours"][: len(GOOD["colours"]) // 2],
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "text": b"\x1b[31mtext",
    "a zip": b"PK\x03\x04" + bytes(100),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
}


def test_strangers_images(job: Job, written: list[CheckpointWritten]) -> None:
    predictor, asked = Predictor(), request(job, written[-1])
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    for name, content in GOOD.items():
        answer = predictor.answer(asked, content)
        assert {each["class"] for each in answer["predictions"]} == {"brick", "sky"}, name
        assert sum(each["probability"] for each in answer["predictions"]) == pytest.approx(1.0)
    for name, content in BAD.items():
        answer = predictor.answer(asked, content)
        assert answer["code"] == "image_invalid", name
        assert answer["message"].isprintable() and "end" in answer["message"], name
        # Not found out by trying: that took seconds of the processor, and all the memory that it may have.
        assert ("elongated" in answer["message"]) == (name == "one row of a million"), name
        assert "memory" not in answer["message"], name
    assert resource.getrlimit(resource.RLIMIT_DATA) == limit
    assert predictor.answer({**asked, "top_k": 1}, GOOD["colours"])["predictions"][0]["probability"] >= 0.5


def test_the_hash_comes_before_the_parser(
    job: Job, written: list[CheckpointWritten], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, asked = Predictor(), request(job, written[-1])
    parsed: list[object] = []
    monkeypatch.setattr(checkpoint, "parse", parsed.append)
    for part in ("checkpoint", "frozen"):
        file = FileRef(**asked[part])
        path = job.store / file.path
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert predictor.answer(asked, GOOD["colours"])["code"] == "checkpoint_damaged"
        path.write_bytes(content)
    assert not parsed


def test_one_model_is_kept(
    job: Job, written: list[CheckpointWritten], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = checkpoint.read_verified

    def counted(storage: Any, ref: FileRef, on_bytes: Any) -> io.BytesIO:
        reads.append(ref.path)
        return read(storage, ref, on_bytes)

    monkeypatch.setattr(checkpoint, "read_verified", counted)
    predictor = Predictor()
    first, second = (request(job, each) for each in written)
    answers = [predictor.answer(asked, GOOD["colours"]) for asked in (first, first, second, second, first)]
    assert len(reads) == 3 * 2, "of two files each, once for each change"
    assert answers[0] == answers[1] == answers[4] and answers[2] == answers[3]
    assert answers[0] != answers[2], "another epoch, another answer"


def test_as_a_process(job: Job, written: list[CheckpointWritten]) -> None:
    """Only answers stand on its stdout, and it ends with its stdin."""
    asked = request(job, written[-1])
    code = "import os; os.write(2, b'noise'); from worker.training.predictor import *; "
    noisy = "import PIL.Image as I; f = I.open; I.open = lambda *a, **k: (print('noise'), f(*a, **k))[1]; "
    lines = [
        json.dumps({**asked, "image_bytes": len(image)}).encode() + b"\n" + image
        for image in (GOOD["colours"], BAD["text"], GOOD["one pixel"])
    ]
    argv = [sys.executable, "-c", f"{code}{noisy}sys.exit(main())"]
    done = subprocess.run(
        [*argv, str(os.getpid())], input=b"".join(lines), capture_output=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["code" in answer for answer in answers] == [False, True, False]
    assert done.stderr.count(b"noise") == 4
    orphan = subprocess.run([*argv, "1"], input=lines[0], capture_output=True, env=ENVIRONMENT, check=False)
    assert orphan.returncode == 1 and not orphan.stdout, "nobody works for a parent that is gone"


def test_a_request_that_was_cut_short_is_not_answered(tmp_path: Path) -> None:
    head = json.dumps({"image_bytes": 10}).encode() + b"\n"
    done = subprocess.run(
        [sys.executable, "-m", "worker.training.predictor", str(os.getpid())],
        input=head + b"12345", capture_output=True, env=ENVIRONMENT, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stdout

"""Archives as the file of a form: the same limits, and nothing of a form that is none."""

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.upload_form import UploadForm
from models.settings import Settings
from models.uploads import ARCHIVE
from tests.archives import flowers, zipped

Problem = Callable[..., dict[str, Any]]
Leftovers = Callable[[], Any]
PLAIN = zipped(flowers())
NOTHING = ([], 0)
BOUNDARY = "7MA4YWxkTrZu0gW"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content


def form(*parts: bytes) -> bytes:
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


FILE = part("file", PLAIN, '; filename="flowers.zip"\r\nContent-Type: application/zip')
NAMED = part("name", "Blüten".encode())


@pytest.mark.parametrize("kind", ["application/zip", "application/octet-stream", None])
def test_a_form_of_the_usual_clients(
    client: TestClient, settings: Settings, bell: Any, kind: str | None
) -> None:
    file = ("flowers.zip", PLAIN) if kind is None else ("flowers.zip", PLAIN, kind)
    response = client.post("/datasets", files={"file": file}, data={"name": "flowers"})
    assert response.status_code == 202, response.text
    body = response.json()
    assert (body["name"], body["source"], body["size_bytes"]) == ("flowers", "upload", len(PLAIN))
    assert (settings.uploads_folder / body["id"] / ARCHIVE).read_bytes() == PLAIN
    assert bell.rings == ["light"]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("parts", [[FILE, NAMED], [NAMED, FILE], [FILE]], ids=["after", "before", "without"])
def test_it_may_come_in_any_pieces_and_any_order(
    client: TestClient, settings: Settings, size: int, parts: list[bytes]
) -> None:
    content = form(*parts)
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    response = client.post("/datasets", content=pieces, headers=HEADERS)
    assert response.status_code == 202, response.text
    assert response.json()["name"] == ("Blüten" if NAMED in parts else None)
    assert (settings.uploads_folder / response.json()["id"] / ARCHIVE).read_bytes() == PLAIN


BAD: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "invalid_form"),
    "no form": (PLAIN, 400, "invalid_form"),
    "cut short in the file": (form(FILE)[:-200], 400, "invalid_form"),
    "cut short in the end": (form(FILE)[:-4], 400, "invalid_form"),
    "a header without a colon": (form(FILE.replace(b"Disposition:", b"Disposition")), 400, "invalid_form"),
    "a header of 1 MB": (form(part("file", PLAIN, "; x=" + "y" * 2**20)), 400, "invalid_form"),
    "no parts": (form(), 422, "validation_failed"),
    "no file": (form(NAMED), 422, "validation_failed"),
    "a file twice": (form(FILE, FILE), 422, "validation_failed"),
    "a name twice": (form(NAMED, NAMED, FILE), 422, "validation_failed"),
    "another part": (form(FILE, part("path", b"flowers")), 422, "validation_failed"),
    "a part without a name": (form(FILE.replace(b'name="file"', b"")), 422, "validation_failed"),
    "a name that leads out": (form(FILE, part("name", b"../x")), 422, "validation_failed"),
    "an endless name": (form(FILE, part("name", b"x" * 10_000)), 422, "validation_failed"),
    "an empty name": (form(FILE, part("name", b"")), 422, "validation_failed"),
    "a name of no text": (form(FILE, part("name", b"\xff\xfe")), 400, "invalid_form"),
    "no archive": (form(part("file", b"GIF89a" + bytes(1000))), 422, "archive_invalid"),
    "an empty file": (form(part("file", b"")), 422, "archive_invalid"),
    "a picture": (form(part("file", PLAIN, "\r\nContent-Type: image/png")), 415, "unsupported_media_type"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code"), BAD.values(), ids=BAD.keys())
def test_what_is_no_such_form_leaves_nothing(
    client: TestClient, leftovers: Leftovers, problem: Problem, body: bytes, status: int, code: str
) -> None:
    problem(client.post("/datasets", content=body, headers=HEADERS), status, code)
    assert leftovers() == NOTHING


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 300, "; boundary=ä"])
def test_a_boundary_that_is_none(client: TestClient, problem: Problem, boundary: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{boundary}".encode()}
    problem(client.post("/datasets", content=form(FILE), headers=headers), 400, "invalid_form")


def test_too_many_bytes_are_refused_when_they_are_announced_and_when_they_come(
    client: TestClient, settings: Settings, leftovers: Leftovers, problem: Problem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(settings, "max_upload_bytes", 100_000)

    def chunked(head: bytes) -> Iterator[bytes]:
        yield head
        for _ in range(100):
            yield bytes(10_000)

    large = form(part("file", bytes(200_000)))
    problem(client.post("/datasets", content=large, headers=HEADERS), 413, "upload_too_large")
    body = chunked(part("file", b""))
    problem(client.post("/datasets", content=body, headers=HEADERS), 413, "upload_too_large")
    after_its_end = chunked(form(FILE))
    problem(client.post("/datasets", content=after_its_end, headers=HEADERS), 400, "invalid_form")
    exactly = form(part("file", PLAIN + bytes(100_001 - len(PLAIN))))
    problem(client.post("/datasets", content=exactly, headers=HEADERS), 413, "upload_too_large")
    assert leftovers() == NOTHING


def test_nothing_of_a_file_is_kept_in_memory() -> None:
    taken = UploadForm(BOUNDARY)
    taken.feed(part("file", b""))
    tracemalloc.start()
    try:
        sizes = sum(len(taken.feed(bytes(2**16))) for _ in range(1000))
        assert tracemalloc.get_traced_memory()[1] < 2**20, "of 64 MiB"
    finally:
        tracemalloc.stop()
    assert sizes > 999 * 2**16


def test_an_idempotency_key_makes_one_dataset(
    client: TestClient, leftovers: Leftovers, problem: Problem
) -> None:
    headers = HEADERS | {"Idempotency-Key": "k"}
    first = client.post("/datasets", content=form(FILE, NAMED), headers=headers)
    again = client.post("/datasets", content=form(FILE, NAMED), headers=headers)
    assert again.json() == first.json() and again.headers["idempotent-replayed"] == "true"
    problem(client.post("/datasets", content=form(FILE), headers=headers), 422)
    files, rows = leftovers()
    assert (len(files), rows) == (1, 1)

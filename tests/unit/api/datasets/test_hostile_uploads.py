"""Archives that are broken, or made to break something.

The oracle: 422 (or what stands beside it) with a problem that names what is wrong and nothing of the server;
no row, no file and no message left behind; and the next honest upload is taken.
"""

import stat
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.archives import (
    flowers,
    of_many_entries,
    overlapping,
    picture,
    png_header,
    renamed,
    with_field,
    with_link,
    zipped,
)

GOOD = flowers()
PLAIN = zipped(GOOD)
ONE_MORE = GOOD | {"rose/aaaaaaaaaa.png": picture(99)}
EVEN_MORE = zipped(ONE_MORE, compression=zipfile.ZIP_STORED)


def named(name: str) -> bytes:
    return zipped(GOOD | {name: picture(99)})


def swallowing() -> bytes:
    """The bytes of one entry contain the next one whole, and all sums are right: a bomb without nesting."""
    begins = EVEN_MORE.index(b"rose/2.png") + len("rose/2.png")
    content = EVEN_MORE[begins : begins + len(GOOD["rose/2.png"]) + 100]
    archive = EVEN_MORE
    for offset, value in ((16, zlib.crc32(content)), (20, len(content)), (24, len(content))):
        archive = with_field(archive, "rose/2.png", offset, "<L", value)
    return archive


ARCHIVES: dict[str, bytes] = {
    # Names
    "zip slip": named("../../evil.png"),
    "zip slip below a class": named("rose/../../evil.png"),
    "absolute": named("/etc/evil.png"),
    "backslashes": named("..\\..\\evil.png"),
    "drive": named("C:/evil.png"),
    "quoted dots": named("rose/%2e%2e%2fevil.png"),
    "twice quoted dots": named("rose/%252e%252e%252fevil.png"),
    "dots with a parameter": named("rose/..;/evil.png"),
    "full-width dots": named("rose/．．/evil.png"),
    "a dot": named("rose/./evil.png"),
    "an empty part": named("rose//evil.png"),
    "NUL": renamed(EVEN_MORE, "aaaaaaaaaa.png", "a\0aaaaaaaa.png"),
    "newline": named("rose/two\nlines.png"),
    "escape sequence": named("rose/\x1b[2Jevil.png"),
    "10 000 characters": named("rose/" + "x" * 10_000 + ".png"),
    "names equal but for case": named("rose/0.PNG"),
    "classes equal but for case": named("Rose/9.png"),
    "names equal but for an accent's spelling": zipped(
        GOOD | {"rose/\u00e9.png": picture(1), "rose/e\u0301.png": picture(2)}
    ),
    "a file and a folder of one name": zipped(GOOD | {"rose/0.png/1.png": picture(7)}),
    "one name twice": renamed(
        zipped(GOOD | {"rose/x.png": picture(99)}, compression=zipfile.ZIP_STORED), "rose/x.png", "rose/0.png"
    ),
    # What is no file
    "symbolic link": with_link(GOOD, "rose/link.png", "/etc/passwd"),
    "symbolic link for a class": with_link(GOOD, "violet", "/etc"),
    "device": with_link(GOOD, "rose/null.png", "", kind=stat.S_IFCHR),
    "fifo": with_link(GOOD, "rose/pipe.png", "", kind=stat.S_IFIFO),
    "encrypted": with_field(PLAIN, "rose/0.png", 8, "<H", 1),
    "unknown compression": with_field(PLAIN, "rose/0.png", 10, "<H", 99),
    # Bombs
    "nested bomb": zipped(GOOD | {"rose/inner.zip": zipped({"bomb.png": bytes(2**20)})}),
    "nested gzip": zipped(GOOD | {"rose/inner.tar.gz": b"\x1f\x8b"}),
    "zeros": zipped(GOOD | {"rose/zeros.png": bytes(70 * 2**20)}),
    "4 GB by its own words": with_field(PLAIN, "rose/0.png", 24, "<L", 2**32 - 2),
    "overlapping entries": overlapping(PLAIN),
    "an entry within an entry": swallowing(),
    "an entry beyond the end": with_field(PLAIN, "rose/2.png", 20, "<L", 2**20),
    "10⁶ entries that say they are one": of_many_entries(10**6),
    "300 000 entries that say they are one": of_many_entries(300_000),
    "a directory larger than the archive": PLAIN[:-10] + (2**31).to_bytes(4, "little") + PLAIN[-6:],
    # Damage
    "empty body": b"",
    "no archive": b"GIF89a" + bytes(1000),
    "half an archive": PLAIN[: len(PLAIN) // 2],
    "an archive without its end": PLAIN[:-30],
    "an empty archive": zipped({}),
    "another local name": PLAIN.replace(b"rose/0.png", b"rose/9.png", 1),
    # Content
    "PNG header of 100 000²": zipped(GOOD | {"rose/9.png": png_header(100_000, 100_000)}),
    "SVG named .png": zipped(GOOD | {"rose/9.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}),
    "HTML named .jpg": zipped(GOOD | {"rose/9.jpg": b"<script>alert(1)</script>"}),
    "an empty file": zipped(GOOD | {"rose/9.png": b""}),
    # Layout
    "empty class": zipped(GOOD, ["violet"]),
    "a class of other files": zipped(GOOD | {"violet/readme.txt": b"no image"}),
    "one class only": zipped({name: content for name, content in GOOD.items() if "rose" in name}),
    "fewer images than classes": zipped({"a/1.png": picture(1)}, ["a", "b", "c"]),
    "one image a class": zipped({"a/1.png": picture(1), "b/1.png": picture(2)}),
    "images in no class": zipped({"1.png": picture(1), "2.png": picture(2)}),
    "train without val": zipped(flowers(below="train/")),
    "a class that is not in val": zipped(flowers(below="train/") | {"val/rose/1.png": picture(4)}),
    # Labels
    "a label that leads out": zipped(GOOD | {"l.csv": b"file,label\nrose/0.png,../x\ndaisy/0.png,b\n"}),
    "a label of two folders": zipped(GOOD | {"l.csv": b"file,label\nrose/0.png,a/b\ndaisy/0.png,b\n"}),
    "a file that is not there": zipped(GOOD | {"l.csv": b"file,label\nrose/7.png,a\n"}),
    "a file twice": zipped(GOOD | {"l.csv": b"file,label\nrose/0.png,a\nrose/0.png,b\n"}),
    "other columns": zipped({"0.png": picture(0), "1.png": picture(1), "l.csv": b"path,class\n0.png,a\n"}),
    "more columns": zipped(GOOD | {"l.csv": b"file,label,weight\nrose/0.png,a,1\n"}),
    "labels equal but for case": zipped(GOOD | {"l.csv": b"file,label\nrose/0.png,a\nrose/1.png,A\n"}),
    "no UTF-8": zipped(GOOD | {"l.csv": b"file,label\nrose/0.png,\xff\n"}),
    "two CSVs": zipped(GOOD | {"l.csv": b"file,label\n", "m.csv": b"file,label\n"}),
    "a CSV of 33 MB": zipped(GOOD | {"l.csv": b"file,label\n" + bytes(33 * 2**20)}),
}  # fmt: skip


@pytest.mark.parametrize("archive", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    upload: Callable[..., Any],
    leftovers: Callable[[], tuple[list[Path], int]],
    bell: Any,
    problem: Callable[..., Any],
    tmp_path: Path,
    archive: bytes,
) -> None:
    began = time.monotonic()
    response = upload(archive)
    body = problem(response, 422, "archive_invalid")
    assert time.monotonic() - began < 10, "a second where nothing else runs"
    assert str(tmp_path) not in response.text and len(body["detail"]) < 600
    assert leftovers() == ([], 0) and bell.rings == []
    assert not list(tmp_path.rglob("evil*")) and not (tmp_path.parent / "evil.png").exists()


def test_the_next_honest_archive_is_taken(
    upload: Callable[..., Any], leftovers: Callable[[], tuple[list[Path], int]]
) -> None:
    assert upload(ARCHIVES["zip slip"]).status_code == 422
    assert upload(PLAIN).status_code == 202
    assert len(leftovers()[0]) == 1


@pytest.mark.parametrize("name", ["zeros", "10⁶ entries that say they are one", "4 GB by its own words"])
def test_a_bomb_costs_no_memory(upload: Callable[..., Any], name: str) -> None:
    """Sent from here, the archive itself is in memory a few times; what it would unpack to is not."""
    archive = ARCHIVES[name]
    upload(ARCHIVES["empty body"])  # whatever a first request costs
    tracemalloc.start()
    try:
        assert upload(archive).status_code == 422
        assert tracemalloc.get_traced_memory()[1] < 5 * len(archive) + 20 * 2**20
    finally:
        tracemalloc.stop()


NAMES = [
    "../../etc/passwd", "/etc/shadow", "..\\..\\x", "%2e%2e%2f", "%252e%252e%252f", "a/..;/b", "NUL\0",
    "．．", "x" * 10_000, "two\nlines", "\x1b[2J", "", " ", "..", ".",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:30])
def test_a_hostile_name_is_refused_before_anything_is_stored(
    upload: Callable[..., Any], leftovers: Any, problem: Callable[..., Any], name: str
) -> None:
    body = problem(upload(PLAIN, name=name), 422, "validation_failed")
    assert body["errors"][0]["field"] == "name"
    assert leftovers() == ([], 0)

"""Archives that are broken, or made to break something. Each is made only when it is sent."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable

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
from tests.integration.hostile.case import ZIP, Case

GOOD = flowers()
PLAIN = zipped(GOOD)


def _with(*more: tuple[str, bytes], folders: tuple[str, ...] = ()) -> Callable[[], bytes]:
    return lambda: zipped(GOOD | dict(more), folders)


def _named(name: str) -> Callable[[], bytes]:
    return _with((name, picture(99)))


def _labelled(csv: bytes) -> Callable[[], bytes]:
    return _with(("l.csv", csv))


def _stored(name: str) -> bytes:
    return zipped(GOOD | {name: picture(99)}, compression=zipfile.ZIP_STORED)


def _swallowing() -> bytes:
    """The bytes of one entry contain the next one whole, and all sums are right: a bomb without nesting."""
    archive = _stored("rose/aaaaaaaaaa.png")
    begins = archive.index(b"rose/2.png") + len("rose/2.png")
    content = archive[begins : begins + len(GOOD["rose/2.png"]) + 100]
    for offset, value in ((16, zlib.crc32(content)), (20, len(content)), (24, len(content))):
        archive = with_field(archive, "rose/2.png", offset, "<L", value)
    return archive


_NAMES: dict[str, Callable[[], bytes]] = {
    "zip slip": _named("../../evil.png"),
    "zip slip below a class": _named("rose/../../evil.png"),
    "absolute": _named("/etc/evil.png"),
    "backslashes": _named("..\\..\\evil.png"),
    "drive": _named("C:/evil.png"),
    "quoted dots": _named("rose/%2e%2e%2fevil.png"),
    "twice quoted dots": _named("rose/%252e%252e%252fevil.png"),
    "dots with a parameter": _named("rose/..;/evil.png"),
    "full-width dots": _named("rose/．．/evil.png"),
    "a dot": _named("rose/./evil.png"),
    "an empty part": _named("rose//evil.png"),
    "NUL": lambda: renamed(_stored("rose/aaaaaaaaaa.png"), "aaaaaaaaaa.png", "a\0aaaaaaaa.png"),
    "newline": _named("rose/two\nlines.png"),
    "escape sequence": _named("rose/\x1b[2Jevil.png"),
    "10 000 characters": _named("rose/" + "x" * 10_000 + ".png"),
    "5 000 folders deep": _named("x/" * 5000 + "evil.png"),
    "names equal but for case": _named("rose/0.PNG"),
    "classes equal but for case": _named("Rose/9.png"),
    "names equal but for an accent's spelling": _with(
        ("rose/\u00e9.png", picture(1)), ("rose/e\u0301.png", picture(2))
    ),
    "a file and a folder of one name": _with(("rose/0.png/1.png", picture(7))),
    "one name twice": lambda: renamed(_stored("rose/x.png"), "rose/x.png", "rose/0.png"),
    "another local name": lambda: PLAIN.replace(b"rose/0.png", b"rose/9.png", 1),
}
_NO_FILES: dict[str, Callable[[], bytes]] = {
    "symbolic link": lambda: with_link(GOOD, "rose/link.png", "/etc/passwd"),
    "symbolic link for a class": lambda: with_link(GOOD, "violet", "/etc"),
    "device": lambda: with_link(GOOD, "rose/null.png", "", kind=stat.S_IFCHR),
    "fifo": lambda: with_link(GOOD, "rose/pipe.png", "", kind=stat.S_IFIFO),
    "socket": lambda: with_link(GOOD, "rose/socket.png", "", kind=stat.S_IFSOCK),
    "encrypted": lambda: with_field(PLAIN, "rose/0.png", 8, "<H", 1),
    "unknown compression": lambda: with_field(PLAIN, "rose/0.png", 10, "<H", 99),
}
_BOMBS: dict[str, Callable[[], bytes]] = {
    "nested bomb": lambda: zipped(GOOD | {"rose/inner.zip": zipped({"bomb.png": bytes(2**20)})}),
    "nested gzip": _with(("rose/inner.tar.gz", b"\x1f\x8b")),
    "zeros": lambda: zipped(GOOD | {"rose/zeros.png": bytes(70 * 2**20)}),
    "4 GB by its own words": lambda: with_field(PLAIN, "rose/0.png", 24, "<L", 2**32 - 2),
    "overlapping entries": lambda: overlapping(PLAIN),
    "an entry within an entry": _swallowing,
    "an entry beyond the end": lambda: with_field(PLAIN, "rose/2.png", 20, "<L", 2**20),
    "10⁶ entries that say they are one": lambda: of_many_entries(10**6),
    "300 000 entries that say they are one": lambda: of_many_entries(300_000),
    "a directory larger than the archive": lambda: PLAIN[:-10] + struct.pack("<L", 2**31) + PLAIN[-6:],
}
_DAMAGE: dict[str, Callable[[], bytes]] = {
    "empty body": lambda: b"",
    "no archive": lambda: b"GIF89a" + bytes(1000),
    "half an archive": lambda: PLAIN[: len(PLAIN) // 2],
    "an archive without its end": lambda: PLAIN[:-30],
    "only an end": lambda: PLAIN[-22:],
    "an empty archive": lambda: zipped({}),
    "a tar": lambda: b"rose/0.png".ljust(512, b"\0") + bytes(1024),
}
_CONTENT: dict[str, Callable[[], bytes]] = {
    "PNG header of 100 000²": _with(("rose/9.png", png_header(100_000, 100_000))),
    "SVG named .png": _with(("rose/9.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
    "HTML named .jpg": _with(("rose/9.jpg", b"<script>alert(1)</script>")),
    "a program named .png": _with(("rose/9.png", b"\x7fELF" + bytes(100))),
    "an empty file": _with(("rose/9.png", b"")),
}
_LAYOUT: dict[str, Callable[[], bytes]] = {
    "empty class": _with(folders=("violet",)),
    "a class of other files": _with(("violet/readme.txt", b"no image")),
    "one class only": lambda: zipped({name: content for name, content in GOOD.items() if "rose" in name}),
    "fewer images than classes": lambda: zipped({"a/1.png": picture(1)}, ["a", "b", "c"]),
    "one image a class": lambda: zipped({"a/1.png": picture(1), "b/1.png": picture(2)}),
    "images in no class": lambda: zipped({"1.png": picture(1), "2.png": picture(2)}),
    "train without val": lambda: zipped(flowers(below="train/")),
    "a class that is not in val": lambda: zipped(flowers(below="train/") | {"val/rose/1.png": picture(4)}),
}
_LABELS: dict[str, Callable[[], bytes]] = {
    "a label that leads out": _labelled(b"file,label\nrose/0.png,../x\ndaisy/0.png,b\n"),
    "a label of two folders": _labelled(b"file,label\nrose/0.png,a/b\ndaisy/0.png,b\n"),
    "a file that is not there": _labelled(b"file,label\nrose/7.png,a\n"),
    "a file outside": _labelled(b"file,label\n../../etc/passwd,a\nrose/0.png,b\n"),
    "a file twice": _labelled(b"file,label\nrose/0.png,a\nrose/0.png,b\n"),
    "other columns": lambda: zipped(
        {"0.png": picture(0), "1.png": picture(1), "l.csv": b"path,class\n0.png,a\n"}
    ),
    "more columns": _labelled(b"file,label,weight\nrose/0.png,a,1\n"),
    "labels equal but for case": _labelled(b"file,label\nrose/0.png,a\nrose/1.png,A\n"),
    "no UTF-8": _labelled(b"file,label\nrose/0.png,\xff\n"),
    "a quote without end": _labelled(b'file,label\nrose/0.png,"a\n' + b"x" * 200_000),
    "two CSVs": _with(("l.csv", b"file,label\n"), ("m.csv", b"file,label\n")),
    "a CSV of 33 MB": lambda: zipped(GOOD | {"l.csv": b"file,label\n" + bytes(33 * 2**20)}),
}  # fmt: skip


def _sent(name: str, archive: Callable[[], bytes]) -> Case:
    return Case(name, "POST", "/datasets", 422, "archive_invalid", archive, ZIP)


CASES: list[Case] = [
    *(
        _sent(name, archive)
        for group in (_NAMES, _NO_FILES, _BOMBS, _DAMAGE, _CONTENT, _LAYOUT, _LABELS)
        for name, archive in group.items()
    ),
    Case("more than may be uploaded", "POST", "/datasets", 413, "upload_too_large",
         lambda: bytes(64 * 2**20 + 1), ZIP),
    *(
        Case(f"an archive as {kind}", "POST", "/datasets", 415, "unsupported_media_type",
        PLAIN, {"Content-Type": kind})
        for kind in ("image/png", "application/x-tar", "application/gzip", "zip")
    ),
    Case("an archive as a form", "POST", "/datasets", 400, "invalid_form",
    PLAIN, {"Content-Type": "multipart/form-data; boundary=x"}),
    Case("an archive as JSON", "POST", "/datasets", 400, "invalid_utf8",
    PLAIN, {"Content-Type": "application/json"}),
]  # fmt: skip

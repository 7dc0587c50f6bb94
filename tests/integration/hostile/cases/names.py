"""Names of datasets, folders and files that lead elsewhere, or nowhere."""

from urllib.parse import quote

from tests.archives import flowers, zipped
from tests.integration.hostile.case import ZIP, Case, posted, spoilt, with_field

#: What is no name at all.
MALFORMED = [
    "", "flowers\0", "\0", "flowers\n", "\x1b[31mflowers", "x" * 10_000, "flowers\u2028", "\u0085", "\x7f",
    "a\rb",
]  # fmt: skip
#: What leads out of the data root, or is not there. Escapes are the characters that they are.
ASTRAY = [
    "../../etc/passwd", "/etc/shadow", "/etc", "..\\..\\x", "%2e%2e%2f", "%252e%252e%252f", "a/..;/b", "..",
    "flowers/../../outside", "flowers/..", "．．/．．/etc", "．．", "x" * 900, " ", ".../x", "~",
    "~root", "~/x",
    "file:///etc", "C:\\x", "C:/x", "\\\\host\\share", "//host/share", "/dev/stdin", "/proc/self/root",
    "nowhere", "flowers/nowhere", "way-out", "way-out/a", "loop", "loop/loop", ".uploads", ".uploads/ds_1",
    "$HOME", "${PATH}", "`id`", "$(id)", "*", "flowers/*", "flowers%00", "flowers/../.uploads",
    "/".join(["deep"] * 190),
]  # fmt: skip
#: What is there, and is no dataset.
NO_DATASET = ["notes.txt", "empty", "one-class", "flowers/circle", "pipe.pth", ".", "flowers/circle/000.jpg"]

_NAMES = [
    "../../etc/passwd", "/etc/shadow", "..\\..\\x", "%2e%2e%2f", "%252e%252e%252f", "a/..;/b", "NUL\0",
    "．．", "x" * 10_000, "two\nlines", "\x1b[2J", "", " ", "..", ".", "．．／etc", "x" * 201,
    "\u2029", "a/b",
]  # fmt: skip


def _plain() -> bytes:
    return zipped(flowers())


def _uploaded_as(name: str) -> Case:
    return Case(
        f"upload named {ascii(name)[:40]}", "POST", f"/datasets?name={quote(name, safe='')}", 422,
        "validation_failed", _plain, ZIP, at="name",
    )  # fmt: skip


CASES: list[Case] = [
    *(spoilt("dataset.path", path) for path in MALFORMED),
    posted(
        "a dataset that nobody may fetch",
        "/jobs",
        with_field("dataset", {"builtin": "cifar10"}),
        "dataset_unavailable",
        at="dataset.builtin",
    ),
    *(spoilt("dataset.path", path, "spec_invalid") for path in ASTRAY),
    *(spoilt("dataset.path", path, "dataset_invalid") for path in NO_DATASET),
    *(posted(f"register {ascii(p)[:40]}", "/datasets", {"path": p}, at="path") for p in MALFORMED),
    *(
        posted(f"register {ascii(p)[:40]}", "/datasets", {"path": p}, "spec_invalid", at="path")
        for p in ASTRAY
    ),
    *(
        posted(f"register {ascii(p)[:40]}", "/datasets", {"path": p}, "dataset_invalid", at="path")
        for p in NO_DATASET
    ),
    *(
        posted(f"register as {ascii(n)[:40]}", "/datasets", {"path": "flowers", "name": n}, at="name")
        for n in _NAMES
    ),
    *map(_uploaded_as, _NAMES),
    *(
        spoilt("dataset.id", value)
        for value in ("ds_", "../x", "ds_%00", "ds_a/b", "job_1", "ds_" + "a" * 100)
    ),
    posted(
        "a dataset that is not there", "/jobs", {"dataset": {"id": "ds_0"}}, "spec_invalid", at="dataset.id"
    ),
]

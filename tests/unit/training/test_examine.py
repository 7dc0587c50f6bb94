"""What the check of a dataset finds, and how a job begins from it."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.errors import ArchiveInvalid, DatasetChanged
from models.storage import LocalStorage
from tests.archives import flowers, picture, png_header, with_field, zipped
from tests.unit.training.jobs import Job
from worker.messages import DatasetChecked, DatasetRef, Failed, Finished
from worker.training.dataset_check import check, check_unsplit, split
from worker.training.examine import answer
from worker.training.manifest import Manifest
from worker.training.unpacking import unpack

Ask = Callable[..., dict[str, Any]]


def nothing(*_: int) -> None:
    pass


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Check an archive, or the folder ``root/flowers``; the answer."""

    def carry_out(archive: bytes | None = None, **changes: Any) -> dict[str, Any]:
        file = tmp_path / "upload.zip"
        if archive is not None:
            file.write_bytes(archive)
        folder = tmp_path / "root/flowers"
        request = {
            "archive": None if archive is None else str(file), "builtin": None,
            "folder": str(folder), "root": str(folder),
            "max_bytes": 10**9, "storage_url": (tmp_path / "store").as_uri(), "threads": 2,
            "manifest_key": "datasets/ds_1/manifest.json",
        }  # fmt: skip
        return answer(request | changes, nothing)

    return carry_out


def jpeg(number: int) -> bytes:
    return picture(number, size=64, kind="JPEG")


def test_a_good_archive(ask: Ask, tmp_path: Path) -> None:
    answered = ask(zipped(flowers(below="my flowers/") | {"my flowers/README.txt": b"hello"}))
    assert answered["found"] == {
        "classes": ["daisy", "rose"], "counts": {"all": {"daisy": 3, "rose": 3}}, "num_images": 6,
        "image_sizes": {"min_width": 8, "max_width": 8, "min_height": 9, "max_height": 9},
        "problems": [], "num_problems": 0,
    }  # fmt: skip
    manifest = Manifest.read(LocalStorage(tmp_path / "store"), "datasets/ds_1/manifest.json")
    assert manifest is not None and manifest.digest == answered["digest"]
    assert [file.path for file in manifest.files][:2] == ["daisy/0.png", "daisy/1.png"]
    assert answered["size_bytes"] == sum(len(content) for content in flowers().values())


def test_what_lies_in_a_folder_is_the_same_dataset_as_what_was_sent(ask: Ask, tmp_path: Path) -> None:
    sent = ask(zipped(flowers()))
    for name, content in flowers().items():
        path = tmp_path / "data/flowers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    there = ask(folder=str(tmp_path / "data/flowers"), root=str(tmp_path / "data"))
    assert there["digest"] == sent["digest"]


def test_labels_in_a_csv_become_folders(ask: Ask) -> None:
    files = {f"img/{number}.png": picture(number) for number in range(4)}
    rows = ["file,label,split", "img/0.png,rose,train", "img/1.png,rose,val",
            "img/2.png,daisy,train", "img/3.png,daisy,val"]  # fmt: skip
    answered = ask(zipped(files | {"labels.csv": "\r\n".join(rows).encode()}))
    assert answered["found"]["counts"] == {
        "train": {"daisy": 1, "rose": 1}, "val": {"daisy": 1, "rose": 1},
    }  # fmt: skip


def test_a_csv_beside_class_folders_may_be_about_anything(ask: Ask) -> None:
    answered = ask(zipped(flowers() | {"cameras.csv": b"name,price\nx,1\n"}))
    assert answered["found"]["counts"] == {"all": {"daisy": 3, "rose": 3}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (jpeg(1)[:400], "truncated"),
        (jpeg(1)[:-200], "truncated"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), ""),
        (png_header(40_000, 2_000), ""),
    ],
    ids=["truncated early", "truncated late", "PNG in name alone", "only a header"],
)
def test_an_image_that_cannot_be_read_is_named(ask: Ask, content: bytes, words: str) -> None:
    good = {f"{name}/{number}.jpg": jpeg(number) for name in ("daisy", "rose") for number in range(3)}
    answered = ask(zipped(good | {"rose/broken.jpg": content}))
    assert answered["code"] == "dataset_invalid" and "rose/broken.jpg" in answered["message"]
    [problem] = answered["found"]["problems"]
    assert problem["file"] == "rose/broken.jpg" and words in problem["message"].lower()
    assert answered["found"]["counts"]["all"] == {"daisy": 3, "rose": 4}


def strip(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (width, height)).save(sink, "PNG")
    return sink.getvalue()


def test_an_image_is_named_that_no_machine_could_resize(ask: Ask) -> None:
    """Its shorter side goes to what the network wants, and so the longer one grows beyond all memory."""
    narrow = {"rose/tall.png": strip(2, 64), "rose/wide.png": strip(320, 10)}
    assert ask(zipped(flowers() | narrow))["found"]["num_problems"] == 0
    endless = {"rose/tall.png": strip(2, 66), "rose/wide.png": strip(1_000_000, 1)}
    answered = ask(zipped(flowers() | endless))
    assert answered["code"] == "dataset_invalid" and "2 of 8 files" in answered["message"]
    problems = {problem["file"]: problem["message"] for problem in answered["found"]["problems"]}
    assert problems.keys() == endless.keys()
    assert problems["rose/wide.png"].startswith("1000000 × 1 pixels")
    assert "crop it" in problems["rose/tall.png"]


def test_a_folder_that_is_no_dataset(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "root/flowers/rose").mkdir(parents=True)
    answered = ask()
    assert answered["code"] == "dataset_invalid" and "no images" in answered["message"]


def test_a_check_that_was_killed_is_begun_anew(ask: Ask, tmp_path: Path) -> None:
    left = tmp_path / "root/flowers/violet/half.png"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert ask(zipped(flowers()))["found"]["classes"] == ["daisy", "rose"]
    assert not left.exists()


def test_a_disk_that_refuses_is_no_fault_of_the_dataset(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("no folder")
    assert ask(zipped(flowers()))["code"] == "storage_failed"


def test_sizes_that_lie_write_no_more_than_they_say(tmp_path: Path) -> None:
    content = bytes(range(256)) * 400
    archive = tmp_path / "lying.zip"
    archive.write_bytes(with_field(zipped(flowers() | {"rose/9.png": content}), "rose/9.png", 24, "<L", 1000))
    with pytest.raises(ArchiveInvalid, match="damaged"):
        unpack(archive, tmp_path / "files", 10**9, nothing)
    assert (tmp_path / "files/rose/9.png").stat().st_size <= 1000


def test_an_entry_is_never_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were one planted by whoever can write there, while the archive is unpacked."""
    archive, folder = tmp_path / "upload.zip", tmp_path / "files"
    archive.write_bytes(zipped(flowers()))
    target = tmp_path / "victim"
    target.write_text("mine")

    def plant(done: int, total: int) -> None:
        if done == 1:
            (folder / "daisy/1.png").symlink_to(target)

    with pytest.raises(OSError, match="exists"):
        unpack(archive, folder, 10**9, plant)
    assert target.read_text() == "mine"


# -- A job that names it by id -----------------------------------------------------------------------


def by_id(job: Job, dataset: DatasetRef | None) -> Job:
    task = replace(job.task, spec=job.task.spec | {"dataset": {"id": "ds_1"}}, dataset=dataset)
    return replace(job, task=task)


def registered(job: Job, data_root: Path, *, digest: str | None = None) -> Job:
    """The job, but that it names ``painted`` by id, checked into the job's store."""
    folder = data_root / "painted"
    manifest = check_unsplit(folder, data_root, 1, nothing)
    manifest.write(LocalStorage(job.store), "datasets/ds_1/manifest.json")
    return by_id(
        job,
        DatasetRef(str(folder), str(data_root), "datasets/ds_1/manifest.json", digest or manifest.digest),
    )


def test_a_split_is_the_same_whenever_it_is_made(ask: Ask, tmp_path: Path) -> None:
    ask(zipped(flowers(6)))
    folder = tmp_path / "root/flowers"
    at_once = check(folder, folder, 0.3, 5, 1, nothing)
    later = split(check_unsplit(folder, folder, 1, nothing), 0.3, 5)
    assert at_once == later and at_once.digest == later.digest
    assert {file.split for file in later.files} == {"train", "val"}


def test_by_id_and_by_path_train_the_same_weights(new_job: Any, data_root: Path) -> None:
    trainers = [new_job(epochs=1).run(), registered(new_job(epochs=1), data_root).run()]
    first, second = (trainer.only(Finished).weights_sha256 for trainer in trainers)
    assert first == second
    first, second = (trainer.only(DatasetChecked).digest for trainer in trainers)
    assert first == second


def test_a_dataset_that_is_another_since_its_check_fails_the_job(new_job: Any, data_root: Path) -> None:
    failed = registered(new_job(epochs=1), data_root, digest="ab" * 32).run().only(Failed)
    assert failed.code == DatasetChanged.code


def test_a_dataset_that_was_deleted_fails_the_job(new_job: Any) -> None:
    failed = by_id(new_job(epochs=1), None).run().only(Failed)
    assert failed.code == DatasetChanged.code and "was deleted" in failed.message

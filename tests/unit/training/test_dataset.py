"""What a dataset must be, and how any change to it is noticed."""

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.errors import DatasetChanged, DatasetInvalid
from models.storage import LocalStorage
from tests.unit.training.jobs import Job, paint
from worker.messages import DatasetChecked, Failed, Finished, StepDone
from worker.training.dataset_check import check, compare, dataset_folder
from worker.training.images import MAX_PIXELS
from worker.training.manifest import Manifest


def nothing(*_: int) -> None:
    pass


def examine(folder: Path, *, share: float = 0.25, seed: int = 0) -> Manifest:
    return check(folder, folder.parent, share, seed, threads=2, on_files=nothing)


@pytest.fixture
def painted_copy(data_root: Path) -> Path:
    return data_root / "painted"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Classes of 8, 3, 2 and 1 images, without a split."""
    for label, (name, count) in enumerate({"a": 8, "b": 3, "c": 2, "d": 1}.items()):
        for number in range(count):
            paint(tmp_path / "root" / "flat" / name / f"{number}.png", label, number)
    return tmp_path / "root" / "flat"


def test_train_and_val_folders(painted_copy: Path) -> None:
    manifest = examine(painted_copy)
    assert manifest.classes == ["brick", "sky"]
    assert len(manifest.indices("train")) == 29 and len(manifest.indices("val")) == 9
    assert [file.path for file in manifest.files] == sorted(file.path for file in manifest.files)
    assert all(manifest.classes[file.label] == file.path.split("/")[1] for file in manifest.files)


def test_a_split_takes_from_every_class(flat: Path) -> None:
    manifest = examine(flat)
    validating = [manifest.classes[manifest.files[index].label] for index in manifest.indices("val")]
    assert {name: validating.count(name) for name in "abcd"} == {"a": 2, "b": 1, "c": 1, "d": 0}
    assert examine(flat).digest == manifest.digest
    splits = {tuple(examine(flat, seed=seed).indices("val")) for seed in range(5)}
    assert len(splits) > 1
    greedy = examine(flat, share=0.99)
    assert {greedy.files[index].label for index in greedy.indices("train")} == {0, 1, 2, 3}


def test_times_do_not_name_a_dataset_but_bytes_do(flat: Path) -> None:
    before = examine(flat).digest
    os.utime(flat / "a" / "0.png", (0, 0))
    assert examine(flat).digest == before
    paint(flat / "a" / "0.png", 0, 999)
    assert examine(flat).digest != before


def test_hidden_and_other_files_are_ignored_and_suffixes_are_not_case_sensitive(flat: Path) -> None:
    before = len(examine(flat).files)
    (flat / "a" / ".hidden.png").write_bytes(b"no image")
    (flat / ".cache").mkdir()
    (flat / "a" / "notes.txt").write_text("hello")
    (flat / "readme.md").write_text("hello")
    (flat / "a" / "deeper").mkdir()
    paint(flat / "a" / "deeper" / "more.png", 0, 7)
    (flat / "a" / "0.png").rename(flat / "a" / "0.PNG")
    assert len(examine(flat).files) == before + 1


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims to be large, in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(100_000, 100_000), (MAX_PIXELS + 1, 1)])
def test_decompression_bombs_are_named(flat: Path, size: tuple[int, int]) -> None:
    (flat / "a" / "bomb.png").write_bytes(bomb(*size))
    with pytest.raises(DatasetInvalid, match=r"a/bomb\.png: .*pixels"):
        examine(flat)


def test_every_bad_file_is_named(flat: Path) -> None:
    whole = (flat / "a" / "0.png").read_bytes()
    (flat / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (flat / "b" / "empty.jpg").write_bytes(b"")
    (flat / "c" / "vector.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(DatasetInvalid) as caught:
        examine(flat)
    message = caught.value.message
    assert "3 of 17 files" in message
    assert "a/cut.png: " in message and "b/empty.jpg: " in message and "c/vector.png: not an image" in message
    assert "0x" not in message


def test_at_most_ten_files_are_named(flat: Path) -> None:
    for number in range(13):
        (flat / "a" / f"bad{number:02}.png").write_bytes(b"x")
    with pytest.raises(DatasetInvalid, match=r"bad09\.png: [^;]*; and 3 more"):
        examine(flat)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_colour_mode_becomes_rgb(flat: Path, mode: str) -> None:
    suffix = ".tif" if mode in {"CMYK", "I;16"} else ".png"
    Image.new(mode, (20, 20)).save(flat / "a" / f"mode{suffix}")
    examine(flat)


def without(folder: Path, *paths: str) -> None:
    for path in paths:
        for file in sorted((folder / path).rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        (folder / path).rmdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: without(folder, "train", "val"), "no class folders"),
        (lambda folder: without(folder, "val"), "no 'val' beside it"),
        (lambda folder: without(folder, "train/sky"), "'sky' is in the folder 'val' but not in 'train'"),
        (lambda folder: without(folder, "val/sky"), "'sky' is in the folder 'train' but not in 'val'"),
        (lambda folder: without(folder, "train/sky", "val/sky"), "at least two"),
        (lambda folder: (folder / "train" / "empty").mkdir(), "'train/empty' has no images"),
    ],
)
def test_folders_that_hold_no_dataset(
    painted_copy: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(painted_copy)
    with pytest.raises(DatasetInvalid, match=message):
        examine(painted_copy)


def test_nothing_left_for_validation(tmp_path: Path) -> None:
    for label in range(3):
        paint(tmp_path / "root" / "singles" / str(label) / "only.png", label, 0)
    with pytest.raises(DatasetInvalid, match="single one"):
        examine(tmp_path / "root" / "singles")


@pytest.mark.parametrize("kind", ["file", "class"])
def test_links_out_of_the_data_root_are_refused(flat: Path, tmp_path: Path, kind: str) -> None:
    paint(tmp_path / "outside" / "x.png", 0, 0)
    if kind == "file":
        (flat / "a" / "link.png").symlink_to(tmp_path / "outside" / "x.png")
    else:
        (flat / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(DatasetInvalid, match="leads out"):
        examine(flat)


def test_links_within_the_data_root_are_followed(flat: Path) -> None:
    (flat / "a" / "link.png").symlink_to(flat / "b" / "0.png")
    assert "a/link.png" in {file.path for file in examine(flat).files}


def test_names_that_are_no_text_are_refused(flat: Path) -> None:
    (flat / "a" / "0.png").rename(os.fsdecode(os.fsencode(flat / "a") + b"/\xff.png"))
    with pytest.raises(DatasetInvalid, match="not UTF-8") as caught:
        examine(flat)
    caught.value.message.encode()


def test_paths_out_of_the_data_root_are_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    for path in ("..", "../elsewhere", "/etc", "link"):
        with pytest.raises(DatasetInvalid, match="leads out"):
            dataset_folder(tmp_path / "root", path)
    with pytest.raises(DatasetInvalid, match="no folder"):
        dataset_folder(tmp_path / "root", "absent")


def test_differences_from_the_manifest_are_named(flat: Path) -> None:
    manifest = examine(flat)
    compare(flat, flat.parent, manifest, nothing)
    os.utime(flat / "b" / "0.png", (0, 0))  # another time, the same bytes
    compare(flat, flat.parent, manifest, nothing)
    (flat / "a" / "0.png").unlink()
    paint(flat / "a" / "new.png", 0, 70)
    same_size = bytearray((flat / "b" / "1.png").read_bytes())
    same_size[-5] ^= 1
    (flat / "b" / "1.png").write_bytes(same_size)
    with pytest.raises(DatasetChanged) as caught:
        compare(flat, flat.parent, manifest, nothing)
    for part in ("'a/0.png' is gone", "'b/1.png' is different", "'a/new.png' is new"):
        assert part in caught.value.message


def test_a_manifest_survives_its_store_and_notices_damage(flat: Path, tmp_path: Path) -> None:
    storage, manifest = LocalStorage(tmp_path / "store"), examine(flat)
    manifest.write(storage, "jobs/j/manifest.json")
    assert Manifest.read(storage, "jobs/j/manifest.json") == manifest
    file = tmp_path / "store" / "jobs" / "j" / "manifest.json"
    content = json.loads(file.read_text())
    content["files"][0]["label"] = 1
    file.write_text(json.dumps(content))
    assert Manifest.read(storage, "jobs/j/manifest.json") is None
    assert Manifest.read(storage, "jobs/j/absent.json") is None


def test_a_bad_image_fails_the_job_before_any_step(new_job: Callable[..., Job], data_root: Path) -> None:
    (data_root / "painted" / "train" / "sky" / "zz.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    trainer = new_job().run()
    assert trainer.only(Failed).code == "dataset_invalid" and not trainer.only(Failed).retryable
    assert "train/sky/zz.jpg" in trainer.only(Failed).message
    assert not trainer.all(StepDone)


def test_a_change_between_attempts(new_job: Callable[..., Job], data_root: Path) -> None:
    job = new_job()
    first = job.run()
    image = data_root / "painted" / "train" / "sky" / "03.jpg"
    original = (next(image.parent.glob("03.*"))).read_bytes()
    image = next(image.parent.glob("03.*"))
    paint(image, 1, 555)
    second = job.after(first).run()
    assert second.only(Failed).code == "dataset_changed" and not second.only(Failed).retryable
    assert f"train/sky/{image.name}" in second.only(Failed).message
    image.write_bytes(original)
    third = job.after(first).run()
    assert third.only(Finished) == first.only(Finished) and not third.all(DatasetChecked)


@pytest.mark.parametrize("loading_workers", [0, 1])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_change_in_mid_run(
    new_job: Callable[..., Job], data_root: Path, loading_workers: int, how: str
) -> None:
    trainer = new_job(epochs=1000, loading_workers=loading_workers).attempt()
    trainer.wait_for(StepDone)
    image = next((data_root / "painted" / "train" / "brick").glob("05.*"))
    if how == "gone":
        image.unlink()
    else:
        content = bytearray(image.read_bytes())
        content[-1] ^= 1
        image.write_bytes(content)
    trainer.read_to_end()
    failed = trainer.only(Failed)
    assert failed.code == "dataset_changed" and f"train/brick/{image.name}" in failed.message
    assert "Traceback" not in failed.message


def test_a_lost_manifest_is_made_again_if_the_data_is_the_same(
    new_job: Callable[..., Job], data_root: Path
) -> None:
    job = new_job()
    first = job.run()
    resumed = job.after(first)
    (job.store / first.only(DatasetChecked).manifest_path).unlink()
    second = resumed.run()
    assert second.only(DatasetChecked).digest == first.only(DatasetChecked).digest
    assert second.only(Finished) == first.only(Finished)
    (job.store / second.only(DatasetChecked).manifest_path).unlink()
    paint(data_root / "painted" / "train" / "sky" / "extra.png", 1, 1)
    assert resumed.after(second).run().only(Failed).code == "dataset_changed"


def test_a_checkpoint_knows_its_data_too(new_job: Callable[..., Job], data_root: Path) -> None:
    job = new_job()
    first = job.run()
    paint(data_root / "painted" / "train" / "sky" / "extra.png", 1, 1)
    second = job.after(first, fingerprint=None, manifest_path=None).run()
    assert second.only(Failed).code == "dataset_changed"

"""Torchvision's own datasets: read from its files or fetched, and folders from then on."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from models.builtin_datasets import BUILTINS, NAMES, WORK, is_present
from models.errors import DatasetUnavailable, StorageFailed
from tests.torchvision_files import CLASSES, LAYOUTS, gzipped_idx_files, idx_files, pixels
from worker.messages import DatasetChecked, Failed, Finished
from worker.training import fetching
from worker.training.builtin import ensure
from worker.training.dataset_check import check_unsplit
from worker.training.examine import answer


def nothing(*_: int) -> None:
    pass


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def builtins(tmp_path: Path) -> Path:
    return tmp_path / "builtins"


def leftovers(builtins: Path) -> list[Path]:
    return sorted((builtins / WORK).iterdir()) if (builtins / WORK).exists() else []


def test_the_table_is_of_what_torchvision_has() -> None:
    assert tuple(sorted(BUILTINS)) == NAMES == tuple(sorted(LAYOUTS))
    for name, entry in BUILTINS.items():
        assert getattr(torchvision.datasets, entry.kind).__name__.lower() == name


@pytest.mark.parametrize("name", NAMES)
def test_from_torchvisions_files(
    name: str, data_root: Path, builtins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_present(name, data_root, builtins)
    LAYOUTS[name](data_root, monkeypatch)
    assert is_present(name, data_root, builtins)
    before = sorted(data_root.rglob("*"))
    folder = ensure(name, builtins, data_root, downloads=False, on_files=nothing)
    manifest = check_unsplit(folder, folder, 1, nothing)
    counts = Counter((file.split, manifest.classes[file.label]) for file in manifest.files)
    first, second = CLASSES[name]
    if name == "eurosat":
        assert counts == {(None, first): 3, (None, second): 3}
    else:
        assert counts == {("train", first): 2, ("train", second): 2, ("val", first): 1, ("val", second): 1}
    assert len({file.sha256 for file in manifest.files}) >= 4, "images, not one again and again"
    assert sorted(data_root.rglob("*")) == before, "what is there stays as it is"
    assert leftovers(builtins) == []


def test_not_a_pixel_is_changed(data_root: Path, builtins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LAYOUTS["cifar10"](data_root, monkeypatch)
    folder = ensure("cifar10", builtins, data_root, downloads=False, on_files=nothing)
    with Image.open(folder / "train/cat/000001.bmp") as image:
        seen = np.asarray(image.convert("RGB"))
    assert (seen == pixels([0, 0, 1, 1], 3072)[1].reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_files_are_taken_over_byte_by_byte(
    data_root: Path, builtins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LAYOUTS["dtd"](data_root, monkeypatch)
    folder = ensure("dtd", builtins, data_root, downloads=False, on_files=nothing)
    before = (data_root / "dtd/dtd/images/bubbly/train_2.jpg").read_bytes()
    assert (folder / "train/bubbly/000002.jpg").read_bytes() == before


def test_what_was_read_once_is_used_from_then_on(data_root: Path, builtins: Path) -> None:
    idx_files(data_root / "MNIST/raw")
    folder = ensure("mnist", builtins, data_root, downloads=False, on_files=nothing)
    (data_root / "MNIST/raw").rename(data_root / "away")
    before = folder.stat().st_mtime_ns
    assert ensure("mnist", builtins, data_root, downloads=False, on_files=nothing) == folder
    assert folder.stat().st_mtime_ns == before


def test_many_at_once_make_one(data_root: Path, builtins: Path) -> None:
    idx_files(data_root / "MNIST/raw")
    make = partial(ensure, "mnist", builtins, data_root, downloads=False, on_files=nothing)
    with ThreadPoolExecutor(4) as pool:
        folders = {future.result() for future in [pool.submit(make) for _ in range(4)]}
    assert len(folders) == 1 and len(list(folders.pop().rglob("*.bmp"))) == 6
    assert leftovers(builtins) == []


def test_whoever_is_stopped_leaves_nothing(data_root: Path, builtins: Path) -> None:
    idx_files(data_root / "MNIST/raw")

    def stop(done: int, total: int) -> None:
        assert total in {4, 6}
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure("mnist", builtins, data_root, downloads=False, on_files=stop)
    assert leftovers(builtins) == [] and not (builtins / "mnist").exists()


# -- What is not there -------------------------------------------------------------------------------


def test_without_downloads_it_says_where_the_files_belong(data_root: Path, builtins: Path) -> None:
    with pytest.raises(DatasetUnavailable, match=r"cifar-10-batches-py.*PERDURE_DOWNLOADS"):
        ensure("cifar10", builtins, data_root, downloads=False, on_files=nothing)
    assert not builtins.exists()


@pytest.mark.parametrize(
    "file",
    ["cifar-10-batches-py/test_batch", "flowers-102/jpg/image_00002.jpg", "food-101/images/waffles/test1.jpg",
     "gtsrb/GT-final_test.csv", "MNIST/raw/train-labels-idx1-ubyte", "stl10_binary/class_names.txt"],
)  # fmt: skip
def test_files_that_are_not_whole_are_not_fetched_over(
    file: str, data_root: Path, builtins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [name] = [name for name in NAMES if file.startswith(BUILTINS[name].files)]
    LAYOUTS[name](data_root, monkeypatch)
    (data_root / file).unlink()
    with pytest.raises(DatasetUnavailable, match="is not whole"):
        ensure(name, builtins, data_root, downloads=True, on_files=nothing)
    assert leftovers(builtins) == []


def test_a_disk_that_refuses_is_worth_another_try(data_root: Path, builtins: Path) -> None:
    idx_files(data_root / "MNIST/raw")
    builtins.write_text("no folder")
    with pytest.raises(StorageFailed, match="PERDURE_UPLOADS_ROOT"):
        ensure("mnist", builtins, data_root, downloads=False, on_files=nothing)


# -- What is fetched ---------------------------------------------------------------------------------


on_loopback = pytest.mark.enable_socket


class Server(ThreadingHTTPServer):
    """A mirror on loopback; holds its answers back until it may send."""

    def __init__(self, folder: Path) -> None:
        may_send = self.may_send = threading.Event()
        may_send.set()
        self.asked: list[str] = []
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                may_send.wait(30)
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}/"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """KMNIST's, as torchvision is told of it: its address, and the sums of its files."""
    sums = gzipped_idx_files(tmp_path / "mirror")
    server = Server(tmp_path / "mirror")
    monkeypatch.setattr(torchvision.datasets.KMNIST, "mirrors", [server.url])
    monkeypatch.setattr(torchvision.datasets.KMNIST, "resources", list(sums.items()))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.may_send.set()
    server.shutdown()
    thread.join()
    server.server_close()


@on_loopback
def test_what_is_fetched_is_what_the_data_root_would_have(
    mirror: Server, data_root: Path, builtins: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = ensure("kmnist", builtins, data_root, downloads=True, on_files=nothing)
    fetched = check_unsplit(folder, folder, 1, nothing)
    asked = len(mirror.asked)
    idx_files(data_root / "KMNIST/raw")
    folder = ensure("kmnist", tmp_path / "others", data_root, downloads=True, on_files=nothing)
    assert fetched.digest == check_unsplit(folder, folder, 1, nothing).digest
    assert asked and len(mirror.asked) == asked, "the data root comes before the internet"
    assert list(data_root.iterdir()) == [data_root / "KMNIST"] and leftovers(builtins) == []
    assert capfd.readouterr() == ("", ""), "a progress bar is no log"


@on_loopback
def test_another_file_than_the_published_one_is_not_read(
    mirror: Server, data_root: Path, builtins: Path, tmp_path: Path
) -> None:
    (tmp_path / "mirror/train-images-idx3-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(DatasetUnavailable, match="could not fetch KMNIST"):
        ensure("kmnist", builtins, data_root, downloads=True, on_files=nothing)
    assert leftovers(builtins) == []


@on_loopback
def test_a_server_that_falls_silent_is_given_up(
    mirror: Server, data_root: Path, builtins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(fetching, "LOOK_SECONDS", 0.05)
    mirror.may_send.clear()
    told: list[tuple[int, int]] = []
    with pytest.raises(DatasetUnavailable, match="could not fetch KMNIST"):
        ensure("kmnist", builtins, data_root, downloads=True, on_files=lambda *now: told.append(now))
    assert (0, 0) in told, "it is alive meanwhile"


@on_loopback
def test_whoever_is_stopped_does_not_wait_for_a_download(
    mirror: Server, data_root: Path, builtins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LOOK_SECONDS", 0.05)
    mirror.may_send.clear()

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure("kmnist", builtins, data_root, downloads=True, on_files=stop)
    assert not (builtins / "kmnist").exists()


# -- In a check, and in a job ------------------------------------------------------------------------


def test_the_check_of_one(data_root: Path, builtins: Path, tmp_path: Path) -> None:
    idx_files(data_root / "MNIST/raw")
    request = {
        "archive": None, "folder": str(builtins / "mnist"), "root": str(builtins / "mnist"), "threads": 1,
        "builtin": {
            "name": "mnist", "builtins": str(builtins), "data_root": str(data_root), "downloads": False,
        },
        "max_bytes": 1, "storage_url": (tmp_path / "store").as_uri(), "manifest_key": "m",
    }  # fmt: skip
    answered = answer(request, nothing)
    zeros, ones = CLASSES["mnist"]
    assert answered["found"]["counts"] == {"train": {zeros: 2, ones: 2}, "val": {zeros: 1, ones: 1}}
    request["builtin"] |= {"name": "cifar10"}
    assert answer(request, nothing)["code"] == "dataset_unavailable"


def of_builtin(job: Any, name: str, data_root: Path) -> Any:
    spec = job.task.spec | {"dataset": {"builtin": name}}
    return replace(job, task=replace(job.task, spec=spec, data_root=str(data_root)))


def test_a_job_trains_on_one_and_retries_on_the_same(new_job: Any, data_root: Path, tmp_path: Path) -> None:
    idx_files(data_root / "FashionMNIST/raw")
    trainers = [of_builtin(new_job(epochs=1), "fashionmnist", data_root).run() for _ in range(2)]
    first, second = (trainer.only(Finished).weights_sha256 for trainer in trainers)
    assert first == second
    checked = trainers[0].only(DatasetChecked)
    assert (checked.num_train, checked.num_val) == (4, 2) and checked.classes == ["T-shirt-top", "Trouser"]
    assert (tmp_path / "builtins/fashionmnist/val").is_dir()


def test_a_job_on_one_that_is_not_there_fails(new_job: Any, data_root: Path) -> None:
    failed = of_builtin(new_job(epochs=1), "cifar10", data_root).run().only(Failed)
    assert failed.code == DatasetUnavailable.code and not failed.retryable

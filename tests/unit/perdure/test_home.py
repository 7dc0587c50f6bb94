"""A home belongs to one `perdure up` at a time, and its sockets lie where nobody else can put any."""

import json
import os
import tempfile
from pathlib import Path

import pytest

from perdure.errors import LocalStackError
from perdure.home import MAX_SOCKET_PATH, Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def test_a_second_one_is_told_who_has_it(home: Home) -> None:
    with (
        home.locked("http://127.0.0.1:8000"),
        pytest.raises(LocalStackError, match=rf"process {os.getpid()}, at http://127\.0\.0\.1:8000"),
        Home(home.root).locked("http://127.0.0.1:8001"),
    ):
        pass
    with Home(home.root).locked("http://127.0.0.1:8001"):
        assert json.loads((home.root / "up.lock").read_text())["url"] == "http://127.0.0.1:8001"


def test_a_new_home_is_private(home: Home) -> None:
    assert home.root.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["what?", "50%", "a#b"])
def test_a_name_that_addresses_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LocalStackError):
        Home(tmp_path / name).create()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(LocalStackError, match="cannot be used as a home"):
        Home(tmp_path / "home").create()


def test_the_runtime_folder_is_short_private_and_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    home = Home(deep / "home")
    home.create()
    folder = home.runtime_folder()
    try:
        assert len(os.fsencode(folder / "broker.sock")) <= MAX_SOCKET_PATH
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(0o755)
        assert home.runtime_folder() == folder
        assert folder.stat().st_mode & 0o777 == 0o700
        monkeypatch.setattr(tempfile, "tempdir", str(deep))  # too long for a socket
        assert home.runtime_folder().parent == Path("/tmp")
    finally:
        folder.rmdir()


def test_a_link_in_place_of_the_runtime_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "t"
    short.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    monkeypatch.setattr("perdure.home.MAX_SOCKET_PATH", 500)
    home = Home(tmp_path / "home")
    home.create()
    folder = home.runtime_folder()
    folder.rmdir()
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(LocalStackError, match="belongs to somebody else"):
        home.runtime_folder()

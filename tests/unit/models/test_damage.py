"""Fault 32: a torn SQLite file is noticed before anything is written into it."""

from pathlib import Path

import pytest

from models import job_store, migrate
from models.database import Database
from models.job_spec import JobSpec


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with a few hundred jobs in it, as `perdure migrate` would find it."""
    path = tmp_path / "perdure.db"
    monkeypatch.setenv("PERDURE_HOME", str(tmp_path))
    monkeypatch.setenv("PERDURE_DATABASE_URL", f"sqlite:///{path}")
    assert migrate.main() == 0
    db = Database(f"sqlite:///{path}")
    for _ in range(100):
        job_store.create_job(db, JobSpec.model_validate({"dataset": {"path": "shapes"}}))
    db.close()
    return path


def test_a_sound_file_is_brought_up_to_date(file: Path) -> None:
    assert migrate.main() == 0


@pytest.mark.parametrize("part", ["pages", "header"])
def test_a_torn_file_is_left_as_it_is(file: Path, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(file.read_bytes())
    torn = slice(0, 100) if part == "header" else slice(4096, len(content))
    content[torn] = bytes(reversed(content[torn]))
    file.write_bytes(content)
    assert migrate.main() == 1
    said = capsys.readouterr().err
    assert "is damaged" in said and ".recover" in said and "Traceback" not in said
    assert file.read_bytes() == content

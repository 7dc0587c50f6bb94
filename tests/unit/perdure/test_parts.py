"""The parts as commands: ours, and nobody else's of the same name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perdure import parts
from perdure.errors import LocalStackError


def test_the_light_client_says_where_the_service_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "CHECKOUT", tmp_path)
    for module in ("api", "worker", "models.migrate", "models.keys"):
        with pytest.raises(LocalStackError, match="make setup"):
            parts.command(module)


def test_a_package_of_the_same_name_in_the_current_folder_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "perdure").mkdir()
    (tmp_path / "perdure" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    command = [*parts.program(), "--version"]
    result = subprocess.run(
        command, cwd=tmp_path, env=parts.environment(), capture_output=True, text=True, check=False
    )
    assert result.stdout.startswith("perdure ")


def test_settings_become_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    environment = parts.environment(host="::1", port=8000, worker_name=None)
    assert environment["PERDURE_HOST"] == "::1"
    assert environment["PERDURE_PORT"] == "8000"
    assert "PERDURE_WORKER_NAME" not in environment
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(parts.CHECKOUT), "/theirs"]
    assert parts.program()[0] == sys.executable

"""Who may import whom: ``api → models ← worker``, and each heavy library in its place.

Read from the source, so that an import inside of a function counts like any other.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"api", "models", "worker", "perdure"}

#: What each library is for; whoever is not named must do without it.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "torch": ("worker.training", "worker.zygote"),
    "torchvision": ("worker.training", "worker.zygote"),
    "fastapi": ("api",),
    "starlette": ("api",),
    "python_multipart": ("api.upload_form",),
    "uvicorn": ("api",),
    "prometheus_client": ("api.routes.prometheus",),
    "celery": ("models.queue", "worker.app", "worker.__main__"),
    "kombu": ("models.queue", "worker.app", "worker.__main__"),
    "sqlalchemy": ("models",),
    "alembic": ("models",),
    "boto3": ("models.storage.s3_client", "worker.zygote"),
    "botocore": ("models.storage.s3_client",),
}
IMPORTERS = {"importlib.import_module", "import_module", "__import__"}
#: For each part of ours: which other parts it may import. The most specific line counts.
PARTS: dict[str, tuple[str, ...]] = {
    "api": ("models",),
    "models": (),
    "worker": ("models",),
    "worker.zygote": ("worker.process_guard", "worker.training", "worker.wire"),
    "worker.training": (
        "models.archives", "models.builtin_datasets", "models.errors", "models.job_spec", "models.storage",
        "worker.messages", "worker.process_guard", "worker.wire",
    ),
    "worker.training.catalogue_source": ("models.catalogue", "worker.training"),
    "perdure": (),
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One module imports another, on a line of its file."""

    importer: str
    imported: str
    where: str


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def home(module: str, packages: dict[str, tuple[str, ...]]) -> str:
    """The most specific of the packages that the module lies in."""
    return max((package for package in packages if is_within(module, package)), key=len)


def violation(found: Import) -> str | None:
    """What is wrong with an import, if anything."""
    library = found.imported.partition(".")[0]
    if library in LIBRARIES and not any(is_within(found.importer, place) for place in LIBRARIES[library]):
        return f"{found.where}: {found.importer} must do without {library}"
    if library not in OURS:
        return None
    part = home(found.importer, PARTS)
    if is_within(found.imported, part) and home(found.imported, PARTS) == part:
        return None
    if part == "worker" and is_within(found.imported, "worker.training"):
        return f"{found.where}: only the zygote imports {found.imported}"
    if part == "worker" and is_within(found.imported, "worker.zygote"):
        return f"{found.where}: the zygote is a process, not a module to import"
    if any(is_within(found.imported, allowed) for allowed in PARTS[part]):
        return None
    return f"{found.where}: {found.importer} must not import {found.imported}"


def imports(path: Path, root: Path) -> Iterator[Import]:
    """Every import of a file, relative ones resolved, and literal ones of importlib."""
    relative = path.relative_to(root).with_suffix("")
    module = ".".join(relative.parts).removesuffix(".__init__")
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        where = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, where)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                yield Import(module, f"{base}.{alias.name}" if base else alias.name, where)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in IMPORTERS:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield Import(module, str(argument.value), where)


def violations(root: Path) -> list[str]:
    files = sorted(path for part in OURS for path in (root / part).rglob("*.py"))
    return [said for path in files for found in imports(path, root) if (said := violation(found))]


def test_every_import_follows_the_arrows() -> None:
    assert violations(ROOT) == []


def test_there_is_something_to_look_at() -> None:
    found = [each for part in OURS for path in (ROOT / part).rglob("*.py") for each in imports(path, ROOT)]
    assert len(found) > 500
    seen = {(each.importer.partition(".")[0], each.imported.partition(".")[0]) for each in found}
    assert {("api", "models"), ("worker", "models"), ("api", "fastapi"), ("models", "sqlalchemy")} <= seen
    assert ("worker", "torch") in seen


PLANTED = {
    "api/routes/bad.py": ["import worker.supervisor", "from worker import lease", "import torch",
                          "from sqlalchemy import select", "from celery import Celery", "import perdure"],
    "models/job_store/bad.py": ["from api import app", "from worker.messages import Stop", "import torch",
                                "from torchvision.models import resnet18", "import fastapi", "import celery",
                                "def f():\n    import kombu.transport", "import boto3"],
    "worker/bad.py": ["import api", "from torch import nn", "import sqlalchemy.orm",
                      "from celery import Task", "from worker.training.trainer import run",
                      "from .training import trainer",
                      "from worker import training", "import starlette.routing", "import worker.zygote"],
    "worker/training/bad.py": ["from models import job_store", "from models.database import Database",
                               "import models.queue", "from ..supervisor import Supervisor",
                               "from worker.attempt import Attempt", "from models.tables import jobs"],
    "worker/zygote.py": ["from models.database import Database", "from worker.supervisor import Supervisor"],
    "perdure/bad.py": ["import models", "from api.app import create_app", "import worker", "import torch",
                       "import importlib\nimportlib.import_module('models.settings')",
                       "__import__('fastapi')"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "line"), [(file, line) for file, lines in PLANTED.items() for line in lines]
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f'"""Docstring."""\n\nimport os\n\n{line}\n')
    [said] = violations(tmp_path)
    assert said.startswith(f"{file}:")


ALLOWED = {
    "api/routes/good.py": ["from models import job_store", "from ..answers import body", "import fastapi"],
    "worker/good.py": ["from models.database import Database", "from . import lease", "import threading"],
    "worker/app.py": ["from celery import Celery"],
    "worker/zygote.py": ["import torch", "from worker.training import trainer",
                         "import worker.process_guard"],
    "worker/training/good.py": ["import torch", "from models.job_spec import JobSpec", "from . import data",
                                "from worker.messages import Stop", "from models.storage import Storage"],
    "models/queue.py": ["import celery"],
    "models/storage/s3_client.py": ["import boto3", "from botocore.config import Config"],
    "perdure/good.py": ["import httpx2", "from perdure import client", "from .client import Perdure"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "line"), [(file, line) for file, lines in ALLOWED.items() for line in lines]
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert violations(tmp_path) == []


# -- As processes ------------------------------------------------------------------------------------

MEASURE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
from pathlib import Path
status = Path("/proc/self/status").read_text()
resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
print(json.dumps([sorted({name.partition(".")[0] for name in sys.modules}), resident]))
"""


@pytest.mark.parametrize(
    "modules",
    [("worker.supervisor",), ("worker.app",), ("worker.__main__",), ("api.app",), ("perdure.cli",)],
    ids=lambda modules: modules[0],
)
def test_none_but_the_trainer_loads_torch(modules: tuple[str, ...]) -> None:
    """So that a supervisor is light, and a fork of it cheap."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *modules],
        capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    loaded, resident_megabytes = json.loads(done.stdout)
    assert not {"torch", "torchvision"} & set(loaded)
    if modules[0].startswith("worker"):
        assert not {"fastapi", "api"} & set(loaded)
    if modules[0].startswith("api"):
        assert "worker" not in loaded
    if modules[0].startswith("perdure"):
        assert not {"models", "api", "worker", "sqlalchemy", "celery", "fastapi"} & set(loaded)
    print(f"{modules[0]}: {resident_megabytes:.0f} MB")
    assert resident_megabytes < 150

"""`perdure submit`: what is said on the command line is what the server is asked for."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.perdure.command_line import JOB, Run

EVERY_OPTION = (
    "--data f --arch resnet18 --freeze 7 --weights none --dropout 0.5 --epochs 2 --batch-size 8 "
    "--image-size 64 --lr 0.01 --optimizer sgd --scheduler cosine --augment flip "
    "--seed 3 --priority 5 --name n"
)


@pytest.mark.parametrize(
    ("arguments", "spec"),
    [
        (["--data", "flowers"], {"dataset": {"path": "flowers"}}),
        (
            EVERY_OPTION.split(),
            {
                "name": "n",
                "seed": 3,
                "priority": 5,
                "dataset": {"path": "f"},
                "model": {"arch": "resnet18", "freeze": 7, "weights": None, "dropout": 0.5},
                "hyperparameters": {
                    "epochs": 2,
                    "batch_size": 8,
                    "image_size": 64,
                    "lr": 0.01,
                    "optimizer": "sgd",
                    "scheduler": "cosine",
                    "augment": "flip",
                },
            },
        ),
        (
            ["--data", "f", "--freeze", "backbone", "--weights", "w/b1.pth"],
            {"dataset": {"path": "f"}, "model": {"freeze": "backbone", "weights": {"file": "w/b1.pth"}}},
        ),
    ],
)
def test_options_say_only_what_was_said(run: Run, server: Any, arguments: Sequence[str], spec: Any) -> None:
    server.routes["POST /jobs"] = JOB
    code, out, _ = run("submit", *arguments)
    assert code == 0
    assert server.bodies() == [spec]
    assert "job_1" in out


def test_options_override_the_file(run: Run, server: Any, tmp_path: Path) -> None:
    server.routes["POST /jobs"] = JOB
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"dataset": {"path": "f"}, "hyperparameters": {"epochs": 4, "lr": 0.1}}))
    assert run("submit", str(file), "--epochs", "9", "--idempotency-key", "k")[0] == 0
    assert server.bodies() == [{"dataset": {"path": "f"}, "hyperparameters": {"epochs": 9, "lr": 0.1}}]
    assert server.requests[0].headers["idempotency-key"] == "k"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "one JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"seed": ' + "9" * 5000 + "}", "cannot be read"),
        ('{"seed": 1, "dataset": {"path": "f"}, "seed": 2}', "the key 'seed' is there twice"),
        ('{"dataset": {"path": "f"}, "hyperparameters": {"lr": NaN}}', "must be finite"),
        ('{"model": 3}', "one JSON object"),
        ("{}", "--data FOLDER"),
    ],
)
def test_a_bad_spec_file_is_wrong_usage(
    run: Run, server: Any, tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "spec.json"
    file.write_text(content)
    code, _, err = run("submit", str(file))
    assert code == 2
    assert words in " ".join(err.split())
    assert server.requests == []


def test_a_missing_spec_file_is_named(run: Run) -> None:
    code, _, err = run("submit", "nowhere.json")
    assert (code, "nowhere.json" in err) == (2, True)


def test_one_of_torchvisions_own(run: Run, server: Any) -> None:
    server.routes["POST /jobs"] = JOB
    assert run("submit", "--data", "builtin:cifar10")[0] == 0
    assert server.bodies() == [{"dataset": {"builtin": "cifar10"}}]


def test_dry_run_queues_nothing(run: Run, server: Any) -> None:
    server.routes["POST /jobs"] = {"id": None, "status": "queued", "warnings": ["The classes are unequal."]}
    code, out, err = run("submit", "--data", "f", "--dry-run")
    assert code == 0
    assert server.requests[0].url.params["dry_run"] == "true"
    assert "nothing was queued" in out
    assert "The classes are unequal." in err

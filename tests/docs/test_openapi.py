"""``docs/api.md``, the OpenAPI document and the code say the same."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pydantic import BaseModel

from api import answers, comparing, stream_frames
from api.app import create_app
from api.dataset_body import DatasetBody, DatasetProblem, ImageSizes
from api.problems import STATUS_OF
from api.routes.keys import MadeKey
from api.routes.predictions import Prediction
from models.job_spec import EarlyStopping, JobSpec
from models.job_state import EndCause, EventType, Fault, JobStatus, Phase
from models.migrate import schema_state
from models.settings import Settings
from perdure import connection
from tests.docs.markdown import ROOT, inline_code, rows, section

API = ROOT / "docs/api.md"

#: What users rely on, with the answers that matter; more may come, none may go.
CONTRACT = {
    "POST /datasets": {201, 202, 413, 415, 422},
    "GET /datasets": {200},
    "GET /datasets/{dataset_id}": {200, 404},
    "DELETE /datasets/{dataset_id}": {204, 404, 409},
    "POST /jobs": {200, 201, 409, 422, 429, 503},
    "GET /jobs": {200},
    "GET /jobs/{job_id}": {200, 404},
    "PATCH /jobs/{job_id}": {200, 404, 422},
    "DELETE /jobs/{job_id}": {204, 404, 409},
    "POST /jobs/{job_id}/clone": {201, 404, 422},
    "POST /jobs/{job_id}/cancel": {200, 202, 404, 409},
    "POST /jobs/{job_id}/pause": {200, 202, 404, 409},
    "POST /jobs/{job_id}/resume": {202, 404, 409},
    "POST /jobs/{job_id}/retry": {202, 404, 409},
    "POST /jobs/{job_id}/extend": {202, 404, 409, 422},
    "GET /jobs/{job_id}/metrics": {200, 404},
    "GET /jobs/{job_id}/events": {200, 404},
    "GET /jobs/{job_id}/stream": {200, 204, 404},
    "GET /jobs/{job_id}/attempts": {200, 404},
    "GET /jobs/{job_id}/checkpoints": {200, 404},
    "GET /jobs/{job_id}/checkpoints/{checkpoint_id}/content": {200, 206, 404, 410},
    "GET /jobs/{job_id}/logs": {200, 404},
    "GET /jobs/{job_id}/model": {200, 404, 409},
    "GET /jobs/{job_id}/model/content": {200, 404, 409},
    "POST /jobs/{job_id}/predict": {200, 404, 409, 413, 415, 422},
    "GET /jobs/compare": {200, 404},
    "GET /models": {200},
    "POST /jobs/{job_id}/drill": {202, 403, 404, 409, 422},
    "GET /jobs/{job_id}/drills": {200, 404},
    "GET /metrics": {200, 503},
    "GET /workers": {200},
    "POST /keys": {201, 403, 422, 429},
    "GET /keys": {200, 403},
    "DELETE /keys/{key_id}": {204, 404},
    "POST /workers/{worker_id}/drain": {202, 404},
    "POST /workers/{worker_id}/enable": {202, 404},
    "GET /health/live": {200},
    "GET /health/ready": {200, 503},
    "GET /version": {200},
}

#: Of HTTP itself; an OpenAPI document need not say it.
NOT_MODIFIED = 304


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    """Routes of the OpenAPI document with the statuses that it gives for them."""
    document = create_app(Settings(home=tmp_path_factory.mktemp("home"))).openapi()
    return {
        f"{method.upper()} {path}": {int(status) for status in operation["responses"]}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_what_users_rely_on_is_served(served: dict[str, set[int]]) -> None:
    for route, statuses in CONTRACT.items():
        assert statuses <= served[route], route


def test_the_page_has_every_route_and_no_other(served: dict[str, set[int]]) -> None:
    documented = {}
    for routes, _, codes in rows(section(API, "## Routes")):
        for route in inline_code(routes):
            documented[route] = {int(code) for code in re.findall(r"\b[2-5]\d\d\b", codes)}
    assert documented.keys() == served.keys()
    for route, codes in documented.items():
        if len(re.findall("live|ready|version", route)) == 0:
            assert codes - {NOT_MODIFIED} <= served[route], route


def spec_fields(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names with their defaults, ``...`` where a value is required."""
    for name, field in model.model_fields.items():
        inner = get_args(field.annotation) or (field.annotation,)
        parts = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if parts and name != "weights":
            yield from spec_fields(parts[0], f"{before}{name}.")
            if field.default is None:
                yield f"{before}{name}", None
        else:
            yield f"{before}{name}", ... if field.is_required() else field.default


def test_the_page_has_every_field_of_a_spec_with_its_default() -> None:
    documented = {
        inline_code(cells[0])[0]: ... if cells[1] == "–" else json.loads(cells[1].strip("`"))
        for cells in rows(section(API, "## Spec"))
    }
    assert documented == dict(spec_fields(JobSpec))
    assert documented["early_stopping.patience"] == EarlyStopping().patience


def test_the_limits_of_numbers_are_the_real_ones() -> None:
    """The bounds of every numeric field stand in its row."""
    seen = 0
    text = {inline_code(cells[0])[0]: cells[2] for cells in rows(section(API, "## Spec"))}
    schema = JobSpec.model_json_schema()
    for name, cell in text.items():
        for bound in bounds(schema, name.split(".")):
            plain = cell.replace(" ", "").replace("−", "-").replace("2⁶³-1", str(2**63))
            assert f"{bound:g}" in plain or str(bound) in plain, (name, bound)
            seen += 1
    assert seen > 30, "the schema gave its bounds"


def bounds(schema: dict[str, Any], path: list[str]) -> Iterator[float]:
    node = schema
    for part in path:
        node = resolved(schema, node)["properties"][part]
    for entry in [node, *node.get("anyOf", [])]:
        for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            # How many stages a network has is the network's affair.
            if key in entry and path[-1] not in {"freeze"}:
                yield entry[key]


def resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for entry in [node, *node.get("anyOf", []), *node.get("allOf", [])]:
        if "$ref" in entry:
            return dict(schema["$defs"][entry["$ref"].rsplit("/", 1)[-1]])
    return node


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("## Datasets", DatasetBody),
        ("## Datasets", ImageSizes),
        ("## Datasets", DatasetProblem),
        ("## Job", answers.SubmittedJob),
        ("## Metrics", answers.EpochMetrics),
        ("## Metrics", answers.StepMetrics),
        ("## Attempts", answers.Attempt),
        ("## Checkpoints", answers.Checkpoint),
        ("## Model", answers.ModelManifest),
        ("## Model", answers.Preprocessing),
        ("## Predictions", Prediction),
        ("## Comparisons", comparing.Comparison),
        ("## Comparisons", comparing.ComparedJob),
        ("## Comparisons", comparing.Difference),
        ("## Comparisons", comparing.ComparedEpoch),
        ("## Events", answers.JobEvent),
        ("## Stream", stream_frames.StatusLine),
        ("## Stream", stream_frames.StepsLine),
        ("## Stream", stream_frames.StepOfLine),
        ("## Drills", answers.DrillBody),
        ("## Workers", answers.WorkerBody),
        ("## API keys", MadeKey),
    ],
)
def test_the_page_has_every_field_of_an_answer(heading: str, model: type[BaseModel]) -> None:
    named = {word for code in inline_code(section(API, heading)) for word in re.split(r"[,. ]+", code)}
    assert model.model_fields.keys() - named - {"object"} == set()


def test_the_page_has_every_part_of_the_progress() -> None:
    named = set(inline_code(section(API, "## Job")))
    assert {f"progress.{name}" for name in answers.Progress.model_fields} <= named
    assert set(Phase) <= named


@pytest.mark.parametrize(
    ("heading", "members"),
    [("## Events", EventType), ("## Attempts", EndCause), ("## Job", JobStatus), ("## Drills", Fault)],
)
def test_the_page_has_every_member_and_no_other(
    heading: str, members: type[EventType | EndCause | JobStatus | Fault]
) -> None:
    text = section(API, heading)
    first_heads = {
        EventType: "| type |", EndCause: "| end_cause |", JobStatus: "| status |", Fault: "| fault |",
    }  # fmt: skip
    table = text[text.index(first_heads[members]) :].split("\n\n")[0]
    documented = [code for cells in rows(table) for code in inline_code(cells[0])]
    assert sorted(documented) == sorted(members)


def source_of(*folders: str) -> Iterator[ast.AST]:
    for folder in folders:
        for path in sorted(Path(ROOT, folder).rglob("*.py")):
            yield from ast.walk(ast.parse(path.read_text()))


def targets_of(statement: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


def codes_in_the_code() -> set[str]:
    """Of typed errors, of refusals that are raised with a literal code, and of schema states."""
    typed = {
        str(statement.value.value)
        for node in source_of("models", "worker")
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        and isinstance(statement.value, ast.Constant)
        and "code" in {getattr(target, "id", "") for target in targets_of(statement)}
    }
    refused = {
        str(node.args[1].value)
        for node in source_of("api")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused"
        if len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
    }
    states = {f"schema_{state}" for state in get_args(get_type_hints(schema_state)["return"])}
    return typed | refused | states - {"schema_current"} | {"method_not_allowed"}


def test_the_page_has_every_error_code() -> None:
    codes = codes_in_the_code()
    assert {"non_finite_loss", "unauthenticated", "schema_behind", "validation_failed"} <= codes
    named = set(inline_code(section(API, "## Errors")))
    assert codes - named == set()


def test_the_statuses_of_errors_are_the_real_ones() -> None:
    documented = {
        code: int(cells[1])
        for cells in rows(section(API, "## Errors"))
        if len(cells) == 3
        for code in inline_code(cells[0])
    }
    for error, status in STATUS_OF.items():
        assert documented[error.code] == status
    for node in source_of("api"):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused":
            status, code, *_ = [getattr(argument, "value", None) for argument in node.args[:2]]
            if isinstance(status, int) and isinstance(code, str):
                assert documented[code] == status


def test_the_page_has_every_exit_code() -> None:
    documented = {int(cells[0]) for cells in rows(section(API, "## Exit codes of the command line"))}
    declared = {value for name, value in vars(connection).items() if name.startswith("EXIT_")}
    assert documented == declared | {0}

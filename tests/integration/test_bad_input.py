"""Bad input is answered with what is wrong and what to do, and leaves nothing behind."""

from typing import Any

import pytest

from tests.images import draw_dataset
from tests.specs import full_fine_tune


@pytest.fixture
def stack(make_stack: Any) -> Any:
    with make_stack("sqlite") as stack:
        stack.start_api()
        yield stack


def test_an_image_that_cannot_be_decoded_is_named_before_training_starts(stack: Any) -> None:
    folder = draw_dataset(stack.home / "data/shapes", per_class=10)
    broken = folder / "circle/003.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    stack.start_worker()
    job_id = stack.submit(full_fine_tune(1))
    failed = stack.await_status(job_id, "failed")
    assert failed["error"]["code"] == "dataset_invalid"
    assert "circle/003.jpg" in failed["error"]["message"]
    assert stack.rows(f"/jobs/{job_id}/metrics", granularity="step") == []
    assert len(stack.rows(f"/jobs/{job_id}/attempts")) == 1, (
        "an error that retrying cannot mend is not retried"
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dataset": {"path": "../shapes"}}, "dataset"),
        ({"dataset": {"path": "nowhere"}}, "dataset"),
        ({"model": {"arch": "os.system"}}, "arch"),
        ({"hyperparameters": {"epochs": 0}}, "epochs"),
        ({"hyperparameters": {"lr": True}}, "lr"),
        ({"seed": 2**64}, "seed"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_spec_that_cannot_run_is_refused_with_the_field(stack: Any, change: Any, field: str) -> None:
    draw_dataset(stack.home / "data/shapes", per_class=10)
    answer = stack.http.post("/jobs", json=full_fine_tune(1) | change)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert any(field in error["field"] for error in problem["errors"]), problem
    assert stack.rows("/jobs") == []
    assert not (stack.home / "storage/jobs").exists()

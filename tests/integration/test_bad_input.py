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

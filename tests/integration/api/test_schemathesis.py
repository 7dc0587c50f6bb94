"""A short run of what `make test-long` does at length: no answer differs from what the document says."""

from pathlib import Path
from typing import Any

from tests.integration.api.schema.running import run, service


def test_no_answer_differs_from_the_document(tmp_path: Path, record_property: Any) -> None:
    with service(tmp_path, f"sqlite:///{tmp_path / 'perdure.db'}", keyed=True) as stack:
        stack.start_api()
        outcome = run(stack, "--phases", "fuzzing,stateful", "--max-examples", "2", keyed=True, seconds=120)
        record_property("measured", f"{outcome.num_cases} cases")
        assert outcome.is_good, outcome.text
        assert outcome.num_cases >= 80, outcome.text
        assert stack.api is not None and "Traceback" not in stack.log_of(stack.api)

"""A short run of what `make test-long` does at length: no answer differs from what the document says."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.schema.running import run, service


@pytest.mark.parametrize("keyed", [True, False], ids=["with keys", "without keys"])
def test_no_answer_differs_from_the_document(tmp_path: Path, keyed: bool, record_property: Any) -> None:
    with service(tmp_path, f"sqlite:///{tmp_path / 'perdure.db'}", keyed=keyed) as stack:
        stack.start_api()
        outcome = run(stack, "--phases", "fuzzing,stateful", "--max-examples", "2", keyed=keyed, seconds=120)
        record_property("measured", f"{outcome.num_cases} cases")
        assert outcome.is_good, outcome.text
        assert outcome.num_cases >= 80, outcome.text
        assert stack.api is not None and "Traceback" not in stack.log_of(stack.api)

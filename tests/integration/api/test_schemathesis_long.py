"""At least 5 000 requests that Schemathesis thinks of, on both databases, with keys and without."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.schema.running import run, service
from tests.servers.postgres import PostgresServer


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("keyed", [True, False], ids=["with keys", "without keys"])
def test_no_answer_differs_from_the_document(
    tmp_path: Path, postgres: PostgresServer, keyed: bool, record_property: Any
) -> None:
    url = postgres.create_database() if keyed else f"sqlite:///{tmp_path / 'perdure.db'}"
    with service(tmp_path, url, keyed=keyed) as stack:
        stack.start_api()
        began = time.monotonic()
        outcome = run(stack, "--max-examples", "4", keyed=keyed, seconds=1100)
        record_property("measured", f"{outcome.num_cases} cases in {time.monotonic() - began:.0f} s")
        assert outcome.is_good, outcome.text
        assert outcome.num_cases >= 2500, outcome.text
        assert stack.api is not None and "Traceback" not in stack.log_of(stack.api)

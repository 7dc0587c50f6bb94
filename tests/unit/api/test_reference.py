"""`/docs` and `/openapi.json`: out of this installation alone, and true about keys and links."""

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from models.settings import Settings


def test_nothing_is_fetched_from_the_web(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(addresses) == 3
    for address in addresses:
        found = client.get(address)
        assert address.startswith("/docs/") and found.status_code == 200 and found.content
    assert "/openapi.json" in page.text and "http" not in page.text


@pytest.mark.parametrize("name", ["nope.js", "..%2f__init__.py", "%2e%2e/core.py", "redoc.standalone.js", ""])
def test_nothing_else_is_served_there(client: TestClient, name: str) -> None:
    assert client.get(f"/docs/{name}").status_code == 404
    assert client.get("/redoc").status_code == 404


def operations(document: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        operation["operationId"]: (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
    }


def test_links_lead_to_operations_with_all_that_their_paths_take(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    known = operations(document)
    assert len(known) == sum(map(len, document["paths"].values())), "ids of operations are unique"
    seen = set()
    for path, operation in known.values():
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                target, _ = known[link["operationId"]]
                assert set(link["parameters"]) == set(re.findall(r"{(\w+)}", target))
                seen.add((path, target))
    for target in ("", "/cancel", "/metrics", "/clone", "/stream", "/checkpoints"):
        assert ("/jobs", "/jobs/{job_id}" + target) in seen
    assert ("/webhooks", "/webhooks/{webhook_id}") in seen and ("/keys", "/keys/{key_id}") in seen


def test_it_says_whether_a_key_is_needed(settings: Settings, client: TestClient) -> None:
    assert {} in client.get("/openapi.json").json()["security"]
    settings.api_keys = ("a-key-of-enough-letters",)
    document = create_app(settings).openapi()
    assert document["security"] == [{"key": []}]
    assert document["paths"]["/health/live"]["get"]["security"] == []

"""What FastAPI cannot see by itself: bodies that we parse, and errors that are problems."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.body import may_be_empty
from api.links import add_links
from api.problems import MEDIA_TYPE, Problem

_TEMPLATE = "#/components/schemas/{model}"
_DESCRIPTIONS = {
    400: "The body is not what its content type says.",
    401: "An API key is missing, wrong or revoked.",
    403: "The key may not do this, another site's page sent the request, or drills are off here.",
    404: "There is nothing with that id.",
    405: "The address does not have that method.",
    408: "The body took too long to arrive.",
    409: "The state of the job or dataset does not allow it, or the same request is still being answered.",
    410: "The file was pruned by retention, quarantined, or is damaged.",
    413: "The body is too large.",
    415: "The body's content type is none that is taken here.",
    416: "The range lies outside the file.",
    422: "Something in the request is not valid; `errors` names the fields.",
    429: "Too many requests, or a quota is used up; `Retry-After` says when to try again.",
    501: "An extra is not installed here; the detail says which.",
    503: "The database does not answer, or something is not ready; `Retry-After` says when to come back.",
}
_EVERYWHERE = (401, 403, 422, 429, 503)
_OF_BODIES = (400, 408, 413, 415)

#: The models of request bodies, which FastAPI does not see.
_bodies: set[type[BaseModel]] = set()

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int, body: bool = False) -> Responses:
    """The error answers of a route, for its ``responses``."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _TEMPLATE.format(model="Problem")}}}
    all_of_them = sorted({*_EVERYWHERE, *statuses, *(_OF_BODIES if body else ())})
    return {status: {"description": _DESCRIPTIONS[status], "content": content} for status in all_of_them}


def request_body(
    model: type[BaseModel], example: Any = None, *, others: Mapping[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The body of a route, for its ``openapi_extra``; ``others``: further media types and their schemas."""
    _bodies.add(model)
    media: dict[str, Any] = {"schema": {"$ref": _TEMPLATE.format(model=model.__name__)}}
    if example is not None:
        media["example"] = example
    content = {"application/json": media, **_media(others or {})}
    return {"requestBody": {"required": not may_be_empty(model), "content": content}}


def _media(schemas: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {kind: {"schema": schema} for kind, schema in schemas.items()}


def _drop_null(schema: dict[str, Any]) -> None:
    """A parameter is there or not: there is no way to write null into an address or a header."""
    kinds = [kind for kind in schema.pop("anyOf", []) if kind != {"type": "null"}]
    schema.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def _describe_overrides(schemas: dict[str, Any]) -> None:
    """Parts of a spec are a spec of which nothing is required."""
    parts = {name: value for name, value in schemas["JobSpec"].items() if name != "required"}
    schemas["JobSpecParts"] = {**parts, "title": "JobSpecParts", "description": "Any parts of a spec."}
    overrides = schemas["CloneRequest"]["properties"]["overrides"]
    overrides.pop("type"), overrides.pop("additionalProperties", None)
    overrides["allOf"] = [{"$ref": _TEMPLATE.format(model="JobSpecParts")}]


def operation_id(route: APIRoute) -> str:
    """What clients that are generated call their methods."""
    return "_".join([*map(str, route.tags), route.name])


def install(app: FastAPI, *, needs_key: bool) -> None:
    """Add the schemas that the above refer to, the key, and the links between operations."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _complete(document, needs_key)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any], needs_key: bool) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    models: set[type[BaseModel]] = {Problem, *_bodies}
    for model in sorted(models, key=lambda model: model.__name__):
        schema = model.model_json_schema(ref_template=_TEMPLATE)
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    _describe_overrides(schemas)
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    # On loopback none is needed as long as there is none.
    document["security"] = [{"key": []}] if needs_key else [{"key": []}, {}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path.startswith("/health/"):
                operation["security"] = []
            for parameter in operation.get("parameters", []):
                _drop_null(parameter["schema"])
    _name_properties(document)
    add_links(document)


def _name_properties(node: Any) -> None:
    """A rule for keys holds for all keys; as pydantic writes it, other keys would be free."""
    if isinstance(node, dict):
        if (patterns := node.pop("patternProperties", None)) is not None:
            [(pattern, values)] = patterns.items()
            node["propertyNames"] = {**node.get("propertyNames", {}), "pattern": pattern}
            node["additionalProperties"] = values
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            _name_properties(part)


DESCRIPTION = """Training jobs that survive anything, and end with the weights of an undisturbed run.

Errors are `application/problem+json` with a stable `code`. Every POST takes an `Idempotency-Key`."""

"""The reference at ``/docs``, out of this installation alone: nothing is fetched from the web."""

from importlib.resources import files

from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, Response

_FOLDER = files("fastapi_offline") / "static"
_FILES = frozenset({"swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"})
#: So that it stays like that, whatever a page or a script asks for.
_NOTHING_FROM_ELSEWHERE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)


def install(app: FastAPI) -> None:
    """Serve it, and what its page is made of."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def reference() -> Response:
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=f"{app.title} {app.version}",
            swagger_js_url="/docs/swagger-ui-bundle.js",
            swagger_css_url="/docs/swagger-ui.css",
            swagger_favicon_url="/docs/favicon.png",
            # Swagger UI has a service on the web judge documents, unless it is told not to.
            swagger_ui_parameters={"validatorUrl": None},
        )
        page.headers["Content-Security-Policy"] = _NOTHING_FROM_ELSEWHERE
        return page

    @router.get("/docs/{name}")
    async def part(name: str) -> Response:
        if name not in _FILES:
            raise HTTPException(404)
        return FileResponse(str(_FOLDER / name), headers={"Cache-Control": "max-age=3600"})

    app.include_router(router)

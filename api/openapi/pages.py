"""The pages that show the OpenAPI document: `/docs` and `/redoc`.

Invariant: a page loads nothing from another host, so that it works without internet, and browsers
are told to refuse it if it would.
"""

from importlib.util import find_spec
from pathlib import Path

import structlog
from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse

from api.security.response_headers import page_policy

log = structlog.get_logger()

router = APIRouter(include_in_schema=False)

#: Where the pages' scripts are served; the package `fastapi-offline` has the files.
ASSETS = "/docs/assets"
NAMES = frozenset({"favicon.png", "redoc.standalone.js", "swagger-ui-bundle.js", "swagger-ui.css"})


def add_pages(app: FastAPI) -> None:
    """Add the pages and their assets to an application that was built without them.

    An installation without the package serves the document, but no assets, and logs that.
    """
    if find_spec("fastapi_offline") is None:
        log.warning("docs_pages_missing", package="fastapi-offline")
    app.include_router(router)


@router.get(ASSETS + "/{name}")
def read_asset(name: str) -> FileResponse:
    """Return a script, style or picture of the pages."""
    found = find_spec("fastapi_offline")
    if name not in NAMES or found is None or found.origin is None:
        raise HTTPException(404, "No such asset")
    file = Path(found.origin).parent / "static" / name
    return FileResponse(file, headers={"Cache-Control": "public, max-age=86400"})


@router.get("/docs")
async def show_docs(request: Request) -> HTMLResponse:
    """Show the document with Swagger UI."""
    app: FastAPI = request.app
    return _page(
        get_swagger_ui_html(
            openapi_url=str(app.openapi_url),
            title=app.title,
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
        )
    )


@router.get("/redoc")
async def show_redoc(request: Request) -> HTMLResponse:
    """Show the document with ReDoc."""
    app: FastAPI = request.app
    return _page(
        get_redoc_html(
            openapi_url=str(app.openapi_url),
            title=app.title,
            redoc_js_url=f"{ASSETS}/redoc.standalone.js",
            redoc_favicon_url=f"{ASSETS}/favicon.png",
            with_google_fonts=False,
        )
    )


def _page(page: HTMLResponse) -> HTMLResponse:
    page.headers["Content-Security-Policy"] = page_policy(bytes(page.body))
    return page

"""The pages that show the OpenAPI document: `/docs` and `/redoc`.

Invariant: a page loads nothing from another host, so that it works without internet.
"""

from importlib.resources import files
from importlib.util import find_spec

import structlog
from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

log = structlog.get_logger()

#: Where the pages' scripts are served; the package `fastapi-offline` has the files.
ASSETS = "/docs/assets"


def add_pages(app: FastAPI) -> None:
    """Add the pages and their assets to an application that was built without them.

    An installation without the package serves the document, but no pages, and logs that.
    """
    if find_spec("fastapi_offline") is None:
        log.warning("docs_pages_missing", package="fastapi-offline")
        return
    folder = files("fastapi_offline") / "static"
    app.mount(ASSETS, StaticFiles(directory=str(folder)), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def show_docs() -> HTMLResponse:
        """Show the document with Swagger UI."""
        return get_swagger_ui_html(
            openapi_url=str(app.openapi_url),
            title=app.title,
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon.png",
        )

    @app.get("/redoc", include_in_schema=False)
    async def show_redoc() -> HTMLResponse:
        """Show the document with ReDoc."""
        return get_redoc_html(
            openapi_url=str(app.openapi_url),
            title=app.title,
            redoc_js_url=f"{ASSETS}/redoc.standalone.js",
            redoc_favicon_url=f"{ASSETS}/favicon.png",
            with_google_fonts=False,
        )

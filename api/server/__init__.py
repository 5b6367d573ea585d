"""The HTTP server: uvicorn, its protocol bounds, middleware and request metrics."""

"""The HTTP API: routes, authentication, streaming, the server and its OpenAPI document."""

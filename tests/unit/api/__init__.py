"""Views, framing, problems, schemas: nothing that needs a server."""

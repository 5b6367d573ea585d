"""`python -m api`: the API with the settings of the environment."""

from api.server.uvicorn_server import run
from core.settings.tree import get_settings

if __name__ == "__main__":
    run(get_settings())

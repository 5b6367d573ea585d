"""`python -m api`: the API with the settings of the environment."""

from api.uvicorn_server import run
from core.runtime.process import read_settings

if __name__ == "__main__":
    run(read_settings("api"))

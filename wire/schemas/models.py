"""Request bodies of the operator's model routes, and their answers."""

from pydantic import Field

from jobs.store.model_retirement import RetiredJobs
from wire.schemas.sampling import Body
from wire.schemas.usage import Answer


class Retirement(Body):
    """`POST /v1/admin/models/{model}/retire`: what happens to jobs that were accepted before."""

    jobs: RetiredJobs = Field(
        default="refuse",
        description="`refuse`: do not retire a model that has jobs; `finish`: workers finish them;"
        " `dead_letter`: waiting jobs fail into the dead-letter list, running ones are finished",
    )


class RetiredModelObject(Answer):
    """A retired model; `retiring` while it has jobs. `retired_at` is in Unix seconds."""

    object: str
    id: str
    state: str
    jobs: str
    retired_by: str
    retired_at: float
    waiting: int
    running: int
    workers: int

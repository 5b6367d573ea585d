"""Request bodies of the queue routes."""

from typing import Annotated

from pydantic import Field

from jobs.store.queue_control import QueueMode
from wire.schemas.sampling import Body


class QueueChange(Body):
    """`PATCH /v1/admin/queues/{model}`: the mode that the queue gets, whatever it was."""

    mode: Annotated[QueueMode, Field(strict=False)]

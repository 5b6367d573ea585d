"""The objects of a model's queue and of a retired model, for the operator."""

from typing import Any

from jobs.store.model_retirement import RetiredModel
from jobs.store.queue_control import ModeNote
from jobs.store.queue_state import QueueState


def queue_object(model: str, note: ModeNote, state: QueueState) -> dict[str, Any]:
    """Build the queue object.

    Args:
        model: The served model, which is the queue's name.
        note: The queue's mode, and who set it when.
        state: Counts of the queue's jobs and workers.
    """
    return {
        "object": "queue",
        "model": model,
        "mode": note.mode,
        "changed_by": note.by or None,
        "changed_at": note.since / 1000 or None,
        "ready": sum(state.ready.values()),
        "ready_by_tier": {str(tier): count for tier, count in state.ready.items()},
        "parked": state.parked,
        "delayed": state.delayed,
        "running": state.running,
        "workers": state.workers,
        "slots": state.slots,
        "tickets": state.tickets,
    }


def retired_model_object(model: RetiredModel) -> dict[str, Any]:
    """Build the object of a retired model."""
    return {
        "object": "retired_model",
        "id": model.name,
        "state": model.state,
        "jobs": model.jobs,
        "retired_by": model.by,
        "retired_at": model.at / 1000,
        "waiting": model.waiting,
        "running": model.running,
        "workers": model.workers,
    }

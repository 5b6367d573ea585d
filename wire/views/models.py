"""The object of a retired model, for the operator."""

from typing import Any

from jobs.store.model_retirement import RetiredModel


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

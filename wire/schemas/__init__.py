"""Request bodies as strict pydantic models and response models, one file per resource."""

"""How a person drives Penstock: one file per noun, no logic."""

"""The checks of `penstock doctor`, which `penstock up` runs before it starts anything."""

"""What authors write against: types, seeds, registries, errors."""

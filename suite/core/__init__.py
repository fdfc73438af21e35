"""What authors of problems and optimizers write against: types, seeds, registries, errors."""

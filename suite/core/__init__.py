"""The interface for authors: types, seeds, registries, errors."""

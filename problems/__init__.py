"""Optimizee problems, one file a family, each registered by name."""

"""Estimators of the meta-gradient, each in a module of its own."""

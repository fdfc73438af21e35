"""Learned optimizers, their inputs, and the files that they are kept in."""

"""Scores: one number for each run."""

"""Means over test instances and their confidence intervals."""

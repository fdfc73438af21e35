"""Estimators of the meta-gradient, one in each module."""

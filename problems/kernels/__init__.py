"""Fused kernels of problems, for speed; the problems themselves are the definitions."""

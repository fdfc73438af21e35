"""Optimizers, one file each: hand-designed, learned, and the kernels of the learned ones."""

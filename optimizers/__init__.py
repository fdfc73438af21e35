"""Optimizers, one file each: hand-designed, learned, and the kernels of the learned ones."""

if __name__ == "optimizers":
    raise ImportError("this package is imported as l2l.optimizers", name=__name__)

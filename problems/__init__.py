"""Optimizee problems, one file a family, each registered by name."""

if __name__ == "problems":
    raise ImportError("this package is imported as l2l.problems", name=__name__)

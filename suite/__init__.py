"""The harness: how learned and hand-designed optimizers are trained, tuned and compared."""

if __name__ == "suite":
    raise ImportError("this package is imported as l2l.suite", name=__name__)

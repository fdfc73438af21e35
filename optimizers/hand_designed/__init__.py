"""The paper's baselines, by Torch7's formulas and defaults."""

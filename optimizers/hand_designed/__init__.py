"""The paper's baselines, by Torch7's formulas and defaults, and later ones, by their own."""

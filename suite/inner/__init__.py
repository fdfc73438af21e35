"""One optimizee run: the objective, the loop over its steps, tuning, evaluation, traces."""

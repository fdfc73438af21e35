"""Any `torch.optim.Optimizer`, by its import path."""

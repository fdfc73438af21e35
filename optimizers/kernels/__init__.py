"""Implementations of the LSTM optimizer: the definition in PyTorch, and fused ones."""

"""Training φ: its schedule, its loop over windows, what moves φ, and its state."""

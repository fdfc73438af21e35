"""Training of φ: its schedule, its loop over windows, the methods that update φ, and its state."""

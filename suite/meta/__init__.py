"""Training φ: the schedule, the loop over windows, and what moves φ."""

"""A synthetic beating heart with known volumes, imaged as a short-axis cine."""

"""Readers' labels from files: found for each scan, read onto the grid of the model's mask."""

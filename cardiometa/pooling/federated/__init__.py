"""Pooling from the sums that sites send."""

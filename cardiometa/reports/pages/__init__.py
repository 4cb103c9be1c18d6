"""The page of each command and its tables."""

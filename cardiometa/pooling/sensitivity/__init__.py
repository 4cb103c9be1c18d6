"""What the pooled effect depends on: single trials, missing outcomes."""

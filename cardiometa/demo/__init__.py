"""The synthetic cohort of `demo`, and what is true in it."""

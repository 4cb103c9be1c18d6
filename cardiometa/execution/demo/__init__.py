"""``cardiometa demo``: a synthetic cohort with known truth, and all three commands run on it."""

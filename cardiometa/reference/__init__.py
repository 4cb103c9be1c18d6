"""Reference ranges: participants, strata, curves, meta-analytic ranges, portable model."""

"""Limits by sex, ethnicity and age band, and the checks of them."""

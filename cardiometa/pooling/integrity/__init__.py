"""Checks of each trial's data before its effect is believed."""

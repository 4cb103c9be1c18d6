"""Limits as curves over age, and the checks of their fit."""

"""Figures, drawn with matplotlib or as SVG."""

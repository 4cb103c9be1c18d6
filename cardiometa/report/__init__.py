"""Records → tables, figures, gallery, overlays, one HTML page."""

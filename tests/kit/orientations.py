"""Eight ways to lay a short-axis stack through a phantom, as arguments of ``CineGrid``."""

from __future__ import annotations

from typing import Any

ORIENTATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "apex-first": {"apex_first": True},
    "turned-90": {"in_plane_deg": 90.0},
    "turned-and-shifted": {"in_plane_deg": 37.0, "shift_mm": (18.0, -12.0)},
    "columns-flipped": {"flip_columns": True, "in_plane_deg": -20.0},
    "both-flipped-apex-first": {"flip_columns": True, "flip_rows": True, "apex_first": True},
    "steep-double-oblique": {
        "apex_lps": (0.45, -0.5, -0.74),
        "anterior_lps": (0.3, -0.5, 0.8),
        "in_plane_deg": 205.0,
        "base_lps_mm": (-10.0, 40.0, 180.0),
    },
    "horizontal-anisotropic": {
        "apex_lps": (0.8, -0.55, -0.1),
        "in_plane_deg": -63.0,
        "flip_rows": True,
        "rows": 100,
        "columns": 150,
        "row_spacing_mm": 2.2,
        "column_spacing_mm": 1.7,
    },
}

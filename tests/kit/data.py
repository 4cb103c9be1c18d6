"""Where the real hearts for tests lie; tests that need them skip where they are absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_data() -> Path:
    """The folder of real hearts: $CARDIOMETA_DATA, else ``../shared/data`` beside the checkout."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("CARDIOMETA_DATA", default))
    if not folder.is_dir():
        pytest.skip("the folder of real hearts (CARDIOMETA_DATA or ../shared/data) is absent")
    return folder

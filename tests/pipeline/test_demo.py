from __future__ import annotations

from pathlib import Path

import pytest

from cardiometa.demo.run import run_demo
from cardiometa.errors import UsageError
from cardiometa.files import RECORD_NAME, canonical_json


def test_a_demo_of_another_seed_and_a_foreign_folder_are_refused(tmp_path: Path) -> None:
    record = {"command": "demo", "options": {"seed": 1}}
    (tmp_path / RECORD_NAME).write_text(canonical_json(record))
    with pytest.raises(UsageError, match="seed"):
        run_demo(tmp_path, seed=2, workers=1, say=lambda _: None)
    (tmp_path / RECORD_NAME).unlink()
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(UsageError, match="other files"):
        run_demo(tmp_path, seed=1, workers=1, say=lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

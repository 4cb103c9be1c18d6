"""The cohort as an output keeps it, from which `merge` makes its tables and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from cardiometa.cohort.models import Cohort
from cardiometa.errors import InputError
from cardiometa.pipeline.cohort_snapshot import SNAPSHOT_NAME, read_snapshot, snapshot_text
from cardiometa.records import SeriousWarning, serious_first, severity
from cardiometa.segmentation.model import load_model

WARNINGS = ("a note", SeriousWarning("do not pool these"), "another note")


@pytest.fixture(scope="module")
def text() -> str:
    people = pd.DataFrame({"trial": ["A"], "participant_id": ["1"]}, dtype=object)
    cohort = Cohort(name="c", trials=(), participants=people, scans=(), warnings=WARNINGS)
    model = load_model()
    return snapshot_text(cohort, model.card, model.sha256)


def test_warnings_keep_their_order_and_severity(tmp_path: Path, text: str) -> None:
    (tmp_path / SNAPSHOT_NAME).write_text(text, encoding="utf-8")
    found = read_snapshot(tmp_path)
    assert found.cohort.warnings == WARNINGS
    assert [severity(one) for one in found.cohort.warnings] == ["note", "serious", "note"]
    assert serious_first(found.cohort.warnings)[0] == "do not pool these"
    assert snapshot_text(found.cohort, found.card, found.model_sha256) == text


def test_a_snapshot_of_an_earlier_version_is_read_as_notes(tmp_path: Path, text: str) -> None:
    document = json.loads(text)
    del document["serious"]
    (tmp_path / SNAPSHOT_NAME).write_text(json.dumps(document), encoding="utf-8")
    warnings = read_snapshot(tmp_path).cohort.warnings
    assert warnings == WARNINGS
    assert {severity(one) for one in warnings} == {"note"}


def test_a_damaged_snapshot_says_what_to_do(tmp_path: Path, text: str) -> None:
    document = json.loads(text)
    del document["people"]
    (tmp_path / SNAPSHOT_NAME).write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match="is damaged") as error:
        read_snapshot(tmp_path)
    assert "Run the same `segment` command again" in error.value.hint

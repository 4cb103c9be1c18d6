"""The tables of OUT beyond the CSV."""

from __future__ import annotations

import builtins
import io
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cardiometa.pipeline.merge import frame_parquet, segments_table
from cardiometa.pipeline.result_file import slim
from cardiometa.records import Flag, ScanKey, ScanResult

SEGMENT_VALUES = ("thickness_ed_mm", "thickening_percent", "radial_motion_mm")
FRAME = pd.DataFrame(
    {
        "trial": ["A", "A"],
        "participant_id": ["001", "+2"],
        "visit_day": [1.5, float("nan")],
        "flags": pd.Series([None, None], dtype=object),
        "ed_frame": pd.Series([0, None], dtype="Int64"),
        "randomised": pd.Series([True, None], dtype=object),
        "nyha_class": pd.Series([2, "III"], dtype=object),
        "nt_probnp": [125, None],
        "reported_lv_edv_ml": [150.25, float("nan")],
    }
)


def test_parquet_holds_the_types_of_the_dictionary() -> None:
    data = frame_parquet(FRAME)
    assert data is not None
    table = pq.read_table(io.BytesIO(data))
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "trial": "string",
        "participant_id": "string",
        "visit_day": "double",
        "flags": "string",
        "ed_frame": "int64",
        "randomised": "bool",
        "nyha_class": "string",
        "nt_probnp": "double",
        "reported_lv_edv_ml": "double",
    }
    assert table.to_pylist() == [
        {"trial": "A", "participant_id": "001", "visit_day": 1.5, "flags": None, "ed_frame": 0,
         "randomised": True, "nyha_class": "2", "nt_probnp": 125.0,
         "reported_lv_edv_ml": 150.25},
        {"trial": "A", "participant_id": "+2", "visit_day": None, "flags": None, "ed_frame": None,
         "randomised": None, "nyha_class": "III", "nt_probnp": None,
         "reported_lv_edv_ml": None},
    ]  # fmt: skip
    assert frame_parquet(FRAME) == data


def test_without_pyarrow_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lacking(name, *rest, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    assert frame_parquet(FRAME) is None


def test_a_slim_result_gives_the_same_tables_in_little_memory() -> None:
    document = {
        "model": {"id": "m", "sha256": "a"},
        "options": {"bsa_formula": "mosteller", "model_sha256": "a", "source_bytes": 12},
        "run": {"seconds": 1.5, "stages": {"read": 1.0}},
        "curves": {"lv_ml": [1.0] * 30},
        "outputs": {"overlay.png": "b"},
        "details": {"segments": {name: [1.5] * 16 for name in SEGMENT_VALUES}},
    }
    flag = Flag(code="few-phases", level="review", sentence="Few phases.")
    key = ScanKey(trial="A", participant="P", visit="baseline")
    whole = ScanResult(
        key=key,
        status="review",
        measures={"lv_edv_ml": 150.5},
        facts={"vendor": "GE"},
        flags=(flag,),
        document=document,
    )
    small = slim(whole)
    assert slim(small) == small
    assert len(segments_table([whole])) == 16
    assert segments_table([small]).equals(segments_table([whole]))
    same = ("key", "status", "measures", "facts", "flags")
    assert all(getattr(small, name) == getattr(whole, name) for name in same)
    assert small.document["run"] == document["run"]
    assert not {"curves", "outputs"} & set(small.document)
    other = slim(replace(whole, key=replace(key, participant="Q")))
    assert next(iter(other.measures)) is next(iter(small.measures))

"""Readers of tables: text and binary files, a cohort's rosters and scans, people, summaries."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from cardiometa.cohort.analysis_table import read_analysis_table
from cardiometa.cohort.load import draft_cohort
from cardiometa.cohort.models import CohortOptions, TableOptions
from cardiometa.cohort.read_table import read_any_table
from cardiometa.errors import CohortError, InputError
from cardiometa.pooling.aggregate_effects import read_summaries
from cardiometa.pooling.options import PoolingOptions
from cardiometa.pooling.pool import pool_trials
from cardiometa.reference.compare_published import published_limits
from cardiometa.reference.meta import is_summaries, summary_ranges, summary_rows
from cardiometa.reference.options import ReferenceOptions
from cardiometa.reference.ranges import reference_ranges
from tests.fuzz.mutate import of_bytes, of_table
from tests.fuzz.target import Target
from tests.kit.cohorts import cohort_folder, people, read_numbers, roster
from tests.kit.pooling_tables import simulate_wide
from tests.kit.reference_tables import people_frame


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


# ------------------------------------------------------------------ any table


def text_seeds() -> list[bytes]:
    rows = people(8, note='a "quoted", cell')
    semicolons = roster(people(5)).replace(",", ";")
    return [roster(rows).encode(), semicolons.encode(), _csv(simulate_wide(2, people=4))]


def read_text(data: bytes, folder: Path) -> None:
    path = folder / "table.csv"
    path.write_bytes(data)
    table = read_numbers(path, lambda name: "age" in name or "ef" in name)
    assert table.index.is_unique
    assert table.columns.is_unique


@cache
def _frame() -> pd.DataFrame:
    frame = pd.DataFrame(people(20))
    return frame.assign(born=1960.5, healthy=True)


def parquet_seeds() -> list[bytes]:
    return [_frame().to_parquet()]


def stata_seeds() -> list[bytes]:
    stream = io.BytesIO()
    _frame().to_stata(stream, write_index=False)
    return [stream.getvalue()]


def sas_seeds() -> list[bytes]:
    return [Path(__file__).parents[1].joinpath("cohort", "data", "roster.xpt").read_bytes()]


def read_binary(data: bytes, folder: Path, suffix: str) -> None:
    path = folder / f"table{suffix}"
    path.write_bytes(data)
    read_any_table(path)


# ------------------------------------------------------------------ a cohort's tables


@cache
def _cohort(folder: Path) -> Path:
    return cohort_folder(folder / "cohort", count=5)


def cohort_seed(name: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            return [(cohort_folder(Path(folder), count=5).parent / "ALPHA" / name).read_bytes()]

    return seeds


def read_cohort_table(data: bytes, folder: Path, name: str) -> None:
    """One table of a cohort changed, the rest sound: every problem is said, none is a fault."""
    toml = _cohort(folder)
    path = toml.parent / "ALPHA" / name
    whole = path.read_bytes()
    path.write_bytes(data)
    try:
        draft = draft_cohort(toml, CohortOptions())
        if draft.problems or draft.cohort is None:
            raise CohortError("The cohort cannot be used.", problems=draft.problems)
        people = draft.cohort.participants
        assert people["participant_id"].str.strip().ne("").all()
        assert not people.duplicated(["trial", "participant_id"]).any()
        ids = set(zip(people["trial"], people["participant_id"], strict=True))
        assert all((s.key.trial, s.key.participant) in ids for s in draft.cohort.scans)
    finally:
        path.write_bytes(whole)


# ------------------------------------------------------------------ the statistics


def reference_seeds() -> list[bytes]:
    return [_csv(people_frame(90))]


def read_reference(data: bytes, folder: Path) -> None:
    path = folder / "people.csv"
    path.write_bytes(data)
    table = read_analysis_table(path, TableOptions())
    options = ReferenceOptions(method="strata", limits="parametric", bootstrap=200, min_n=10)
    result = reference_ranges(table, options)
    for limit in result.rows:
        assert limit.limit is None or np.isfinite(limit.limit), "a limit that is no number"


def pool_seeds() -> list[bytes]:
    return [_csv(simulate_wide(3, people=16))]


def read_pooling(data: bytes, folder: Path) -> None:
    path = folder / "trials.csv"
    path.write_bytes(data)
    table = read_analysis_table(path, TableOptions(numeric=("lv_ef_baseline",)))
    options = PoolingOptions(outcome="lv_ef_percent", baseline_column="lv_ef_baseline", min_cell=1)
    for row in pool_trials(table, options).effects:
        assert row.estimate is None or np.isfinite(row.estimate), "an effect that is no number"


def summary_seeds() -> list[bytes]:
    rows = pd.DataFrame({"trial": list("ABC"), "estimate": [1.0, 2.0, 1.5], "se": [0.5, 0.6, 0.4]})
    wide = rows.drop(columns="se").assign(ci_low=[-0.1, 0.9, 0.8], ci_high=[2.1, 3.1, 2.2])
    return [_csv(rows), _csv(rows.assign(n=[40, 50, 60])), _csv(wide)]


def read_effects(data: bytes, folder: Path) -> None:
    path = folder / "effects.csv"
    path.write_bytes(data)
    raw = read_any_table(path)
    for study in read_summaries(raw, PoolingOptions(), name="effects.csv"):
        assert np.isfinite(study.estimate)
        assert study.se is None or study.se > 0
    with contextlib.suppress(InputError):
        read_summaries(raw, PoolingOptions(effect="odds-ratio"), name="effects.csv")


def cell_seeds() -> list[bytes]:
    rows = pd.DataFrame(
        {
            "trial": list("AABBCC"),
            "measure": "lv_edv_ml",
            "sex": ["male", "female"] * 3,
            "ethnicity": "all",
            "age_low": 18,
            "age_high": 80,
            "n": [60, 50, 80, 70, 90, 75],
            "mean": [160.0, 130.0, 165.0, 128.0, 158.0, 133.0],
            "sd": [30.0, 25.0, 28.0, 26.0, 31.0, 24.0],
        }
    )
    return [_csv(rows)]


def read_cells(data: bytes, folder: Path) -> None:
    path = folder / "cells.csv"
    path.write_bytes(data)
    raw = read_any_table(path)
    if is_summaries(str(column) for column in raw.columns):
        rows = summary_rows(raw, "cells.csv")
        summary_ranges(
            rows, ReferenceOptions(method="meta", healthy_only=False), name="cells", sha256="0" * 64
        )


def published_seeds() -> list[bytes]:
    text = (
        "measure,unit,sex,ethnicity,age_low,age_high,lower,upper,papillary,bsa_formula,source\n"
        "lv_edv_ml,mL,male,all,18,80,95,215,blood-pool,mosteller,a paper\n"
        "lv_edv_ml,mL,female,all,18,80,80,175,blood-pool,mosteller,a paper\n"
        "lv_ef_percent,%,male,white,18,80,52,72,blood-pool,,a paper\n"
    )
    return [text.encode()]


def read_published(data: bytes, folder: Path) -> None:
    path = folder / "published.csv"
    path.write_bytes(data)
    for row in published_limits(read_any_table(path), "published.csv"):
        assert row.lower is None or row.upper is None or row.lower < row.upper


TARGETS = (
    Target(name="csv", seeds=text_seeds, mutate=of_table, read=read_text),
    *(
        Target(
            name=name,
            seeds=seeds,
            mutate=of_bytes,
            read=partial(read_binary, suffix=suffix),
            sound=name != "sas7bdat",
        )
        for name, seeds, suffix in (
            ("parquet", parquet_seeds, ".parquet"),
            ("stata", stata_seeds, ".dta"),
            ("sas-xpt", sas_seeds, ".xpt"),
            ("sas7bdat", sas_seeds, ".sas7bdat"),
        )
    ),
    *(
        Target(
            name=f"cohort-{name}",
            seeds=cohort_seed(f"{name}.csv"),
            mutate=of_table,
            read=partial(read_cohort_table, name=f"{name}.csv"),
            slow=True,
        )
        for name in ("participants", "scans")
    ),
    Target(
        name="reference-table",
        seeds=reference_seeds,
        mutate=of_table,
        read=read_reference,
        slow=True,
    ),
    Target(name="pooling-table", seeds=pool_seeds, mutate=of_table, read=read_pooling, slow=True),
    Target(name="effects-table", seeds=summary_seeds, mutate=of_table, read=read_effects),
    Target(name="cells-table", seeds=cell_seeds, mutate=of_table, read=read_cells, slow=True),
    Target(name="published", seeds=published_seeds, mutate=of_table, read=read_published),
)

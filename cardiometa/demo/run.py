"""The demo from end to end: cohort, segment, ranges, effects, and one page that compares them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..cohort.models import CohortOptions, TableOptions
from ..commands.pool_trials import PooledEffect, PoolRequest, run_pool_trials
from ..commands.reference_ranges import ReferenceRequest, run_reference_ranges
from ..errors import UsageError
from ..files import RECORD_NAME, canonical_json, check_output, write_all, write_text
from ..manifest import FORMAT_VERSION, RunRecord, record_text, run_block
from ..pipeline.merge import frame_csv
from ..pipeline.options import SegmentOptions
from ..pipeline.segment import Watch, run_segment
from ..pooling.options import PoolingOptions
from ..records import SeriousWarning, Table
from ..reference.options import ReferenceOptions
from ..reports.page import Html, page_html, section, words
from ..segmentation.model import need_torch
from ..statistics.measurement_error import FORMAT, KEY, MeasureError, MeasurementError
from . import truth
from .cohort import TrueVolumes, write_cohort
from .truth import large_draw, synthetic_measurements, true_limits

OUTCOME = "lv_ef_percent"
RANGE_MEASURE = "lv_edvi_ml_m2"
TABLE_NAME = "synthetic_measurements.csv"
POOLED_REPORT = "pool-trials/report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A number that was found, and the true one."""

    what: str
    found: str
    truth: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOutcome:
    """How close the reports came to the truth."""

    comparisons: tuple[Comparison, ...]
    seconds: float


def run_demo(out: Path, *, seed: int, workers: int, say: Callable[[str], None]) -> DemoOutcome:
    """Make the cohort, run the three commands, write ``OUT/report.html``; about two minutes."""
    need_torch()
    options = {"seed": seed}
    # Another seed's phantoms have files of the same size: they must not share a folder.
    check_output(out, command="demo", options=options, overwrite=False)
    begun = time.monotonic()
    record = RunRecord(command="demo", format_version=FORMAT_VERSION, options=options, inputs={})
    write_text(out / RECORD_NAME, record_text(record))
    say("1/4 a synthetic cohort: phantoms of known volumes in DICOM and NIfTI")
    scans = dict(write_cohort(out / "cohort", seed))
    table = synthetic_measurements(seed)
    write_text(out / TABLE_NAME, frame_csv(table))
    say(f"2/4 segment: {len(scans)} scans")
    measurements = _segment(out, workers, say)
    say(f"3/4 reference-ranges on {TABLE_NAME}")
    limits = _ranges(out)
    say(f"4/4 pool-trials on {TABLE_NAME}")
    pooled = _effects(out, seed)
    comparisons = (*_volumes(scans, measurements), *_limit_lines(limits), *_effect_lines(pooled))
    reports = (
        ("Measurements of the imaged cohort", "segment/report.html"),
        ("Reference ranges", "reference-ranges/report.html"),
        ("Pooled treatment effect, from measurements and reported values", POOLED_REPORT),
    )
    write_text(out / "truth.json", canonical_json([asdict(c) for c in comparisons]))
    write_text(out / "report.html", _page(reports, comparisons, lessons(pooled)))
    seconds = time.monotonic() - begun
    write_text(out / RECORD_NAME, record_text(replace(record, run=run_block(seconds=seconds))))
    return DemoOutcome(comparisons=comparisons, seconds=seconds)


def _segment(out: Path, workers: int, say: Callable[[str], None]) -> pd.DataFrame:
    run_segment(
        out / "cohort" / "cohort.toml",
        out / "segment",
        CohortOptions(),
        SegmentOptions(workers=workers, overwrite=True),
        Watch(
            planned=lambda total, done: say(f"    {total} scans, {done} already done"),
            finished=lambda result: say(f"    {result.key}: {result.status}"),
        ),
    )
    return pd.read_csv(
        out / "segment" / "measurements.csv", dtype={"trial": str, "participant_id": str}
    )


def _ranges(out: Path) -> pd.DataFrame:
    folder = out / "reference-ranges"
    run_reference_ranges(
        ReferenceRequest(
            tables=(out / TABLE_NAME,), options=ReferenceOptions(), table_options=TableOptions()
        ),
        folder,
        overwrite=True,
    )
    return pd.read_csv(folder / "reference_ranges.csv", keep_default_na=False, na_values=[""])


def _effects(out: Path, seed: int) -> PooledEffect:
    """The effect from reported and measured values, corrected by an evaluation of the model."""
    measure = MeasureError(
        measure=OUTCOME, unit="%", scope="all hearts", lines=(truth.evaluated_hearts(seed),)
    )
    error = MeasurementError(
        format=FORMAT,
        source="evaluation",
        against="labels",
        cohort="synthetic",
        model_id=truth.MODEL_ID,
        model_sha256="",
        min_cell=10,
        trained_on="none",
        measures=(measure,),
    )
    path = out / "evaluation.json"
    write_text(path, canonical_json({KEY: error.document()}))
    options = PoolingOptions(outcome=OUTCOME, compare_reported=True)
    request = PoolRequest.of_rows(
        [out / TABLE_NAME], options, TableOptions(), error_model=str(path)
    )
    return run_pool_trials(request, out / "pool-trials", overwrite=True)


def write_examples(folder: Path) -> list[str]:
    """Write the worked examples and tutorials below ``folder``; the names of its entries.

    Raises UsageError where the folder is not empty.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder.name} already exists.", hint="Name a new or an empty folder.")
    package = Path(str(resources.files(__package__.partition(".")[0])))
    # In the wheel they are part of the package; in a checkout they are next to it.
    source = next(p for p in (package / "examples", package.parent / "examples") if p.is_dir())
    names = sorted(
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "wheels" not in path.parts and "__pycache__" not in path.parts
    )
    write_all(folder, {name: (source / name).read_bytes() for name in names})
    return sorted({name.partition("/")[0] for name in names})


# ------------------------------------------------------------------ what was found, what is true


def _volumes(
    scans: Mapping[tuple[str, str, str], TrueVolumes], measured: pd.DataFrame
) -> list[Comparison]:
    """Mean absolute error of EDV, EF and mass over the phantoms."""
    names = {"lv_edv_ml": "LV EDV, mL", "lv_ef_percent": "LV EF, points", "lv_mass_g": "LV mass, g"}
    rows = measured[measured["status"] != "failed"]
    keys = rows[["trial", "participant_id", "visit"]].itertuples(index=False, name=None)
    true = np.array([scans[key][: len(names)] for key in keys]).reshape(-1, len(names))
    errors = np.abs(rows[list(names)].to_numpy(dtype=float) - true).sum(axis=0)
    return [
        Comparison(
            what=f"{shown}: mean absolute error over {len(rows)} phantom scans",
            found=f"{error / max(len(rows), 1):.1f}",
            truth="0",
        )
        for shown, error in zip(names.values(), errors, strict=True)
    ]


def _limit_lines(limits: pd.DataFrame) -> list[Comparison]:
    """Limits of LV EDVi by sex, all ages and ethnicities together where there are such rows."""
    lines = []
    people = large_draw()
    wide = limits[
        (limits["measure"] == RANGE_MEASURE)
        & (limits["method"] == "strata")
        & (limits["ethnicity"] == "all")
        & limits["limit"].notna()
        & (limits["centile"] != 50)
    ]
    for sex in ("male", "female"):
        own = wide[wide["sex"] == sex]
        if own.empty:
            continue
        inside, total = 0, 0
        for row in own.to_dict("records"):
            age = (float(row["age_low"]), float(row["age_high"]))
            low, high = true_limits(people, RANGE_MEASURE, sex, age)
            target = low if float(row["centile"]) < 50 else high
            total += 1
            inside += float(row["ci_low"]) <= target <= float(row["ci_high"])
        lines.append(
            Comparison(
                what=f"{RANGE_MEASURE}, {sex}, by age band: 90 % intervals that contain the truth",
                found=f"{inside} of {total}",
                truth=f"{0.9 * total:.0f} expected",
            )
        )
    return lines


def _effect_lines(pooled: PooledEffect) -> list[Comparison]:
    """Each quantity as reported, after ComBat and measured anew, with its true value."""
    sources = {
        "reported": "as reported",
        "combat": "reported, after ComBat",
        "harmonised": "measured anew by one model",
    }
    rows = pooled.table("compare_reported").set_index("quantity")
    effects = _headlines(pooled).set_index("source")
    columns = ["estimate", "ci_low", "ci_high"]
    estimate, interval = "{:.2f}", "{:.2f} ({:.2f} to {:.2f})"
    combat = rows.loc["pooled effect", "combat"]
    lines = {
        f"pooled effect, {shown}": (
            estimate.format(combat)  # its interval would be of the bootstrap, not of the model
            if source == "combat"
            else interval.format(*effects.loc[source, columns]),
            truth.MEAN_EFFECT_EF_POINTS,
        )
        for source, shown in sources.items()
    }
    corrected = _corrected(pooled)[columns]
    name = "pooled effect, measured anew and corrected for the model's error"
    lines[name] = (interval.format(*corrected), truth.MEAN_EFFECT_EF_POINTS)
    for quantity, (name, true) in {
        "tau": ("SD of the trials' effects (τ)", truth.effect_sd()),
        "residual SD": (
            f"residual SD (truth: of hearts without error; measured anew x {truth.MODEL_SLOPE:g})",
            truth.RESIDUAL_SD_EF_POINTS,
        ),
    }.items():
        for source, shown in sources.items():
            found = (rows.loc[quantity, f"{source}{end}"] for end in ("", "_low", "_high"))
            lines[f"{name}, {shown}"] = interval.format(*found), true
    return [
        Comparison(what=f"LV EF, points: {what}", found=found, truth=f"{true:.3g}")
        for what, (found, true) in lines.items()
    ]


def _headlines(pooled: PooledEffect) -> pd.DataFrame:
    """The headline of each source."""
    effects = pooled.table("effects")
    chosen = effects["headline"] & (effects["analysis"] == "pooled")
    return effects[chosen & (effects["model"] == "two-stage")]


def _corrected(pooled: PooledEffect) -> Any:
    rows = pooled.table("error_adjusted")
    return rows[rows["quantity"] == "effect corrected for scale"].iloc[0]


def lessons(pooled: PooledEffect) -> str:
    """What the numbers teach, one paragraph each."""
    headline = _headlines(pooled)
    compared: Any = pooled.table("compare_reported").set_index("quantity")
    found: dict[str, dict[str, str]] = {}
    for source in ("harmonised", "reported"):
        row: Any = headline[headline["source"] == source].iloc[0]
        tau, low, high = (compared.loc["tau", f"{source}{end}"] for end in ("", "_low", "_high"))
        found[source] = {
            "effect": f"{row['estimate']:.2f}",
            "width": f"{row['ci_high'] - row['ci_low']:.2f}",
            "tau": f"{tau:.2f}",
            "tau_interval": f"{low:.2f} to {high:.2f}",
        }
    slopes: Any = pooled.table("error_adjusted").set_index("quantity")
    slope = float(slopes.loc["slope", "estimate"])
    # On the readers' scale: a model that reads less of a difference has less of its spread, too.
    residual = compared.loc["residual SD", "harmonised"] / slope
    reported = compared.loc["residual SD", "reported"]
    return words(
        "demo",
        "lessons",
        stretched=", ".join(f"{t.name} {t.esv_factor / t.edv_factor:.2f}" for t in truth.TRIALS),
        measured=found["harmonised"],
        reported=found["reported"],
        true_tau=f"{truth.effect_sd():.2f}",
        true_residual=f"{truth.RESIDUAL_SD_EF_POINTS:g}",
        more=f"{(reported / residual) ** 2 - 1:.0%}",
        residual={"measured": f"{residual:.2f}", "reported": f"{reported:.2f}"},
        corrected=f"{_corrected(pooled)['estimate']:.2f}",
        slope=f"{slope:.2f}",
        true_slope=f"{truth.MODEL_SLOPE:g}",
        true_effect=f"{truth.MEAN_EFFECT_EF_POINTS:g}",
        hearts=truth.EVALUATED_HEARTS,
    )


def _page(
    reports: tuple[tuple[str, str], ...],
    comparisons: tuple[Comparison, ...],
    taught: str,
) -> str:
    links = "".join(f'<li><a href="{path}">{title}</a></li>' for title, path in reports)
    return page_html(
        "cardiometa demo",
        "A synthetic cohort with known truth",
        [
            section("Reports", "reports", Html(f"<ul>{links}</ul>")),
            section(
                "Results and true values",
                "truth",
                Table(
                    title="Results and true values",
                    columns=("Quantity", "Found", "Truth"),
                    rows=tuple((c.what, c.found, c.truth) for c in comparisons),
                    caption="Phantoms are simpler than hearts: these errors show that the "
                    "pipeline works, not how accurate the model is in patients.",
                ),
                f"The trials' reported values contain each core lab's own factors, both in "
                f"{TABLE_NAME} and in the cohort's tables.",
                [
                    f"{t.name}: true effect {t.effect_ef_points:g} points; reported EDV "
                    f"x {t.edv_factor:g}, ESV x {t.esv_factor:g}"
                    for t in truth.TRIALS
                ],
            ),
            section("What the numbers teach", "lessons", taught),
        ],
        warnings=[
            SeriousWarning("Synthetic: no image and no number on these pages comes from a person.")
        ],
    )

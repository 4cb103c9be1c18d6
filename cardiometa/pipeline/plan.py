"""What a run of ``segment`` has to do: its jobs, what OUT contains of them, the masks to check."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import Problem, UsageError
from ..imaging.source_state import source_state
from ..records import BodySize, ScanKey, ScanResult
from .options import SegmentOptions
from .process_scan import ScanJob
from .result_file import read_finished, shown_scans, slim
from .results_store import base_options, edited_by_hand, is_corrected, recorded_model, stored_model
from .source_changed import same_images

if TYPE_CHECKING:
    from ..cohort.models import Cohort, CohortScan
    from ..reading.label_file import ScanGrid
    from ..segmentation.model import Model
    from .corrections import Correction


_In = TypeVar("_In")
_Out = TypeVar("_Out")
_QUESTIONS = 8  # to the file system at once


def bodies_of(cohort: Cohort) -> dict[tuple[str, str], BodySize]:
    """Height and weight by trial and participant."""

    def number(value: Any) -> float | None:
        return None if value is None or not math.isfinite(float(value)) else float(value)

    people = cohort.participants
    if not {"height_cm", "weight_kg"} <= set(people.columns):
        return {}
    columns = zip(
        people["trial"],
        people["participant_id"],
        people["height_cm"].astype("float64"),
        people["weight_kg"].astype("float64"),
        strict=True,
    )
    return {
        (str(t), str(p)): BodySize(height_cm=number(h), weight_kg=number(w))
        for t, p, h, w in columns
    }


def _job(
    scan: CohortScan,
    body: BodySize,
    options: SegmentOptions,
    model: Model,
    correction: Correction | None,
) -> ScanJob:
    state = source_state(scan.source)
    # Named only where there is one: a scan without is the same as before there were any.
    dressing = {"correction_sha256": correction.sha256} if correction else {}
    if options.dicom_seg is not None:
        dressing["dicom_seg"] = options.dicom_seg
    return ScanJob(
        key=scan.key,
        source=scan.source,
        body=body,
        series_regex=options.series_regex,
        correction=correction,
        options={
            **dressing,
            "bsa_formula": options.bsa_formula,
            "frames": options.frames,
            "series_regex": options.series_regex,
            "model_sha256": model.sha256,
            "height_cm": body.height_cm,
            "weight_kg": body.weight_kg,
            "source_files": state.files,
            "source_bytes": state.size,
        },
        source_stat=state.stat_sha256,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What OUT has: results as asked for, scans to put back to the model's own, jobs to run."""

    done: Sequence[ScanResult]
    back: Sequence[ScanJob]
    left: Sequence[ScanJob]


def jobs_of(
    cohort: Cohort,
    options: SegmentOptions,
    model: Model,
    corrections: Mapping[ScanKey, Correction],
) -> list[ScanJob]:
    """One job a scan of this run's shard, in the cohort's order."""
    bodies = bodies_of(cohort)
    shard = options.shard

    def job(scan: CohortScan) -> ScanJob:
        body = bodies.get((scan.key.trial, scan.key.participant), BodySize())
        return _job(scan, body, options, model, corrections.get(scan.key))

    return _side_by_side(job, [s for s in cohort.scans if shard is None or shard.has(s.key)])


def _side_by_side(function: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    """The function over all items: shared storage answers many questions as fast as one."""
    with ThreadPoolExecutor(_QUESTIONS) as pool:
        return list(pool.map(function, items))


def plan_of(out: Path, jobs: Sequence[ScanJob], options: SegmentOptions) -> Plan:
    """Sort the jobs by what OUT contains of them; nothing is written."""
    if options.restart or not (out / "scans").exists():
        return Plan(done=(), back=(), left=jobs)
    found = _side_by_side(lambda job: _state_of(out, job, options), jobs)
    return Plan(
        done=[state for state in found if isinstance(state, ScanResult)],
        back=[job for job, way in (s for s in found if isinstance(s, tuple)) if way == "back"],
        left=[job for job, way in (s for s in found if isinstance(s, tuple)) if way == "left"],
    )


def _state_of(
    out: Path, planned: ScanJob, options: SegmentOptions
) -> ScanResult | tuple[ScanJob, str]:
    """The result where the scan is done; else its job, and whether it goes back or is left."""
    job = _by_its_model(out, planned) if options.allow_mixed_models else planned
    result = read_finished(out, job.key, job.options, timeout_s=options.timeout_s)
    if result is not None:
        if same_images(out, job, result.document, write=not options.dry_run):
            return slim(result)
        return planned, "left"
    stored = stored_model(out, job.key, job.options)
    if stored is None:
        return planned, "left"
    if job.options == base_options(job.options):
        same = same_images(out, job, stored.document, write=False)
        return (replace(job, stored=stored), "back") if same else (planned, "left")
    return replace(job, stored=stored), "left"


def _by_its_model(out: Path, job: ScanJob) -> ScanJob:
    """The job as OUT's own model would have done it, where another one did."""
    model = recorded_model(out, job.key)
    return job if model is None else replace(job, options={**job.options, "model_sha256": model})


def corrections_of(
    out: Path, cohort: Cohort, options: SegmentOptions
) -> tuple[dict[ScanKey, Correction], list[Problem]]:
    """The mended masks of a run and what is wrong with their layout; raises UsageError."""
    from .corrections import find_corrections

    keys = [scan.key for scan in cohort.scans]
    if options.corrections is not None:
        return find_corrections(options.corrections, out, keys)
    count = sum(is_corrected(out, key) for key in keys) if out.exists() else 0
    if count and not (options.overwrite or options.restart):
        raise UsageError(
            f"{shown_scans(count)} of {out.name} measured on a reader's mask, and --corrections "
            "is not given.",
            hint="Give the folder again; or say --overwrite to have the model's own results.",
        )
    return {}, []


def check_masks(out: Path, plan: Plan, options: SegmentOptions, problems: list[Problem]) -> None:
    """Raise InputError with every problem of every mended mask that is not yet taken."""
    from ..imaging.read import ReadOptions, scan_grid
    from ..reading.label_file import ScanGrid, grid_of_mask
    from .corrections import check_corrections, refuse

    jobs = {job.key: job for job in plan.left if job.correction is not None}

    def grid_of(key: ScanKey) -> ScanGrid:
        job = jobs[key]
        if job.stored is not None:
            return grid_of_mask(job.stored.segmentation.read_bytes())
        shape, affine = scan_grid(job.source, ReadOptions(series_regex=job.series_regex))
        phases = shape[0] if options.frames == "all" else 2
        return ScanGrid(shape=(phases, *shape[1:]), affine=affine)

    found = check_corrections([j.correction for j in jobs.values() if j.correction], grid_of)
    if not options.restart:
        undone = [job.key for job in (*plan.back, *plan.left)]
        found += [p for p in (edited_by_hand(out, key) for key in undone) if p is not None]
    refuse([*problems, *found])

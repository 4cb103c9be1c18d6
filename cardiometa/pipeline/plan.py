"""What a run of ``segment`` has to do: its jobs, what OUT has of them, the masks to check."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import Problem, UsageError
from ..imaging.discovery import source_state
from ..imaging.read import ReadOptions, scan_grid
from ..reading.label_file import ScanGrid, grid_of_mask
from ..records import BodySize, ScanKey, ScanResult
from .corrections import check_corrections, find_corrections, refuse
from .jobs import POSTPROCESSING_OPTIONS, Correction, ScanJob
from .options import SegmentOptions
from .result_file import (
    SEGMENTATION_NAME,
    correction_folder,
    edited_in_output,
    is_corrected,
    read_finished,
    same_images,
    scan_folder,
    shown_scans,
    slim,
)

if TYPE_CHECKING:
    from ..cohort.models import Cohort, CohortScan


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What OUT has: finished results, jobs to run, scans whose correction is no longer given."""

    done: Sequence[ScanResult]
    left: Sequence[ScanJob]
    uncorrected: Sequence[ScanKey] = ()


def jobs_of(
    cohort: Cohort,
    options: SegmentOptions,
    model_sha256: str,
    corrections: Mapping[ScanKey, Correction],
) -> list[ScanJob]:
    """One job per scan of this run's shard, in the cohort's order."""
    bodies = bodies_of(cohort)
    shard = options.shard

    def job(scan: CohortScan) -> ScanJob:
        body = bodies.get((scan.key.trial, scan.key.participant), BodySize())
        state = source_state(scan.source)
        correction = corrections.get(scan.key)
        # Named only where there is one: a scan without has the same options as without the feature.
        extra = {"correction_sha256": correction.sha256} if correction else {}
        if options.dicom_seg is not None:
            extra["dicom_seg"] = options.dicom_seg
        return ScanJob(
            key=scan.key,
            source=scan.source,
            body=body,
            series_regex=options.series_regex,
            correction=correction,
            options={
                **extra,
                "bsa_formula": options.bsa_formula,
                "frames": options.frames,
                "series_regex": options.series_regex,
                "model_sha256": model_sha256,
                "height_cm": body.height_cm,
                "weight_kg": body.weight_kg,
                "source_files": state.files,
                "source_bytes": state.size,
            },
            source_stat=state.stat_sha256,
        )

    return _concurrently(job, [s for s in cohort.scans if shard is None or shard.has(s.key)])


def _concurrently(function: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
    """The function over all items: shared storage answers many questions as fast as one."""
    with ThreadPoolExecutor(_QUESTIONS) as pool:
        return list(pool.map(function, items))


def plan_of(out: Path, jobs: Sequence[ScanJob], options: SegmentOptions) -> Plan:
    """Sort the jobs by what OUT has of them; nothing is written but new times of same images."""
    if options.restart or not (out / "scans").exists():
        return Plan(done=(), left=jobs)
    found = _concurrently(lambda job: _state_of(out, job, options), jobs)
    given = {job.key for job in jobs if job.correction is not None}
    done = [state for state in found if isinstance(state, ScanResult)]
    return Plan(
        done=done,
        left=[state for state in found if isinstance(state, ScanJob)],
        uncorrected=[r.key for r in done if r.key not in given and is_corrected(out, r.key)],
    )


def _state_of(out: Path, planned: ScanJob, options: SegmentOptions) -> ScanResult | ScanJob:
    """The result where the scan is done, else its job."""
    job, limit = planned, options.timeout_s
    own = read_finished(scan_folder(out, job.key), job.key, timeout_s=limit)
    if own is None:
        return planned
    recorded = own.document["options"]
    if options.allow_mixed_models and isinstance(recorded.get("model_sha256"), str):
        # As the output's own model would have done it, where another one did.
        job = replace(job, options={**job.options, "model_sha256": recorded["model_sha256"]})
    base = {k: v for k, v in recorded.items() if k not in POSTPROCESSING_OPTIONS}
    if base != job.base_options or not same_images(
        out, job, own.document, write=not options.dry_run
    ):
        return planned
    measured = SEGMENTATION_NAME in own.document["outputs"]
    if recorded != job.model_options:
        return replace(job, stored=True) if measured else planned
    if job.correction is None or not measured:
        return slim(own)
    corrected = read_finished(correction_folder(out, job.key), job.key, timeout_s=limit)
    if corrected is not None and corrected.document["options"] == job.options:
        return slim(corrected)
    return replace(job, stored=True)


def corrections_of(
    out: Path, cohort: Cohort, options: SegmentOptions
) -> tuple[dict[ScanKey, Correction], list[Problem]]:
    """The corrected masks of a run and the problems of their layout; raises UsageError."""
    keys = [scan.key for scan in cohort.scans]
    if options.corrections is not None:
        return find_corrections(options.corrections, out, keys, options.reader)
    count = sum(is_corrected(out, key) for key in keys) if out.exists() else 0
    if count and not (options.overwrite or options.restart):
        raise UsageError(
            f"{shown_scans(count)} of {out.name} corrected or decided on by a reader, and "
            "--corrections is not given.",
            hint="Give the folder again; or say --overwrite to have the model's own results.",
        )
    return {}, []


def check_masks(out: Path, plan: Plan, options: SegmentOptions, problems: list[Problem]) -> None:
    """Raise InputError with every problem of every corrected mask that is not yet taken."""
    jobs = {job.key: job for job in plan.left if job.correction is not None}

    def grid_of(key: ScanKey) -> ScanGrid:
        job = jobs[key]
        if job.stored:
            return grid_of_mask((scan_folder(out, key) / SEGMENTATION_NAME).read_bytes())
        shape, affine = scan_grid(job.source, ReadOptions(series_regex=job.series_regex))
        phases = shape[0] if options.frames == "all" else 2
        return ScanGrid(shape=(phases, *shape[1:]), affine=affine)

    found = check_corrections([j.correction for j in jobs.values() if j.correction], grid_of)
    if not options.restart:
        for key in (*plan.uncorrected, *(job.key for job in plan.left)):
            found += edited_in_output(out, key)
    refuse([*problems, *found])

"""What a run of ``segment`` has to do: its jobs, what OUT has of them, the masks to check."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ImageError, Problem, UsageError
from ..imaging.discovery import source_state
from ..imaging.read import ReadOptions, scan_grid
from ..reading.label_file import ScanGrid, grid_of_mask
from ..records import BodySize, ScanKey, ScanResult
from .corrections import check_corrections, find_corrections, refuse
from .jobs import POSTPROCESSING_OPTIONS, Correction, ScanJob, available_cores
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
        corrected = {"correction_sha256": correction.sha256} if correction else {}
        return ScanJob(
            key=scan.key,
            source=scan.source,
            body=body,
            series_regex=options.series_regex,
            correction=correction,
            options={
                **corrected,
                **options.extra,
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
    # What decides what the model makes of the scan.
    base, wanted = (
        {k: v for k, v in given.items() if k not in POSTPROCESSING_OPTIONS}
        for given in (recorded, job.options)
    )
    if base != wanted or not same_images(out, job, own.document, write=not options.dry_run):
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


# ------------------------------------------------------------------ what it will take

# As measured for examples/scale.md: a study of 240 images on one core without a GPU.
_SECONDS_PER_IMAGE = 8.0 / 240
_BYTES_PER_SCAN = 627_000
_START_S = 4.0
_SAMPLE = 20  # scans whose headers, or results, are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the scans of a plan that are left will take.

    ``images`` are slices times phases, by the headers of a sample; ``seconds`` of wall time on
    ``cores``; ``measured`` counts finished scans of this output whose times and sizes were used
    (0: the rates of examples/scale.md). ``free_bytes`` is what the disk of OUT has.
    """

    scans: int
    images: int
    cores: int
    seconds: float
    disk_bytes: int
    free_bytes: int
    measured: int


def estimate(out: Path, plan: Plan, options: SegmentOptions) -> Estimate:
    """Time and disk space of what is left, from the headers of a few scans and finished ones."""
    scans = [job for job in plan.left if not job.stored]

    def count(job: ScanJob) -> int:
        """Slices times phases of a scan, by its headers; 0 where they cannot be read."""
        try:
            shape, _ = scan_grid(job.source, ReadOptions(series_regex=job.series_regex))
        except ImageError:
            return 0
        return shape[0] * shape[1]

    read = [n for n in _concurrently(count, _spread(scans)) if n]
    images = round(len(scans) * sum(read) / len(read)) if read else 0
    per_image, per_scan, measured = _SECONDS_PER_IMAGE, float(_BYTES_PER_SCAN), 0
    known = [result for result in plan.done if _work_of(result)]
    if known:
        seconds, counted = (sum(n) for n in zip(*map(_work_of, known), strict=True))
        folders = [scan_folder(out, result.key) for result in _spread(known)]
        sizes = [sum(f.stat().st_size for f in one.rglob("*") if f.is_file()) for one in folders]
        per_image, per_scan = seconds / counted, sum(sizes) / len(sizes)
        measured = len(known)
    cores = max(1, min(options.workers or available_cores(), len(scans)))
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    return Estimate(
        scans=len(scans),
        images=images,
        cores=cores,
        seconds=_START_S + images * per_image / cores,
        disk_bytes=round(per_scan * len(scans)),
        free_bytes=shutil.disk_usage(there).free,
        measured=measured,
    )


def _spread(items: Sequence[_In]) -> Sequence[_In]:
    """At most `_SAMPLE` of the items, evenly spaced: trials differ, and follow each other."""
    return items[:: max(1, math.ceil(len(items) / _SAMPLE))]


def _work_of(result: ScanResult) -> tuple[float, int] | None:
    """Seconds and images of a finished scan; None where its record has no times."""
    measures, run = result.measures, result.document.get("run", {})
    images = int((measures.get("frames") or 0) * (measures.get("slices") or 0))
    seconds = sum(run.get("stages", {}).values())
    return (seconds, images) if images and seconds else None

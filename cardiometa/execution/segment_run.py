"""``cardiometa segment``: a cohort in, OUT with measurements, masks, accounts and a page."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CohortError, Problem, UsageError
from ..files import RECORD_NAME, check_output, read_json, remove_leftovers, write_text
from ..provenance import FORMAT_VERSION, record_text, run_block
from ..records import BodySize, RunRecord, ScanKey, ScanResult, ScanSource
from .one_scan import ScanJob
from .scan_record import read_finished, shown_scans
from .stored import (
    base_options,
    edited_by_hand,
    is_corrected,
    recorded_model,
    restore,
    stored_model,
)

if TYPE_CHECKING:
    from ..cohort.records import Cohort, CohortOptions, CohortScan
    from ..segmentation.model import Model
    from ..segmentation.predict import TorchPredictor
    from .corrections import Correction
    from .label_file import ScanGrid

BSA_FORMULAS = ("mosteller", "dubois")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOptions:
    """Options of a run; those up to ``dicom_seg`` matter to the result.

    ``dicom_seg``: None, or whose identity the objects carry, ``scrub`` or ``keep``.
    """

    bsa_formula: str = "mosteller"
    model: Path | None = None
    series_regex: str | None = None
    corrections: Path | None = None
    dicom_seg: str | None = None
    device: str = "auto"
    batch: int = 0
    workers: int = 0
    overwrite: bool = False
    restart: bool = False
    allow_mixed_models: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOutcome:
    """What a run did: counts for the print-out, the account, where the time went."""

    scans: int
    already_done: int
    ok: int
    review: int
    failed: int
    flow: Mapping[str, Any]
    corrected: int = 0
    notes: Sequence[str]
    warnings: Sequence[str]
    seconds: float
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a run tells its caller while it goes on."""

    planned: Callable[[int, int], None]
    finished: Callable[[ScanResult], None]


def source_size(source: ScanSource) -> tuple[int, int]:
    """Number and bytes of a source's files: a cheap sign that images were added or changed."""
    files = [
        path
        for top in source.paths
        for path in ([top] if top.is_file() else sorted(top.rglob("*")))
        if path.is_file()
    ]
    return len(files), sum(path.stat().st_size for path in files)


def _body(cohort: Cohort) -> dict[tuple[str, str], BodySize]:
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
    count, size = source_size(scan.source)
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
            "frames": "all",
            "series_regex": options.series_regex,
            "model_sha256": model.sha256,
            "height_cm": body.height_cm,
            "weight_kg": body.weight_kg,
            "source_files": count,
            "source_bytes": size,
        },
    )


def _result_options(cohort: Cohort, options: SegmentOptions, model: Model) -> dict[str, Any]:
    values: dict[str, Any] = {
        "cohort": cohort.name,
        "bsa": options.bsa_formula,
        "frames": "all",
        "series_regex": options.series_regex,
    }
    if not options.allow_mixed_models:
        values["model_sha256"] = model.sha256
    if options.dicom_seg is not None:
        values["dicom_seg"] = options.dicom_seg
    return values


def _check_output(out: Path, cohort: Cohort, options: SegmentOptions, model: Model) -> None:
    """Refuse an OUT that is not this run's; nothing is written."""
    wanted = _result_options(cohort, options, model)
    record_path = out / RECORD_NAME
    if options.allow_mixed_models and record_path.exists():
        # The model may differ; everything else must not.
        found = read_json(record_path).get("options", {})
        wanted = {**wanted, **{k: v for k, v in found.items() if k == "model_sha256"}}
    check_output(out, command="segment", options=wanted, overwrite=options.overwrite)


def _record(
    cohort: Cohort,
    options: SegmentOptions,
    model: Model,
    corrections: Mapping[ScanKey, Correction],
    run: Mapping[str, Any],
) -> RunRecord:
    return RunRecord(
        command="segment",
        format_version=FORMAT_VERSION,
        options=_result_options(cohort, options, model),
        inputs={
            **cohort.input_sha256,
            **{f"correction {key}": one.sha256 for key, one in sorted(corrections.items())},
        },
        model={"id": model.card.model_id, "sha256": model.sha256},
        run=run,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What OUT has: results as asked for, scans to put back to the model's own, jobs to run."""

    done: Sequence[ScanResult]
    back: Sequence[ScanJob]
    left: Sequence[ScanJob]


def _plan(out: Path, jobs: Sequence[ScanJob], options: SegmentOptions) -> _Plan:
    if options.restart or not out.exists():
        return _Plan(done=(), back=(), left=jobs)
    done, back, left = [], [], []
    for planned in jobs:
        job = _by_its_model(out, planned) if options.allow_mixed_models else planned
        result = read_finished(out, job.key, job.options)
        if result is not None:
            done.append(result)
            continue
        stored = stored_model(out, job.key, job.options)
        if stored is None:
            left.append(planned)
        elif job.options == base_options(job.options):
            back.append(replace(job, stored=stored))
        else:
            left.append(replace(job, stored=stored))
    return _Plan(done=done, back=back, left=left)


def _by_its_model(out: Path, job: ScanJob) -> ScanJob:
    """The job as OUT's own model would have done it, where another one did."""
    model = recorded_model(out, job.key)
    return job if model is None else replace(job, options={**job.options, "model_sha256": model})


def _corrections(
    out: Path, cohort: Cohort, options: SegmentOptions
) -> tuple[dict[ScanKey, Correction], list[Problem]]:
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


def _check_masks(out: Path, plan: _Plan, options: SegmentOptions, problems: list[Problem]) -> None:
    """Raise InputError with every problem of every mended mask that is not yet taken."""
    from ..imaging.read import ReadOptions, scan_grid
    from .corrections import check_corrections, refuse
    from .label_file import ScanGrid, grid_of_mask

    jobs = {job.key: job for job in plan.left if job.correction is not None}

    def grid_of(key: ScanKey) -> ScanGrid:
        job = jobs[key]
        if job.stored is not None:
            return grid_of_mask(job.stored.segmentation.read_bytes())
        shape, affine = scan_grid(job.source, ReadOptions(series_regex=job.series_regex))
        return ScanGrid(shape=shape, affine=affine)

    found = check_corrections([j.correction for j in jobs.values() if j.correction], grid_of)
    if not options.restart:
        undone = [job.key for job in (*plan.back, *plan.left)]
        found += [p for p in (edited_by_hand(out, key) for key in undone) if p is not None]
    refuse([*problems, *found])


def run_segment(
    cohort_path: Path,
    out: Path,
    cohort_options: CohortOptions,
    options: SegmentOptions,
    watch: Watch,
) -> SegmentOutcome:
    """Run the whole command; errors are those of `errors`, nothing is written before the checks."""
    from ..cohort.load import load_cohort
    from ..segmentation.model import load_model
    from .gather import gather

    begun = time.monotonic()
    if options.bsa_formula not in BSA_FORMULAS:
        raise UsageError(
            f"--bsa {options.bsa_formula} is unknown.", hint=f"Use {' or '.join(BSA_FORMULAS)}."
        )
    if options.dicom_seg is not None:
        from ..imaging.dicom_seg import need_highdicom

        need_highdicom()
    model = load_model(options.model)
    cohort = load_cohort(cohort_path, cohort_options)
    if not cohort.scans:
        raise CohortError(
            "The cohort holds no scan.",
            hint="Give a cohort.toml, a folder trial/participant/visit/images, or one scan.",
        )
    _check_output(out, cohort, options, model)
    corrections, problems = _corrections(out, cohort, options)
    bodies = _body(cohort)
    jobs = [
        _job(
            s,
            bodies.get((s.key.trial, s.key.participant), BodySize()),
            options,
            model,
            corrections.get(s.key),
        )
        for s in cohort.scans
    ]
    plan = _plan(out, jobs, options)
    _check_masks(out, plan, options, problems)
    watch.planned(len(jobs), len(plan.done))
    if options.dry_run:
        return SegmentOutcome(
            scans=len(jobs),
            already_done=len(plan.done),
            ok=0,
            review=0,
            failed=0,
            flow={},
            notes=cohort.notes,
            warnings=cohort.warnings,
            seconds=time.monotonic() - begun,
        )
    if out.exists():
        remove_leftovers(out)
    record = partial(_record, cohort, options, model, corrections)
    write_text(out / RECORD_NAME, record_text(record({"state": "running"})))
    back = [restore(out, job.key, job.stored) for job in plan.back if job.stored is not None]
    for result in back:
        watch.finished(result)
    fresh = _process(out, plan.left, options, model, watch)
    results = sorted([*plan.done, *back, *fresh], key=lambda result: result.key)
    tables = gather(out, cohort, results, model)
    seconds = time.monotonic() - begun
    stages = _stages(fresh)
    run = run_block(
        state="complete",
        seconds=seconds,
        new_scans=len(fresh),
        stages=stages,
        models=_models(results),
    )
    write_text(out / RECORD_NAME, record_text(record(run)))
    counts = {s: sum(r.status == s for r in tables.results) for s in ("ok", "review", "failed")}
    return SegmentOutcome(
        scans=len(jobs),
        already_done=len(plan.done),
        corrected=sum(_is_corrected(result) for result in tables.results),
        flow=tables.flow,
        notes=[
            *cohort.notes,
            *_correction_notes(corrections, tables.results, back),
            *_seg_notes(tables.results, options),
        ],
        warnings=cohort.warnings,
        seconds=seconds,
        stages=stages,
        **counts,
    )


def _is_corrected(result: ScanResult) -> bool:
    from .mend import CORRECTED

    return any(flag.code == CORRECTED for flag in result.flags)


def _models(results: Sequence[ScanResult]) -> list[str]:
    """The hashes of the models that the scans of OUT were segmented with."""
    known = {result.document.get("model", {}).get("sha256") for result in results}
    return sorted(str(digest) for digest in known if digest)


def _seg_notes(results: Sequence[ScanResult], options: SegmentOptions) -> list[str]:
    if options.dicom_seg is None:
        return []
    from .dicom_out import seg_notes

    return seg_notes(results)


def _correction_notes(
    corrections: Mapping[ScanKey, Correction],
    results: Sequence[ScanResult],
    back: Sequence[ScanResult],
) -> list[str]:
    notes = []
    if corrections:
        taken = sum(_is_corrected(result) for result in results)
        same = len(corrections) - taken
        notes.append(
            f"corrections: {shown_scans(taken)} measured on a reader's mask"
            + (f", {same} with a mask that equals the model's in every voxel" if same else "")
        )
    if back:
        notes.append(f"corrections: {shown_scans(len(back))} back to the model's own results")
    return notes


def _process(
    out: Path,
    jobs: Sequence[ScanJob],
    options: SegmentOptions,
    model: Model,
    watch: Watch,
) -> list[ScanResult]:
    if not jobs:
        return []
    from .one_scan import Network
    from .pipeline import Pipeline, available_cores

    workers = options.workers or available_cores()
    loaded: list[TorchPredictor] = []
    lock = threading.Lock()

    def predictor() -> TorchPredictor:
        with lock:
            if not loaded:
                loaded.append(
                    model.predictor(device=options.device, batch=options.batch, workers=workers)
                )
            return loaded[0]

    try:
        if any(job.stored is None for job in jobs):
            predictor()  # what is wrong with device or weights is told before any scan
        network = Network(open=predictor, card=model.card, sha256=model.sha256)
        return Pipeline(out, network, workers=workers).run(jobs, watch.finished)
    finally:
        for one in loaded:
            one.close()


def _stages(results: Sequence[ScanResult]) -> dict[str, float]:
    """Seconds by stage, summed over the scans of this run (stages overlap)."""
    total: dict[str, float] = {}
    for result in results:
        for name, seconds in result.document.get("run", {}).get("stages", {}).items():
            total[name] = total.get(name, 0.0) + float(seconds)
    return total

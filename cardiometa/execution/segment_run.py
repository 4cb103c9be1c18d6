"""``cardiometa segment``: a cohort in, OUT with measurements, masks, accounts and a page."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CohortError, UsageError
from ..files import RECORD_NAME, check_output, read_json, remove_leftovers, write_text
from ..provenance import FORMAT_VERSION, record_text, run_block
from ..records import BodySize, RunRecord, ScanResult, ScanSource
from .one_scan import ScanJob
from .scan_record import read_finished

if TYPE_CHECKING:
    from ..cohort.records import Cohort, CohortOptions, CohortScan
    from ..segmentation.model import Model

BSA_FORMULAS = ("mosteller", "dubois")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentOptions:
    """Options of a run; those up to ``series_regex`` matter to the result."""

    bsa_formula: str = "mosteller"
    model: Path | None = None
    series_regex: str | None = None
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


def _job(scan: CohortScan, body: BodySize, options: SegmentOptions, model: Model) -> ScanJob:
    count, size = source_size(scan.source)
    return ScanJob(
        key=scan.key,
        source=scan.source,
        body=body,
        series_regex=options.series_regex,
        options={
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
    return values


def _start_output(out: Path, cohort: Cohort, options: SegmentOptions, model: Model) -> None:
    """Check OUT, then write its record, so that a killed run can be told from a foreign folder."""
    wanted = _result_options(cohort, options, model)
    record_path = out / RECORD_NAME
    if options.allow_mixed_models and record_path.exists():
        # The model may differ; everything else must not.
        found = read_json(record_path).get("options", {})
        wanted = {**wanted, **{k: v for k, v in found.items() if k == "model_sha256"}}
    check_output(out, command="segment", options=wanted, overwrite=options.overwrite)
    if out.exists():
        remove_leftovers(out)
    write_text(record_path, record_text(_record(cohort, options, model, {"state": "running"})))


def _record(
    cohort: Cohort, options: SegmentOptions, model: Model, run: Mapping[str, Any]
) -> RunRecord:
    return RunRecord(
        command="segment",
        format_version=FORMAT_VERSION,
        options=_result_options(cohort, options, model),
        inputs=cohort.input_sha256,
        model={"id": model.card.model_id, "sha256": model.sha256},
        run=run,
    )


def _finished(
    out: Path, jobs: Sequence[ScanJob], options: SegmentOptions
) -> tuple[list[ScanResult], list[ScanJob]]:
    """Results that are there already, and the jobs that are left."""
    if options.restart:
        return [], list(jobs)
    done, left = [], []
    for job in jobs:
        wanted = dict(job.options)
        result = read_finished(out, job.key, wanted)
        if result is None and options.allow_mixed_models:
            result = _finished_by_any_model(out, job)
        if result is None:
            left.append(job)
        else:
            done.append(result)
    return done, left


def _finished_by_any_model(out: Path, job: ScanJob) -> ScanResult | None:
    from .scan_record import RESULT_NAME, scan_folder

    path = scan_folder(out, job.key) / RESULT_NAME
    if not path.is_file():
        return None
    try:
        model = read_json(path)["options"]["model_sha256"]
    except (KeyError, TypeError):
        return None
    return read_finished(out, job.key, {**job.options, "model_sha256": model})


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
    model = load_model(options.model)
    cohort = load_cohort(cohort_path, cohort_options)
    if not cohort.scans:
        raise CohortError(
            "The cohort holds no scan.",
            hint="Give a cohort.toml, a folder trial/participant/visit/images, or one scan.",
        )
    bodies = _body(cohort)
    jobs = [
        _job(s, bodies.get((s.key.trial, s.key.participant), BodySize()), options, model)
        for s in cohort.scans
    ]
    if options.dry_run:
        done, left = _finished(out, jobs, options) if out.exists() else ([], jobs)
        watch.planned(len(jobs), len(done))
        return SegmentOutcome(
            scans=len(jobs),
            already_done=len(done),
            ok=0,
            review=0,
            failed=0,
            flow={},
            notes=cohort.notes,
            warnings=cohort.warnings,
            seconds=time.monotonic() - begun,
        )
    _start_output(out, cohort, options, model)
    done, left = _finished(out, jobs, options)
    watch.planned(len(jobs), len(done))
    fresh = _process(out, left, options, model, watch)
    results = sorted([*done, *fresh], key=lambda result: result.key)
    tables = gather(out, cohort, results, model)
    seconds = time.monotonic() - begun
    stages = _stages(fresh)
    run = run_block(state="complete", seconds=seconds, new_scans=len(fresh), stages=stages)
    write_text(out / RECORD_NAME, record_text(_record(cohort, options, model, run)))
    counts = {s: sum(r.status == s for r in tables.results) for s in ("ok", "review", "failed")}
    return SegmentOutcome(
        scans=len(jobs),
        already_done=len(done),
        flow=tables.flow,
        notes=cohort.notes,
        warnings=cohort.warnings,
        seconds=seconds,
        stages=stages,
        **counts,
    )


def _process(
    out: Path,
    jobs: Sequence[ScanJob],
    options: SegmentOptions,
    model: Model,
    watch: Watch,
) -> list[ScanResult]:
    if not jobs:
        return []
    from ..segmentation.predict import available_cores
    from .pipeline import Network, Pipeline

    workers = options.workers or available_cores()
    predictor = model.predictor(device=options.device, batch=options.batch, workers=workers)
    try:
        network = Network(predictor=predictor, card=model.card, sha256=model.sha256)
        return Pipeline(out, network, workers=workers).run(jobs, watch.finished)
    finally:
        predictor.close()


def _stages(results: Sequence[ScanResult]) -> dict[str, float]:
    """Seconds by stage, summed over the scans of this run (stages overlap)."""
    total: dict[str, float] = {}
    for result in results:
        for name, seconds in result.document.get("run", {}).get("stages", {}).items():
            total[name] = total.get(name, 0.0) + float(seconds)
    return total

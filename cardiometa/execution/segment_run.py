"""``cardiometa segment``: a cohort in, OUT with measurements, masks, accounts and a page."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CohortError, UsageError
from ..files import RECORD_NAME, check_output, read_json, remove_leftovers, write_text
from ..provenance import FORMAT_VERSION, record_text, run_block
from ..records import RunRecord, ScanKey, ScanResult
from .scan_record import shown_scans
from .stored import restore

if TYPE_CHECKING:
    from ..cohort.records import Cohort, CohortOptions
    from ..segmentation.model import Model
    from ..segmentation.predict import TorchPredictor
    from .corrections import Correction
    from .one_scan import ScanJob

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
    from .segment_plan import check_masks, corrections_of, jobs_of, plan_of

    begun = time.monotonic()
    _check_options(options)
    model = load_model(options.model)
    cohort = load_cohort(cohort_path, cohort_options)
    if not cohort.scans:
        raise CohortError(
            "The cohort holds no scan.",
            hint="Give a cohort.toml, a folder trial/participant/visit/images, or one scan.",
        )
    _check_output(out, cohort, options, model)
    corrections, problems = corrections_of(out, cohort, options)
    jobs = jobs_of(cohort, options, model, corrections)
    plan = plan_of(out, jobs, options)
    check_masks(out, plan, options, problems)
    watch.planned(len(jobs), len(plan.done))
    outcome = SegmentOutcome(
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
    if options.dry_run:
        return outcome
    if out.exists():
        remove_leftovers(out)
    record = partial(_record, cohort, options, model, corrections)
    write_text(out / RECORD_NAME, record_text(record({"state": "running"})))
    back = [restore(out, job.key, job.stored) for job in plan.back if job.stored is not None]
    for result in back:
        watch.finished(result)
    fresh = _process(out, plan.left, options, model, watch)
    gathered = gather(out, cohort, sorted([*plan.done, *back, *fresh], key=_key), model)
    statuses = Counter(result.status for result in gathered.results)
    outcome = replace(
        outcome,
        ok=statuses["ok"],
        review=statuses["review"],
        failed=statuses["failed"],
        corrected=sum(_is_corrected(result) for result in gathered.results),
        flow=gathered.flow,
        notes=[*cohort.notes, *_notes(corrections, gathered.results, back, options)],
        seconds=time.monotonic() - begun,
        stages=_stages(fresh),
    )
    run = run_block(
        state="complete",
        seconds=outcome.seconds,
        new_scans=len(fresh),
        stages=outcome.stages,
        models=_models(gathered.results),
    )
    write_text(out / RECORD_NAME, record_text(record(run)))
    return outcome


def _key(result: ScanResult) -> ScanKey:
    return result.key


def _check_options(options: SegmentOptions) -> None:
    """What is wrong with the options alone, before anything is read."""
    if options.bsa_formula not in BSA_FORMULAS:
        raise UsageError(
            f"--bsa {options.bsa_formula} is unknown.", hint=f"Use {' or '.join(BSA_FORMULAS)}."
        )
    if options.dicom_seg is not None:
        from ..imaging.dicom_seg import need_highdicom

        need_highdicom()


def _is_corrected(result: ScanResult) -> bool:
    from .mend import CORRECTED

    return any(flag.code == CORRECTED for flag in result.flags)


def _models(results: Sequence[ScanResult]) -> list[str]:
    """The hashes of the models that the scans of OUT were segmented with."""
    known = {result.document.get("model", {}).get("sha256") for result in results}
    return sorted(str(digest) for digest in known if digest)


def _notes(
    corrections: Mapping[ScanKey, Correction],
    results: Sequence[ScanResult],
    back: Sequence[ScanResult],
    options: SegmentOptions,
) -> list[str]:
    """What became of corrections and DICOM objects, for the print-out."""
    from .dicom_out import seg_notes

    notes = seg_notes(results) if options.dicom_seg is not None else []
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

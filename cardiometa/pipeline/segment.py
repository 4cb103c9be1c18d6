"""``cardiometa segment``: a cohort in, OUT with measurements, masks, accounts and a page."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CohortError
from ..files import RECORD_NAME, check_output, create_new, read_json, remove_leftovers, write_text
from ..locking import Claim, OutputLock
from ..manifest import FORMAT_VERSION, record_text, run_block
from ..privacy.withdrawal import read_withdrawals, remove_erased
from ..records import RunRecord, ScanKey, ScanResult
from .cohort_snapshot import SNAPSHOT_NAME, snapshot_text, without_withdrawn
from .engine import Engine, EngineSetup
from .merge import gather
from .options import SegmentOptions
from .result_file import shown_scans, slim
from .results_store import restore

if TYPE_CHECKING:
    from ..cohort.models import Cohort, CohortOptions
    from ..segmentation.model import Model
    from .corrections import Correction
    from .plan import Plan


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
        "frames": options.frames,
        "series_regex": options.series_regex,
    }
    if not options.allow_mixed_models:
        values["model_sha256"] = model.sha256
    if options.dicom_seg is not None:
        values["dicom_seg"] = options.dicom_seg
    if cohort.key_check is not None:
        # With another key everybody would be somebody else, without one be named.
        values["pseudonymise"] = cohort.key_check
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
    from ..cohort.pseudonyms import refuse_key_inside
    from ..segmentation.model import load_model

    begun = time.monotonic()
    _check_options(options)
    if cohort_options.pseudonymise_key is not None:
        refuse_key_inside(cohort_options.pseudonymise_key, out)
    model = load_model(options.model)
    setup = EngineSetup(
        out=out,
        model=model,
        device=options.device,
        batch=options.batch,
        workers=options.workers,
        timeout_s=options.timeout_s,
    )
    with closing(engine_for(setup, options.scheduler)) as engine:
        if not options.dry_run:
            engine.warm()
        cohort = load_cohort(cohort_path, cohort_options)
        if not cohort.scans:
            raise CohortError(
                "The cohort holds no scan.",
                hint="Give a cohort.toml, a folder trial/participant/visit/images, or one scan.",
            )
        _check_output(out, cohort, options, model)
        run = _Run(
            out=out,
            cohort=without_withdrawn(out, cohort),
            options=options,
            model=model,
            begun=begun,
        )
        if options.dry_run:
            return run.planned(watch)[2]
        shard = options.shard
        claim = Claim(command="segment", shard=(shard.number, shard.of) if shard else None)
        with OutputLock(out, claim) as lock:
            # What another run wrote since, too.
            _check_output(out, cohort, options, model)
            run = replace(run, cohort=without_withdrawn(out, cohort))
            remove_erased(out, read_withdrawals(out))
            return run.work(engine, lock, watch)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One call of `run_segment` whose input is read and whose output may be written."""

    out: Path
    cohort: Cohort
    options: SegmentOptions
    model: Model
    begun: float

    def planned(self, watch: Watch) -> tuple[Plan, Mapping[ScanKey, Correction], SegmentOutcome]:
        """What there is to do, every mended mask checked, and the outcome so far."""
        from .plan import check_masks, corrections_of, jobs_of, plan_of

        options = self.options
        corrections, problems = corrections_of(self.out, self.cohort, options)
        jobs = jobs_of(self.cohort, options, self.model, corrections)
        plan = plan_of(self.out, jobs, options)
        check_masks(self.out, plan, options, problems)
        watch.planned(len(jobs), len(plan.done))
        outcome = SegmentOutcome(
            scans=len(jobs),
            already_done=len(plan.done),
            ok=0,
            review=0,
            failed=0,
            flow={},
            notes=self.cohort.notes,
            warnings=self.cohort.warnings,
            seconds=time.monotonic() - self.begun,
        )
        return plan, corrections, outcome

    def work(self, engine: Engine, lock: OutputLock, watch: Watch) -> SegmentOutcome:
        """Do what is left, then the tables; a shard leaves these to `gather`."""
        plan, corrections, outcome = self.planned(watch)
        if self.options.shard is None:
            remove_leftovers(self.out)
        record = partial(_record, self.cohort, self.options, self.model, corrections)
        self._begin(record)
        back = [
            slim(restore(self.out, job.key, job.stored))
            for job in plan.back
            if job.stored is not None
        ]
        for result in back:
            watch.finished(result)

        def finished(result: ScanResult) -> None:
            lock.check()
            watch.finished(result)

        if plan.left and self.options.shard is None:
            _load_page()
        fresh = engine.run(plan.left, finished)
        results = sorted([*plan.done, *back, *fresh], key=_key)
        if self.options.shard is None:
            gathered = gather(
                self.out,
                self.cohort,
                results,
                card=self.model.card,
                model_sha256=self.model.sha256,
            )
            results, flow, marks = list(gathered.results), gathered.flow, gathered.outputs
        else:
            flow, marks = {}, {}
        statuses = Counter(result.status for result in results)
        outcome = replace(
            outcome,
            ok=statuses["ok"],
            review=statuses["review"],
            failed=statuses["failed"],
            corrected=sum(_is_corrected(result) for result in results),
            flow=flow,
            notes=[
                *self.cohort.notes,
                *engine.notes,
                *_notes(corrections, results, back, self.options),
            ],
            seconds=time.monotonic() - self.begun,
            stages=_stages(fresh),
        )
        if self.options.shard is None:
            block = run_block(
                state="complete",
                seconds=outcome.seconds,
                new_scans=len(fresh),
                stages=outcome.stages,
                models=models_of(results),
                outputs=marks,
            )
            write_text(self.out / RECORD_NAME, record_text(record(block)))
        return outcome

    def _begin(self, record: Callable[[Mapping[str, Any]], RunRecord]) -> None:
        """The record of a run under way and the cohort's snapshot."""
        state = {"state": "running" if self.options.shard is None else "shards"}
        text = record_text(record(state))
        # Of shards that begin together one makes the record, and the others must fit to it.
        if not create_new(self.out / RECORD_NAME, text.encode()):
            _check_output(self.out, self.cohort, self.options, self.model)
            write_text(self.out / RECORD_NAME, text)
        snapshot = snapshot_text(self.cohort, self.model.card, self.model.sha256)
        if not create_new(self.out / SNAPSHOT_NAME, snapshot.encode()):
            write_text(self.out / SNAPSHOT_NAME, snapshot)


def _load_page() -> None:
    """Import what the page needs (matplotlib for one) while the workers load the network."""
    name = "cardiometa.reports.pages.segment"
    threading.Thread(target=import_module, args=(name,), daemon=True).start()


def engine_for(setup: EngineSetup, scheduler: str | None) -> Engine:
    """This machine's processes, or the cluster at an address."""
    if scheduler is None:
        from .workers import Crew

        return Crew(setup)
    from .dask import DaskEngine

    return DaskEngine(setup, scheduler)


def _key(result: ScanResult) -> ScanKey:
    return result.key


def _check_options(options: SegmentOptions) -> None:
    """What is wrong with the options alone, before anything is read."""
    if options.dicom_seg is not None:
        from ..imaging.dicom_seg import need_highdicom

        need_highdicom()


def _is_corrected(result: ScanResult) -> bool:
    from .apply_correction import CORRECTED

    return any(flag.code == CORRECTED for flag in result.flags)


def models_of(results: Sequence[ScanResult]) -> list[str]:
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
    from .dicom_output import seg_notes

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


def _stages(results: Sequence[ScanResult]) -> dict[str, float]:
    """Seconds by stage, summed over the scans of this run (stages overlap)."""
    total: dict[str, float] = {}
    for result in results:
        for name, seconds in result.document.get("run", {}).get("stages", {}).items():
            total[name] = total.get(name, 0.0) + float(seconds)
    return total

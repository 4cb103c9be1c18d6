"""``cardiometa evaluate``: the model against readers or reported values, by group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import (
    ConfigOption,
    InternalOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    VerboseOption,
    comma_list,
    departures,
    guard,
    one_of,
    plan_of,
    root_folders,
)
from .output import Progress, say, show_json, show_table

if TYPE_CHECKING:
    from ..evaluation.options import EvaluationOptions
    from ..evaluation.results import EvaluationResult


def evaluate(
    ctx: typer.Context,
    segmented: Annotated[Path, typer.Argument(metavar="OUT", help="OUT of segment.", exists=True)],
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write to.")] = None,
    against: Annotated[str | None, typer.Option(help="labels or reported.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Folder (trial/participant/visit, or participant) or CSV of readers' labels.",
            exists=True,
        ),
    ] = None,
    label_order: Annotated[
        str,
        typer.Option(help="cardiometa: 1 LV, 2 myocardium, 3 RV; acdc: 1 RV, 3 LV."),
    ] = "cardiometa",
    repeat_visits: Annotated[
        str | None, typer.Option(help="Two visits of one heart: A,B (scan and rescan).")
    ] = None,
    margin: Annotated[
        list[str] | None,
        typer.Option(
            help="MEASURE=NUMBER or NUMBER% of the mean (repeat): the most that does not matter. "
            "dice=0.02 tests differences in Dice between groups."
        ),
    ] = None,
    age_bands: Annotated[
        str, typer.Option(help="Lower ends in years, [lo, hi); the last band is open.")
    ] = "18,30,40,50,60,70",
    min_cell: Annotated[int, typer.Option(help="Fewer people are not told.", min=1)] = 10,
    bootstrap: Annotated[int, typer.Option(help="Samples of people.", min=0)] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of every draw.", min=0)] = 1,
    export_for_reading: Annotated[
        Path | None, typer.Option(help="Write a blind package for a reader to this folder.")
    ] = None,
    cohort: Annotated[
        Path | None, typer.Option(help="The cohort, for the package's images.", exists=True)
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="key.csv of a package; outside the package.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Per cent of scans without flags to read as well.")
    ] = 5.0,
    without_masks: Annotated[
        bool, typer.Option("--without-masks", help="A package of images alone.")
    ] = False,
    import_reading: Annotated[
        Path | None, typer.Option(help="A package that was read, to bring home.", exists=True)
    ] = None,
    root: Annotated[
        list[str] | None, typer.Option(help="TRIAL=DIR: where a trial's images lie now.")
    ] = None,
    ids_are_pseudonyms: Annotated[
        bool, typer.Option("--ids-are-pseudonyms", help="Folder names may equal header ids.")
    ] = False,
    pseudonymise: Annotated[
        Path | None, typer.Option(help="Key file that OUT was pseudonymised with.")
    ] = None,
    internal: InternalOption = False,
    overwrite: OverwriteOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare OUT of segment with readers' labels or the trials' own values, by group.

    Three uses: --against labels --labels FOLDER or --against reported (and --repeat-visits), with
    --out; --export-for-reading DIR --cohort COHORT --key FILE; --import-reading DIR --key FILE
    --out DIR. Exit code 4: done, but some labels could not be used.
    """
    del config
    with guard(verbose=verbose):
        if export_for_reading is not None or import_reading is not None:
            if export_for_reading is not None and import_reading is not None:
                raise UsageError("--export-for-reading and --import-reading exclude each other.")
            if against is not None or repeat_visits is not None:
                raise UsageError("A reading package and a comparison are two commands.")
            from ..cohort.models import CohortOptions
            from ..commands.reading_package import ExportRequest, ImportRequest

            if key is None:
                raise UsageError("--key is missing.", hint="Say where key.csv is (to be).")
            if export_for_reading is not None:
                _export(
                    ExportRequest(
                        segmented=segmented,
                        package=export_for_reading,
                        cohort=cohort,
                        cohort_options=CohortOptions(
                            root_overrides=root_folders(root or []),
                            ids_are_pseudonyms=ids_are_pseudonyms,
                            pseudonymise_key=pseudonymise,
                        ),
                        key=key,
                        share_percent=share,
                        masks=not without_masks,
                        seed=seed,
                        overwrite=overwrite,
                    ),
                    quiet=quiet,
                    json=json,
                )
                return
            assert import_reading is not None
            if out is None:
                raise UsageError("--out is missing.", hint="Say where to write.")
            _import(
                ImportRequest(
                    segmented=segmented,
                    package=import_reading,
                    key=key,
                    out=out,
                    least=1 if internal else min_cell,
                    overwrite=overwrite,
                ),
                quiet=quiet,
                json=json,
            )
            return
        from ..commands.evaluate import EvaluateRequest, Watch, run_evaluate, unusable_labels
        from ..evaluation.equivalence import DICE
        from ..measurement.measures import MEASURES

        if out is None:
            raise UsageError("--out is missing.", hint="Say where to write.")
        if against is None and repeat_visits is None:
            raise UsageError(
                "There is nothing to compare with.",
                hint="Say --against labels --labels FOLDER, --against reported or --repeat-visits.",
            )
        if against is not None:
            one_of("--against", against, ("labels", "reported"))
        if (against == "labels") != (labels is not None):
            raise UsageError("--against labels and --labels FOLDER_OR_CSV go together.")
        one_of("--label-order", label_order, ("cardiometa", "acdc"))
        plan = plan_of(ctx)
        changed = tuple(
            f"{name}: planned {planned}, used {used}"
            for name, (planned, used) in departures(ctx).items()
        )
        options = _options(
            against=against,
            visits=repeat_visits,
            margins=(margin or [], [*(m.name for m in MEASURES), DICE]),
            bands=age_bands,
            numbers={"min_cell": min_cell, "bootstrap": bootstrap, "seed": seed},
            internal=internal,
        )
        request = EvaluateRequest(
            segmented=segmented,
            out=out,
            options=options,
            labels=labels,
            label_order=label_order,  # type: ignore[arg-type]  # one_of has seen it
            plan_sha256=plan.sha256 if plan else None,
            departures=changed,
            overwrite=overwrite,
        )
        for change in changed:
            say(f"departure from the plan: {change}", quiet=quiet)
        watcher = _Watcher("labels", quiet=quiet)
        try:
            result = run_evaluate(request, Watch(planned=watcher.planned, read=watcher.read))
        finally:
            watcher.close()
        if json:
            from ..commands.evaluate import document

            show_json(document(result, {}))
        else:
            _show(result, out, quiet=quiet)
        unusable = unusable_labels(result)
        if unusable:
            say(f"labels of {unusable} scans could not be used: see {out / 'exclusions.csv'}")
            raise typer.Exit(4)


class _Watcher:
    """Shows how many scans are done."""

    def __init__(self, unit: str, *, quiet: bool) -> None:
        self._unit, self._quiet = unit, quiet
        self._progress: Progress | None = None

    def planned(self, total: int) -> None:
        """So many scans there are to do."""
        if total:
            self._progress = Progress(total, self._unit, quiet=self._quiet)
            self._progress.__enter__()

    def read(self) -> None:
        """One scan is read."""
        if self._progress is not None:
            self._progress.advance()

    def close(self) -> None:
        """Take the bar down."""
        if self._progress is not None:
            self._progress.__exit__()


def _options(
    *,
    against: str | None,
    visits: str | None,
    margins: tuple[list[str], list[str]],
    bands: str,
    numbers: dict[str, int],
    internal: bool,
) -> EvaluationOptions:
    from ..evaluation.equivalence import margins_of
    from ..evaluation.options import EvaluationOptions

    pair = comma_list(visits) if visits is not None else None
    if pair is not None and (len(pair) != 2 or pair[0] == pair[1]):
        raise UsageError(
            f"--repeat-visits {visits} is not two visits.", hint="Say --repeat-visits scan1,scan2."
        )
    return EvaluationOptions(
        against=against,  # type: ignore[arg-type]  # one_of has seen it
        repeat_visits=None if pair is None else (pair[0], pair[1]),
        margins=margins_of(*margins),
        age_bands=_bands(bands),
        internal=internal,
        **numbers,
    )


def _bands(text: str) -> tuple[float, ...]:
    try:
        bands = tuple(float(part) for part in comma_list(text))
    except ValueError:
        bands = ()
    if not bands or list(bands) != sorted(set(bands)):
        raise UsageError(
            f"--age-bands {text} are not rising ages.", hint="Say --age-bands 18,30,40,50."
        )
    return bands


def _cell(value: float | None, decimals: int = 1) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


def _show(result: EvaluationResult, out: Path, *, quiet: bool) -> None:
    for warning in result.warnings:
        say(f"note: {warning}", quiet=quiet)
    compared = result.compared
    say(
        f"scans: {compared.scans_in} in, {len(compared.scans)} compared, "
        f"{len(compared.exclusions)} excluded",
        quiet=quiet,
    )
    dice = [r for r in result.overlap if r.group_by == "all" and r.metric == "dice"]
    if dice:
        show_table(
            ("structure", "phase", "scans used", "people", "Dice", "95% interval"),
            [
                (
                    r.structure if r.scope == "whole-stack" else f"{r.structure} ({r.scope})",
                    r.phase,
                    r.scans_used,
                    r.note if r.n_people is None else str(r.n_people),
                    _cell(r.mean, 3),
                    f"{_cell(r.ci_low, 3)} to {_cell(r.ci_high, 3)}",
                )
                for r in dice
            ],
            quiet=quiet,
        )
    rows = [r for r in result.agreement if r.group_by == "all"]
    if rows:
        show_table(
            ("measure", "scans used", "people", "bias", "95% interval", "limits", "MAE", "ICC"),
            [
                (
                    r.measure if r.scope != "contoured-slices" else f"{r.measure} ({r.scope})",
                    r.scans_used,
                    r.note if r.n_people is None else str(r.n_people),
                    _cell(r.bias),
                    f"{_cell(r.bias_low)} to {_cell(r.bias_high)}",
                    f"{_cell(r.loa_lower)} to {_cell(r.loa_upper)}",
                    _cell(r.mae),
                    _cell(r.icc, 3),
                )
                for r in rows
            ],
            quiet=quiet,
        )
    for name in ("agreement.csv", "overlap.csv", "repeatability.csv", "report.html"):
        if (out / name).is_file():
            say(f"{name}: {out / name}", quiet=quiet)


# ------------------------------------------------------------------ blind reading


def _export(request: Any, *, quiet: bool, json: bool) -> None:
    from ..commands.reading_package import export_package

    watcher = _Watcher("scans", quiet=quiet)
    try:
        outcome = export_package(request, watcher.planned, watcher.read)
    finally:
        watcher.close()
    if json:
        show_json(outcome)
        return
    say(
        f"{outcome['flagged']} flagged and {outcome['random']} other scans of "
        f"{outcome['scans']}: {request.package}",
        quiet=quiet,
    )
    say(f"key, not for the reader: {request.key}", quiet=quiet)


def _import(request: Any, *, quiet: bool, json: bool) -> None:
    from ..commands.reading_package import import_package

    outcome = import_package(request)
    if json:
        show_json(outcome)
        return
    say(f"{outcome['read']} scans read, {outcome['changed']} changed: {request.out}", quiet=quiet)
    if outcome["changed"] and outcome["corrections"]:
        say(
            f"next: cardiometa segment COHORT --out OUT --corrections "
            f"{request.out / outcome['corrections']}",
            quiet=quiet,
        )

"""What ``segment`` leaves beside its table: the roster, the account, what the cohort states.

Every figure of ``pool-trials``, and the name of its file.

``cardiometa pool-trials``: a table in, OUT with effects, figures and a page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..cohort.models import TableOptions
from ..errors import InputError
from ..files import RECORD_NAME, read_json

if TYPE_CHECKING:
    import pandas as pd

    from ..pooling.integrity import TrialFacts
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..pooling.results import PoolingResult
    from ..reports.figures.pooling import PoolingFigure
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import check_output, csv_text, sha256_bytes, sha256_file, write_all
from ..locking import writing
from ..manifest import FORMAT_VERSION, file_marks, library_versions, record_text, run_block, version
from ..pooling.options import PoolingOptions
from ..records import Exclusion, RunRecord

if TYPE_CHECKING:
    from ..pooling.pool import SummaryTable
    from ..pooling.results import Accounting, PoolingResult


PARTICIPANTS_NAME = "participants.csv"
FLOW_NAME = "flow.json"
DICTIONARY_NAME = "measurements.json"


def roster_path(table: Path) -> Path:
    """Where ``participants.csv`` of an output of ``segment`` lies."""
    return (table if table.is_dir() else table.parent) / PARTICIPANTS_NAME


def roster_of(table: Path, options: TableOptions) -> pd.DataFrame | None:
    """``participants.csv`` beside the measurements of ``segment``; None for any other table."""
    from ..cohort.read_table import read_any_table

    ours = table.is_dir() or table.name == "measurements.csv"
    path = roster_path(table)
    if not (ours and path.is_file() and (path.parent / RECORD_NAME).is_file()):
        return None
    roster = read_any_table(path)
    if not {"trial", "participant_id", "arm"} <= set(roster.columns):
        raise InputError(
            f"{PARTICIPANTS_NAME} beside the measurements lacks trial, participant_id or arm.",
            hint="Make it again with `cardiometa segment`, or give the table alone elsewhere.",
        )
    return roster.assign(arm=_recoded_arm(roster, options))


def _recoded_arm(roster: pd.DataFrame, options: TableOptions) -> pd.Series:
    """The roster's arms by the same rule as the table's, where ``--config`` or --arm has one."""
    from ..cohort.column_rules import parse_columns
    from ..cohort.models import ColumnRule
    from ..cohort.recode import harmonise

    rules, _ = parse_columns(
        {name: rule for name, rule in options.columns.items() if name == "arm"},
        "--config",
        ("arm",),
    )
    rule = rules.get("arm", ColumnRule(name="arm", column=options.arm or "arm"))
    column = options.arm or rule.column
    if column not in roster.columns:
        column = "arm"
    values, problems = harmonise(roster[column], rule, PARTICIPANTS_NAME)
    if problems:
        raise InputError(f"{PARTICIPANTS_NAME} cannot be used.", problems=problems)
    return values


def facts_of_trials(table: Path) -> dict[str, TrialFacts]:
    """What the cohort's definition stated, where ``segment`` left it beside its table."""
    from ..pooling.integrity import TrialFacts

    path = (table if table.is_dir() else table.parent) / DICTIONARY_NAME
    document = read_json(path) if path.is_file() else None
    trials = document.get("trials") if isinstance(document, dict) else None
    found = {}
    for name, stated in trials.items() if isinstance(trials, dict) else ():
        if isinstance(stated, dict):
            design, count = stated.get("design"), stated.get("n_randomised")
            found[str(name)] = TrialFacts(
                design=design if isinstance(design, str) else "",
                n_randomised=count if isinstance(count, int) else None,
            )
    return found


def sought(table: Path) -> tuple[int | None, int | None]:
    """Trials and participants sought, from ``flow.json`` of an output of ``segment``."""
    path = (table if table.is_dir() else table.parent) / FLOW_NAME
    flow = read_json(path) if path.is_file() else None
    found: list[int | None] = []
    for unit in ("trials", "participants"):
        counts = flow.get(unit) if isinstance(flow, dict) else None
        count = counts.get("sought") if isinstance(counts, dict) else None
        found.append(count if isinstance(count, int) else None)
    return found[0], found[1]


def figure_files(arms: Sequence[str], figures: Iterable[PoolingFigure]) -> dict[str, bytes | str]:
    """The SVG and PNG of each figure by the name of its file."""
    names = _figure_names(arms)
    files: dict[str, bytes | str] = {}
    for one in figures:
        stem = names[one.arm]
        if one.kind in ("funnel", "regression", "spline"):
            stem = stem.replace("forest", one.kind, 1)
        stem += {"levels": "-by", "reported": "-reported"}.get(one.kind, "")
        stem += f"-{_letters(one.name)}" if one.name else ""
        files[f"figures/{stem}.svg"] = one.drawing.svg
        files[f"figures/{stem}.png"] = one.drawing.png
    return files


def _figure_names(arms: Sequence[str]) -> dict[str, str]:
    """``forest`` for the only arm, else ``forest-<arm>`` in letters that any system can save."""
    if len(arms) == 1:
        return {arms[0]: "forest"}
    names: dict[str, str] = {}
    for number, arm in enumerate(arms, start=1):
        plain = _letters(arm)
        name = f"forest-{plain or number}"
        names[arm] = name if name not in names.values() else f"{name}-{number}"
    return names


def _letters(text: str) -> str:
    """A name in letters that any system can save."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40]


COMMAND = "pool-trials"
_OPTIONAL = (
    "delta_adjusted.csv",
    "compare_reported.csv",
    "influence.csv",
    "meta_regression.csv",
    "spline.csv",
)  # written only where there is something to say
_TEXT_TABLES = (".csv", ".tsv", ".tab", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRequest:
    """What a user asks for: where, how, and how to read the table.

    ``sites`` are files of `summarise` in place of a table, ``asked`` the options that the user gave
    although these files decide them; ``plan_sha256`` is of the file given with --config,
    ``departures`` the options that differ from it, in words.
    """

    table: Path
    out: Path
    options: PoolingOptions
    table_options: TableOptions
    also_summaries: Path | None = None
    sites: tuple[Path, ...] = ()
    asked: tuple[str, ...] = ()
    plan_sha256: str | None = None
    departures: tuple[str, ...] = ()
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOutcome:
    """What a run found: the result, the print-out, and the document of ``--json``."""

    result: PoolingResult
    text: str
    document: Mapping[str, Any]


def run_pool_trials(request: PoolRequest) -> PoolOutcome:
    """Read, pool, render, write. Nothing is written where anything fails before the end.

    Raises UsageError (exit 2), InputError (3) and EstimationError (5).
    """
    from ..reports.figures.pooling import draw_figures
    from ..reports.pages.pooling import pooling_page, pooling_text

    options = _result_options(request)
    check_output(request.out, command=COMMAND, options=options, overwrite=request.overwrite)
    result, inputs = _pool(request)
    drawn = draw_figures(result)
    facts = _facts(request, result, inputs)
    page = pooling_page(result, drawn, facts)
    contents: dict[str, bytes | str] = dict(_tables(result))
    contents |= figure_files(result.arms, drawn)
    contents["report.html"] = page
    record = RunRecord(
        command=COMMAND,
        format_version=FORMAT_VERSION,
        options=options,
        inputs=inputs,
        run=run_block(
            libraries=library_versions("numpy", "scipy", "pandas", "matplotlib"),
            outputs=file_marks(contents),
        ),
    )
    contents[RECORD_NAME] = record_text(record)  # last: it says that all is there
    with writing(request.out, command=COMMAND, options=options, overwrite=request.overwrite):
        write_all(request.out, contents, old=_stale_files(request.out, contents))
    return PoolOutcome(
        result=result, text=pooling_text(result), document=_document(result, options, inputs)
    )


# ------------------------------------------------------------------ read and pool


def _pool(request: PoolRequest) -> tuple[PoolingResult, dict[str, str]]:
    from ..cohort.analysis_table import read_analysis_table
    from ..pooling.pool import pool_summaries, pool_trials

    inputs: dict[str, str] = {}
    if request.sites:
        return _pool_sites(request)
    if request.table.is_file() and _is_summaries_file(request.table):
        if request.also_summaries is not None:
            raise UsageError(
                "The table is one of summaries; --also-summaries adds to participants' rows.",
                hint="Put all summaries into one table.",
            )
        inputs["table"] = sha256_file(request.table)
        return pool_summaries(_summaries(request.table), request.options), inputs
    if not request.options.outcome:
        raise UsageError(
            "Say which measure to pool with --outcome.", hint="For example --outcome lv_ef_percent."
        )
    table = read_analysis_table(request.table, request.table_options)
    inputs["table"] = table.sha256
    roster = roster_of(request.table, request.table_options)
    if roster is not None:
        inputs["participants"] = sha256_file(roster_path(request.table))
    summaries = None
    if request.also_summaries is not None:
        inputs["summaries"] = sha256_file(request.also_summaries)
        summaries = _summaries(request.also_summaries)
    result = pool_trials(
        table,
        request.options,
        roster=roster,
        summaries=summaries,
        facts=facts_of_trials(request.table) if roster is not None else None,
    )
    if roster is not None and result.flow is not None:
        trials, people = sought(request.table)
        flow = replace(result.flow, sought_trials=trials, sought_participants=people)
        result = replace(result, flow=flow)
    return result, inputs


def _pool_sites(request: PoolRequest) -> tuple[PoolingResult, dict[str, str]]:
    from ..pooling.federated.pool import pool_sites
    from ..pooling.federated.site import read_site

    if request.options.meta_regression or request.options.spline:
        raise UsageError(
            "--meta-regression and --spline need participants' rows, not files of sites."
        )
    if request.also_summaries is not None:
        raise UsageError("--also-summaries does not go with files of sites in this version.")
    hashes = [sha256_file(path) for path in request.sites]
    sites = [read_site(read_json(path), path.name) for path in request.sites]
    inputs = {f"site-{number}": value for number, value in enumerate(hashes, start=1)}
    inputs["table"] = sha256_bytes("".join(sorted(hashes)).encode())
    return pool_sites(sites, request.options, asked=request.asked), inputs


def _is_summaries_file(path: Path) -> bool:
    """Decide by the header alone, so that a large table of participants is not read twice."""
    import pandas as pd

    from ..cohort.read_table import parquet_header, read_any_table
    from ..pooling.aggregate_effects import is_summaries

    if path.suffix.lower() == ".parquet" and (header := parquet_header(path)) is not None:
        return is_summaries(pd.DataFrame(columns=pd.Index(header)))
    if path.suffix.lower() not in _TEXT_TABLES:
        return path.suffix != "" and is_summaries(read_any_table(path))
    with path.open("rb") as stream:
        first = stream.readline(65536).decode("utf-8-sig", errors="replace")
    names = [part.strip().strip('"') for part in re.split(r"[,;\t|]", first.strip())]
    return is_summaries(pd.DataFrame(columns=pd.Index(names)))


def _summaries(path: Path) -> SummaryTable:
    from ..cohort.read_table import read_any_table
    from ..pooling.pool import SummaryTable

    return SummaryTable(rows=read_any_table(path), name=path.name)


# ------------------------------------------------------------------ what is written


def _result_options(request: PoolRequest) -> dict[str, Any]:
    """Everything asked for that decides the result; no path, because it may hold a name."""
    read = asdict(request.table_options)
    read.pop("numeric")
    return {
        **request.options.document(),
        "columns": read.pop("columns"),
        "column_names": {name: value for name, value in read.items() if value is not None},
        "sites": sorted(map(sha256_file, request.sites)),
        "also_summaries": None
        if request.also_summaries is None
        else sha256_file(request.also_summaries),
        "plan_sha256": request.plan_sha256,
    }


def _tables(result: PoolingResult) -> dict[str, str]:
    from ..pooling.results import (
        ArmCount,
        ComparisonRow,
        DeltaRow,
        EffectRow,
        HeterogeneityRow,
        InfluenceRow,
        IntegrityRow,
        RegressionRow,
        SplineRow,
    )

    exclusion_columns = tuple(item.name for item in fields(Exclusion))
    files = {
        "effects.csv": _csv(EffectRow, result.effects),
        "heterogeneity.csv": _csv(HeterogeneityRow, result.heterogeneity),
    }
    if result.influence:
        files["influence.csv"] = _csv(InfluenceRow, result.influence)
    if result.spline:
        files["spline.csv"] = _csv(SplineRow, result.spline)
    if result.regression:
        files["meta_regression.csv"] = _csv(RegressionRow, result.regression)
    if result.accounting is not None:
        if result.delta:
            files["delta_adjusted.csv"] = _csv(DeltaRow, result.delta)
        if result.comparison:
            files["compare_reported.csv"] = _csv(ComparisonRow, result.comparison)
        files["participants_by_arm.csv"] = _csv(ArmCount, result.by_arm)
        files["integrity.csv"] = _csv(IntegrityRow, result.integrity)
        files["exclusions.csv"] = csv_text(
            exclusion_columns,
            ([getattr(item, name) for name in exclusion_columns] for item in result.exclusions),
        )
    return files


def _csv(record: type[Any], rows: Sequence[Any]) -> str:
    from ..pooling.results import cells_of, columns_of

    return csv_text(columns_of(record), map(cells_of, rows))


def _stale_files(out: Path, contents: Mapping[str, Any]) -> list[str]:
    """Figures and tables that an earlier run with other options had."""
    found = [
        f"figures/{path.name}"
        for kind in ("forest", "funnel", "regression", "spline")
        for path in (out / "figures").glob(f"{kind}*")
    ]
    return [name for name in (*found, *_OPTIONAL) if name not in contents]


def _facts(
    request: PoolRequest, result: PoolingResult, inputs: Mapping[str, str]
) -> dict[str, str]:
    options = result.options
    facts = {
        "Endpoint": result.endpoint,
        "Effect": options.effect,
        "Estimand": options.estimand,
        "Reference arm": result.control,
        "Models": options.model,
        "Residual variance of the one-stage model": options.residual,
        "Random effects of the one-stage model": options.random_effects,
        "Estimator of τ²": options.tau2,
        "Headline interval": f"{options.headline_ci}, {options.level:g} %",
        "Prediction interval": f"t with {options.pi_df} degrees of freedom",
        "Least cell shown": str(options.min_cell),
        "SHA-256 of the table": inputs["table"],
    }
    if request.plan_sha256:
        facts["SHA-256 of the plan"] = request.plan_sha256
        facts["Departures from the plan"] = "; ".join(request.departures) or "none"
    facts["cardiometa"] = version()
    return facts


def _document(
    result: PoolingResult, options: Mapping[str, Any], inputs: Mapping[str, str]
) -> dict[str, Any]:
    from ..pooling.results import documents_of

    account = result.accounting
    return {
        "command": COMMAND,
        "format_version": FORMAT_VERSION,
        "cardiometa_version": version(),
        "options": options,
        "inputs": inputs,
        "effects": documents_of(result.effects),
        "heterogeneity": documents_of(result.heterogeneity),
        "participants_by_arm": documents_of(result.by_arm),
        "integrity": documents_of([row for row in result.integrity if row.result == "look"]),
        "accounting": None if account is None else _released(account, result.options.min_cell),
        "methods": result.methods,
        "one_stage_checks": documents_of(result.checks),
        "compare_reported": documents_of(result.comparison),
        "influence": documents_of(result.influence),
        "spline": documents_of(result.spline),
        "meta_regression": documents_of(result.regression),
        "delta_adjusted": documents_of(result.delta),
        "warnings": result.warnings,
    }


def _released(account: Accounting, min_cell: int) -> dict[str, Any]:
    from ..privacy.suppression import suppressed_counts

    gone = account.participants - account.analysed
    return {
        "participants": account.participants,
        "analysed": account.analysed,
        "excluded": suppressed_counts(account.excluded, gone, min_cell),
    }

"""``pool-trials`` from a table to a folder: read, pool, draw, write once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from ..cohort.analysis_table import MEASUREMENTS_NAME, read_analysis_table
from ..cohort.models import ColumnRule, TableOptions
from ..cohort.read_table import SUFFIXES, read_any_table, table_header
from ..cohort.recode import harmonise, parse_columns
from ..errors import InputError, Problems, UsageError
from ..files import (
    RECORD_NAME,
    check_output,
    csv_text,
    read_json,
    sha256_bytes,
    sha256_file,
    write_all,
)
from ..locking import writing
from ..manifest import (
    FORMAT_VERSION,
    RunRecord,
    file_marks,
    library_versions,
    record_text,
    run_block,
    version,
)
from ..pooling.aggregate_effects import is_summaries
from ..pooling.endpoint.columns import harmonised_name
from ..pooling.federated.pool import pool_sites
from ..pooling.federated.site import read_site
from ..pooling.integrity import TrialFacts
from ..pooling.options import EVENTS, PoolingOptions
from ..pooling.pool import SummaryTable, pool_summaries, pool_trials
from ..pooling.results import (
    ArmCount,
    ComparisonRow,
    DeltaRow,
    EffectRow,
    HeterogeneityRow,
    InfluenceRow,
    IntegrityRow,
    PoolingResult,
    RegressionRow,
    SplineRow,
    cells_of,
    columns_of,
    documents_of,
)
from ..privacy.suppression import suppressed_counts
from ..records import Exclusion
from ..reports.figures.pooling import PoolingFigure, draw_figures, is_pooled
from ..reports.pages.pooling import pooling_page, pooling_text
from ..reports.style import Drawing

COMMAND = "pool-trials"
PARTICIPANTS_NAME = "participants.csv"
FLOW_NAME = "flow.json"
DICTIONARY_NAME = "measurements.json"
# Tables in their order; those after the second are written only where they have rows.
_TABLES: Mapping[str, tuple[str, type[Any]]] = {
    "effects": ("effects", EffectRow),
    "heterogeneity": ("heterogeneity", HeterogeneityRow),
    "influence": ("influence", InfluenceRow),
    "spline": ("spline", SplineRow),
    "meta_regression": ("regression", RegressionRow),
    "delta_adjusted": ("delta", DeltaRow),
    "compare_reported": ("comparison", ComparisonRow),
}
# Of participants' rows only, and then always.
_ROW_TABLES: Mapping[str, tuple[str, type[Any]]] = {
    "participants_by_arm": ("by_arm", ArmCount),
    "integrity": ("integrity", IntegrityRow),
    "exclusions": ("exclusions", Exclusion),
}


# ------------------------------------------------------------------ what `segment` left


def _sibling(table: Path, name: str) -> Path:
    """A file of the output of ``segment`` that ``table`` is, or lies in."""
    return (table if table.is_dir() else table.parent) / name


def roster_of(table: Path, options: TableOptions) -> pd.DataFrame | None:
    """``participants.csv`` of the same output of ``segment``; None for any other table."""
    path = _sibling(table, PARTICIPANTS_NAME)
    is_output = table.is_dir() or table.name == MEASUREMENTS_NAME
    if not (is_output and path.is_file() and (path.parent / RECORD_NAME).is_file()):
        return None
    roster = read_any_table(path)
    if not {"trial", "participant_id", "arm"} <= set(roster.columns):
        raise InputError(
            f"{PARTICIPANTS_NAME} of the output lacks trial, participant_id or arm.",
            hint="Make it again with `cardiometa segment`, or copy the table to another folder.",
        )
    # Its arms by the same rule as the table's, where --config or --arm has one.
    wanted = {name: rule for name, rule in options.columns.items() if name == "arm"}
    rules = parse_columns(wanted, Problems("--config"), ("arm",))
    rule = rules.get("arm", ColumnRule(name="arm", column=options.arm or "arm"))
    column = options.arm or rule.column
    arms = roster[column if column in roster.columns else "arm"]
    problems = Problems(PARTICIPANTS_NAME)
    values = harmonise(arms, rule, problems)
    if problems:
        raise InputError(f"{PARTICIPANTS_NAME} cannot be used.", problems=problems)
    return roster.assign(arm=values)


def facts_of_trials(table: Path) -> dict[str, TrialFacts]:
    """What the cohort's definition states, where ``segment`` wrote it with its table."""
    path = _sibling(table, DICTIONARY_NAME)
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
    path = _sibling(table, FLOW_NAME)
    flow = read_json(path) if path.is_file() else None
    found: list[int | None] = []
    for unit in ("trials", "participants"):
        counts = flow.get(unit) if isinstance(flow, dict) else None
        count = counts.get("sought") if isinstance(counts, dict) else None
        found.append(count if isinstance(count, int) else None)
    return found[0], found[1]


# ------------------------------------------------------------------ the request and the result


def rows_options(options: PoolingOptions, columns: TableOptions) -> TableOptions:
    """How to read participants' rows for an analysis: its numbers, and all the columns it uses."""
    is_event = options.effect in EVENTS
    numbers = ("" if is_event else options.outcome, options.baseline_column, options.time)
    participant = ("participant_id", "arm", "randomised", "status", "death_day", "withdrawal_day")
    used = [*participant, options.outcome, options.event, *numbers, options.cluster]
    used += [
        *options.by_columns,
        *options.regression_columns,
        *map(harmonised_name, options.adjust),
    ]
    if options.baseline_column is None:
        used += ["visit", "visit_day"]
    if options.compare_reported:
        used += [f"reported_{options.outcome}", "reported_papillary"]
    return replace(
        columns,
        numeric=tuple(name for name in numbers if name),
        needed=tuple(dict.fromkeys(name for name in ("trial", *used) if name)),
        baseline_visit=options.baseline_visit,
        time=options.time,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRequest:
    """What is pooled, how, and how to read the table.

    ``more_tables`` are of further trials. ``sites`` are files of `summarise` in place of a table,
    ``asked`` the options that the user gave although these files decide them; ``plan_sha256`` is
    of the file given with --config, ``departures`` the options that differ from it, in words.
    """

    table: Path
    options: PoolingOptions
    table_options: TableOptions
    more_tables: tuple[Path, ...] = ()
    also_summaries: Path | None = None
    sites: tuple[Path, ...] = ()
    asked: tuple[str, ...] = ()
    plan_sha256: str | None = None
    departures: tuple[str, ...] = ()

    @classmethod
    def of_rows(
        cls, table: Path, options: PoolingOptions, columns: TableOptions, **others: Any
    ) -> PoolRequest:
        """The request for a table: the outcome defaults to the event, and numbers are named."""
        options = replace(options, outcome=options.outcome or options.event or "")
        return cls(
            table=table, options=options, table_options=rows_options(options, columns), **others
        )

    def document(self) -> dict[str, Any]:
        """Everything that decides the result; no path, because it may contain a name."""
        also = self.also_summaries
        return {
            **self.options.document(),
            **self.table_options.document(),
            "sites": sorted(map(sha256_file, self.sites)),
            "also_summaries": None if also is None else sha256_file(also),
            "plan_sha256": self.plan_sha256,
        }


@dataclass(frozen=True, kw_only=True)
class PooledEffect:
    """A pooled treatment effect: ``summary()``, tables as data frames, figures, files."""

    request: PoolRequest
    result: PoolingResult
    inputs: Mapping[str, str]

    @property
    def effects(self) -> pd.DataFrame:
        """The rows of ``effects.csv``: trials, pooled effects, subgroups, interactions."""
        return self.table("effects")

    @property
    def heterogeneity(self) -> pd.DataFrame:
        """The rows of ``heterogeneity.csv``: tau², I² and H² with their intervals."""
        return self.table("heterogeneity")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know before the result is used."""
        return tuple(self.result.warnings)

    def table(self, name: str) -> pd.DataFrame:
        """One of `tables` by the name of its CSV; empty where there is nothing to report."""
        attribute, record = {**_TABLES, **_ROW_TABLES}[name]
        rows = [cells_of(row) for row in getattr(self.result, attribute)]
        return pd.DataFrame(rows, columns=list(columns_of(record)))

    def summary(self) -> str:
        """The table for a paper that the command prints."""
        return pooling_text(self.result)

    @cached_property
    def figures(self) -> list[PoolingFigure]:
        """Every figure of the report."""
        return draw_figures(self.result)

    def forest(self, arm: str | None = None) -> Drawing:
        """The forest plot of an arm (default: the first): ``.svg`` and ``.png``."""
        arm = arm or self.result.arms[0]
        return next(f.drawing for f in self.figures if (f.kind, f.arm) == ("forest", arm))

    def to_csv(self, folder: str | Path) -> list[Path]:
        """Write the tables as the command does; the paths of the files."""
        write_all(Path(folder), _csv_files(self.result))
        return [Path(folder) / name for name in _csv_files(self.result)]

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>{self.forest().svg}"

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        result, account = self.result, self.result.accounting
        released = None
        if account is not None:
            excluded = account.participants - account.analysed
            released = {
                "participants": account.participants,
                "analysed": account.analysed,
                "excluded": suppressed_counts(account.excluded, excluded, result.options.min_cell),
            }
        findings = [row for row in result.integrity if row.result == "review"]
        return {
            "command": COMMAND,
            "format_version": FORMAT_VERSION,
            "cardiometa_version": version(),
            "options": self.request.document(),
            "inputs": self.inputs,
            "participants_by_arm": documents_of(result.by_arm),
            "integrity": documents_of(findings),
            "accounting": released,
            "methods": result.methods,
            "one_stage_checks": documents_of(result.checks),
            **{
                name: documents_of(getattr(result, attribute))
                for name, (attribute, _) in _TABLES.items()
            },
            "warnings": result.warnings,
        }

    def files(self) -> dict[str, bytes | str]:
        """Every file of the output by name, the record last: it says that all is there."""
        contents: dict[str, bytes | str] = dict(_csv_files(self.result))
        contents |= figure_files(self.result.arms, self.figures)
        contents["report.html"] = pooling_page(self.result, self.figures, self._facts())
        record = RunRecord(
            command=COMMAND,
            format_version=FORMAT_VERSION,
            options=self.request.document(),
            inputs=self.inputs,
            model={
                name.removeprefix("model_"): ", ".join(self.result.conventions[name])
                for name in ("model_id", "model_sha256")
                if self.result.conventions.get(name)
            },
            run=run_block(
                libraries=library_versions("numpy", "scipy", "pandas", "matplotlib"),
                outputs=file_marks(contents),
            ),
        )
        return {**contents, RECORD_NAME: record_text(record)}

    def _facts(self) -> dict[str, str]:
        """What was done, by name; no setting of a model that the result has not."""
        request, result, options = self.request, self.result, self.result.options
        facts = {"Endpoint": result.endpoint, "Effect": options.effect}
        if any(row.deaths_recorded for row in result.by_arm):
            facts["Estimand"] = options.estimand
        facts["Reference arm"] = result.control
        if any(row.model == "one-stage" for row in result.effects):
            facts |= {
                "Models": options.model,
                "Residual variance of the one-stage model": options.residual,
                "Random effects of the one-stage model": options.random_effects,
            }
        if is_pooled(result):
            facts |= {
                "Estimator of τ²": options.tau2,
                "Headline interval": f"{options.headline_ci}, {options.level:g} %",
                "Prediction interval": f"t with {options.pi_df} degrees of freedom",
            }
        if result.conventions.get("model_id"):
            facts["Segmentation model"] = ", ".join(result.conventions["model_id"])
        facts["Least cell shown"] = str(options.min_cell)
        facts["SHA-256 of the table"] = self.inputs["table"]
        if request.plan_sha256:
            facts["SHA-256 of the plan"] = request.plan_sha256
            facts["Departures from the plan"] = "; ".join(request.departures) or "none"
        return {**facts, "cardiometa": version()}


def run_pool_trials(request: PoolRequest, out: Path, *, overwrite: bool = False) -> PooledEffect:
    """Read, pool, draw, write. Nothing is written where anything fails before the end.

    Raises UsageError (exit 2), InputError (3) and EstimationError (5).
    """
    options = request.document()
    check_output(out, command=COMMAND, options=options, overwrite=overwrite)
    pooled = pool_effect(request)
    contents = pooled.files()
    # Figures and tables that an earlier run with other options had.
    optional = [f"{name}.csv" for name in (*_TABLES, *_ROW_TABLES)]
    kinds = ("forest", "funnel", "regression", "spline")
    drawn = [f"figures/{p.name}" for kind in kinds for p in (out / "figures").glob(f"{kind}*")]
    with writing(out, command=COMMAND, options=options, overwrite=overwrite):
        old = [name for name in (*drawn, *optional) if name not in contents]
        write_all(out, contents, old=old)
    return pooled


# ------------------------------------------------------------------ read and pool


def pool_effect(request: PoolRequest) -> PooledEffect:
    """Read and pool; nothing is written. Raises UsageError, InputError and EstimationError."""
    path, options, also = request.table, request.options, request.also_summaries
    if request.sites:
        result, inputs = _pool_sites(request)
        return PooledEffect(request=request, result=result, inputs=inputs)
    if path.is_file() and not request.more_tables and _is_summaries_file(path):
        if also is not None:
            raise UsageError(
                "The table is one of summaries; --also-summaries adds to participants' rows.",
                hint="Put all summaries into one table.",
            )
        inputs = {"table": sha256_file(path)}
        result = pool_summaries(_summaries(path), options)
        return PooledEffect(request=request, result=result, inputs=inputs)
    if not options.outcome:
        raise UsageError(
            "The measure to pool is missing: --outcome.",
            hint="For example --outcome lv_ef_percent.",
        )
    table = read_analysis_table([path, *request.more_tables], request.table_options)
    options = options.renamed(table.name_of)
    inputs = {"table": table.sha256}
    roster = roster_of(path, request.table_options)
    if roster is not None:
        inputs["participants"] = sha256_file(_sibling(path, PARTICIPANTS_NAME))
    if also is not None:
        inputs["summaries"] = sha256_file(also)
    result = pool_trials(
        table,
        options,
        roster=roster,
        summaries=None if also is None else _summaries(also),
        facts=facts_of_trials(path) if roster is not None else None,
    )
    if roster is not None and result.flow is not None:
        trials, participants = sought(path)
        flow = replace(result.flow, sought_trials=trials, sought_participants=participants)
        result = replace(result, flow=flow)
    return PooledEffect(request=request, result=result, inputs=inputs)


def _pool_sites(request: PoolRequest) -> tuple[PoolingResult, dict[str, str]]:
    if request.options.meta_regression or request.options.spline:
        raise UsageError("--meta-regression and --spline need participants' rows, not summaries.")
    if request.also_summaries is not None:
        raise UsageError("--also-summaries cannot be combined with site summaries.")
    hashes = [sha256_file(path) for path in request.sites]
    sites = [read_site(read_json(path), path.name) for path in request.sites]
    inputs = {f"site-{number}": value for number, value in enumerate(hashes, start=1)}
    inputs["table"] = sha256_bytes("".join(sorted(hashes)).encode())
    return pool_sites(sites, request.options, asked=request.asked), inputs


def _is_summaries_file(path: Path) -> bool:
    """Decide by the header alone, so that a large table of participants is not read twice."""
    known = path.suffix.lower() in SUFFIXES
    return known and is_summaries(pd.DataFrame(columns=pd.Index(table_header(path))))


def _summaries(path: Path) -> SummaryTable:
    return SummaryTable(rows=read_any_table(path), name=path.name)


# ------------------------------------------------------------------ files


def _csv_files(result: PoolingResult) -> dict[str, str]:
    wanted = {
        name: table
        for name, table in _TABLES.items()
        if name in ("effects", "heterogeneity") or getattr(result, table[0])
    }
    if result.accounting is not None:
        wanted |= _ROW_TABLES
    return {
        f"{name}.csv": csv_text(columns_of(record), map(cells_of, getattr(result, attribute)))
        for name, (attribute, record) in wanted.items()
    }


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

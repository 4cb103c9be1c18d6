"""Reporting checklists, filled in with what the program knows; the rest is marked for the author.

PRISMA-IPD (Stewart 2015) for `pool-trials` and CLAIM 2024 (Tejani 2024) for `evaluate`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final, Literal

from ..manifest import RESEARCH_USE
from ..pooling.results import PoolingResult
from ..records import Table
from .export import export_files
from .figures.pooling import heterogeneity_sentence, result_sentence
from .page import environment, page_html, section
from .style import shown_count

AUTHOR: Final = "For the author."
_TITLES: Final = {"prisma_ipd": "PRISMA-IPD checklist", "claim": "CLAIM 2024 checklist"}
_INTRO: Final = (
    "Filled in from what the program knows of this analysis; check each entry, and complete those "
    "marked for the author. The items are in short form: the words of the statement count."
)


def checklist_files(
    name: Literal["prisma_ipd", "claim"], subject: str, facts: Mapping[str, Any]
) -> dict[str, bytes | str]:
    """``checklist_NAME.html`` and, where python-docx is installed, ``checklist_NAME.docx``."""
    title = f"{_TITLES[name]}: {subject}"
    table = Table(
        title=_TITLES[name],
        columns=("Item", "Topic", "What to report", "In this analysis"),
        rows=_rows(name, facts),
        caption=_INTRO,
    )
    page = page_html(title, "", [section("Checklist", "checklist", table)])
    files: dict[str, bytes | str] = {f"checklist_{name}.html": page}
    if find_spec("docx") is not None:
        made = export_files([table], ["docx"], title, RESEARCH_USE)
        files[f"checklist_{name}.docx"] = made["tables.docx"]
    return files


def _rows(name: str, facts: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    template = environment().get_template("checklists.txt.j2")
    # A fact may be of several lines; a bar in a trial's name would part the line.
    clean = {key: _in_line(value) for key, value in facts.items()}
    text = "".join(template.blocks[name](template.new_context(clean)))
    lines = [line.split("|", 3) for line in text.splitlines() if line.strip()]
    cells = [[re.sub(r"\s+", " ", one).strip() for one in line] for line in lines]
    return tuple((*line[:3], line[3] or AUTHOR) for line in cells)


def _in_line(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"[\s|]+", " ", value).strip()
    if isinstance(value, Mapping):
        return {key: _in_line(one) for key, one in value.items()}
    return [_in_line(one) for one in value] if isinstance(value, list | tuple) else value


def pooling_facts(
    result: PoolingResult, plan_sha256: str | None, departures: Sequence[str]
) -> dict[str, Any]:
    """What PRISMA-IPD asks and a pooled analysis knows."""
    options, flow = result.options, result.flow
    counts = []
    if flow is not None:
        sought, provided, analysed = (
            f"{trials} trials{f' with {shown_count(people)} participants' if people else ''} {word}"
            for word, trials, people in (
                ("sought", flow.sought_trials, flow.sought_participants),
                ("provided", flow.provided_trials, flow.provided_participants),
                ("analysed", flow.analysed_trials, flow.analysed_participants),
            )
        )
        counts = [*([sought] if flow.sought_trials is not None else []), provided, analysed]
    return {
        "found": [result_sentence(result, arm) for arm in result.arms],
        "heterogeneity": [heterogeneity_sentence(result, arm) for arm in result.arms],
        "plan": plan_sha256,
        "departures": "; ".join(departures) or "none",
        "account": result.accounting is not None,
        "aggregate": flow.aggregate_trials if flow else 0,
        "endpoint": result.endpoint,
        "effect": options.effect,
        "methods": result.methods,
        "adjust": list(options.adjust_columns),
        "by": list(options.by_columns),
        "regression": list(options.regression_columns),
        "prespecified": list(options.prespecified),
        "checked": bool(result.integrity),
        "findings": sum(row.result == "review" for row in result.integrity),
        "small_study": any(row.analysis == "small-study" for row in result.effects),
        "sensitivity": sorted({row.label for row in result.effects if row.label}),
        "flow": "; ".join(counts),
        "has_table1": bool(result.table1),
    }

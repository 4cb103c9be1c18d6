"""``report.html`` of ``segment``: what came in, what was measured, and every scan to review.

The page shows individuals, for the holder of the cohort, and says so at its top. Its gallery has
a card for each of the worst scans: those for review come first, then failures, then the others,
the lowest quality first; the page says how many are not shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...evaluation.agreement import BlandAltman, wilson
from ...manifest import notice_for, version
from ...measurement.error import NORMAL_95
from ...measurement.measures import (
    ERROR_OF,
    MYOCARDIUM_G_PER_ML,
    PAPILLARY,
    MeasureDefinition,
    definition,
)
from ...records import Flag, ScanKey, ScanResult, SeriousWarning, Table
from ...segmentation.base import BASE_RULE
from ..figures.bulls_eye import SHOWN, bulls_eye_figure, bulls_eye_svg
from ..figures.evaluation import (
    agreement_figure,
    agreement_of,
    compared_measures,
    quality_figure,
    reported_pairs,
    signed,
)
from ..figures.flow import SideNotes, accounting_problems, flow_figure
from ..figures.overlay import Picture, curve_svg, gallery_picture
from ..page import (
    Block,
    Column,
    Html,
    Notice,
    Section,
    environment,
    notes_section,
    page_html,
    section,
    table_of,
    words,
    yes_no,
)
from ..style import (
    DASH,
    abbreviations,
    counted,
    measure_label,
    measure_name,
    shown,
    shown_count,
    shown_interval,
)

if TYPE_CHECKING:
    import pandas as pd

    from ...cohort.models import Cohort, CohortTables
    from ...segmentation.model import ModelCard

_text = partial(words, "segment")
_table = partial(table_of, "segment")

# Contract, 4: nothing is released about fewer participants than this.
MIN_CELL: Final = 10
CARD_MEASURES: Final = (
    "lv_edv_ml",
    "lv_esv_ml",
    "lv_ef_percent",
    "lv_mass_g",
    "rv_edv_ml",
    "rv_esv_ml",
    "rv_ef_percent",
)
SUMMARY_MEASURES: Final = ("age_years", *CARD_MEASURES)
_THREADS: Final = 4
_ORDER: Final = ("review", "failed", "ok")
_LEVELS: Final = ("reject", "review", "info")


# ------------------------------------------------------------------ the gallery


@dataclass(frozen=True, kw_only=True)
class GalleryItem:
    """One card: a scan, its picture and, of a corrected one, the model's own picture."""

    result: ScanResult
    picture: Picture | None
    model_picture: Picture | None = None


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The cards that are shown, how many by status are not, and the flags of all scans."""

    items: tuple[GalleryItem, ...]
    scans: int
    hidden: Mapping[str, int]
    flags: Table | None


def gallery_items(
    results: Sequence[ScanResult], pictures: Mapping[ScanKey, Path], *, limit: int = 50
) -> Gallery:
    """The cards of the ``limit`` worst scans of a run; reads their overlays only.

    ``pictures`` maps a scan to its ``overlay.png``, which may be absent (a failed scan's is).
    """

    def rank(result: ScanResult) -> tuple[Any, ...]:
        quality = result.measures.get("quality")
        return _ORDER.index(result.status), 2.0 if quality is None else quality, result.key

    ordered = sorted(results, key=rank)

    def picture(path: Path | None) -> Picture | None:
        return gallery_picture(path.read_bytes()) if path and path.is_file() else None

    def item(result: ScanResult) -> GalleryItem:
        path = pictures.get(result.key)
        # The picture of a correction is in a folder of its own, below the model's.
        own = path.parent.with_name(path.name) if path and _correction(result) else None
        return GalleryItem(result=result, picture=picture(path), model_picture=picture(own))

    # Decoding and scaling of pictures release Python's lock: some run at the same time.
    with ThreadPoolExecutor(_THREADS) as pool:
        items = tuple(pool.map(item, ordered[:limit]))
    return Gallery(
        items=items,
        scans=len(ordered),
        hidden=dict(Counter(result.status for result in ordered[limit:])),
        flags=flag_table(results),
    )


def _correction(result: ScanResult) -> Flag | None:
    return next((flag for flag in result.flags if flag.code == "corrected"), None)


def gallery_html(gallery: Gallery) -> Html:
    """The cards as markup, every text escaped."""
    hidden = _text("hidden", gallery=gallery) if gallery.hidden else ""
    template = environment().get_template("gallery.html.j2")
    return Html(
        template.render(
            cards=gallery.items,
            hidden=hidden,
            correction=_correction,
            measures=_card_measures,
            curve=_curve,
            wall=_bulls_eye,
        )
    )


def _card_measures(values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, shown value (± the SD of its error) and unit of a card's measures, and its quality."""
    found = [
        (
            measure_name(name),
            shown(value, decimals)
            + ("" if sd is None else f" ± {shown(sd, decimals if sd < 10 else 0)}"),
            definition(name).unit,
        )
        for name in CARD_MEASURES
        if (value := values.get(name)) is not None
        for decimals, sd in [(0 if value >= 100 else 1, values.get(ERROR_OF[name]))]
    ]
    quality = values.get("quality")
    return found if quality is None else [*found, ("Quality", shown(quality, 2), "of 1")]


def _curve(result: ScanResult) -> Html:
    """The volume curves of a cine of at least 8 frames; two frames make no curve."""
    curves = result.document.get("curves") or {}
    left, right = curves.get("lv_ml") or [], curves.get("rv_ml") or []
    if len(left) < 8:
        return Html()
    frames = [result.measures.get(name) for name in ("ed_frame", "es_frame")]
    marks = [int(n) for n in frames if n is not None and 0 <= n < len(left)]
    return Html(curve_svg(left, right, marks, label=f"Volume over time, {result.key}"))


def _bulls_eye(result: ScanResult) -> Html:
    """Wall thickness at ED of the AHA segments; nothing where the wall was not measured."""
    found = (result.document.get("details") or {}).get("segments") or {}
    name, title, span = SHOWN[0]
    if result.status == "failed" or name not in found:
        return Html()
    return Html(bulls_eye_svg(found[name], span, f"{title}, by segment, {result.key}"))


# ------------------------------------------------------------------ tables


_SCANS: Final = Column("Scans", lambda row: shown_count(len(row[2])))


def summary_table(measurements: pd.DataFrame) -> Table | None:
    """Mean ± SD of the main measures by trial and visit, failed scans left out."""
    rows = measurements[measurements["status"] != "failed"]
    groups = [(*key, group) for key, group in rows.groupby(["trial", "visit"], sort=True)]
    if len(rows["trial"].unique()) > 1:
        by_visit = rows.groupby("visit", sort=True)
        groups += [("all trials", visit, group) for visit, group in by_visit]

    def female(row: Sequence[Any]) -> str:
        known = [sex for sex in row[2].get("sex", ()) if sex in ("male", "female")]
        return _percent(known.count("female"), len(known), 0) if known else DASH

    def mean(row: Sequence[Any], name: str) -> str:
        values, decimals = _numbers(row[2][name]), int(definition(name).unit == "%")
        if not len(values):
            return DASH
        spread = f" ± {shown(float(values.std(ddof=1)), decimals)}" if len(values) > 1 else ""
        fewer = f" [{len(values)}]" if len(values) < len(row[2]) else ""
        return f"{shown(float(values.mean()), decimals)}{spread}{fewer}"

    names = [n for n in SUMMARY_MEASURES if n in rows and _numbers(rows[n]).size]
    columns = (
        Column("Trial", itemgetter(0)),
        Column("Visit", itemgetter(1)),
        _SCANS,
        Column("Female", female),
        *(
            Column(measure_label(name, definition(name).unit), partial(mean, name=name))
            for name in names
        ),
    )
    return _table("summary", columns, groups, abbreviations=abbreviations(names))


HYPERTROPHY_MM: Final = 15.0


def hypertrophy(measurements: pd.DataFrame) -> str:
    """The scans whose wall is `HYPERTROPHY_MM` or more somewhere; empty where there is none."""
    name = "lv_wall_thickness_max_mm"
    if name not in measurements:
        return ""
    rows = measurements[measurements[name] >= HYPERTROPHY_MM].sort_values(name, ascending=False)
    scans = [
        f"{row.trial}/{row.participant_id}/{row.visit} ({shown(getattr(row, name))} mm)"
        for row in rows.itertuples()
    ]
    return _text("hypertrophy", scans=scans, limit=HYPERTROPHY_MM) if scans else ""


def error_table(measurements: pd.DataFrame, card: ModelCard) -> Table | None:
    """How wide the 95 % intervals of single scans are, by measure; None where none has an SD."""
    known = [(m, _numbers(measurements[sd])) for m, sd in ERROR_OF.items() if sd in measurements]

    def half_width(percent: float) -> Callable[[tuple[str, Any]], str]:
        return lambda row: shown(NORMAL_95 * float(np.percentile(row[1], percent)), 1)

    columns = (
        Column("Measure", lambda row: measure_label(row[0], definition(row[0]).unit)),
        Column("Scans", lambda row: str(len(row[1]))),
        Column("Median", half_width(50)),
        Column("10 % of scans are below", half_width(10)),
        Column("10 % are above", half_width(90)),
    )
    rows = [(measure, values) for measure, values in known if len(values)]
    return _table("error", columns, rows, card=card)


def _numbers(column: pd.Series[Any]) -> Any:
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").astype(float).dropna().to_numpy()


def _percent(count: int, total: int, decimals: int = 1) -> str:
    """``12 (4.5%)``."""
    return f"{count} ({100 * count / total:.{decimals}f}%)" if total else str(count)


_Group = tuple[str, str, "pd.DataFrame"]
_GROUP: Final = (Column("Group", itemgetter(0)), Column("Level", itemgetter(1)))


def _groups(measurements: pd.DataFrame, *columns: str) -> list[_Group]:
    """All scans, then the levels of each column that has several; missing ones as ``unknown``."""
    groups: list[_Group] = [("All scans", "", measurements)]
    for name in columns:
        if name in measurements:
            values = measurements[name].astype(object)
            values = values.where(values.notna() & (values != ""), "unknown").astype(str)
            if len(values.unique()) > 1:
                levels = measurements.groupby(values, sort=True)
                groups += [(name.capitalize(), str(level), rows) for level, rows in levels]
    return groups


def _with_status(row: _Group, status: str) -> int:
    return int((row[2]["status"] == status).sum())


def status_table(measurements: pd.DataFrame) -> Table | None:
    """How many scans are ok, for review and failed, by trial, arm, sex, ethnicity and vendor."""

    def share(row: _Group, status: str) -> str:
        return _percent(_with_status(row, status), len(row[2]))

    shares = (Column(name, partial(share, status=name)) for name in ("ok", "review", "failed"))
    rows = _groups(measurements, "trial", "arm", "sex", "ethnicity", "vendor")
    return _table("status", (*_GROUP, _SCANS, *shares), rows)


def correction_table(measurements: pd.DataFrame) -> Table | None:
    """What readers decided, and scans that failed, by arm, sex, ethnicity and vendor.

    None where no reader decided. A group of fewer than `MIN_CELL` participants has no numbers.
    """
    if not any(rows_with(measurements, code).any() for code in ("corrected", *_DECIDED)):
        return None

    def is_few(row: _Group) -> bool:
        return len(row[2][["trial", "participant_id"]].drop_duplicates()) < MIN_CELL

    def of_enough(heading: str, show: Callable[[_Group], str]) -> Column:
        return Column(heading, lambda row: "" if is_few(row) else show(row))

    def count(row: _Group, code: str) -> tuple[int, int]:
        found = rows_with(row[2], code)
        if code == "accepted":  # those that were edited first are under corrected
            found &= ~rows_with(row[2], "corrected")
        return int(found.sum()), len(row[2])

    def share(code: str) -> Callable[[_Group], str]:
        return lambda row: _percent(*count(row, code))

    columns = (
        *_GROUP,
        of_enough("Scans", _SCANS.cell),
        of_enough("Accepted", share("accepted")),
        of_enough("Corrected", share("corrected")),
        of_enough("95 % CI", lambda row: shown_interval(*wilson(*count(row, "corrected")))),
        of_enough("Rejected", share("rejected")),
        of_enough("Failed", lambda row: _percent(_with_status(row, "failed"), len(row[2]))),
        Column("Note", lambda row: f"n<{MIN_CELL}" if is_few(row) else ""),
    )
    rows = _groups(measurements, "arm", "sex", "ethnicity", "vendor")
    return _table("corrections", columns, rows, min_cell=MIN_CELL, empty=())


_DECIDED: Final = ("accepted", "rejected")


def rows_with(rows: pd.DataFrame, code: str) -> pd.Series[Any]:
    """True for the rows of ``measurements.csv`` that have a flag."""
    if "flags" not in rows:
        return rows["status"] == ""
    return rows["flags"].map(lambda text: code in str(text or "").split(";")).astype(bool)


def flag_table(results: Sequence[ScanResult]) -> Table | None:
    """Scans by flag, worst level first, then the most frequent; the first sentence as example."""
    first: dict[str, Flag] = {}
    scans: Counter[str] = Counter()
    for result in sorted(results, key=lambda result: result.key):
        scans.update({flag.code for flag in result.flags})
        first = {flag.code: flag for flag in reversed(result.flags)} | first
    columns = (
        Column("Code", "code"),
        Column("Level", "level"),
        Column("Scans", "code", lambda code: _percent(scans[code], len(results))),
        Column("Example", "sentence"),
    )
    rows = sorted(first.values(), key=lambda f: (_LEVELS.index(f.level), -scans[f.code], f.code))
    return _table("flags", columns, rows)


def exclusion_table(exclusions: pd.DataFrame) -> Table | None:
    """Exclusions by stage and code: exclusions.csv has each of them."""
    columns = (
        Column("Stage", lambda row: row[0][0]),
        Column("Code", lambda row: row[0][1]),
        Column("Number", lambda row: shown_count(len(row[1]))),
        Column("Example", lambda row: row[1]["sentence"].iloc[0]),
    )
    return _table("exclusions", columns, exclusions.groupby(["stage", "code"], sort=True))


def trials_table(cohort: Cohort) -> Table | None:
    """What the cohort's definition states of each trial."""

    def stated(value: str | None) -> str:
        return value or DASH

    columns = (
        Column("Trial", "name"),
        Column("Registry", "registry_id", stated),
        Column("Design", "design", stated),
        Column("Randomised", "randomised", yes_no),
        Column("Number randomised", "n_randomised", shown_count),
        Column("Papillary muscles in reported values", "papillary", stated),
        Column("Rule for healthy", "healthy_rule", stated),
        Column("Permission", "permission", stated),
    )
    return _table("trials", columns, cohort.trials, empty=("", DASH))


def agreement_table(
    measurements: pd.DataFrame, measures: Sequence[MeasureDefinition]
) -> Table | None:
    """Bias and limits of agreement by measure and trial."""
    rows = []
    for measure in measures:
        pair = reported_pairs(measurements, measure.name)
        groups = list(pair.groupby("trial", sort=True))
        groups += [("all trials", pair)] if len(groups) > 1 else []
        rows += [(measure, trial, len(group), agreement_of(group)) for trial, group in groups]

    def found(heading: str, show: Callable[[BlandAltman], str]) -> Column:
        return Column(heading, lambda row: DASH if row[3] is None else show(row[3]))

    columns = (
        Column("Measure", lambda row: measure_label(row[0].name, row[0].unit)),
        Column("Trial", itemgetter(1)),
        Column("Scans", lambda row: str(row[2])),
        found("Bias", lambda f: signed(f.bias.value)),
        found("95% CI of bias", lambda f: shown_interval(f.bias.low, f.bias.high)),
        found("SD", lambda f: shown(f.sd)),
        found(
            "Limits of agreement", lambda f: shown_interval(f.loa_lower.value, f.loa_upper.value)
        ),
    )
    return _table("agreement", columns, rows)


def run_sentences(facts: Mapping[str, Mapping[str, int]], card: ModelCard) -> list[str]:
    """What holds for many scans of the run (`pipeline.merge.run_facts`), one sentence each."""
    found = []
    if facts["rv_without_evidence"]:
        makers = facts["rv_without_evidence"]
        found.append(_text("rv_without_evidence", makers=makers, known=card.rv_vendors))
    if sum(facts["base_at_stack_end"].values()):
        found.append(_text("base_at_stack_end", found=facts["base_at_stack_end"], facts=facts))
    return found


def card_facts(card: ModelCard, model_sha256: str) -> dict[str, str]:
    """What the model's card states, as names and values."""
    document: Mapping[str, Any] = card.document
    training = document.get("training") or {}
    held_out = training.get("held_out") or ()
    accuracy = document.get("accuracy") or {}
    dice = ", ".join(
        f"{name} {accuracy[key]:.3f}"
        for key, name in (("lv_mean", "LV"), ("myo_mean", "myocardium"), ("rv_mean", "RV"))
        if isinstance(accuracy.get(key), int | float)
    )
    facts = {
        "Model": card.model_id,
        "SHA-256 of the model file": model_sha256,
        "Description": str(document.get("description", "")),
        "Base": BASE_RULE,
        "Use": str(document.get("intended_use", "")),
        "Licence of the weights": str(document.get("licence", "")),
        "Training data": "; ".join(str(line) for line in training.get("data") or ()),
        "Held out, never trained on": f"{len(held_out)} patients" if held_out else "",
        "Dice on those held out": f"{dice} (mean of ED and ES)" if dice else "",
        "Error of single scans": str(card.error.document.get("sentence", "")) if card.error else "",
        "Vendors with RV evidence": ", ".join(card.rv_vendors) or "none",
    }
    return {name: value for name, value in facts.items() if value}


# ------------------------------------------------------------------ the page


def segment_page(
    tables: CohortTables,
    *,
    cohort: Cohort,
    items: Gallery,
    card: ModelCard,
    model_sha256: str,
    identity_kept: bool = False,
    ed_es_alone: bool = False,
) -> str:
    """The complete page as text; ``items`` come from `gallery_items`.

    ``identity_kept``: DICOM objects in the output name the patient and study of their source;
    ``ed_es_alone``: the run was made with ``--frames ed-es``.
    """
    measurements = tables.measurements
    methods = methods_text(measurements, card, identity_kept=identity_kept, ed_es_alone=ed_es_alone)
    limits = [str(limit) for limit in card.document.get("limits") or ()]
    kept = (_text("identity_kept"),) if identity_kept else ()
    counts = (
        counted(measurements["trial"].nunique(), "trial"),
        counted(len(tables.participants), "participant"),
        counted(len(measurements), "scan"),
    )
    single = len(measurements) == len(tables.participants) == 1
    return page_html(
        f"Cardiac MRI measurements: {cohort.name}",
        " · ".join(counts),
        [
            section(
                "Measures",
                "measures",
                _answer(measurements),
                quality_figure(measurements),
                summary_table(measurements) or Notice(_text("not_measured")),
                error_table(measurements, card) or _text("no_error"),
                bulls_eye_figure(tables.segments, _text("bulls_eye")),
                hypertrophy(measurements),
            ),
            section(
                "Quality",
                "quality",
                status_table(measurements),
                correction_table(measurements),
                items.flags,
            ),
            _agreement(measurements, cohort),
            section(
                "Trials, participants and scans",
                "flow",
                None if single else flow_figure(tables.flow, side_notes(tables, cohort)),
                None if single else trials_table(cohort),
                exclusion_table(tables.exclusions) or _text("nothing_excluded"),
            ),
            notes_section(cohort.warnings),
            section(
                "Methods and model",
                "methods",
                methods,
                card_facts(card, model_sha256),
                "Limits of the model:" if limits else "",
                limits,
            ),
            section("Gallery", "gallery", _text("gallery", gallery=items), gallery_html(items)),
        ],
        internal=True,
        warnings=(
            *map(SeriousWarning, accounting_problems(tables.flow)),
            *map(SeriousWarning, (*mixed_models_notice(measurements), *kept)),
            *cohort.warnings,
        ),
        foot=notice_for(str(card.document.get("licence", ""))),
        # The same whatever the engine, the shards and the day.
        command_and_day=False,
    )


def _answer(measurements: pd.DataFrame) -> str:
    """What a reader of the page asks first: how much was measured, how well, how much to check."""
    status = Counter(str(value) for value in measurements["status"])
    used = measurements[measurements["status"] != "failed"]
    known = {name: _numbers(used[name]) for name in ("quality", "lv_ef_percent") if name in used}
    return _text(
        "answer", status=status, scans=len(measurements), known=known, centile=np.percentile
    )


def side_notes(tables: CohortTables, cohort: Cohort) -> SideNotes:
    """Reasons by step of the flow: of scans that failed, of participants at the other steps."""
    key = ["trial", "participant_id", "visit"]
    exclusions = tables.exclusions
    scans = exclusions[exclusions["stage"] == "scan"]
    failed = tables.measurements.loc[tables.measurements["status"] == "failed", key]
    names = set(failed.itertuples(index=False, name=None))
    # Visits without images have a row too, and are not failed scans.
    chosen = [row in names for row in scans[key].itertuples(index=False, name=None)]
    people = exclusions[exclusions["stage"] == "participant"]

    def by_code(rows: pd.DataFrame) -> list[tuple[str, int]]:
        counts = Counter(str(code) for code in rows["code"])
        return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))

    withdrawn = [("withdrew, data erased", cohort.withdrawn)] if cohort.withdrawn else []
    missed = [(f"{n.trial} ({n.reason})", n.n_participants) for n in cohort.not_obtained]
    return {
        "not_obtained": [*missed, *withdrawn],
        "without_images": by_code(people[people["code"] != "scan-failed"]),
        "failed": by_code(scans.loc[chosen]),
    }


def _agreement(measurements: pd.DataFrame, cohort: Cohort) -> Section:
    measures = compared_measures(measurements)
    blocks: list[Block | None] = []
    other = [trial.name for trial in cohort.trials if trial.papillary not in (None, PAPILLARY)]
    if measures:
        blocks = [Notice(_text("papillary", trials=other))] if other else []
        blocks.append(agreement_figure(measurements, measures))
        blocks.append(agreement_table(measurements, measures))
    return section("Agreement with reported values", "agreement", *blocks)


def _models(measurements: pd.DataFrame) -> list[str]:
    """The models of the scans, a name with the start of its file's hash; empty where unknown."""
    if not {"model_id", "model_sha256"} <= set(measurements.columns):
        return []
    known = measurements.dropna(subset=["model_sha256"])
    names: dict[str, str] = {}
    for name, digest in zip(known["model_id"], known["model_sha256"], strict=True):
        # A scan that failed before the network has the hash only.
        names[str(digest)] = str(name) if isinstance(name, str) else names.get(str(digest), "")
    return sorted(f"{name} {digest[:8]}".strip() for digest, name in names.items())


def mixed_models_notice(measurements: pd.DataFrame) -> tuple[str, ...]:
    """A sentence for the top of the page where scans were segmented with different models."""
    models = _models(measurements)
    return (_text("mixed_models", models=models),) if len(models) > 1 else ()


def methods_text(
    measurements: pd.DataFrame,
    card: ModelCard,
    *,
    identity_kept: bool = False,
    ed_es_alone: bool = False,
) -> str:
    """Sentences for a paper's methods, with what was really used."""
    formulas = sorted({str(name) for name in measurements["bsa_formula"].dropna() if str(name)})
    return _text(
        "methods",
        card=card,
        models=_models(measurements),
        version=version(),
        corrected=int(rows_with(measurements, "corrected").sum()),
        pairs=int((measurements["frames"] == 2).sum()),
        formulas=formulas,
        density=MYOCARDIUM_G_PER_ML,
        ed_es_alone=ed_es_alone,
        identity_kept=identity_kept,
    )

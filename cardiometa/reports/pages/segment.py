"""The gallery of the segment report: one card a scan, for a person to look over.

Cards for review come first, then failures, then the others. More scans than the limit are not all
shown; the page says how many are not.

The tables of the segment report, made from the cohort's frames.

``report.html`` of ``segment``: what came in, what was measured, and every scan to look at.

The page shows individuals, for the holder of the cohort, and says so at its top.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from ...measurement.measures import MEASURES
from ...records import Flag, ScanKey, ScanResult, Table
from ..figures.flow import STAGE_NAMES, STAGES, UNITS, Flow
from ..figures.overlay import thumbnail_jpeg
from ..figures.volume_curve import curve_svg
from ..page import Html, environment, png_uri
from ..style import ABBREVIATIONS, DASH, measure_label, measure_name, shown, shown_count

if TYPE_CHECKING:
    import pandas as pd

    from ...cohort.models import Cohort
    from ...segmentation.card import ModelCard
from typing import TYPE_CHECKING

import numpy as np

from ...manifest import version
from ...measurement.measures import MYOCARDIUM_G_PER_ML, PAPILLARY
from ..figures.agreement import agreement_figure, agreement_table, compared_measures
from ..figures.flow import SideNotes, accounting_problems, flow_figure
from ..page import Bullets, Facts, Notice, Paragraph, Section, page_html

if TYPE_CHECKING:
    import pandas as pd

    from ...cohort.models import Cohort, CohortTables
    from ...segmentation.card import ModelCard


CARD_MEASURES: Final = (
    "lv_edv_ml",
    "lv_esv_ml",
    "lv_ef_percent",
    "lv_mass_g",
    "rv_edv_ml",
    "rv_esv_ml",
    "rv_ef_percent",
)
# Beside overlay.png where a reader corrected the scan: the model's own.
_SIDE_BY_SIDE: Final = 4
_ORDER: Final = {"review": 0, "failed": 1, "ok": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryItem:
    """One card: a scan, its picture (JPEG) and, of a corrected one, the model's own picture."""

    result: ScanResult
    picture: bytes | None
    model_picture: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagCount:
    """How many scans carry a flag; ``example`` is the sentence of the first."""

    code: str
    level: str
    scans: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """The cards that are shown, and what is known of all scans."""

    items: tuple[GalleryItem, ...]
    scans: int
    hidden: Mapping[str, int]
    flags: tuple[FlagCount, ...]


def gallery_items(
    results: Sequence[ScanResult], pictures: Mapping[ScanKey, Path], *, limit: int = 200
) -> Gallery:
    """The cards of a run; reads the overlays of the chosen scans alone.

    ``pictures`` maps a scan to its ``overlay.png``, which may be absent (a failed scan's is).
    """
    ordered = sorted(results, key=lambda result: (_ORDER[result.status], result.key))
    shown_results, hidden = ordered[:limit], ordered[limit:]
    # Decoding and scaling of pictures leave Python free: some run side by side.
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        paths = [pictures.get(result.key) for result in shown_results]
        items = tuple(pool.map(_item, shown_results, paths))
    return Gallery(
        items=items,
        scans=len(ordered),
        hidden=dict(Counter(result.status for result in hidden)),
        flags=flag_counts(results),
    )


def _item(result: ScanResult, path: Path | None) -> GalleryItem:
    corrected = path is not None and _is_corrected(result)
    return GalleryItem(
        result=result,
        picture=_picture(path),
        model_picture=_picture(path.parent.with_name(path.name)) if path and corrected else None,
    )


def _is_corrected(result: ScanResult) -> bool:
    return any(flag.code == "corrected" for flag in result.flags)


def _picture(path: Path | None) -> bytes | None:
    if path is None or not path.is_file():
        return None
    return thumbnail_jpeg(path.read_bytes())


def flag_counts(results: Sequence[ScanResult]) -> tuple[FlagCount, ...]:
    """Scans by flag, worst level first, then the most frequent."""
    first: dict[str, Flag] = {}
    scans: Counter[str] = Counter()
    for result in sorted(results, key=lambda result: result.key):
        for flag in {flag.code: flag for flag in result.flags}.values():
            first.setdefault(flag.code, flag)
            scans[flag.code] += 1
    levels = {"reject": 0, "review": 1, "info": 2}
    codes = sorted(first, key=lambda code: (levels[first[code].level], -scans[code], code))
    return tuple(
        FlagCount(
            code=code, level=first[code].level, scans=scans[code], example=first[code].sentence
        )
        for code in codes
    )


def gallery_html(gallery: Gallery) -> Html:
    """The cards as markup, every text escaped."""
    template = environment().get_template("gallery.html.j2")
    cards = [_card(item) for item in gallery.items]
    return Html(template.render(cards=cards, hidden=hidden_sentence(gallery)))


def hidden_sentence(gallery: Gallery) -> str:
    """What is not shown, or nothing where all is."""
    if not gallery.hidden:
        return ""
    parts = ", ".join(f"{count} {status}" for status, count in sorted(gallery.hidden.items()))
    total = sum(gallery.hidden.values())
    return (
        f"{total} of {gallery.scans} scans are not shown here ({parts}); each has its "
        "overlay.png in its folder below scans/."
    )


def _card(item: GalleryItem) -> dict[str, object]:
    result = item.result
    corrected = _is_corrected(result)
    own: Mapping[str, Any] = result.document.get("model_result") or {}
    return {
        "key": str(result.key),
        "status": result.status,
        "flags": [flag for flag in result.flags if flag.level != "info"],
        "info": ", ".join(
            flag.code
            for flag in result.flags
            if flag.level == "info" and not (corrected and flag.code == "corrected")
        ),
        "corrected": next((f.sentence for f in result.flags if f.code == "corrected"), ""),
        "measures": _measures(result.measures),
        "model_measures": _measures(own.get("measures") or {}) if corrected else [],
        "model_picture": png_uri(item.model_picture, "jpeg") if item.model_picture else "",
        "curve": Markup(_curve(result)),  # noqa: S704 - made of numbers by curve_svg
        "picture": png_uri(item.picture, "jpeg") if item.picture else "",
    }


def _measures(values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, shown value and unit of the measures that a card tells."""
    definitions = {measure.name: measure for measure in MEASURES}
    return [
        (measure_name(name), shown(value, 0 if value >= 100 else 1), definitions[name].unit)
        for name in CARD_MEASURES
        if (value := values.get(name)) is not None
    ]


def _curve(result: ScanResult) -> str:
    """The volume curves of a cine of at least 8 frames; two frames make no curve."""
    curves = result.document.get("curves") or {}
    left, right = curves.get("lv_ml") or [], curves.get("rv_ml") or []
    if len(left) < 8:
        return ""
    frames = [result.measures.get(name) for name in ("ed_frame", "es_frame")]
    marks = [int(n) for n in frames if n is not None and 0 <= n < len(left)]
    return curve_svg(left, right, marks, label=f"Volume over time, {result.key}")


# Contract, 4: nothing is told about fewer people than this.
MIN_CELL: Final = 10

SUMMARY_MEASURES: Final = (  # column, unit, decimals
    ("age_years", "years", 0),
    ("lv_edv_ml", "mL", 0),
    ("lv_esv_ml", "mL", 0),
    ("lv_ef_percent", "%", 1),
    ("lv_mass_g", "g", 0),
    ("rv_edv_ml", "mL", 0),
    ("rv_esv_ml", "mL", 0),
    ("rv_ef_percent", "%", 1),
)


def flow_table(flow: Flow) -> Table:
    """The counts of flow.json; a dash where nobody stated one."""
    return Table(
        title="Trials, participants and scans at each stage.",
        columns=("", *(unit.capitalize() for unit in UNITS)),
        rows=tuple(
            (STAGE_NAMES[stage], *(shown_count(flow.get(unit, {}).get(stage)) for unit in UNITS))
            for stage in STAGES
        ),
    )


def summary_table(measurements: pd.DataFrame) -> Table:
    """Mean ± SD of the main measures by trial and visit, failed scans left out."""
    rows = measurements[measurements["status"] != "failed"]
    shown_measures = [
        entry for entry in SUMMARY_MEASURES if entry[0] in rows and _numbers(rows[entry[0]]).size
    ]
    lines = [
        _summary_line(str(trial), str(visit), group, shown_measures)
        for (trial, visit), group in rows.groupby(["trial", "visit"], sort=True)
    ]
    if len(rows["trial"].unique()) > 1:
        lines += [
            _summary_line("all trials", str(visit), group, shown_measures)
            for visit, group in rows.groupby("visit", sort=True)
        ]
    return Table(
        title="Main measures by trial and visit.",
        columns=(
            "Trial",
            "Visit",
            "Scans",
            "Female",
            *(measure_label(name, unit) for name, unit, _ in shown_measures),
        ),
        rows=tuple(lines),
        caption=(
            "Mean ± standard deviation of the scans whose status is ok or review; the number of "
            "scans with a value stands in brackets where it is smaller. Female: number (percent) "
            f"of those whose sex is known. {ABBREVIATIONS}"
        ),
    )


def _numbers(column: pd.Series[Any]) -> Any:
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").astype(float).to_numpy()
    return values[values == values]  # noqa: PLR0124 - NaN is the value that differs from itself


def _summary_line(
    trial: str, visit: str, group: pd.DataFrame, measures: Sequence[tuple[str, str, int]]
) -> tuple[str, ...]:
    sexes = [sex for sex in group["sex"] if sex in ("male", "female")] if "sex" in group else []
    female = sexes.count("female")
    share = f"{female} ({100 * female / len(sexes):.0f}%)" if sexes else DASH
    cells = []
    for name, _, decimals in measures:
        values = _numbers(group[name])
        if not len(values):
            cells.append(DASH)
            continue
        spread = f" ± {shown(float(values.std(ddof=1)), decimals)}" if len(values) > 1 else ""
        fewer = f" [{len(values)}]" if len(values) < len(group) else ""
        cells.append(f"{shown(float(values.mean()), decimals)}{spread}{fewer}")
    return (trial, visit, shown_count(len(group)), share, *cells)


def status_table(measurements: pd.DataFrame) -> Table:
    """How many scans are ok, for review and failed, by trial, arm, sex and ethnicity."""
    lines = [_status_line("All scans", "", measurements)]
    for column, name in (
        ("trial", "Trial"),
        ("arm", "Arm"),
        ("sex", "Sex"),
        ("ethnicity", "Ethnicity"),
        ("vendor", "Vendor"),
    ):
        values = _levels(measurements, column)
        if values is not None:
            lines += [
                _status_line(name, str(level), group)
                for level, group in measurements.groupby(values, sort=True)
            ]
    return Table(
        title="Scans by status.",
        columns=("Group", "", "Scans", "ok", "review", "failed"),
        rows=tuple(lines),
        caption="Rates that differ between arms or groups can bias what is computed from them.",
    )


def _status_line(group: str, level: str, rows: pd.DataFrame) -> tuple[str, ...]:
    total = len(rows)
    counts = [int((rows["status"] == status).sum()) for status in ("ok", "review", "failed")]
    shares = [f"{n} ({100 * n / total:.1f}%)" if total else "0" for n in counts]
    return (group, level, shown_count(total), *shares)


def correction_table(measurements: pd.DataFrame) -> Table | None:
    """Scans corrected by a reader and scans that failed, by arm, sex and ethnicity.

    None where no scan was corrected. A group of fewer than `MIN_CELL` people has no numbers.
    """
    if not corrected_rows(measurements).any():
        return None
    lines = [_correction_line("All scans", "", measurements)]
    for column, name in (("arm", "Arm"), ("sex", "Sex"), ("ethnicity", "Ethnicity")):
        values = _levels(measurements, column)
        if values is not None:
            lines += [
                _correction_line(name, str(level), group)
                for level, group in measurements.groupby(values, sort=True)
            ]
    return Table(
        title="Scans corrected by a reader, and failed ones, by group.",
        columns=("Group", "", "Scans", "Corrected", "95 % CI", "Failed", "Note"),
        rows=tuple(lines),
        caption=(
            "Corrected: the measures are those of a mask that a reader changed; number (percent) "
            "with Wilson's interval. Where readers mend one group more often than another, a "
            "difference between them may be one between readers and model. "
            f"Groups of fewer than {MIN_CELL} people are not told."
        ),
    )


def _levels(measurements: pd.DataFrame, column: str) -> pd.Series[Any] | None:
    """The values of a column with ``unknown`` for missing ones; None where all are alike."""
    if column not in measurements:
        return None
    values = measurements[column].astype(object)
    values = values.where(values.notna() & (values != ""), "unknown").astype(str)
    return values if len(values.unique()) > 1 else None


def corrected_rows(rows: pd.DataFrame) -> pd.Series[Any]:
    """True for the rows of ``measurements.csv`` that stand on a reader's mask."""
    if "flags" not in rows:
        return rows["status"] == ""
    return rows["flags"].map(lambda text: "corrected" in str(text or "").split(";")).astype(bool)


def _correction_line(group: str, level: str, rows: pd.DataFrame) -> tuple[str, ...]:
    people = len(rows[["trial", "participant_id"]].drop_duplicates())
    if people < MIN_CELL:
        return (group, level, "", "", "", "", f"n<{MIN_CELL}")
    total = len(rows)
    corrected, failed = int(corrected_rows(rows).sum()), int((rows["status"] == "failed").sum())
    low, high = wilson_percent(corrected, total)
    return (
        group,
        level,
        shown_count(total),
        f"{corrected} ({100 * corrected / total:.1f}%)",
        f"{shown(low, 1)} to {shown(high, 1)}",
        f"{failed} ({100 * failed / total:.1f}%)",
        "",
    )


def wilson_percent(count: int, total: int) -> tuple[float, float]:
    """95 % score interval of a proportion, in percent (Wilson 1927, JASA 22:209)."""
    z2 = 1.959963984540054**2
    share = count / total
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = math.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    return 100 * max(middle - half, 0.0), 100 * min(middle + half, 1.0)


def flag_table(flags: Iterable[FlagCount], scans: int) -> Table:
    """Flags by code: how many scans, and one sentence as an example."""
    return Table(
        title="Flags.",
        columns=("Code", "Level", "Scans", "Example"),
        rows=tuple(
            (
                flag.code,
                flag.level,
                f"{flag.scans} ({100 * flag.scans / scans:.1f}%)" if scans else str(flag.scans),
                flag.example,
            )
            for flag in flags
        ),
        caption="reject: the scan failed; review: a person should look; info: for the record.",
    )


def exclusion_table(exclusions: pd.DataFrame) -> Table:
    """Exclusions by stage and code: exclusions.csv has each of them."""
    lines = [
        (str(stage), str(code), shown_count(len(group)), str(group["sentence"].iloc[0]))
        for (stage, code), group in exclusions.groupby(["stage", "code"], sort=True)
    ]
    return Table(
        title="Scans and participants that are not analysed.",
        columns=("Stage", "Code", "Number", "Example"),
        rows=tuple(lines),
        caption="Each one is in exclusions.csv.",
    )


def trials_table(cohort: Cohort) -> Table:
    """What the cohort's definition says of each trial."""

    def yes(value: bool | None) -> str:  # noqa: FBT001 - a cell's value
        return DASH if value is None else "yes" if value else "no"

    rows = [
        (
            trial.name,
            trial.registry_id or DASH,
            trial.design or DASH,
            yes(trial.randomised),
            shown_count(trial.n_randomised),
            trial.papillary or DASH,
            trial.healthy_rule or DASH,
            trial.permission or DASH,
        )
        for trial in cohort.trials
    ]
    columns = (
        "Trial",
        "Registry",
        "Design",
        "Randomised",
        "Number randomised",
        "Papillary muscles in reported values",
        "Rule for healthy",
        "Permission",
    )
    stated = [at for at in range(len(columns)) if any(row[at] != DASH for row in rows)]
    return Table(
        title="Trials as the cohort's definition states them.",
        columns=tuple(columns[at] for at in stated),
        rows=tuple(tuple(row[at] for at in stated) for row in rows),
    )


def card_facts(card: ModelCard, model_sha256: str) -> tuple[tuple[str, str], ...]:
    """What the model's card says, as names and values."""
    document: Mapping[str, Any] = card.document
    training = document.get("training") or {}
    held_out = training.get("held_out") or ()
    accuracy = document.get("accuracy") or {}
    dice = ", ".join(
        f"{name} {accuracy[key]:.3f}"
        for key, name in (("lv_mean", "LV"), ("myo_mean", "myocardium"), ("rv_mean", "RV"))
        if isinstance(accuracy.get(key), int | float)
    )
    facts = [
        ("Model", card.model_id),
        ("SHA-256 of the model file", model_sha256),
        ("Description", str(document.get("description", ""))),
        ("Use", str(document.get("intended_use", ""))),
        ("Licence of the weights", str(document.get("licence", ""))),
        ("Training data", "; ".join(str(line) for line in training.get("data") or ())),
        ("Held out, never trained on", f"{len(held_out)} patients" if held_out else ""),
        ("Dice on those held out", f"{dice} (mean of ED and ES)" if dice else ""),
        ("Vendors with RV evidence", ", ".join(card.rv_vendors) or "none"),
    ]
    return tuple((name, value) for name, value in facts if value)


_IDENTITY_KEPT = (
    "The DICOM SEG objects of this output (ed.seg.dcm, es.seg.dcm) carry the identity of patient "
    "and study, as --dicom-identity keep asks for: treat the folder as the images themselves."
)


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
    """The whole page as text; ``items`` come from `gallery.gallery_items`.

    ``identity_kept``: DICOM objects in the output name the patient and study of their source;
    ``ed_es_alone``: the run was made with ``--frames ed-es``.
    """
    told = methods_text(
        tables.measurements, card, identity_kept=identity_kept, ed_es_alone=ed_es_alone
    )
    sections = [
        _flow_section(tables, cohort),
        _measures_section(tables.measurements),
        _agreement_section(tables.measurements, cohort),
        _quality_section(tables, items),
        _methods_section(told, card, model_sha256),
        Section(
            "Gallery",
            "gallery",
            (
                Paragraph(
                    "ED above, ES below, base at the left; the small numbers are the slices of "
                    "the source, from 0. Under a scan that a reader corrected stands the model's "
                    "own result. Scans for review come first, then failed ones."
                ),
                gallery_html(items),
            ),
        ),
    ]
    return page_html(
        f"Cardiac MRI measurements: {cohort.name}",
        _subtitle(tables),
        [section for section in sections if section is not None],
        internal=True,
        notices=(
            *accounting_problems(tables.flow),
            *mixed_models_notice(tables.measurements),
            *((_IDENTITY_KEPT,) if identity_kept else ()),
            *cohort.warnings,
        ),
    )


def _subtitle(tables: CohortTables) -> str:
    measurements = tables.measurements
    counts = (
        (measurements["trial"].nunique(), "trial"),
        (len(tables.participants), "participant"),
        (len(measurements), "scan"),
    )
    return " · ".join(f"{shown_count(n)} {name}{'' if n == 1 else 's'}" for n, name in counts)


def _flow_section(tables: CohortTables, cohort: Cohort) -> Section:
    notes = SideNotes(
        not_obtained=tuple(
            (f"{entry.trial} ({entry.reason})", entry.n_participants)
            for entry in cohort.not_obtained
        ),
        failed=_by_code(_of_failed(tables)),
        excluded=_by_code(tables.exclusions[tables.exclusions["stage"] == "participant"]),
    )
    return Section(
        "Trials, participants and scans",
        "flow",
        (
            flow_figure(tables.flow, notes),
            flow_table(tables.flow),
            trials_table(cohort),
            exclusion_table(tables.exclusions),
        ),
    )


def _of_failed(tables: CohortTables) -> pd.DataFrame:
    """Exclusions of scans that have a row and failed; visits without images have no row."""
    key = ["trial", "participant_id", "visit"]
    scans = tables.exclusions[tables.exclusions["stage"] == "scan"]
    failed = tables.measurements.loc[tables.measurements["status"] == "failed", key]
    names = set(failed.itertuples(index=False, name=None))
    chosen = [row in names for row in scans[key].itertuples(index=False, name=None)]
    # As an array: an empty list would choose columns, not rows.
    return scans.loc[np.array(chosen, dtype=bool)]


def _by_code(exclusions: pd.DataFrame) -> tuple[tuple[str, int | None], ...]:
    """Codes with their numbers, the most frequent first."""
    counts = Counter(str(code) for code in exclusions["code"])
    return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _measures_section(measurements: pd.DataFrame) -> Section:
    if not (measurements["status"] != "failed").any():
        return Section("Measures", "measures", (Notice("No scan could be measured."),))
    return Section("Measures", "measures", (summary_table(measurements),))


def _agreement_section(measurements: pd.DataFrame, cohort: Cohort) -> Section | None:
    measures = compared_measures(measurements)
    if not measures:
        return None
    other = [trial.name for trial in cohort.trials if trial.papillary not in (None, PAPILLARY)]
    warnings: tuple[Notice, ...] = ()
    if other:
        warnings = (
            Notice(
                f"The values reported by {', '.join(other)} count papillary muscles as "
                "myocardium, the harmonised ones as blood pool: volumes, EF and mass differ for "
                "that reason alone."
            ),
        )
    return Section(
        "Agreement with reported values",
        "agreement",
        (
            *warnings,
            agreement_figure(measurements, measures),
            agreement_table(measurements, measures),
        ),
    )


def _quality_section(tables: CohortTables, gallery: Gallery) -> Section:
    return Section(
        "Quality",
        "quality",
        tuple(
            table
            for table in (
                status_table(tables.measurements),
                correction_table(tables.measurements),
                flag_table(gallery.flags, gallery.scans),
            )
            if table is not None
        ),
    )


def _methods_section(told: str, card: ModelCard, model_sha256: str) -> Section:
    limits = card.document.get("limits") or ()
    blocks: list[Any] = [
        Paragraph(told),
        Facts(card_facts(card, model_sha256)),
    ]
    if limits:
        blocks += [
            Paragraph("Limits of the model:"),
            Bullets(tuple(str(limit) for limit in limits)),
        ]
    return Section("Methods and model", "methods", tuple(blocks))


def _models(measurements: pd.DataFrame) -> list[str]:
    """The models of the scans, a name with the start of its file's hash; empty where unknown."""
    if not {"model_id", "model_sha256"} <= set(measurements.columns):
        return []
    known = measurements.dropna(subset=["model_sha256"])
    names: dict[str, str] = {}
    for name, digest in zip(known["model_id"], known["model_sha256"], strict=True):
        # A scan that failed before the network has the hash alone.
        names[str(digest)] = str(name) if isinstance(name, str) else names.get(str(digest), "")
    return sorted(f"{name} {digest[:8]}".strip() for digest, name in names.items())


def mixed_models_notice(measurements: pd.DataFrame) -> tuple[str, ...]:
    """A sentence for the top of the page where scans were segmented with different models."""
    models = _models(measurements)
    if len(models) < 2:
        return ()
    text = (
        f"Scans were segmented with {len(models)} models ({', '.join(models)}): a difference "
        "between scans, visits or trials may be one between models."
    )
    return (text,)


def methods_text(
    measurements: pd.DataFrame,
    card: ModelCard,
    *,
    identity_kept: bool = False,
    ed_es_alone: bool = False,
) -> str:
    """Sentences for a paper's methods, with what was really used."""
    formulas = sorted({str(name) for name in measurements["bsa_formula"].dropna() if str(name)})
    names = {"mosteller": "Mosteller's formula", "dubois": "the formula of DuBois & DuBois"}
    area = " and ".join(names.get(name, name) for name in formulas)
    indexed = f" Body surface area was computed by {area}." if area else ""
    models = _models(measurements)
    how = (
        f"one model ({card.model_id})"
        if len(models) < 2
        else f"{len(models)} models ({', '.join(models)}), so that differences between their scans "
        "may be differences between models,"
    )
    mended = int(corrected_rows(measurements).sum())
    corrected = (
        f" {shown_count(mended)} scan{' was' if mended == 1 else 's were'} corrected by a reader, "
        "and the measures are those of the corrected masks."
        if mended
        else ""
    )
    pairs = int((measurements["frames"] == 2).sum())
    given = (
        f" {shown_count(pairs)} scan{'s' if pairs != 1 else ''} had two phases only, taken as "
        "end-diastole and end-systole as they were given."
        if pairs
        else ""
    )
    phases = "End-diastole and end-systole were the extremes of each ventricle's volume over the "
    phases += "cycle."
    if ed_es_alone:
        phases = (
            "End-diastole and end-systole were the extremes of the LV's volume over the cycle by a "
            "coarse segmentation of all phases; these two phases alone were segmented in full, and "
            "the RV was measured at the same two."
        )
    return (
        f"Short-axis cine images of all trials were segmented with {how} by cardiometa "
        f"{version()}.{corrected} {phases}{given} Volumes are sums of area "
        "times slice distance; LV mass is myocardial volume at end-diastole times "
        f"{MYOCARDIUM_G_PER_ML:g} g/mL; papillary muscles and trabeculae count as blood pool."
        f"{indexed} Scans that failed have no measures; scans marked for review are in the table "
        "and should be looked at. No name, date or other identity from an image's header is in "
        f"any output{' but the DICOM SEG objects' if identity_kept else ''}."
    )

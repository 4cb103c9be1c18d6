"""``report.html`` of ``segment``: what came in, what was measured, and every scan to look at.

The page shows individuals, for the holder of the cohort, and says so at its top.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..measurement.measures import MYOCARDIUM_G_PER_ML, PAPILLARY
from ..provenance import version
from .agreement_figure import agreement_figure, agreement_table, compared_measures
from .flow_figure import SideNotes, accounting_problems, flow_figure
from .gallery import Gallery, gallery_html
from .numbers import shown_count
from .page import Bullets, Facts, Notice, Paragraph, Section, page_html
from .segment_tables import (
    card_facts,
    corrected_rows,
    correction_table,
    exclusion_table,
    flag_table,
    flow_table,
    status_table,
    summary_table,
    trials_table,
)

if TYPE_CHECKING:
    import pandas as pd

    from ..cohort.records import Cohort, CohortTables
    from ..segmentation.card import ModelCard


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

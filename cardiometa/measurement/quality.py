"""Flags of a scan: raised from the table of rules, merged, and added up to a status.

The thresholds stand in `flag_rules`; here are the sums that need no image: merging, the status by
the contract, the model's evidence by vendor, and the scans far from the others of their trial.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np

from ..records import Flag, Level, Status
from .flags import FLAG_RULES

_SEVERITY: Mapping[Level, int] = MappingProxyType({"info": 0, "review": 1, "reject": 2})


def limit_of(code: str) -> float:
    """The threshold of a rule; KeyError for an unknown code."""
    limit = FLAG_RULES[code].limit
    if limit is None:
        raise ValueError(f"the flag {code} has no threshold")
    return limit


def raised(code: str, *, where: str = "", **values: float) -> Flag:
    """The flag of a rule with its sentence filled in."""
    rule = FLAG_RULES[code]
    sentence = rule.sentence.format(where=where, limit=rule.limit, **values)
    return Flag(code=code, level=rule.level, sentence=sentence)


def merge_flags(*groups: Iterable[Flag]) -> tuple[Flag, ...]:
    """All flags in order of first mention, one a code, the most severe of each."""
    merged: dict[str, Flag] = {}
    for group in groups:
        for flag in group:
            known = merged.get(flag.code)
            if known is None or _SEVERITY[flag.level] > _SEVERITY[known.level]:
                merged[flag.code] = flag
    return tuple(merged.values())


def status_of(flags: Iterable[Flag]) -> Status:
    """``failed`` with a flag that rejects, ``review`` with one for review, else ``ok``."""
    levels = {flag.level for flag in flags}
    if "reject" in levels:
        return "failed"
    return "review" if "review" in levels else "ok"


def vendor_flags(vendor: str | None, card_vendors: Iterable[str]) -> tuple[Flag, ...]:
    """``rv-unvalidated`` where the model's card has no RV evidence for this maker of scanners.

    ``card_vendors`` are those the card lists; names are compared without case, and a longer name
    passes (``SIEMENS Healthineers`` for ``Siemens``). An unknown vendor is flagged too: nobody
    can say that the card covers it.
    """
    if vendor is None or not vendor.strip():
        return (raised("rv-unvalidated", where="an unknown maker"),)
    words = vendor.casefold().split()
    for known in card_vendors:
        wanted = known.casefold().split()
        if wanted and words[: len(wanted)] == wanted:
            return ()
    return (raised("rv-unvalidated", where=vendor),)


def predicted_dice_flags(predicted: float | None) -> tuple[Flag, ...]:
    """``very-low-quality`` (reject) or ``low-quality`` (review) by the predicted mean Dice."""
    if predicted is None:
        return ()
    for code in ("very-low-quality", "low-quality"):
        if predicted < limit_of(code):
            return (raised(code, value=predicted),)
    return ()


# ------------------------------------------------------------------ tier 5

# Volumes and mass are skewed, so they are compared on the log scale; EF as it is.
COHORT_MEASURES: Mapping[str, Literal["log", "plain"]] = MappingProxyType(
    {
        "lv_edv_ml": "log",
        "lv_esv_ml": "log",
        "lv_mass_g": "log",
        "rv_edv_ml": "log",
        "rv_esv_ml": "log",
        "lv_ef_percent": "plain",
        "rv_ef_percent": "plain",
    }
)
FEWEST_SCANS_OF_A_TRIAL = 10


def robust_z(values: np.ndarray) -> np.ndarray:
    """0.6745 (x - median) / MAD (Iglewicz and Hoaglin 1993); NaN stays, all NaN where MAD is 0."""
    known = values[np.isfinite(values)]
    z = np.full(values.shape, np.nan)
    if len(known) == 0:
        return z
    centre = np.median(known)
    spread = np.median(abs(known - centre))
    if spread > 0:
        z = 0.6745 * (values - centre) / spread
    return z


def cohort_flags(
    trials: Sequence[str], values: Mapping[str, np.ndarray]
) -> tuple[tuple[Flag, ...], ...]:
    """Flags of scans far from the others of their trial: one tuple a row, empty for most.

    ``trials`` ``[n]``; ``values`` maps names of `COHORT_MEASURES` to ``[n]``, NaN where a scan has
    no such measure or failed; other names are ignored. Trials with fewer than 10 values of a
    measure are not judged on it.
    """
    codes = np.asarray(trials, dtype=object)
    far: list[list[str]] = [[] for _ in trials]
    for name, scale in COHORT_MEASURES.items():
        if name not in values:
            continue
        column = np.asarray(values[name], dtype=np.float64)
        if scale == "log":
            column = np.log(np.where(column > 0, column, np.nan))
        for trial in dict.fromkeys(trials):
            rows = np.flatnonzero(codes == trial)
            if np.isfinite(column[rows]).sum() < FEWEST_SCANS_OF_A_TRIAL:
                continue
            z = robust_z(column[rows])
            for row, score in zip(rows, z, strict=True):
                if abs(score) > limit_of("cohort-outlier"):
                    far[row].append(f"{name} z {score:+.1f}")
    return tuple(
        (raised("cohort-outlier", where=", ".join(names)),) if names else () for names in far
    )


def visit_flags(
    people: Sequence[object], lv_length_mm: np.ndarray, slice_distance_mm: np.ndarray
) -> tuple[tuple[Flag, ...], ...]:
    """Flags of scans whose LV is slices longer or shorter than at the person's other visits.

    ``people`` ``[n]`` tells whose scan each row is; ``lv_length_mm`` ``[n]`` is what the slices
    with LV cavity at ED cover, NaN where unknown. Compared is the nearest of the other visits, so
    that of three the odd one is told, by the largest slice distance of the person's scans.
    """
    rows_of: dict[object, list[int]] = {}
    for row, person in enumerate(people):
        if np.isfinite(lv_length_mm[row]) and np.isfinite(slice_distance_mm[row]):
            rows_of.setdefault(person, []).append(row)
    flags: list[tuple[Flag, ...]] = [()] * len(people)
    code = "slices-differ-between-visits"
    for rows in rows_of.values():
        for row in rows:
            own = float(lv_length_mm[row])
            others = [float(lv_length_mm[other]) for other in rows if other != row]
            nearest = min(others, key=lambda length: abs(length - own), default=own)
            if abs(own - nearest) > limit_of(code) * float(slice_distance_mm[rows].max()):
                flags[row] = (raised(code, value=own, other=nearest),)
    return tuple(flags)

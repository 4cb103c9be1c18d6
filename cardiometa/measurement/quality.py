"""Flags of a scan: the one table of codes, levels and thresholds, and what they add up to.

Tiers (``imaging.md`` 3): 1 geometry (raised while reading, merged here), 2 segmentation,
3 physiology, 4 model, 5 cohort. Tiers 3 and 5 may ask for a look (`review`) and never remove a
scan: that would cut off responders and the tails of a range.

``not-a-heart-cycle`` (ESV ≥ EDV) is a finding of tier 2 here, and rejects. It is no unusual
heart: labels or files that give it are not those of an ED and an ES, as with two files swapped,
and the EF would be negative. The contract lets only tiers 1, 2 and 4 reject, ``imaging.md`` asks
for the rejection; in tier 2 both hold.

The rates in `FlagRule.evidence` are of the 80 ACDC patients' expert labels (ED with ES), four of
five of them with disease: a flag for review that one expert-read heart in ten would get is set
badly. Cleaning's own codes and limits stand in `cardiometa.segmentation.clean`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from ..records import Flag, Level, Status

Tier = Literal[1, 2, 3, 4, 5]
_SEVERITY: Mapping[Level, int] = MappingProxyType({"info": 0, "review": 1, "reject": 2})


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagRule:
    """One line of the table.

    ``sentence`` is a template filled by `raised`; ``limit`` the threshold in the unit that the
    sentence names, None where the finding is yes or no; ``evidence`` why it stands there.
    """

    code: str
    tier: Tier
    level: Level
    sentence: str
    limit: float | None = None
    evidence: str = ""


_TABLE = (
    # ------------------------------------------------------------ tier 2, segmentation
    FlagRule(
        code="lv-missing",
        tier=2,
        level="reject",
        sentence="LV cavity was not found {where}.",
    ),
    FlagRule(
        code="myocardium-missing",
        tier=2,
        level="reject",
        sentence="No LV myocardium was found at ED, so the cavity's border cannot be trusted.",
    ),
    FlagRule(
        code="rv-missing",
        tier=2,
        level="review",
        sentence="RV cavity was not found {where}; RV measures are empty.",
    ),
    FlagRule(
        code="not-a-heart-cycle",
        tier=2,
        level="reject",
        sentence="LV volume at ES ({esv:.1f} mL) is not below that at ED ({edv:.1f} mL): "
        "not a heart cycle. Of an ED and an ES file, check that they are not swapped.",
    ),
    FlagRule(
        code="rv-not-a-heart-cycle",
        tier=2,
        level="review",
        sentence="RV volume at ES ({esv:.1f} mL) is not below that at ED ({edv:.1f} mL): "
        "RV measures are empty.",
        evidence="no expert-read heart; least RV EF 1.9 %",
    ),
    FlagRule(
        code="lv-frames-missing",
        tier=2,
        level="review",
        sentence="{count:.0f} of {frames:.0f} frames have no LV cavity and were left out.",
    ),
    FlagRule(
        code="rv-frames-missing",
        tier=2,
        level="review",
        sentence="{count:.0f} of {frames:.0f} frames have no RV cavity and were left out.",
    ),
    FlagRule(
        code="few-lv-slices",
        tier=2,
        level="review",
        limit=55.0,
        sentence="The slices with LV cavity at ED cover {value:.0f} mm, below {limit:.0f} mm "
        "(six slices 10 mm apart cover 60): slices may be missing or unlabelled.",
        evidence="in mm, so that six slices 5 mm apart do not pass; least of the experts' 60 mm",
    ),
    FlagRule(
        code="lv-too-short",
        tier=2,
        level="reject",
        limit=30.0,
        sentence="The slices with LV cavity at ED cover {value:.0f} mm, below {limit:.0f} mm: "
        "not a whole ventricle.",
        evidence="half the shortest LV the experts read (60 mm)",
    ),
    FlagRule(
        code="lv-slice-gap",
        tier=2,
        level="review",
        sentence="Slices without LV cavity lie between slices with it ({where}).",
        evidence="no expert-read heart",
    ),
    FlagRule(
        code="rv-slice-gap",
        tier=2,
        level="review",
        sentence="Slices without RV cavity lie between slices with it ({where}).",
        evidence="no expert-read heart",
    ),
    FlagRule(
        code="cavity-not-enclosed",
        tier=2,
        level="review",
        limit=0.1,
        sentence="{value:.0%} of the LV cavity's border at {where} has no myocardium beside it, "
        "more than {limit:.0%}.",
        evidence="most in an expert-read heart 1.7 %",
    ),
    FlagRule(
        code="several-components",
        tier=2,
        level="review",
        limit=0.1,
        sentence="{value:.0%} of the {where} lies apart from its main part, "
        "more than {limit:.0%}.",
        evidence="most in an expert-read heart 3.9 %",
    ),
    FlagRule(
        code="centroid-jump",
        tier=2,
        level="review",
        limit=15.0,
        sentence="The LV's centre in a slice lies {value:.0f} mm off the line between its "
        "neighbours at {where}, more than {limit:.0f} mm: slices shifted or mislabelled.",
        evidence="1 of 80 expert-read hearts (28 mm); 95 % lie below 11 mm",
    ),
    FlagRule(
        code="base-at-stack-end",
        tier=2,
        level="info",
        limit=0.5,
        sentence="At ED the most basal slice of the stack holds LV cavity at {value:.0%} of its "
        "largest area: the base may reach beyond the stack and volumes read low.",
        evidence="usual: most ACDC stacks begin inside the LV, so it only informs",
    ),
    FlagRule(
        code="apex-at-stack-end",
        tier=2,
        level="info",
        limit=0.25,
        sentence="At ED the most apical slice of the stack holds LV cavity at {value:.0%} of its "
        "largest area: the apex may reach beyond the stack.",
        evidence="one expert-read heart in ten",
    ),
    FlagRule(
        code="apex-cut",
        tier=2,
        level="review",
        limit=0.45,
        sentence="At ED the most apical slice of the stack holds LV cavity at {value:.0%} of its "
        "largest area, more than {limit:.0%}: the apex was not imaged and volumes read low.",
        evidence="most in an expert-read heart 42 %",
    ),
    # ------------------------------------------------------------ tier 3, physiology
    FlagRule(
        code="ef-low",
        tier=3,
        level="review",
        limit=10.0,
        sentence="LV EF of {value:.1f} % is below {limit:.0f} %.",
        evidence="least of the experts' 10.5 %, in dilated cardiomyopathy",
    ),
    FlagRule(
        code="ef-high",
        tier=3,
        level="review",
        limit=85.0,
        sentence="LV EF of {value:.1f} % is above {limit:.0f} %.",
        evidence="most of the experts' 81.9 %, in hypertrophic cardiomyopathy",
    ),
    FlagRule(
        code="sv-mismatch",
        tier=3,
        level="info",
        limit=0.25,
        sentence="LV and RV stroke volumes ({lv:.0f} and {rv:.0f} mL) differ by {value:.0%} of "
        "the larger, more than {limit:.0%}.",
        evidence="half of the expert-read hearts (valve disease, basal slices): it only informs",
    ),
    FlagRule(
        code="sv-mismatch-large",
        tier=3,
        level="review",
        limit=0.6,
        sentence="LV and RV stroke volumes ({lv:.0f} and {rv:.0f} mL) differ by {value:.0%} of "
        "the larger, more than {limit:.0%}: often a lost or leaking RV, or regurgitation.",
        evidence="1 expert-read heart in 16; 1 in 8 at 50 %",
    ),
    FlagRule(
        code="mass-change",
        tier=3,
        level="info",
        limit=0.2,
        sentence="Myocardial volume at ES differs by {value:.0%} from ED, more than {limit:.0%}.",
        evidence="one expert-read heart in four: it only informs",
    ),
    FlagRule(
        code="mass-change-large",
        tier=3,
        level="review",
        limit=0.35,
        sentence="Myocardial volume at ES differs by {value:.0%} from ED, more than {limit:.0%}.",
        evidence="95 % of expert-read hearts lie below 31 %",
    ),
    FlagRule(
        code="curve-rough",
        tier=3,
        level="review",
        limit=0.15,
        sentence="The LV volume curve is rough: a frame typically lies {value:.0%} of the curve's "
        "range off its neighbours, more than {limit:.0%}.",
        evidence="model curves of 12 to 50 frames stay below 12 %; noise of 2 % of EDV at EF 12 % "
        "reaches 15 %",
    ),
    FlagRule(
        code="curve-spike",
        tier=3,
        level="info",
        sentence="The LV volume of single frames ({where}) leaves both neighbours as no heart "
        "does; they were passed over for ED and ES.",
    ),
    # ------------------------------------------------------------ tier 4, model
    FlagRule(
        code="rv-unvalidated",
        tier=4,
        level="info",
        sentence="The model's card has no evidence for the RV on scanners of {where}.",
    ),
    # ------------------------------------------------------------ tier 5, cohort
    FlagRule(
        code="cohort-outlier",
        tier=5,
        level="review",
        limit=4.0,
        sentence="Far from the other scans of its trial: {where} (robust z beyond {limit:g}).",
        evidence="no expert-read heart; largest of 560 values 3.7",
    ),
)  # fmt: skip

FLAG_RULES: Mapping[str, FlagRule] = MappingProxyType({rule.code: rule for rule in _TABLE})


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

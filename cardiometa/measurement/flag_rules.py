"""The one table of flags: code, tier, level, threshold, sentence, and why it stands there.

Tiers (``imaging.md`` 3): 1 geometry (raised while reading, merged with these), 2 segmentation,
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

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ..records import Level

Tier = Literal[1, 2, 3, 4, 5]


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
        limit=0.0,
        sentence="Slices without LV cavity lie between slices with it ({where}).",
        evidence="no expert-read heart",
    ),
    FlagRule(
        code="rv-slice-gap",
        tier=2,
        level="review",
        limit=0.02,
        sentence="Slices without RV cavity part {value:.0%} of it from the rest ({where}), more "
        "than {limit:.0%}.",
        evidence="no expert-read heart; specks at the apex in 3 of 80 model-read ones",
    ),
    FlagRule(
        code="more-slices-at-es",
        tier=2,
        level="review",
        sentence="More slices hold LV cavity at ES ({es:.0f}) than at ED ({ed:.0f}): the base "
        "descends in systole, so one of the ends is mislabelled.",
        evidence="no expert-read heart; 34 of 80 lose one to three slices",
    ),
    FlagRule(
        code="cut-by-image-edge",
        tier=2,
        level="review",
        limit=8.0,
        sentence="At {where} {value:.0f} mm of the image's edge lie in the heart, more than "
        "{limit:.0f} mm: the field of view cuts it and volumes read low.",
        evidence="no expert-read heart touches the edge",
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
        code="end-slice-jump",
        tier=2,
        level="review",
        limit=25.0,
        sentence="The LV's centre in an outermost slice lies {value:.0f} mm from that in the next "
        "at {where}, more than {limit:.0f} mm: slices shifted or mislabelled.",
        evidence="1 of 80 expert-read hearts, the one with centroid-jump",
    ),
    FlagRule(
        code="lv-area-jump",
        tier=2,
        level="review",
        limit=1.5,
        sentence="A slice holds {value:.1f} times the LV (cavity and wall) of the larger of its "
        "neighbours at {where}, more than {limit:.1f}: another structure may be labelled.",
        evidence="most in an expert-read heart 1.24; 2.5 where a model took the atrium",
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
        limit=0.12,
        sentence="The LV volume curve is rough: a frame typically lies {value:.0%} of the curve's "
        "range off its neighbours, more than {limit:.0%}.",
        evidence="smooth beats of 12 to 50 frames stay below 8 %, first model curves at 4 to 6 %; "
        "noise of a fifth of the stroke volume gives 15 %",
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
    FlagRule(
        code="low-quality",
        tier=4,
        level="review",
        limit=0.82,
        sentence="The Dice predicted of these labels is {value:.2f}, below {limit:.2f}: "
        "the model is unsure of this scan.",
        evidence="of 272 images of 20 held-out hearts made worse by degrees (patients left out of "
        "the fit) it finds 95 % of those with a mean Dice below 0.8 and 4 % of the others; none "
        "of the 20 as they are",
    ),
    FlagRule(
        code="very-low-quality",
        tier=4,
        level="reject",
        limit=0.5,
        sentence="The Dice predicted of these labels is {value:.2f}, below {limit:.2f}: "
        "the model did not find this heart.",
        evidence="28 of those 272 images: mean Dice 0.15, at most 0.56",
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
    FlagRule(
        code="slices-differ-between-visits",
        tier=5,
        level="info",
        limit=1.5,
        sentence="The LV at ED covers {value:.0f} mm here and {other:.0f} mm at another "
        "visit of the person, more than {limit:g} slices apart: a basal slice may be counted at "
        "one visit alone.",
        evidence="one slice is the play of where a stack is laid, two are not",
    ),
)  # fmt: skip

FLAG_RULES: Mapping[str, FlagRule] = MappingProxyType({rule.code: rule for rule in _TABLE})

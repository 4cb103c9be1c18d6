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
badly. Cleaning's own codes and limits stand in `cardiometa.segmentation.cleaning`.

All flags of all tiers as one Markdown table (``examples/flags.md``), made from the rules.

The flags of tiers 2 to 5 have their rules in `flag_rules`; those that are raised while reading,
cleaning or mending stand here with what they mean, so that the table is whole.

| status | when |
|---|---|
| `failed` | a flag of level reject, or the scan could not be read: no measures, the row stays |
| `review` | a flag of level review and none that rejects: measures stand, a person should look |
| `ok` | neither; flags of level info may be there |

``review`` scans stay in every table and are used by the statistics commands unless ``--status
ok``; every headline is also given without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagNote:
    """What a flag that has its rule in another folder means; ``level`` as it may be raised."""

    code: str
    tier: Tier
    level: str
    meaning: str


def _note(tier: Tier, level: str, code: str, meaning: str) -> FlagNote:
    return FlagNote(code=code, tier=tier, level=level, meaning=meaning)


_NOTES = (
    # Raised while reading, of the stack.
    _note(
        1,
        "review",
        "missing_slices",
        "a gap is 1.75 times the others or more: slices missing inside",
    ),
    _note(
        1,
        "review",
        "irregular_gaps",
        "gaps differ by over 5 %; a slice weighs half the gaps beside it",
    ),
    _note(
        1,
        "info",
        "slice_distance_conflict",
        "the header's distance is 10 % off that of the positions used",
    ),
    _note(1, "review", "tilted_slices", "slices tilted by more than 1 degree were resampled"),
    _note(
        1, "info", "shifted_slices", "slices shifted by more than 1 mm in the plane were resampled"
    ),
    _note(1, "review", "resampled_slices", "slices of another matrix or pixel size were resampled"),
    _note(1, "info", "repeated_slices", "slices acquired again: the complete and latest is used"),
    _note(1, "review", "several_studies", "short-axis cine of more than one examination"),
    _note(1, "review", "mixed_sequences", "slices of more than one kind of sequence"),
    _note(
        1, "review", "unusual_plane", "the slices' normal is far from the heart's usual long axis"
    ),
    _note(
        1, "review", "plane_forced", "an axial, coronal or sagittal stack named by --series-regex"
    ),
    _note(1, "review", "spacing_conflict", "a NIfTI's pixdim and affine disagree; pixdim is used"),
    _note(1, "info", "length_unit", "a NIfTI's lengths were converted to mm"),
    _note(1, "review", "sheared", "slices lean against their normal; distance is along the normal"),
    _note(1, "review", "non_finite", "voxels that are not numbers are read as 0"),
    # Raised while reading, of time.
    _note(1, "review", "few_phases", "below 20 phases: EDV and EF read low"),
    _note(1, "review", "very_few_phases", "below 12 phases: not for reference ranges"),
    _note(1, "review", "many_phases", "above 60 phases: perhaps several beats"),
    _note(1, "review", "slow_frames", "above 50 ms a frame: end systole may be missed"),
    _note(1, "review", "missing_frames", "frames missing; the nearest phase stands in, told"),
    _note(1, "info or review", "phase_mismatch", "slices with other phases, aligned by RR"),
    _note(1, "info", "phase_count", "the header announces another number of phases"),
    _note(1, "info", "time_from_order", "no trigger times: phases ordered by another key"),
    _note(1, "info", "time_unknown", "a NIfTI's time step cannot be that of a cine"),
    _note(1, "info", "prospective", "frames cover less than 90 % of the RR interval"),
    # Raised by search and cleaning.
    _note(2, "review", "heart-not-found", "the field of view's centre was segmented instead"),
    _note(2, "info", "labels-cleaned", "more than 1 % of a ventricle's labels removed"),
    _note(2, "review", "labels-cleaned-much", "more than 10 % of a ventricle's labels removed"),
    _note(2, "info", "open-end-slices", "end slices less than half enclosed are no LV"),
    # Raised of masks that a reader mended.
    _note(2, "info", "corrected", "a reader mended the mask; measures are those of it"),
    _note(2, "info", "correction-unchanged", "a reader's mask equals the model's"),
    _note(2, "review", "correction-far-from-model", "a mended mask unlike the model's"),
    _note(2, "info", "correction-phase-kept", "ED or ES held at the frame that a reader mended"),
)

FLAG_NOTES: Mapping[str, FlagNote] = MappingProxyType({note.code: note for note in _NOTES})

_TIERS: Mapping[int, str] = MappingProxyType(
    {
        1: "geometry and timing, while reading",
        2: "segmentation",
        3: "physiology (asks for a look, never removes a scan)",
        4: "model",
        5: "cohort, at gathering (asks for a look, never removes a scan)",
    }
)
_HEAD = """# Flags

Made from the program's own rules; a test keeps it so. Every flag of a scan stands in the column
`flags` of `measurements.csv` and, with its sentence, in the scan's `result.json`.

| status | when |
|---|---|
| `failed` | a flag of level reject, or the scan could not be read: no measures, the row stays |
| `review` | a flag of level review and none that rejects: measures stand, a person should look |
| `ok` | neither; flags of level info may be there |

Only tiers 1, 2 and 4 may reject. In tier 1 a scan is rejected by not being read: the reason is
then the flag (`no-images`, `too-few-phases` …). Three more reasons are no finding about the
images, and the next run tries the scan again: `timeout` (longer than `--timeout`; tried with more
time), `worker-killed` (its process died of it twice: a crash in a decoder, or too little memory)
and `program-fault`. Scans for review stay in every table and come first in the report; statistics
use them unless `--status ok` and give every headline without them too.
"""


def flags_markdown() -> str:
    """The text of ``examples/flags.md``."""
    return _HEAD + "".join(_tier_lines(tier) for tier in _TIERS)


def _tier_lines(tier: int) -> str:
    lines = [f"\n## Tier {tier}: {_TIERS[tier]}\n\n", "| code | level | limit | meaning | why |\n"]
    lines.append("|---|---|---|---|---|\n")
    lines += [f"| {' | '.join(cells)} |\n" for cells in _rows(tier)]
    return "".join(lines)


def _rows(tier: int) -> Iterator[tuple[str, str, str, str, str]]:
    for note in FLAG_NOTES.values():
        if note.tier == tier:
            yield f"`{note.code}`", note.level, "", note.meaning, ""
    for rule in FLAG_RULES.values():
        if rule.tier == tier:
            limit = "" if rule.limit is None else f"{rule.limit:g}"
            yield f"`{rule.code}`", rule.level, limit, _meaning(rule), rule.evidence


def _meaning(rule: FlagRule) -> str:
    """A rule's sentence with its limit, its other values as …, and without its full stop."""
    text = ""
    for literal, name, form, _ in Formatter().parse(rule.sentence):
        text += literal
        if name == "limit" and rule.limit is not None:
            text += format(rule.limit, form or "")
        elif name:
            text += "…"
    return text.rstrip(".")

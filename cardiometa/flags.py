"""The one table of flags: code, tier, level, threshold, sentence, and why the threshold lies there.

Tiers (``imaging.md`` 3): 1 geometry and timing, 2 segmentation, 3 physiology, 4 model, 5 cohort.
Tiers 3 and 5 may ask for a review and never remove a scan: that would cut off responders and the
tails of a range. ``examples/flags.md`` is made from the table.

``not-a-heart-cycle`` (ESV ≥ EDV) is a finding of tier 2 here, and rejects. It is not an unusual
heart: labels or files that give it are not those of an ED and an ES, as with two files swapped,
and the EF would be negative. The contract lets only tiers 1, 2 and 4 reject, ``imaging.md`` asks
for the rejection; in tier 2 both are met.

The rates in `FlagRule.evidence` are of the 80 ACDC patients' expert labels (ED with ES), four of
five of them with disease: a flag for review that one expert-read heart in ten would get has a
poorly chosen threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .records import Flag, Level, Status

_SEVERITY: Mapping[Level, int] = MappingProxyType({"info": 0, "review": 1, "reject": 2})


@dataclass(frozen=True, slots=True)
class FlagRule:
    """One line of the table.

    ``sentence`` is a template filled by `raised`; ``limit`` the threshold in the unit that the
    sentence names, None where the finding is yes or no; ``evidence`` why it lies there.
    """

    code: str
    tier: int
    level: Level
    sentence: str
    limit: float | None = None
    evidence: str = ""


# fmt: off
_TABLE = (
    # ------------------------------------------------------------ tier 1, geometry
    FlagRule("missing-slices", 1, "review", limit=1.75,
        sentence="About {count} slices seem to be missing inside the stack.",
        evidence="a gap is that many times the median gap, or more"),
    FlagRule("irregular-gaps", 1, "review", limit=0.05,
        sentence="Slice gaps run from {low:.1f} to {high:.1f} mm; each slice is weighted by half "
        "of the two gaps next to it.",
        evidence="share by which a gap differs from the median; differences below 0.5 mm pass"),
    FlagRule("slice-distance-conflict", 1, "info", limit=0.1,
        sentence="SpacingBetweenSlices says {stated:.1f} mm, the positions say {value:.1f} mm; the "
        "positions are used."),
    FlagRule("tilted-slices", 1, "review",
        "{count} slices are tilted by more than 1 degree and were resampled."),
    FlagRule("shifted-slices", 1, "info",
        "{count} slices are shifted by more than 1 mm in the plane and were resampled."),
    FlagRule("resampled-slices", 1, "review",
        "{count} slices of another matrix or pixel size were resampled."),
    FlagRule("repeated-slices", 1, "info",
        "Some slices were acquired again; the complete and latest ones are used."),
    FlagRule("several-studies", 1, "review",
        "The source contains short-axis cine of {count} examinations; check that it is one visit "
        "of one participant."),
    FlagRule("studies-joined", 1, "info",
        "The slices have {count} StudyInstanceUIDs and one frame of reference: they are read as "
        "one examination."),
    FlagRule("several-cines", 1, "review",
        "{count} folders each contain a complete short-axis cine at the same places, and the "
        "headers name one examination; one cine is read. Check that they are repeats in one "
        "participant, not several participants or visits with the same identifiers."),
    FlagRule("other-state", 1, "review",
        "{count} acquisitions at these places are of another state ({where}) and were left out: "
        "slices of rest and stress are never mixed. Check that the right state is measured."),
    FlagRule("heart-rate-varies", 1, "review", limit=0.15,
        sentence="The RR interval of {count} slices lies {limit:.0%} or more from that of the "
        "others ({where}): check that all slices are of one state."),
    FlagRule("several-frames-of-reference", 1, "review",
        "The slices have {count} frames of reference: the participant may have been moved between "
        "them, so that slices do not fit together."),
    FlagRule("repeated-other-geometry", 1, "review",
        "{count} slices were acquired again with another field of view, pixel size or tilt and "
        "are not used: check which ones are meant."),
    FlagRule("lost-images", 1, "review",
        "{count} images of this stack cannot be read: they are damaged, empty, protected or "
        "without a place{where}. Volumes may read low."),
    FlagRule("sparse-stack", 1, "review", limit=12.0,
        sentence="The slices lie {value:.1f} mm apart ({where}): slices may be missing, and "
        "volumes are coarse."),
    FlagRule("mixed-sequences", 1, "review",
        "Slices of this stack were acquired with different kinds of sequence."),
    FlagRule("unusual-plane", 1, "review", limit=50.0,
        sentence="The slices' normal lies {value:.0f} degrees from the usual long axis of the "
        "heart; check that this is a short-axis stack."),
    FlagRule("plane-forced", 1, "review",
        "The stack named by --series-regex is {where}; check that it is a short axis."),
    FlagRule("spacing-conflict", 1, "review",
        "The voxel size is {pixdim} mm by pixdim and {affine} mm by the affine; pixdim is used."),
    FlagRule("length-unit", 1, "info",
        "The header gives lengths in {where}; they were converted to mm."),
    FlagRule("sheared", 1, "review",
        "The slices are sheared against their normal; distances are taken along the normal."),
    FlagRule("non-finite", 1, "review", "{count} voxels were not numbers and are read as 0."),
    # ------------------------------------------------------------ tier 1, time
    FlagRule("few-phases", 1, "review", limit=20,
        sentence="The cine has {value:g} phases; below {limit:g}, EDV and EF read low and "
        "rates of ejection and filling are not given."),
    FlagRule("very-few-phases", 1, "review", limit=12,
        sentence="The cine has {value:g} phases; below {limit:g} it is not used for reference "
        "ranges."),
    FlagRule("many-phases", 1, "review", limit=60,
        sentence="The cine has {value:g} phases; more than {limit:g} may be several beats."),
    FlagRule("slow-frames", 1, "review", limit=50,
        sentence="A frame lasts {value:.0f} ms; above {limit:g} ms end systole may be missed."),
    FlagRule("missing-frames", 1, "review", "{count} frames are missing from the series; {where}."),
    FlagRule("phase-mismatch", 1, "review", limit=0.75,
        sentence="{count} slices have other phases than the rest; the nearest by fraction of the "
        "RR interval is used (at most {value:.1f} frames away).",
        evidence="info up to that many frames where trigger times are known"),
    FlagRule("phase-count", 1, "info",
        "The header announces {declared} phases; {count} were found and used."),
    FlagRule("time-from-order", 1, "info",
        "The phases are ordered by {where}: the header gives no usable trigger times."),
    FlagRule("time-unknown", 1, "info",
        "The header's time step or its unit cannot be that of a cine; frame times and "
        "rates of ejection and filling are unknown."),
    FlagRule("prospective", 1, "info", limit=0.9,
        sentence="The frames cover {value:.0%} of the RR interval: late filling is not imaged, so "
        "EDV and SV may read low, and rates of ejection and filling are not given."),
    # ------------------------------------------------------------ tier 2, segmentation
    FlagRule("heart-not-found", 2, "review",
        "The heart was not found in the field of view; its centre was used."),
    FlagRule("labels-cleaned", 2, "info", limit=0.01,
        sentence="Cleaning removed {where} labels, which lay apart from the heart."),
    FlagRule("labels-cleaned-much", 2, "review", limit=0.1,
        sentence="Cleaning removed {where} labels, which lay apart from the heart."),
    FlagRule("open-end-slices", 2, "info", limit=0.5,
        sentence="In {count} of {phases} phases end slices were not counted as LV: myocardium "
        "encloses less than half of their cavity."),
    FlagRule("slices-above-base", 2, "info", limit=0.7,
        sentence="In {count} of {phases} phases basal slices were not counted as LV: their wall is "
        "less than {limit:g} times as thick as that of the next slice, as an atrium's is, or their "
        "cavity less than half as large, or they come and go within the beat.",
        evidence="4 of the 23 basal slices at ES that have a slice above them in 80 expert-read "
        "hearts, none at ED"),
    FlagRule("wall-beyond-cavity", 2, "info",
        "In {count} of {phases} phases myocardium beyond the last slice with LV cavity was "
        "removed: it does not count as mass.",
        evidence="no expert-read heart has any at ED; at ES 14 do, in apical slices that have a "
        "cavity at ED, where it stays"),
    FlagRule("corrected", 2, "info",
        "A reader changed {voxels} voxels in {slices} images of {count} frames; the measures are "
        "those of the corrected mask."),
    FlagRule("accepted", 2, "info",
        "A reader checked the contours and accepted them: findings that ask for review are "
        "settled."),
    FlagRule("rejected", 2, "reject", "A reader rejected the scan: {reason}."),
    FlagRule("correction-unchanged", 2, "info",
        "A reader left the model's contours unchanged; the checks still reject them."),
    FlagRule("decision-outdated", 2, "review",
        "A reader's decision ({decision}) was made on another mask of this scan and is not used: "
        "review it again."),
    FlagRule("phases-chosen", 2, "info", "Frames that a reader chose: {where}."),
    FlagRule("correction-far-from-model", 2, "review", limit=0.5,
        sentence="The corrected heart and the model's overlap little (Dice {value:.2f}, below "
        "{limit:g}): check that the mask is of this scan.",
        evidence="Dice of all labels at the model's ED. Two readers of one heart stay above 0.8; "
        "another scan's mask falls far below"),
    FlagRule("correction-phase-kept", 2, "info",
        "Kept at frames that the reader corrected: {where}; frames that were not corrected are "
        "the model's."),
    FlagRule("lv-missing", 2, "reject", "LV cavity was not found {where}."),
    FlagRule("myocardium-missing", 2, "reject",
        "No LV myocardium was found at ED, so the cavity's border cannot be trusted."),
    FlagRule("rv-missing", 2, "review",
        "RV cavity was not found {where}; RV measures are empty."),
    FlagRule("not-a-heart-cycle", 2, "reject",
        "LV volume at ES ({esv:.1f} mL) is not below that at ED ({edv:.1f} mL): not a heart cycle. "
        "Of an ED and an ES file, check that they are not swapped."),
    FlagRule("rv-not-a-heart-cycle", 2, "review",
        "RV volume at ES ({esv:.1f} mL) is not below that at ED ({edv:.1f} mL): RV measures are "
        "empty.",
        evidence="no expert-read heart; least RV EF 1.9 %"),
    FlagRule("lv-frames-missing", 2, "review",
        "{count} of {frames} frames have no LV cavity and were left out."),
    FlagRule("rv-frames-missing", 2, "review",
        "{count} of {frames} frames have no RV cavity and were left out."),
    FlagRule("few-lv-slices", 2, "review", limit=55.0,
        sentence="The slices with LV cavity at ED cover {value:.0f} mm, below {limit:.0f} mm "
        "(six slices 10 mm apart cover 60): slices may be missing or unlabelled.",
        evidence="in mm, so that six slices 5 mm apart do not pass; least of the experts' 60 mm"),
    FlagRule("few-slices-with-lv", 2, "review", limit=6,
        sentence="{value:g} slices have LV cavity at ED; with fewer than {limit:g}, volumes are "
        "coarse."),
    FlagRule("lv-too-short", 2, "reject", limit=30.0,
        sentence="The slices with LV cavity at ED cover {value:.0f} mm, below {limit:.0f} mm: "
        "not a complete ventricle.",
        evidence="half the shortest LV the experts read (60 mm)"),
    FlagRule("lv-slice-gap", 2, "review", limit=0.0,
        sentence="Slices without LV cavity lie between slices with it ({where}).",
        evidence="no expert-read heart"),
    FlagRule("rv-slice-gap", 2, "review", limit=0.02,
        sentence="Slices without RV cavity separate {value:.0%} of it from the rest ({where}), "
        "more than {limit:.0%}.",
        evidence="no expert-read heart; specks at the apex in 3 of 80 model-read ones"),
    FlagRule("rv-basal-slices-missing", 2, "review", limit=12.0,
        sentence="At {where} the {value:.0f} mm of the LV nearest its base have no RV cavity, more "
        "than {limit:.0f} mm (at ES twice that): look whether basal slices of the RV are lost.",
        evidence="at ED no expert-read heart has more than one slice (10 mm), at ES 1 of 80 more "
        "than 20 mm"),
    FlagRule("more-slices-at-es", 2, "review",
        "More slices have LV cavity at ES ({es}) than at ED ({ed}): the base descends in systole, "
        "so one of the ends is mislabelled.",
        evidence="no expert-read heart; 34 of 80 lose one to three slices"),
    FlagRule("cut-by-image-edge", 2, "review", limit=8.0,
        sentence="At {where} {value:.0f} mm of the image's edge lie in the heart, more than "
        "{limit:.0f} mm: the field of view cuts it and volumes read low.",
        evidence="no expert-read heart touches the edge"),
    FlagRule("cavity-not-enclosed", 2, "review", limit=0.1,
        sentence="{value:.0%} of the LV cavity's border at {where} has no myocardium next to it, "
        "more than {limit:.0%}.",
        evidence="most in an expert-read heart 1.7 %"),
    FlagRule("several-components", 2, "review", limit=0.1,
        sentence="{value:.0%} of the {where} lies apart from its main part, more than {limit:.0%}.",
        evidence="most in an expert-read heart 3.9 %"),
    FlagRule("centroid-jump", 2, "review", limit=15.0,
        sentence="The LV's centre in a slice lies {value:.0f} mm off the line between its "
        "neighbours at {where}, more than {limit:.0f} mm: slices shifted or mislabelled.",
        evidence="1 of 80 expert-read hearts (28 mm); 95 % lie below 11 mm"),
    FlagRule("end-slice-jump", 2, "review", limit=25.0,
        sentence="The LV's centre in an outermost slice lies {value:.0f} mm from that in the next "
        "at {where}, more than {limit:.0f} mm: slices shifted or mislabelled.",
        evidence="1 of 80 expert-read hearts, the one with centroid-jump"),
    FlagRule("lv-area-jump", 2, "review", limit=1.5,
        sentence="A slice has {value:.1f} times the LV area (cavity and wall) of the larger of its "
        "neighbours at {where}, more than {limit:.1f}: another structure may be labelled.",
        evidence="most in an expert-read heart 1.24; 2.5 where a model took the atrium"),
    FlagRule("base-at-stack-end", 2, "info", limit=0.8,
        sentence="Even at ES, when the base has moved down, the most basal slice of the stack has "
        "LV and RV cavity at {value:.0%} or more of their largest area: slices above it may be "
        "missing and volumes read low.",
        evidence="8 of 80 expert-read stacks, of which 76 begin inside the LV at ED; 39 of them "
        "with 10 mm of the base cut off, 67 with 20 mm"),
    FlagRule("apex-at-stack-end", 2, "info", limit=0.25,
        sentence="At ED the most apical slice of the stack has LV cavity at {value:.0%} of its "
        "largest area: the apex may reach beyond the stack.",
        evidence="one expert-read heart in ten"),
    FlagRule("apex-cut", 2, "review", limit=0.45,
        sentence="At ED the most apical slice of the stack has LV cavity at {value:.0%} of its "
        "largest area, more than {limit:.0%}: the apex was not imaged and volumes read low.",
        evidence="most in an expert-read heart 42 %"),
    # ------------------------------------------------------------ tier 3, physiology
    FlagRule("ef-low", 3, "review", "LV EF of {value:.1f} % is below {limit:.0f} %.", 10.0,
        evidence="least of the experts' 10.5 %, in dilated cardiomyopathy"),
    FlagRule("ef-high", 3, "review", "LV EF of {value:.1f} % is above {limit:.0f} %.", 85.0,
        evidence="most of the experts' 81.9 %, in hypertrophic cardiomyopathy"),
    FlagRule("sv-mismatch", 3, "info", limit=0.25,
        sentence="LV and RV stroke volumes ({lv:.0f} and {rv:.0f} mL) differ by {value:.0%} of "
        "the larger, more than {limit:.0%}.",
        evidence="half of the expert-read hearts (valve disease, basal slices): it only informs"),
    FlagRule("sv-mismatch-large", 3, "review", limit=0.6,
        sentence="LV and RV stroke volumes ({lv:.0f} and {rv:.0f} mL) differ by {value:.0%} of "
        "the larger, more than {limit:.0%}: often a lost or leaking RV, or regurgitation.",
        evidence="1 expert-read heart in 16; 1 in 8 at 50 %"),
    FlagRule("mass-change", 3, "info", limit=0.2,
        sentence="Myocardial volume at ES differs by {value:.0%} from ED, more than {limit:.0%}.",
        evidence="one expert-read heart in four: it only informs"),
    FlagRule("mass-change-large", 3, "review", limit=0.35,
        sentence="Myocardial volume at ES differs by {value:.0%} from ED, more than {limit:.0%}.",
        evidence="95 % of expert-read hearts lie below 31 %"),
    FlagRule("curve-rough", 3, "review", limit=0.12,
        sentence="The LV volume curve is rough: a frame typically lies {value:.0%} of the curve's "
        "range off its neighbours, more than {limit:.0%}.",
        evidence="smooth beats of 12 to 50 frames stay below 8 %, first model curves at 4 to 6 %; "
        "noise of a fifth of the stroke volume gives 15 %"),
    FlagRule("curve-spike", 3, "info",
        "The LV volume of single frames ({where}) leaves both neighbours as no heart does; they "
        "were passed over for ED and ES."),
    # ------------------------------------------------------------ tier 4, model
    FlagRule("low-quality", 4, "review", limit=0.82,
        sentence="The Dice predicted of these labels is {value:.2f}, below {limit:.2f}: "
        "the model is unsure of this scan.",
        evidence="of 272 images of 20 held-out hearts made worse by degrees (patients left out of "
        "the fit) it finds 95 % of those with a mean Dice below 0.8 and 4 % of the others; none "
        "of the 20 as they are"),
    FlagRule("very-low-quality", 4, "reject", limit=0.5,
        sentence="The Dice predicted of these labels is {value:.2f}, below {limit:.2f}: "
        "the model did not find this heart.",
        evidence="28 of those 272 images: mean Dice 0.15, at most 0.56"),
    FlagRule("ef-uncertain", 4, "review", limit=10.0,
        sentence="The 95 % interval of LV EF is ± {value:.0f} points{scanner}, above {limit:.0f}, "
        "mostly because {where}.",
        evidence="of ACDC hearts not trained on 3 of 20 read by a network trained as long as the "
        "bundled one and 27 of 60 by shorter trained ones, among them all 4 with an EF more than "
        "10 points off"),
    FlagRule("basal-slice-doubtful", 4, "review", limit=5.0,
        sentence="Look at slice {slice} of {slices} (from 1) at {where}: {what}. LV EF would then "
        "be {value:.0f} points {direction}.",
        evidence="7 of 80 ACDC hearts"),
    FlagRule("rv-uncertain", 4, "review", limit=0.3,
        sentence="The 95 % interval of RV EDV is ± {value:.0%} of it{scanner}, above {limit:.0%}, "
        "mostly because {where}.",
        evidence="of the same hearts none and 7, one of them with an RV read 54 mL too small; a GE "
        "heart with a lost RV"),
    # ------------------------------------------------------------ tier 5, cohort
    FlagRule("cohort-outlier", 5, "review", limit=4.0,
        sentence="Far from the other scans of its trial: {where} (robust z beyond {limit:g}).",
        evidence="no expert-read heart; largest of 560 values 3.7"),
    FlagRule("slices-differ-between-visits", 5, "info", limit=1.5,
        sentence="The LV at ED covers {value:.0f} mm here and {other:.0f} mm at another visit of "
        "the participant, more than {limit:g} slices apart: a basal slice may be counted at one "
        "visit alone.",
        evidence="one slice is within the variation of stack placement, two are not"),
    FlagRule("other-participant", 5, "review",
        "Another participant has {what} ({where}): check whose images these are.",
        evidence="an image of two hearts is never equal; a value of the headers that most "
        "participants of a trial have is an anonymiser's and does not count"),
)
# fmt: on

FLAGS: Mapping[str, FlagRule] = MappingProxyType({rule.code: rule for rule in _TABLE})


def limit_of(code: str) -> float:
    """The threshold of a rule; KeyError for an unknown code."""
    limit = FLAGS[code].limit
    if limit is None:
        raise ValueError(f"the flag {code} has no threshold")
    return limit


def raised(code: str, *, level: Level | None = None, **values: float | str) -> Flag:
    """The flag of a rule with its sentence filled in; ``level`` where it differs from the rule."""
    rule = FLAGS[code]
    sentence = rule.sentence.format(limit=rule.limit, **values)
    return Flag(code=code, level=level or rule.level, sentence=sentence)


def merge_flags(*groups: Iterable[Flag]) -> tuple[Flag, ...]:
    """All flags in order of first mention, one per code, the most severe of each."""
    merged: dict[str, Flag] = {}
    for group in groups:
        for flag in group:
            known = merged.get(flag.code)
            if known is None or _SEVERITY[flag.level] > _SEVERITY[known.level]:
                merged[flag.code] = flag
    return tuple(merged.values())


# Findings for review that a reader who accepts the contours does not settle: whose images these
# are, and whether the mask or the decision is of this scan.
_BEYOND_CONTOURS = frozenset(
    {"other-participant", "correction-far-from-model", "decision-outdated"}
)


def status_of(flags: Iterable[Flag]) -> Status:
    """``failed`` with a flag that rejects, ``review`` with one for review, else ``ok``.

    A scan that a reader accepted is for review only by findings that are not about contours.
    """
    found = {flag.code: flag.level for flag in flags}
    if "reject" in found.values():
        return "failed"
    asking = {code for code, level in found.items() if level == "review"}
    if "accepted" in found:
        asking &= _BEYOND_CONTOURS
    return "review" if asking else "ok"

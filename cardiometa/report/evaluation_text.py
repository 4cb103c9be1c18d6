"""The methods of an evaluation as a paper would state them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .page import Block, Bullets, Paragraph

if TYPE_CHECKING:
    from ..evaluation.records import EvaluationResult

GRADE_NAMES: Final = {
    "reduced": "Reduced (≤40%)",
    "mildly-reduced": "Mildly reduced (>40 to <50%)",
    "preserved": "Preserved (≥50%)",
}
_OVERLAP: Final = (
    "Overlap: Dice; Hausdorff 95 is the larger of the two directed 95th percentiles; the mean "
    "surface distance pools both surfaces. Distances are three-dimensional between voxel centres, "
    "slice distance included; a structure one slice longer in one mask is a slice distance away "
    "there. Labels are compared at the reader's frame where the labels tell it, else at the "
    "model's own ED and ES (column frame_source)."
)
_VOLUMES: Final = (
    "Measures of whole stacks: the model's own measures against slice summation of the reader's "
    "labels (mass at 1.05 g/mL). Where a cine has more than ED and ES, the RV is taken at the LV's "
    "phases. Of contour lists both are summed over the contoured slices alone, at the reader's "
    "frames; their volumes are polygon areas."
)
_LIMITS: Final = (
    "Bias: mean difference (people's mean differences where somebody has several scans) with t "
    "interval. Limits of agreement: bias ± 1.96 SD, each by itself with an exact interval (Carkeet "
    "2015); with several scans a person, SD from variances between and within people (Bland & "
    "Altman 2007) and intervals by variance recovery (Zou 2013)."
)
_RELIABILITY: Final = (
    "ICC(2,1), absolute agreement (McGraw & Wong 1996); Lin's concordance (1989, 2000); "
    "within-person CoV by the root-mean-square method; Cohen's kappa with the intervals of Fleiss, "
    "Cohen & Everitt 1969. With several scans a person these intervals are bootstrapped over "
    "people."
)
_EQUIVALENCE: Final = (
    "Equivalence: two one-sided tests at 5%, that is a 90% interval inside ± margin; a group "
    "against the rest by Welch's t. Margins stand before the comparison: by default what a second "
    "scan of the same heart changes (Grothues 2002 and 2004), for ejection fractions 3 points "
    "(after Suinesiaputra 2015)."
)
_RESCAN: Final = (
    "Scan and rescan: SEM is the within-person SD √(Σd²/2n) with its chi-square interval, the "
    "smallest detectable change 1.96 √2 SEM, CoV the root-mean-square one."
)


def methods(result: EvaluationResult) -> tuple[Block, ...]:
    """What was done, with its sources."""
    options = result.options
    items: list[str] = []
    if options.against == "labels":
        items += [_OVERLAP, _VOLUMES]
    if options.against is not None:
        items += [_LIMITS, _RELIABILITY, _EQUIVALENCE]
    if options.repeat_visits is not None:
        items.append(_RESCAN)
    items.append(
        f"Bootstrap: percentile intervals, {options.bootstrap} samples of people, seed "
        f"{options.seed}."
    )
    if not options.internal:
        items.append(
            f"Groups of fewer than {options.min_cell} people are withheld, and with them the "
            "smallest other group where they could be had by difference."
        )
    return (
        Paragraph(
            "Scans for review are used, and each headline is also given without them; scans that "
            "failed are excluded with that reason."
        ),
        Bullets(tuple(items)),
    )

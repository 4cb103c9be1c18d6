"""All flags of all tiers as one Markdown table (``examples/flags.md``), made from the rules.

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

from .flag_rules import FLAG_RULES, FlagRule, Tier


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

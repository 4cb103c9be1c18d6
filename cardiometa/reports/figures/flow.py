"""The flow of trials, participants and scans as boxes, after PRISMA-IPD (Stewart 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from ..style import SHOWN_FONTS, Drawing, counted, shown_count
from .forest import wrap

Flow = Mapping[str, Mapping[str, int | None]]
# Reasons (not_obtained, failed, excluded) with their counts, which may be unknown.
SideNotes = Mapping[str, Sequence[tuple[str, int | None]]]

Lines = tuple[str, ...]

UNITS: Final = ("trials", "participants", "scans")
STAGE_NAMES: Final = {
    "sought": "Sought",
    "obtained": "Obtained",
    "with_images": "With images",
    "segmented": "Segmented",
    "review": "of these for review",
    "failed": "Failed",
    "analysed": "Analysed",
    "excluded": "Excluded",
}
STAGES: Final = tuple(STAGE_NAMES)

_SIZE: Final = 8.5
_LINE: Final = 11.5
_PAD: Final = 7.0
_MAIN: Final = (2.0, 200.0)  # left edge and width, points
_SIDE: Final = (240.0, 268.0)
_STEP: Final = 18.0
_MOST_REASONS: Final = 7


def flow_figure(flow: Flow, notes: SideNotes) -> Drawing:
    """The diagram; what is not known (null) is not printed."""

    def counts(stage: str, units: Sequence[str] = UNITS) -> dict[str, int | None]:
        return {unit: flow.get(unit, {}).get(stage) for unit in units}

    def lost(before: str, after: str, units: Sequence[str] = UNITS) -> Lines:
        """How many are fewer at a stage than at the one before, where both are known."""
        pairs = zip(counts(before, units).items(), counts(after, units).values(), strict=True)
        return counts_of(
            {unit: None if a is None or b is None or a == b else a - b for (unit, a), b in pairs}
        )

    def main(stage: str) -> Lines:
        return counts_of(counts(stage)) or ("not stated",)

    scans = flow.get("scans", {})
    review, failed = scans.get("review"), scans.get("failed")
    for_review = () if review is None else (f"of these {counted(review, 'scan')} for review",)
    segmented = (*counts_of(counts("segmented")), *for_review) or ("not stated",)
    not_obtained = (*lost("sought", "obtained", UNITS[:2]), *_reasons(notes, "not_obtained"))
    could_not = (counted(failed, "scan"), *_reasons(notes, "failed")) if failed else ()
    gone = counts("excluded", UNITS[:2]).items()
    excluded = counts_of({unit: count or None for unit, count in gone})
    excluded = (*excluded, *_reasons(notes, "excluded")) if excluded else ()
    return boxes_figure(
        [
            ("Individual participant data sought", main("sought"), "Not obtained", not_obtained),
            ("Obtained", main("obtained"), "Without images", lost("obtained", "with_images")),
            (
                *("With short-axis images", main("with_images")),
                *("Could not be read or segmented", could_not),
            ),
            ("Segmented", segmented, "Not analysed, all reasons", excluded),
            ("Analysed", main("analysed"), "", ()),
        ],
        "Flow of trials, participants and scans",
    )


def boxes_figure(rows: Iterable[tuple[str, Lines, str, Lines]], title: str) -> Drawing:
    """Boxes below one another with arrows, each with one at its side for those who are lost.

    A row has title and lines of its box, then those of the box at the side, which is left out
    where it has no lines.
    """
    placed, words = [], []
    top, above = 2.0, 0.0
    x = _MAIN[0] + _MAIN[1] / 2
    for row in rows:
        heights = []
        for (left, width), name, lines in ((_MAIN, *row[:2]), (_SIDE, *row[2:])):
            if not lines:
                continue
            parts = [part for one in lines for part in wrap(one, width - 2 * _PAD, size=_SIZE)]
            heights.append(2 * _PAD + _LINE * (1 + len(parts)))
            placed.append(
                f'<rect x="{left:g}" y="{top:.1f}" width="{width:g}" height="{heights[-1]:.1f}" '
                'fill="#fff" stroke="#1a1a1a" stroke-width=".8"/>'
            )
            placed += [
                f'<text x="{left + _PAD:g}" y="{top + _PAD + _LINE * (index + 0.78):.1f}" '
                f'font-weight="{400 if index else 700}">{escape(part)}</text>'
                for index, part in enumerate((name, *parts))
            ]
            words.append(f"{name}: {', '.join(lines)}.")
        if len(heights) > 1:
            middle = top + min(heights) / 2
            placed.append(_arrow(_MAIN[0] + _MAIN[1], middle, _SIDE[0], middle))
        if above:
            placed.append(_arrow(x, above, x, top))
        above = top + heights[0]
        top += max(heights) + _STEP
    width, height = _SIDE[0] + _SIDE[1] + 2, top - _STEP + 2
    svg = (
        f'<svg role="img" aria-labelledby="title desc" xmlns="http://www.w3.org/2000/svg" '
        f'width="{width:g}pt" height="{height:.1f}pt" viewBox="0 0 {width:g} {height:.1f}" '
        f'font-family="{SHOWN_FONTS}" font-size="{_SIZE}" fill="#1a1a1a">\n'
        f'<title id="title">{title}</title>\n<desc id="desc">{escape(" ".join(words))}</desc>\n'
        '<defs><marker id="head" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" '
        'markerHeight="6" orient="auto"><path d="M0 0L6 3L0 6z" fill="#1a1a1a"/></marker></defs>\n'
        + "\n".join(placed)
        + "\n</svg>\n"
    )
    caption = "After PRISMA-IPD (Stewart 2015). Counts that are not stated are left out."
    return Drawing(title=title, caption=caption, svg=svg)


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<path d="M{x1:g} {y1:.1f}L{x2:g} {y2:.1f}" stroke="#1a1a1a" stroke-width=".8" '
        'fill="none" marker-end="url(#head)"/>'
    )


def accounting_problems(flow: Flow) -> tuple[str, ...]:
    """Sentences where the account does not close: scans in = segmented + failed, and so on."""
    problems = []
    for unit, stage, parts in (
        ("scans", "with_images", ("segmented", "failed")),
        ("participants", "obtained", ("analysed", "excluded")),
    ):
        counts = flow.get(unit, {})
        total, pieces = counts.get(stage), [counts.get(part) for part in parts]
        if total is None or any(piece is None for piece in pieces):
            continue
        found = sum(piece for piece in pieces if piece is not None)
        if found != total:
            problems.append(
                f"The account of {unit} does not close: {STAGE_NAMES[stage].lower()} {total}, "
                f"but {' and '.join(parts)} add up to {found}."
            )
    return tuple(problems)


def counts_of(counts: Mapping[str, int | None]) -> Lines:
    """``12 trials``, ``340 participants``: those that are known."""
    return tuple(counted(n, unit[:-1]) for unit, n in counts.items() if n is not None)


def _reasons(notes: SideNotes, kind: str) -> list[str]:
    """The first reasons with their counts, the others together."""
    reasons = notes.get(kind, ())
    rest = sum(count or 0 for _, count in reasons[_MOST_REASONS:])
    shown = [*reasons[:_MOST_REASONS], *([("other reasons", rest)] if rest else [])]
    return [name if count is None else f"{name}: {shown_count(count)}" for name, count in shown]

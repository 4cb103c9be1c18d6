"""The flow of trials, participants and scans as boxes, after PRISMA-IPD (Stewart 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from ..style import SHOWN_FONTS, Drawing, counted, shown_count
from .forest import SIZE, wrap

Flow = Mapping[str, Mapping[str, int | None]]
# Reasons (not_obtained, without_images, failed) with their counts, which may be unknown.
SideNotes = Mapping[str, Sequence[tuple[str, int | None]]]

Lines = tuple[str, ...]
# Title and lines of a box, then those of the box at its side, which has no lines where none is.
BoxRow = tuple[str, Lines, str, Lines]

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

_LINE: Final = 11.5
_PAD: Final = 7.0
_MAIN: Final = (2.0, 200.0)  # left edge and width, points
_SIDE: Final = (240.0, 268.0)
_STEP: Final = 18.0
_MOST_REASONS: Final = 7


def flow_figure(flow: Flow, notes: SideNotes) -> Drawing:
    """The diagram; what is not known (null) is not printed."""
    return boxes_figure(flow_boxes(flow, notes), "Flow of trials, participants and scans")


def flow_boxes(flow: Flow, notes: SideNotes) -> list[BoxRow]:
    """The rows of the diagram: each box is the one above it less the one at that one's side.

    Whoever is lost is therefore counted at one step only: those without images before those whose
    scans failed. ``notes`` gives the reasons by step; they are of scans where scans failed, of
    participants elsewhere.
    """
    review = flow.get("scans", {}).get("review")
    for_review = () if review is None else (f"of these {counted(review, 'scan')} for review",)
    steps = (
        *(("sought", "Individual participant data sought"), ("obtained", "Obtained")),
        *(("with_images", "With short-axis images"), ("analysed", "Analysed")),
    )
    after = {
        "sought": ("obtained", "Not obtained", "not_obtained", UNITS[:2]),
        "obtained": ("with_images", "Without images", "without_images", UNITS),
        "with_images": ("analysed", "Could not be read or segmented", "failed", UNITS),
    }
    rows: list[BoxRow] = []
    for stage, title in steps:
        kept = counts_of({unit: flow.get(unit, {}).get(stage) for unit in UNITS})
        kept = (*kept, *for_review) if stage == "analysed" else kept
        following, side, kind, units = after.get(stage, ("", "", "", ()))
        before = {unit: flow.get(unit, {}).get(stage) for unit in units}
        then = {unit: flow.get(unit, {}).get(following) for unit in units}
        # A cohort may have more than its definition says were sought: no number below 0.
        lost = {
            unit: None if (left := then[unit]) is None or n is None or n <= left else n - left
            for unit, n in before.items()
        }
        gone = (*counts_of(lost), *_reasons(notes, kind)) if kind else ()
        rows.append((title, kept or ("not stated",), side, gone))
    return rows


def boxes_figure(rows: Iterable[BoxRow], title: str) -> Drawing:
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
            parts = [part for one in lines for part in wrap(one, width - 2 * _PAD)]
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
        f'font-family="{SHOWN_FONTS}" font-size="{SIZE}" fill="#1a1a1a">\n'
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
    """Sentences where the account does not close: with images = segmented + failed, and so on."""
    problems = []
    for unit in UNITS[:2]:
        sought, obtained = (flow.get(unit, {}).get(stage) for stage in ("sought", "obtained"))
        if sought is not None and obtained is not None and sought < obtained:
            problems.append(
                f"The account of {unit} does not close: {obtained} were obtained, but the cohort's "
                f"definition says that {sought} were sought."
            )
    for unit, stage, parts in (
        ("scans", "with_images", ("segmented", "failed")),
        ("participants", "with_images", ("segmented", "failed")),
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

"""The flow of trials, participants and scans as boxes, after PRISMA-IPD (Stewart 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final

from ...records import Figure
from ..style import counted, shown_count
from .forest import TextMetrics

Flow = Mapping[str, Mapping[str, int | None]]

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
_FONT: Final = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, kw_only=True)
class SideNotes:
    """Reasons, each ``(reason, count)``, for the boxes at the right; a count may be unknown."""

    not_obtained: tuple[tuple[str, int | None], ...] = ()
    failed: tuple[tuple[str, int | None], ...] = ()
    excluded: tuple[tuple[str, int | None], ...] = ()


@dataclass(frozen=True)
class Box:
    """One box of a flow: a bold title and its lines."""

    title: str
    lines: tuple[str, ...]

    @property
    def height(self) -> float:
        """Height in points."""
        return 2 * _PAD + _LINE * (1 + len(self.lines))


def flow_figure(flow: Flow, notes: SideNotes) -> Figure:
    """The diagram; what is not known (null) is not printed."""

    def main(title: str, stage: str) -> Box:
        return Box(title, _counts(flow, stage) or ("not stated",))

    def side(title: str, lines: Iterable[str]) -> Box | None:
        present = tuple(lines)
        return Box(title, present) if present else None

    scans = flow.get("scans", {})
    review, failed = scans.get("review"), scans.get("failed")
    for_review = () if review is None else (f"of these {counted(review, 'scan')} for review",)
    not_obtained = _lost(flow, "sought", "obtained", ("trials", "participants"))
    could_not = (counted(failed, "scan"), *_reasons(notes.failed)) if failed else ()
    excluded = _counts(flow, "excluded", ("trials", "participants"))
    excluded = tuple(line for line in excluded if not line.startswith("0 "))
    if excluded:
        excluded += _reasons(notes.excluded)
    return boxes_figure(
        [
            (
                main("Individual participant data sought", "sought"),
                side("Not obtained", (*not_obtained, *_reasons(notes.not_obtained))),
            ),
            (
                main("Obtained", "obtained"),
                side("Without images", _lost(flow, "obtained", "with_images")),
            ),
            (
                main("With short-axis images", "with_images"),
                side("Could not be read or segmented", could_not),
            ),
            (
                Box("Segmented", (*_counts(flow, "segmented"), *for_review)),
                side("Not analysed, all reasons", excluded),
            ),
            (main("Analysed", "analysed"), None),
        ],
        "Flow of trials, participants and scans",
    )


def boxes_figure(rows: Sequence[tuple[Box, Box | None]], title: str) -> Figure:
    """Boxes below one another with arrows, each with one at its side for those who are lost."""
    metrics = TextMetrics()
    placed: list[str] = []
    top, joints = 2.0, []
    for main, side in rows:
        inner = _wrapped(main, metrics, _MAIN[1])
        wrapped = None if side is None else _wrapped(side, metrics, _SIDE[1])
        height = max(inner.height, 0.0 if wrapped is None else wrapped.height)
        placed.append(_drawn(inner, _MAIN, top))
        if wrapped is not None:
            placed.append(_drawn(wrapped, _SIDE, top))
            middle = top + min(inner.height, wrapped.height) / 2
            placed.append(_arrow(_MAIN[0] + _MAIN[1], middle, _SIDE[0], middle))
        joints.append((top, top + inner.height))
        top += height + _STEP
    x = _MAIN[0] + _MAIN[1] / 2
    for (_, bottom), (below, _) in pairwise(joints):
        placed.append(_arrow(x, bottom, x, below))
    width, height = _SIDE[0] + _SIDE[1] + 2, top - _STEP + 2
    svg = (
        f'<svg role="img" aria-labelledby="title desc" xmlns="http://www.w3.org/2000/svg" '
        f'width="{width:g}pt" height="{height:.1f}pt" viewBox="0 0 {width:g} {height:.1f}" '
        f'font-family="{_FONT}" font-size="{_SIZE}" fill="#1a1a1a">\n'
        f'<title id="title">{title}</title>\n<desc id="desc">{escape(_words(rows))}</desc>\n'
        '<defs><marker id="head" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" '
        'markerHeight="6" orient="auto"><path d="M0 0L6 3L0 6z" fill="#1a1a1a"/></marker></defs>\n'
        + "\n".join(placed)
        + "\n</svg>\n"
    )
    return Figure(
        title=f"{title}.",
        caption="After PRISMA-IPD (Stewart 2015). Counts that are not stated are left out.",
        svg=svg,
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


def _counts(flow: Flow, stage: str, units: Sequence[str] = UNITS) -> tuple[str, ...]:
    found = ((unit, flow.get(unit, {}).get(stage)) for unit in units)
    return tuple(counted(count, unit[:-1]) for unit, count in found if count is not None)


def _lost(flow: Flow, before: str, after: str, units: Sequence[str] = UNITS) -> tuple[str, ...]:
    """How many are fewer at a stage than at the one before, where both are known."""
    lines = []
    for unit in units:
        first, second = (flow.get(unit, {}).get(stage) for stage in (before, after))
        if first is not None and second is not None and first != second:
            lines.append(counted(first - second, unit[:-1]))
    return tuple(lines)


def _reasons(notes: Sequence[tuple[str, int | None]], most: int = 7) -> tuple[str, ...]:
    lines = [
        f"{reason}: {shown_count(count)}" if count is not None else reason
        for reason, count in notes[:most]
    ]
    rest = sum(count or 0 for _, count in notes[most:])
    return (*lines, f"other reasons: {shown_count(rest)}") if rest else tuple(lines)


def _wrapped(box: Box, metrics: TextMetrics, width: float) -> Box:
    most = width - 2 * _PAD
    lines = [part for line in box.lines for part in metrics.wrap(line, most, size=_SIZE)]
    return Box(title=box.title, lines=tuple(lines))


def _drawn(box: Box, place: tuple[float, float], top: float) -> str:
    left, width = place
    texts = [
        f'<text x="{left + _PAD:g}" y="{top + _PAD + _LINE * (index + 0.78):.1f}" '
        f'font-weight="{400 if index else 700}">{escape(line)}</text>'
        for index, line in enumerate((box.title, *box.lines))
    ]
    return (
        f'<rect x="{left:g}" y="{top:.1f}" width="{width:g}" height="{box.height:.1f}" '
        'fill="#fff" stroke="#1a1a1a" stroke-width=".8"/>' + "".join(texts)
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<path d="M{x1:g} {y1:.1f}L{x2:g} {y2:.1f}" stroke="#1a1a1a" stroke-width=".8" '
        'fill="none" marker-end="url(#head)"/>'
    )


def _words(rows: Sequence[tuple[Box, Box | None]]) -> str:
    boxes = [box for pair in rows for box in pair if box is not None]
    return ". ".join(f"{box.title}: {', '.join(box.lines)}" for box in boxes) + "."

"""The tables of ``examples/flags.md`` from the rules; ``python -m tests.kit.flags_page`` writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import Formatter

from cardiometa.flags import FLAGS

PAGE = Path(__file__).parents[2] / "examples" / "flags.md"
TIERS = {
    1: "geometry and timing, while reading",
    2: "segmentation and corrections",
    3: "physiology (asks for a review, never removes a scan)",
    4: "model",
    5: "cohort, when tables are made (asks for a review, never removes a scan)",
}


def page() -> str:
    """The page as it has to be: its text up to the first table, and the tables of the rules."""
    text = PAGE.read_text(encoding="utf-8").partition("\n## Tier 1")[0]
    return text + "".join(line for tier in TIERS for line in lines(tier))


def lines(tier: int) -> Iterator[str]:
    yield f"\n## Tier {tier}: {TIERS[tier]}\n\n"
    yield "| code | level | limit | meaning | why |\n|---|---|---|---|---|\n"
    for rule in FLAGS.values():
        if rule.tier != tier:
            continue
        # The sentence with its limit, its other values as …, and without its full stop.
        meaning = ""
        for literal, name, form, _ in Formatter().parse(rule.sentence):
            limit = format(rule.limit, form or "") if name == "limit" else "…"
            meaning += literal + (limit if name else "")
        cells = [f"`{rule.code}`", rule.level, "" if rule.limit is None else f"{rule.limit:g}"]
        yield f"| {' | '.join([*cells, meaning.rstrip('.'), rule.evidence])} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

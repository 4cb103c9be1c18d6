"""The gallery of the segment report: one card a scan, for a person to look over.

Cards for review come first, then failures, then the others. More scans than the limit are not all
shown; the page says how many are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from ..measurement.measures import MEASURES
from ..records import Flag, ScanKey, ScanResult
from .curve import curve_svg
from .names import measure_name
from .numbers import shown
from .overlay import thumbnail_jpeg
from .page import Html, environment, png_uri

CARD_MEASURES: Final = (
    "lv_edv_ml",
    "lv_esv_ml",
    "lv_ef_percent",
    "lv_mass_g",
    "rv_edv_ml",
    "rv_esv_ml",
    "rv_ef_percent",
)
# Beside overlay.png where a reader corrected the scan: the model's own.
MODEL_PICTURE: Final = "overlay_model.png"
_SIDE_BY_SIDE: Final = 4
_ORDER: Final = {"review": 0, "failed": 1, "ok": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryItem:
    """One card: a scan, its picture (JPEG) and, of a corrected one, the model's own picture."""

    result: ScanResult
    picture: bytes | None
    model_picture: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagCount:
    """How many scans carry a flag; ``example`` is the sentence of the first."""

    code: str
    level: str
    scans: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """The cards that are shown, and what is known of all scans."""

    items: tuple[GalleryItem, ...]
    scans: int
    hidden: Mapping[str, int]
    flags: tuple[FlagCount, ...]


def gallery_items(
    results: Sequence[ScanResult], pictures: Mapping[ScanKey, Path], *, limit: int = 200
) -> Gallery:
    """The cards of a run; reads the overlays of the chosen scans alone.

    ``pictures`` maps a scan to its ``overlay.png``, which may be absent (a failed scan's is).
    """
    ordered = sorted(results, key=lambda result: (_ORDER[result.status], result.key))
    shown_results, hidden = ordered[:limit], ordered[limit:]
    # Decoding and scaling of pictures leave Python free: some run side by side.
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        paths = [pictures.get(result.key) for result in shown_results]
        items = tuple(pool.map(_item, shown_results, paths))
    return Gallery(
        items=items,
        scans=len(ordered),
        hidden=dict(Counter(result.status for result in hidden)),
        flags=flag_counts(results),
    )


def _item(result: ScanResult, path: Path | None) -> GalleryItem:
    corrected = path is not None and _is_corrected(result)
    return GalleryItem(
        result=result,
        picture=_picture(path),
        model_picture=_picture(path.with_name(MODEL_PICTURE)) if path and corrected else None,
    )


def _is_corrected(result: ScanResult) -> bool:
    return any(flag.code == "corrected" for flag in result.flags)


def _picture(path: Path | None) -> bytes | None:
    if path is None or not path.is_file():
        return None
    return thumbnail_jpeg(path.read_bytes())


def flag_counts(results: Sequence[ScanResult]) -> tuple[FlagCount, ...]:
    """Scans by flag, worst level first, then the most frequent."""
    first: dict[str, Flag] = {}
    scans: Counter[str] = Counter()
    for result in sorted(results, key=lambda result: result.key):
        for flag in {flag.code: flag for flag in result.flags}.values():
            first.setdefault(flag.code, flag)
            scans[flag.code] += 1
    levels = {"reject": 0, "review": 1, "info": 2}
    codes = sorted(first, key=lambda code: (levels[first[code].level], -scans[code], code))
    return tuple(
        FlagCount(
            code=code, level=first[code].level, scans=scans[code], example=first[code].sentence
        )
        for code in codes
    )


def gallery_html(gallery: Gallery) -> Html:
    """The cards as markup, every text escaped."""
    template = environment().get_template("gallery.html.j2")
    cards = [_card(item) for item in gallery.items]
    return Html(template.render(cards=cards, hidden=hidden_sentence(gallery)))


def hidden_sentence(gallery: Gallery) -> str:
    """What is not shown, or nothing where all is."""
    if not gallery.hidden:
        return ""
    parts = ", ".join(f"{count} {status}" for status, count in sorted(gallery.hidden.items()))
    total = sum(gallery.hidden.values())
    return (
        f"{total} of {gallery.scans} scans are not shown here ({parts}); each has its "
        "overlay.png in its folder below scans/."
    )


def _card(item: GalleryItem) -> dict[str, object]:
    result = item.result
    corrected = _is_corrected(result)
    own: Mapping[str, Any] = result.document.get("model_result") or {}
    return {
        "key": str(result.key),
        "status": result.status,
        "flags": [flag for flag in result.flags if flag.level != "info"],
        "info": ", ".join(
            flag.code
            for flag in result.flags
            if flag.level == "info" and not (corrected and flag.code == "corrected")
        ),
        "corrected": next((f.sentence for f in result.flags if f.code == "corrected"), ""),
        "measures": _measures(result.measures),
        "model_measures": _measures(own.get("measures") or {}) if corrected else [],
        "model_picture": png_uri(item.model_picture, "jpeg") if item.model_picture else "",
        "curve": Markup(_curve(result)),  # noqa: S704 - made of numbers by curve_svg
        "picture": png_uri(item.picture, "jpeg") if item.picture else "",
    }


def _measures(values: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, shown value and unit of the measures that a card tells."""
    definitions = {measure.name: measure for measure in MEASURES}
    return [
        (measure_name(name), shown(value, 0 if value >= 100 else 1), definitions[name].unit)
        for name in CARD_MEASURES
        if (value := values.get(name)) is not None
    ]


def _curve(result: ScanResult) -> str:
    """The volume curves of a cine of at least 8 frames; two frames make no curve."""
    curves = result.document.get("curves") or {}
    left, right = curves.get("lv_ml") or [], curves.get("rv_ml") or []
    if len(left) < 8:
        return ""
    frames = [result.measures.get(name) for name in ("ed_frame", "es_frame")]
    marks = [int(n) for n in frames if n is not None and 0 <= n < len(left)]
    return curve_svg(left, right, marks, label=f"Volume over time, {result.key}")

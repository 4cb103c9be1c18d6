"""The pictures of a scan: ``overlay.png``, that of the gallery, the volume curve of a card.

The overlay shows the slices of ED and ES from base to apex with smooth, anti-aliased contours. It
needs numpy and Pillow only and a fraction of a second, because it is made for every scan: a mask is
smoothed by the taps of a cubic B-spline and enlarged by a cubic, so that its half-height line is
smooth; a pixel's share of the line is its distance from that line, taken from the value and the
slope. Pillow enlarges, not a matrix product: BLAS threads would compete with the network's. The
curve is a few lines of SVG, because a page may have hundreds.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ...records import LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY


def resampled(stack: np.ndarray, height: int, width: int) -> np.ndarray:
    """``[n, y, x]`` to float32 ``[n, height, width]`` by cubic convolution (Keys 1981, a = -1/2).

    Where an axis shrinks the kernel is widened: fine detail is averaged, not skipped.
    """
    result = np.empty((len(stack), height, width), dtype=np.float32)
    for index, picture in enumerate(np.ascontiguousarray(stack, dtype=np.float32)):
        image = Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)
        result[index] = np.asarray(image)
    return result


def outlines(masks: np.ndarray, height: int, width: int, thickness: float = 1.4) -> np.ndarray:
    """Opacity 0 to 1, float32 ``[n, height, width]``, of the outlines of boolean ``[n, y, x]``.

    Every mask that is not empty gets an outline: one too small to reach half height after
    smoothing is outlined at three fifths of its own height.
    """
    opacity = np.zeros((len(masks), height, width), dtype=np.float32)
    filled = np.flatnonzero(masks.any(axis=(1, 2)))
    if not len(filled):
        return opacity
    # The taps 1/6, 4/6, 1/6 along both axes; the edge is repeated outwards.
    soft: np.ndarray = np.pad(
        masks[filled].astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge"
    )
    soft = (soft[:, :-2] + 4 * soft[:, 1:-1] + soft[:, 2:]) / 6
    soft = (soft[:, :, :-2] + 4 * soft[:, :, 1:-1] + soft[:, :, 2:]) / 6
    field = resampled(soft, height, width)
    level = np.minimum(0.5, 0.6 * field.max(axis=(1, 2)))[:, None, None]
    slope = np.hypot(*np.gradient(field, axis=(1, 2)))
    distance = np.abs(field - level) / np.maximum(slope, 1e-6)
    opacity[filled] = np.clip(thickness / 2 + 0.5 - distance, 0, 1)
    return opacity


# Red, cyan and yellow differ for colour-blind eyes too; the first two differ most, as they nest.
ENDO_COLOUR: Final = (255, 92, 80)
EPI_COLOUR: Final = (70, 214, 240)
RV_COLOUR: Final = (255, 214, 51)

_MARGIN_MM: Final = 14.0
_LEAST_MM: Final = 70.0
_MOST_COLUMNS: Final = 7
_WIDTH: Final = 1680
_TILE: Final = (110, 230)
_GUTTER: Final = 34
_GAP: Final = 2
_FOOT: Final = 24
_UNDER: Final = b"cmGY"  # a private chunk that viewers ignore


def overlay_png(
    pixels: np.ndarray, labels: np.ndarray, ed: int, es: int, spacing_mm: tuple[float, float]
) -> bytes:
    """The picture of one scan as PNG bytes; equal input gives equal bytes.

    ``pixels`` and ``labels`` ``[t, z, y, x]``; ``ed`` and ``es`` count along ``t``; ``spacing_mm``
    (between rows, between columns). Both phases share one crop around everything labelled in
    them; without labels it is the middle of the image. Raises ValueError on unequal shapes.
    """
    if pixels.shape != labels.shape or pixels.ndim != 4:
        raise ValueError(
            f"pixels {pixels.shape} and labels {labels.shape} must be one [t, z, y, x]"
        )
    chosen = np.asarray(labels)[[ed, es]]
    order = base_to_apex(chosen[0])
    window = crop_window(chosen, spacing_mm)
    grid = _grid(chosen.shape[1], window.size_mm)
    cut = (slice(None), order, window.rows, window.columns)
    painted, grey = _canvas(np.asarray(pixels)[[ed, es]][cut], chosen[cut], grid)
    image = Image.fromarray(painted)
    _write(image, grid, order, empty=not chosen.any())
    # What the contours cover, so that the gallery can show the picture without them.
    covered = (painted != grey[..., None]).any(axis=2)
    under = np.packbits(covered).tobytes() + grey[covered].tobytes()
    chunks = PngImagePlugin.PngInfo()
    chunks.add(_UNDER, zlib.compress(under, 9))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=4, pnginfo=chunks)
    return buffer.getvalue()


def base_to_apex(labels: np.ndarray) -> np.ndarray:
    """Slice numbers of ``[z, y, x]`` from base to apex.

    Both ventricles taper towards the apex: the third of the labelled slices with the larger area
    is the base (in 80 of 80 ACDC hearts by a factor of 1.8 or more). Without labels the order
    stays.
    """
    areas = (labels > 0).sum(axis=(1, 2))
    filled = areas[areas > 0]
    third = max(len(filled) // 3, 1)
    order = np.arange(len(labels))
    reversed_stack = len(filled) > 0 and filled[:third].sum() < filled[-third:].sum()
    return order[::-1] if reversed_stack else order


class Window(NamedTuple):
    """The part of a slice that is shown; ``size_mm`` (height, width)."""

    rows: slice
    columns: slice
    size_mm: tuple[float, float]


def crop_window(labels: np.ndarray, spacing_mm: tuple[float, float]) -> Window:
    """A square in mm around every label of ``[t, z, y, x]``, cut where the image ends."""
    found = [np.flatnonzero(labels.any(axis=axes)) for axes in ((0, 1, 3), (0, 1, 2))]
    lengths = labels.shape[2:]
    empty = not len(found[0])
    middles, extents = [], []
    for places, length, step in zip(found, lengths, spacing_mm, strict=True):
        middles.append((length - 1) / 2 if empty else (places[0] + places[-1]) / 2)
        extents.append(length * step * 0.6 if empty else (np.ptp(places) + 1) * step)
    side = max(max(extents) + (0 if empty else 2 * _MARGIN_MM), _LEAST_MM)
    slices, sizes = [], []
    for middle, length, step in zip(middles, lengths, spacing_mm, strict=True):
        half = side / step / 2
        low = max(math.floor(middle + 0.5 - half), 0)
        high = min(math.ceil(middle + 0.5 + half), length)
        slices.append(slice(low, high))
        sizes.append((high - low) * step)
    return Window(slices[0], slices[1], (sizes[0], sizes[1]))


class _Grid(NamedTuple):
    """``bands`` pairs of lines (ED over ES), each of ``columns`` tiles of that size in pixels."""

    columns: int
    bands: int
    height: int
    width: int

    def corner(self, phase: int, position: int) -> tuple[int, int]:
        """Top and left of a tile."""
        band, column = divmod(position, self.columns)
        top = (2 * band + phase) * (self.height + _GAP) + band * 3 * _GAP
        return top, _GUTTER + column * (self.width + _GAP)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the canvas."""
        top, _ = self.corner(1, (self.bands - 1) * self.columns)
        return top + self.height + _FOOT, max(_GUTTER + self.columns * (self.width + _GAP), 430)


def _grid(slices: int, size_mm: tuple[float, float]) -> _Grid:
    bands = math.ceil(slices / _MOST_COLUMNS)
    columns = math.ceil(slices / bands)
    abreast = columns if bands == 1 else _MOST_COLUMNS
    side = min(max((_WIDTH - _GUTTER) // abreast - _GAP, _TILE[0]), _TILE[1])
    scale = side / max(size_mm)
    height, width = (max(round(length * scale), 8) for length in size_mm)
    return _Grid(columns, bands, height, width)


def _canvas(pixels: np.ndarray, labels: np.ndarray, grid: _Grid) -> tuple[np.ndarray, np.ndarray]:
    """The tiles with their contours, and without (grey between 0.5th and 99.5th centile)."""
    values = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(values, (0.5, 99.5))
    values = (values - low) / max(float(high - low), 1e-6)
    size = grid.height, grid.width
    grey = resampled(values.reshape(-1, *values.shape[2:]), *size)
    tiles = np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=3)
    flat = labels.reshape(-1, *labels.shape[2:])
    endo, myocardium, right = (flat == n for n in (LV_CAVITY, LV_MYOCARDIUM, RV_CAVITY))
    for mask, colour in ((right, RV_COLOUR), (endo | myocardium, EPI_COLOUR), (endo, ENDO_COLOUR)):
        filled = np.flatnonzero(mask.any(axis=(1, 2)))
        opacity = outlines(mask[filled], *size)
        tile, y, x = np.nonzero(opacity)  # a line covers few pixels
        drawn, share = (filled[tile], y, x), opacity[tile, y, x][:, None]
        paint = np.array(colour, dtype=np.float32) / 255
        tiles[drawn] = tiles[drawn] * (1 - share) + paint * share
    canvas = np.zeros((*grid.size, 3), dtype=np.uint8)
    plain = np.zeros(grid.size, dtype=np.uint8)
    for index, tile in enumerate((tiles * 255 + 0.5).astype(np.uint8)):
        top, left = grid.corner(*divmod(index, pixels.shape[1]))
        place = slice(top, top + grid.height), slice(left, left + grid.width)
        canvas[place] = tile
        plain[place] = (np.clip(grey[index], 0, 1) * 255 + 0.5).astype(np.uint8)
    return canvas, plain


def _write(image: Image.Image, grid: _Grid, order: np.ndarray, *, empty: bool) -> None:
    """Put phase names, slice numbers and the legend on the picture."""
    draw = ImageDraw.Draw(image)
    for position, number in enumerate(order.tolist()):
        for phase, name in enumerate(("ED", "ES")):
            top, left = grid.corner(phase, position)
            if position % grid.columns == 0:
                draw.text((6, top + 6), name, fill="white", font=_font(14))
            draw.text((left + 4, top + 2), str(number), fill=(190, 190, 190), font=_font(10))
    y, x = image.height - _FOOT + 5, _GUTTER
    if empty:
        draw.text((x, y), "No heart was segmented.", fill="white", font=_font(12))
        return
    for name, colour in (
        ("LV endocardium", ENDO_COLOUR),
        ("LV epicardium", EPI_COLOUR),
        ("RV endocardium", RV_COLOUR),
    ):
        draw.line((x, y + 7, x + 16, y + 7), fill=colour, width=2)
        draw.text((x + 21, y), name, fill=(225, 225, 225), font=_font(12))
        x += 21 + round(draw.textlength(name, font=_font(12))) + 18


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # The font that Pillow carries, so that the bytes do not depend on the machine's fonts.
    return ImageFont.load_default(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of the gallery: JPEG, and its contours as a transparent PNG of the same size.

    ``contours`` None: they are in the JPEG (an overlay of an earlier version).
    """

    jpeg: bytes
    contours: bytes | None = None


def gallery_picture(png: bytes, *, width: int = 1300, most_bytes: int = 150_000) -> Picture:
    """A smaller copy of an overlay; its JPEG is at most ``most_bytes`` long.

    Quality is lowered first, then size.
    """
    with Image.open(io.BytesIO(png)) as source:
        chunks = dict(getattr(source, "private_chunks", ()))
        painted = source.convert("RGB")
    plain, contours = painted, None
    if _UNDER in chunks:
        plain, contours = _without_contours(np.array(painted), zlib.decompress(chunks[_UNDER]))
    quality = 72
    while True:
        scale = min(width / plain.width, 1.0)
        size = (max(round(plain.width * scale), 1), max(round(plain.height * scale), 1))
        buffer = io.BytesIO()
        plain.resize(size, Image.Resampling.LANCZOS).save(
            buffer, format="JPEG", quality=quality, optimize=True
        )
        if buffer.tell() <= most_bytes or width < 64:
            break
        if quality > 48:
            quality -= 12
        else:
            width = round(min(width, plain.width) * 0.8)
    if contours is None:
        return Picture(jpeg=buffer.getvalue())
    return Picture(jpeg=buffer.getvalue(), contours=_layer_png(contours, size))


def _without_contours(painted: np.ndarray, under: bytes) -> tuple[Image.Image, np.ndarray]:
    """The picture without its contours; opacity ``[3, y, x]`` of endocardium, epicardium, RV.

    A covered pixel is a mixture of its grey value and one of the three colours: the colour that
    leaves least is taken, with the opacity that fits best.
    """
    height, width = painted.shape[:2]
    bits = -(-height * width // 8)
    packed = np.frombuffer(under[:bits], dtype=np.uint8)
    covered = np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool)
    grey = np.frombuffer(under[bits:], dtype=np.uint8)[:, None].astype(np.float32)
    mixed = painted[covered].astype(np.float32) - grey
    shares, left = [], []
    for colour in (ENDO_COLOUR, EPI_COLOUR, RV_COLOUR):
        towards = np.array(colour, dtype=np.float32) - grey
        share = np.clip((mixed * towards).sum(axis=1) / (towards**2).sum(axis=1), 0, 1)
        shares.append(share)
        left.append(((mixed - share[:, None] * towards) ** 2).sum(axis=1))
    best = np.argmin(left, axis=0)
    opacity = np.zeros((3, height, width), dtype=np.float32)
    for number, share in enumerate(shares):
        opacity[number, covered] = np.where(best == number, share, 0)
    plain = painted.copy()
    plain[covered] = grey
    return Image.fromarray(plain), opacity


def _layer_png(opacity: np.ndarray, size: tuple[int, int]) -> bytes:
    """Contours of ``opacity`` ``[3, y, x]`` as a PNG of ``size`` in three colours by 15 shades."""
    small = np.stack(
        [np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.BOX)) for layer in opacity]
    )
    top = np.argmax(small, axis=0)
    shade = np.rint(np.clip(small.max(axis=0), 0, 1) * 15).astype(np.uint8)
    image = Image.fromarray(np.where(shade, top * 15 + shade, 0).astype(np.uint8), mode="P")
    colours = [(0, 0, 0)] + [c for c in (ENDO_COLOUR, EPI_COLOUR, RV_COLOUR) for _ in range(15)]
    image.putpalette([value for colour in colours for value in colour])
    alphas = bytes([0, *(17 * (n + 1) for _ in range(3) for n in range(15))])
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, transparency=alphas)
    return buffer.getvalue()


# ------------------------------------------------------------------ volume curve


_CURVE: Final = (210, 74)  # width and height
_CURVE_COLOURS: Final = {"LV": "#c8372d", "RV": "#8a6d00"}


def curve_svg(
    lv_ml: Sequence[float | None],
    rv_ml: Sequence[float | None],
    marked_frames: Sequence[int],
    label: str,
) -> str:
    """LV (solid) and RV (dashed) volume in mL by frame; dots at the marked frames of the LV.

    Frames whose volume is unknown are gaps. The volume axis starts at 0.
    """
    width, height = _CURVE
    left, right, top, base = 30, width - 20, 6, height - 14
    frames = max(len(lv_ml), 2)
    known = {
        name: [(n, v) for n, v in enumerate(volumes) if v is not None and math.isfinite(v)]
        for name, volumes in (("LV", lv_ml), ("RV", rv_ml))
    }
    largest = max((v for points in known.values() for _, v in points), default=1.0)
    # The next multiple of a quarter of the power of ten below.
    unit = 10.0 ** math.floor(math.log10(largest)) / 4 if largest > 0 else 1.0
    largest = max(math.ceil(largest / unit) * unit, unit)

    def place(frame: int, volume: float) -> tuple[float, float]:
        across = left + frame / (frames - 1) * (right - left)
        return across, base - volume / largest * (base - top)

    def path(points: Sequence[tuple[int, float]]) -> str:
        parts, last = [], -2
        for frame, volume in points:
            x, y = place(frame, volume)
            parts.append(f"{'L' if frame == last + 1 else 'M'}{x:.1f} {y:.1f}")
            last = frame
        return "".join(parts)

    dots = [place(n, v) for frame in marked_frames for n, v in known["LV"] if n == frame]
    fill = _CURVE_COLOURS["LV"]
    circles = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{fill}"/>' for x, y in dots)
    ends = {
        name: place(*points[-1])[1] + 3.0
        for name, points in known.items()
        if any(v > 0 for _, v in points)
    }
    if len(ends) == 2 and abs(ends["LV"] - ends["RV"]) < 9:  # names one line apart
        middle, upper = sum(ends.values()) / 2, min(ends, key=lambda name: (ends[name], name))
        ends = {name: middle + (-4.5 if name == upper else 4.5) for name in ends}
    names = "".join(
        f'<text x="{right + 3}" y="{y:.1f}" fill="{_CURVE_COLOURS[name]}">{name}</text>'
        for name, y in sorted(ends.items(), key=lambda end: end[1])
    )
    return (
        f'<svg class="curve" role="img" aria-label="{escape(label)}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}">'
        f'<path d="M{left} {top}V{base}H{right}" fill="none" stroke="#888" stroke-width=".7"/>'
        f'<text x="{left - 3}" y="{top + 5}" text-anchor="end">{largest:g}</text>'
        f'<text x="{left - 3}" y="{base + 1}" text-anchor="end">0</text>'
        f'<text x="{left - 3}" y="{(top + base) / 2 + 3:.1f}" text-anchor="end">mL</text>'
        f'<text x="{left}" y="{height - 3}">frame 0</text>'
        f'<text x="{right}" y="{height - 3}" text-anchor="end">{frames - 1}</text>'
        f'<path d="{path(known["RV"])}" fill="none" stroke="{_CURVE_COLOURS["RV"]}" '
        'stroke-width="1.1" stroke-dasharray="3 2"/>'
        f'<path d="{path(known["LV"])}" fill="none" stroke="{_CURVE_COLOURS["LV"]}" '
        f'stroke-width="1.4"/>{circles}{names}</svg>'
    )

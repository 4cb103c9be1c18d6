"""Contour lists of the Sunnybrook kind: polygons in pixels of a DICOM image, drawn into masks.

``IM-0001-0059-icontour-manual.txt`` has the endocardium in the pixels of ``59.dcm`` (or
``IM-0001-0059.dcm``), ``…-ocontour-…`` the epicardium; one point per line, column then row. Slice
and phase of an image come from the code that `segment` read it with. Only slices with a contour are
compared: which slices count as ventricle was the reader's choice. Volumes are polygon areas.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from ..errors import ImageError
from ..evaluation.overlap import CONTOURED, ManualPhase, ManualScan, Phase
from ..imaging.archive import FileSet, open_files
from ..imaging.frames import frame_table
from ..imaging.geometry import Grid
from ..imaging.read import LPS_TO_RAS, plan_cine
from ..imaging.series import choose_stack
from .label_file import ScanTarget, UnusableError

CONTOUR_NAME: Final = re.compile(r"(?P<image>.+?-(?P<number>\d+))-(?P<kind>[io])contour-.*\.txt")
_MOST_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Contour:
    """One polygon ``[n, 2]`` (column, row) of an image: ``i`` endocardium, ``o`` epicardium."""

    image: str
    number: int
    kind: str
    points: np.ndarray


def read_contours(path: Path, target: ScanTarget) -> ManualScan:
    """The contours of a folder or zip with its DICOM images; raises UnusableError."""
    contours, digests = _read_all(path)
    with open_files(path) as files:
        if not files.files("dicom"):
            raise UnusableError(
                "labels-without-images", "Contours need the DICOM images they were drawn on."
            )
        grid, places = _places(files, target)
    by_frame: dict[int, dict[tuple[str, int], Contour]] = defaultdict(dict)
    for contour in contours:
        place = places.get(contour.image.casefold(), places.get(str(contour.number)))
        if place is None:
            raise UnusableError(
                "labels-without-images", "A contour's image is not among those of the scan."
            )
        if grid.source_affines[place[1]] is not None:
            raise UnusableError(
                "labels-other-grid", "A contoured slice lies off the grid of the scan's mask."
            )
        by_frame[place[0]][contour.kind, place[1]] = contour
    return ManualScan(
        phases=tuple(_phases(by_frame, grid, target)),
        scope=CONTOURED,
        sha256=digests,
        kind="contours",
    )


def has_contours(path: Path) -> bool:
    """True for a folder or zip with contours."""
    try:
        return next(_texts(path), None) is not None
    except (OSError, zipfile.BadZipFile):
        return False


def _texts(path: Path) -> Iterator[tuple[re.Match[str], Callable[[], bytes]]]:
    """The contours of a folder or zip: the parts of each name, and its reader."""
    if path.is_dir():
        for file in sorted(path.rglob("*.txt")):
            if match := CONTOUR_NAME.fullmatch(file.name):
                yield match, file.read_bytes
        return
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda m: m.filename):
            match = CONTOUR_NAME.fullmatch(member.filename.replace("\\", "/").rpartition("/")[2])
            if match and member.file_size <= _MOST_CHARACTERS:
                yield match, partial(archive.read, member)


def _read_all(path: Path) -> tuple[list[Contour], tuple[str, ...]]:
    contours, digests = [], []
    try:
        for match, read in _texts(path):
            data = read()
            points = np.loadtxt(io.BytesIO(data), ndmin=2)
            if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
                raise UnusableError("labels-unreadable", "A contour is not a list of points.")
            digests.append(hashlib.sha256(data).hexdigest())
            contours.append(
                Contour(
                    image=match["image"],
                    number=int(match["number"]),
                    kind=match["kind"],
                    points=points,
                )
            )
    except (OSError, ValueError, zipfile.BadZipFile):
        raise UnusableError("labels-unreadable", "A contour cannot be read as numbers.") from None
    return contours, tuple(digests)


def _places(files: FileSet, target: ScanTarget) -> tuple[Grid, dict[str, tuple[int, int]]]:
    """The grid, and the phase and slice of each image by the stem of its name."""
    try:
        chosen = choose_stack(frame_table(files), files, target.series_regex)
        grid, timing = plan_cine(chosen)
    except ImageError as error:
        raise UnusableError("labels-without-images", error.message) from None
    phases, slices = timing.index.shape
    shape = (phases, slices, grid.rows, grid.columns)
    same = np.allclose(LPS_TO_RAS @ grid.affine_lps, target.grid.affine, atol=1e-2)
    # A mask of ED and ES alone has fewer phases than the images.
    first = 0 if target.segmented_frames is None else 1
    if shape[first:] != target.grid.shape[first:] or not same:
        raise UnusableError(
            "labels-other-grid", "The contours' images are not those that were segmented."
        )
    places: dict[str, tuple[int, int]] = {}
    for k, item in enumerate(chosen.plane.slices):
        for phase, place in enumerate(timing.index[:, k]):
            name = item.frames[timing.order[k][place]].facts.file.name.casefold()
            stem = name.removesuffix(".dcm")
            places[str(int(stem)) if stem.isdecimal() else stem] = (phase, k)
    return grid, places


def _phases(
    by_frame: Mapping[int, Mapping[tuple[str, int], Contour]], grid: Grid, target: ScanTarget
) -> Iterator[ManualPhase]:
    """ED is the contoured frame with the larger cavity on the slices that both have."""
    frames = [f for f, found in by_frame.items() if any(kind == "i" for kind, _ in found)]
    if not 1 <= len(frames) <= 2:
        raise UnusableError(
            "labels-phases",
            f"Endocardial contours lie in {len(frames)} frames; ED and ES are two.",
        )
    names: dict[int, Phase] = dict.fromkeys(frames, "ED")
    if len(frames) == 2:
        both = {k for kind, k in by_frame[frames[0]] if kind == "i"}
        both &= {k for kind, k in by_frame[frames[1]] if kind == "i"}
        sizes = {f: sum(polygon_area(by_frame[f]["i", k].points) for k in both) for f in frames}
        if not both or sizes[frames[0]] == sizes[frames[1]]:
            raise UnusableError("labels-phases", "Contours do not distinguish ED from ES.")
        names[min(sizes, key=lambda f: sizes[f])] = "ES"
    for frame in sorted(frames, key=lambda f: names[f]):
        yield _phase(names[frame], frame, by_frame[frame], grid, target)


def _phase(
    name: Phase,
    frame: int,
    found: Mapping[tuple[str, int], Contour],
    grid: Grid,
    target: ScanTarget,
) -> ManualPhase:
    _, z, y, x = target.grid.shape
    inner = {k: c.points for (kind, k), c in found.items() if kind == "i"}
    outer = {k: c.points for (kind, k), c in found.items() if kind == "o" and k in inner}
    pixel_mm2 = grid.spacing_mm[0] * grid.spacing_mm[1]

    def volume(k: int, area: float) -> float:
        return area * pixel_mm2 * float(grid.slice_weights_mm[k]) / 1000

    cavity = np.zeros((z, y, x), dtype=bool)
    for k, points in inner.items():
        cavity[k] = filled(points, (y, x))
    masks = {"lv_cavity": cavity}
    slices = {"lv_cavity": np.array(sorted(inner))}
    volumes = {"lv_cavity": sum(volume(k, polygon_area(p)) for k, p in inner.items())}
    if outer:
        wall = np.zeros_like(cavity)
        for k, points in outer.items():
            wall[k] = filled(points, (y, x)) & ~cavity[k]
        masks["lv_myocardium"] = wall
        slices["lv_myocardium"] = np.array(sorted(outer))
        volumes["lv_myocardium"] = sum(
            volume(k, polygon_area(p) - polygon_area(inner[k])) for k, p in outer.items()
        )
    own = target.segmented_frames
    place: int | None = frame
    if own is not None:
        # A reader's ED or ES in another frame than ours is compared with ours.
        place = own.index(frame) if frame in own else None
    return ManualPhase(phase=name, frame=place, masks=masks, slices=slices, volumes_ml=volumes)


def polygon_area(points: np.ndarray) -> float:
    """Area of a closed polygon ``[n, 2]`` in square units (the shoelace formula)."""
    x, y = points[:, 0], points[:, 1]
    return 0.5 * abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()))


def filled(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels ``[row, column]`` whose centre lies inside a polygon of (column, row) points.

    The corner of the first pixel is (0, 0), its centre (0.5, 0.5), as in DICOM's SCOORD; even-odd
    rule. Sunnybrook documents no origin: the edges in its images fit contours moved half to one
    pixel up and left of a first centre at (0, 0).
    """
    rows, columns = shape
    y = np.arange(rows, dtype=float)[:, None] + 0.5
    x = np.arange(columns, dtype=float)[None, :] + 0.5
    inside = np.zeros(shape, dtype=bool)
    ends = np.roll(points, -1, axis=0)
    for (x0, y0), (x1, y1) in zip(points, ends, strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside

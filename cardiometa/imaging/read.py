"""From the images of one scan to a `CineStack`: ``read_cine``.

>>> cine = read_cine(ScanSource(kind="images", paths=(folder,)), ReadOptions())
>>> cine.pixels.shape  # phases, slices, rows, columns
(20, 12, 256, 256)
"""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import ImageError
from ..flags import raised
from ..records import CineSource, CineStack, DicomOrigin, Flag, ScanSource, SourceImage
from .archive import DamagedFileError, FileSet, open_files
from .exclusions import left_out, refusal, summary
from .frames import Frame, FrameTable, frame_table, sequence_of
from .geometry import Grid, grid_of, on_grid
from .headers import TAGS, integer, item, items, number, read_dataset, tag_of, text
from .nifti import NiftiPlan, pair_plan, plan_nifti
from .series import ChosenStack, choose_stack
from .timing import Alignment, align, timing_flags

MAX_STACK_BYTES = 4 * 1024**3
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class UndecodableError(Exception):
    """Frames whose pixels cannot be decoded: the stack is to be planned again without them."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        super().__init__(len(frames))
        self.frames = frames


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read: ``series_regex`` is searched in SeriesDescription and overrides the choice."""

    series_regex: str | None = None


def read_cine(source: ScanSource, options: ReadOptions) -> CineStack:
    """The short-axis cine of one scan; raises ImageError with a code and every reason found."""
    with _planned(source, options) as plan:
        return _marked(plan.read())


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The flags that reading a scan raises, and what recognises its images elsewhere."""

    flags: tuple[Flag, ...]
    marks: Mapping[str, str]


def inspect_scan(source: ScanSource, options: ReadOptions) -> Inspection:
    """What `read_cine` finds, from the headers and one image of DICOM; raises its ImageError.

    NIfTI is read in full, as is DICOM whose one image cannot be decoded or of which a file has no
    end of its pixels: how much of it is lost only decoding says.
    """
    with _planned(source, options) as plan:
        if isinstance(plan, DicomPlan) and not plan.table.unended:
            with suppress(UndecodableError):
                marks = source_marks(plan.middle_image(), plan.facts.study)
                return Inspection(flags=tuple(plan.flags), marks=marks)
        found = _marked(plan.read()).source
        return Inspection(flags=found.flags, marks=found.marks)


def source_marks(image: np.ndarray, study: str) -> dict[str, str]:
    """Hashes of one image's values and of the examination's UID, to be compared between scans.

    An image of one value and an empty UID have none. ``image``: the first phase of the middle slice
    ``[y, x]``: two hearts never share it, and a copy has it whatever its headers or container.
    """
    image = np.ascontiguousarray(image, dtype=np.float32)
    marks = {"images": image.tobytes() if np.ptp(image) > 0 else b"", "study": study.encode()}
    return {kind: hashlib.sha256(value).hexdigest()[:32] for kind, value in marks.items() if value}


def _marked(cine: CineStack) -> CineStack:
    study = cine.origin.study if cine.origin is not None else ""
    marks = source_marks(cine.pixels[0, cine.pixels.shape[1] // 2], study)
    return replace(cine, source=replace(cine.source, marks=marks))


def scan_grid(
    source: ScanSource, options: ReadOptions
) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """Shape ``(t, z, y, x)`` and affine to RAS mm that `read_cine` would give, from headers alone.

    Raises ImageError as `inspect_scan` does.
    """
    with _planned(source, options) as plan:
        return plan.shape, plan.affine


@contextmanager
def _planned(source: ScanSource, options: ReadOptions) -> Iterator[DicomPlan | NiftiPlan]:
    """What headers say of a scan, its files open meanwhile; raises ImageError."""
    if source.kind == "ed-es":
        with pair_plan(source.paths) as plan:
            yield plan
        return
    path = source.paths[0]
    if not path.exists():
        raise ImageError(
            "no-images",
            "The images of this scan were not found.",
            hint="Check the path in the table of scans, or fetch the data.",
        )
    with open_files(path) as files:
        if files.files("dicom"):
            table = frame_table(files)
            table.refused["nifti-beside-dicom"] += len(files.files("nifti"))
            table.refused["archive-beside-images"] += len(files.files("zip"))
            yield DicomPlan(table, files, options.series_regex)
        elif files.files("nifti"):
            yield plan_nifti(files)
        else:
            found = summary(files.refused)
            usual = "Give a folder or zip of DICOM files, a 4-D NIfTI, or an ED and ES NIfTI pair."
            code, hint = refusal(files.refused, "no-images", usual)
            raise ImageError(
                code,
                f"No readable image. {'Found: ' + found if found else 'The source is empty'}.",
                hint=hint,
            )


def plan_cine(chosen: ChosenStack) -> tuple[Grid, Alignment]:
    """The grid and the phases of a stack, from headers alone; raises ImageError."""
    grid = grid_of(chosen.plane)
    timing = align([item.frames for item in chosen.plane.slices], chosen.key)
    phases, slices = timing.index.shape
    if phases * slices * grid.rows * grid.columns * 4 > MAX_STACK_BYTES:
        raise ImageError(
            "oversized",
            f"A cine of {phases} phases and {slices} slices of {grid.rows} × {grid.columns} pixels "
            "is larger than any cardiac cine.",
            hint="Check that the folder contains one scan.",
        )
    return grid, timing


class DicomPlan:
    """The stack to read among the frames of a source; raises ImageError where there is none."""

    def __init__(self, table: FrameTable, files: FileSet, series_regex: str | None) -> None:
        self.table, self.files, self.series_regex = table, files, series_regex
        self._choose()

    def _choose(self) -> None:
        self.chosen = choose_stack(self.table, self.files, self.series_regex)
        self.grid, self.timing = plan_cine(self.chosen)
        self.slices = self.chosen.plane.slices
        self.facts = self.slices[len(self.slices) // 2].frames[0].facts
        self.affine = LPS_TO_RAS @ self.grid.affine_lps
        self.shape = (*self.timing.index.shape, self.grid.rows, self.grid.columns)

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What a reader should check about the stack, from headers alone."""
        first = [item.frames[0] for item in self.slices]
        declared = max(frame.facts.declared_phases or 0 for frame in first)
        timing = timing_flags(self.timing, self.chosen.key, declared)
        mixed = len({sequence_of(frame.facts) for frame in first}) > 1
        several = (raised("mixed-sequences"),) if mixed else ()
        return (*self.chosen.flags, *self.grid.flags, *timing, *several)

    def frame_at(self, phase: int, k: int) -> Frame:
        """The frame of slice ``k`` that represents a phase."""
        frame: Frame = self.slices[k].frames[self.timing.order[k][self.timing.index[phase, k]]]
        return frame

    def middle_image(self) -> np.ndarray:
        """The first phase of the middle slice ``[y, x]``; raises UndecodableError."""
        k = len(self.slices) // 2
        frame = self.frame_at(0, k)
        try:
            [array] = decode(self.files.read(frame.facts.file), [frame])
        except DamagedFileError:
            raise UndecodableError([frame]) from None
        return on_grid(array, self.grid, k)

    def read(self) -> CineStack:
        """The cine; a frame that cannot be decoded is then seen as missing."""
        while True:
            try:
                return self._build()
            except UndecodableError as error:
                self.table.lost += error.frames
                lost = {frame.identity for frame in error.frames}
                self.table.frames = [f for f in self.table.frames if f.identity not in lost]
                self.table.refused["undecodable"] += len(lost)
            self._choose()

    def _pixels(self) -> tuple[np.ndarray, str, int]:
        """Float32 ``[t, z, y, x]``, sha256 and count of the files; raises UndecodableError."""
        pixels = np.zeros(self.shape, dtype=np.float32)
        slots: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        by_file: dict[int, list[Frame]] = defaultdict(list)
        for k, chosen in enumerate(self.slices):
            for phase in range(len(pixels)):
                slots[self.frame_at(phase, k).identity].append((phase, k))
            for frame in chosen.frames:
                by_file[id(frame.facts)].append(frame)
        digests, failed = [], []
        for frames in by_file.values():
            wanted = [frame for frame in frames if frame.identity in slots]
            try:
                data = self.files.read(frames[0].facts.file)
                arrays = decode(data, wanted)
            except DamagedFileError:
                failed.extend(frames)
                continue
            digests.append(hashlib.sha256(data).hexdigest())
            for frame, array in zip(wanted, arrays, strict=True):
                for phase, k in slots[frame.identity]:
                    pixels[phase, k] = on_grid(array, self.grid, k)
        if failed:
            raise UndecodableError(failed)
        digest = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
        return pixels, digest, len(digests)

    def _build(self) -> CineStack:
        """The chosen stack; raises UndecodableError with the frames that cannot be decoded."""
        chosen, grid, timing, facts = self.chosen, self.grid, self.timing, self.facts
        pixels, digest, count = self._pixels()
        first = [item.frames[0] for item in self.slices]
        sequences = {sequence_of(frame.facts) for frame in first}
        thick = [frame.thickness_mm for frame in first if frame.thickness_mm]
        return CineStack(
            pixels=pixels,
            affine=self.affine,
            spacing_mm=grid.spacing_mm,
            slice_weights_mm=grid.slice_weights_mm,
            slice_distance_mm=grid.slice_distance_mm,
            frame_times_ms=timing.times_ms,
            frame_numbers=np.arange(len(pixels)),
            source=CineSource(
                format="dicom-enhanced" if facts.enhanced else "dicom",
                sha256=digest,
                files=count,
                vendor=facts.vendor,
                field_strength_t=facts.field_strength_t,
                sequence=next(iter(sequences)) if len(sequences) == 1 else None,
                heart_rate_bpm=60_000 / timing.rr_ms if timing.rr_ms else None,
                rr_ms=timing.rr_ms,
                thickness_mm=float(np.median(thick)) if thick else None,
                frame_ms=timing.frame_ms,
                time_key=chosen.key,
                spacing_source="PixelSpacing",
                series_reason=chosen.reason,
                left_out=left_out(chosen.refused),
                flags=self.flags,
            ),
            origin=self._origin(),
        )

    def _origin(self) -> DicomOrigin:
        """Which image each phase of each slice is, and the planes of the common grid."""
        grid, files = self.grid, dict[int, int]()

        def image(frame: Frame) -> SourceImage:
            facts = frame.facts
            return SourceImage(
                file=files.setdefault(id(facts), len(files)),
                sop_class=facts.sop_class,
                sop_instance=facts.uid,
                series=facts.series,
                frame=frame.index + 1 if facts.enhanced else None,
            )

        phases, slices = self.timing.index.shape
        columns = grid.affine_lps[:3, :2] / np.linalg.norm(grid.affine_lps[:3, :2], axis=0)
        return DicomOrigin(
            study=self.facts.study,
            frame_of_reference=self.facts.frame_of_reference,
            images=tuple(
                tuple(image(self.frame_at(t, k)) for k in range(slices)) for t in range(phases)
            ),
            directions=columns.T,
            slice_origins_mm=np.asarray(grid.origins),
            resampled=tuple(source is not None for source in grid.source_affines),
        )


# ------------------------------------------------------------------ pixels of chosen frames

# Transfer syntaxes go through pydicom with the gdcm plug-in (free licence) for JPEG, JPEG-LS and
# JPEG 2000; RLE, deflated and big endian are pydicom's own. The plug-in is named, so that the same
# file gives the same pixels whatever else is installed.

_MAX_RESCALE = 1e6
_RLE = "1.2.840.10008.1.2.5"


def decode(data: bytes, frames: Sequence[Frame]) -> list[np.ndarray]:
    """Float32 ``[y, x]`` arrays of ``frames``, all of the file whose bytes are ``data``.

    Raises DamagedFileError (``undecodable``) where the pixels are cut off or no decoder fits.
    """
    from pydicom.pixels.decoders.base import get_decoder

    dataset = read_dataset(io.BytesIO(data), (*TAGS, "PixelData"), pixels=True)
    try:
        values = _stored_values(dataset, get_decoder, [frame.index for frame in frames])
        return [
            _real_values(dataset, frame, array) for frame, array in zip(frames, values, strict=True)
        ]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - decoders raise any kind on hostile bytes
        raise DamagedFileError("undecodable") from None


def _stored_values(dataset: Any, get_decoder: Any, indices: Sequence[int]) -> list[np.ndarray]:
    """Integer arrays as the file stores them, with sign and unused bits corrected."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not get_decoder(syntax).is_encapsulated:
        native = _native_frames(dataset)
        return [_integers(dataset, native[index]) for index in indices]
    with suppress(ImportError):  # gdcm's own messages stay off stderr
        import gdcm

        for messages in (gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff, gdcm.Trace.DebugOff):
            messages()
    if integer(dataset, "SamplesPerPixel") is None:
        dataset.SamplesPerPixel = 1
    if not text(dataset, "PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2"
    decoder = get_decoder(syntax)
    options = {"raw": True, "decoding_plugin": "pydicom" if str(syntax) == _RLE else "gdcm"}
    arrays = [decoder.as_array(dataset, index=index, **options)[0] for index in indices]
    # Decoders give values in the low bits already.
    return [_integers(dataset, array, high_bit=False) for array in arrays]


def _native_frames(dataset: Any) -> np.ndarray:
    """Uncompressed frames ``[n, y, x]`` with every bit as stored; raises where they are cut off.

    Read here because pydicom drops the upper bits of values that end at another bit than the first.
    """
    element = dataset.get_item(tag_of("PixelData"))
    little = dataset.original_encoding[1] is not False
    allocated = integer(dataset, "BitsAllocated") or 16
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    data = element.value
    if allocated == 8 and not little and element.VR == "OW":
        # Big-endian words have their two bytes in reverse order.
        data = np.frombuffer(data, dtype=">u2").astype("<u2").tobytes()
    kind = np.dtype({8: "u1", 16: "u2", 32: "u4"}[allocated]).newbyteorder("<" if little else ">")
    frames = integer(dataset, "NumberOfFrames") or 1
    values = np.frombuffer(data, dtype=kind, count=frames * rows * columns)
    return values.reshape(frames, rows, columns)


def _bits(dataset: Any) -> tuple[int, int]:
    """Bits stored and the highest of them; raises where a header's numbers cannot be."""
    allocated = integer(dataset, "BitsAllocated") or 16
    stored = integer(dataset, "BitsStored") or allocated
    high = integer(dataset, "HighBit")
    high = stored - 1 if high is None else high
    # Checked before they are used: two to the power of a header's number may fill the memory.
    if not 1 <= stored <= allocated <= 32 or not 0 <= high < allocated:
        raise ValueError("bits beyond those allocated")
    return stored, high


def _integers(dataset: Any, array: np.ndarray, *, high_bit: bool = True) -> np.ndarray:
    """Integer values: shifted to the low bit, other bits (old overlays) masked, sign extended."""
    stored, high = _bits(dataset)
    shift = max(0, high + 1 - stored) if high_bit else 0
    values = (array.astype(np.int64) >> shift) & ((1 << stored) - 1)
    if integer(dataset, "PixelRepresentation") == 1:
        sign = 1 << (stored - 1)
        values = (values ^ sign) - sign
    return values


def _real_values(dataset: Any, frame: Frame, values: np.ndarray) -> np.ndarray:
    """Float32 values: padding replaced by the least real value, inverted, rescaled."""
    signed = integer(dataset, "PixelRepresentation") == 1
    # In implicit VR nothing says that the padding is signed as the pixels are.
    limits = [number(dataset, f"PixelPadding{name}") for name in ("Value", "RangeLimit")]
    ends = [v - 65_536 if signed and v >= 32_768 else v for v in limits if v is not None]
    if limits[0] is not None:
        padded = (values >= min(ends)) & (values <= max(ends))
        if padded.any() and not padded.all():
            values = np.where(padded, values[~padded].min(), values)
    if text(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        # Inversion over the full range of the header is the same for all frames of a cine.
        values = (-1 if signed else (1 << _bits(dataset)[0]) - 1) - values
    slope, intercept = _rescale(dataset, frame)
    real = values.astype(np.float32)
    if slope != 1.0 or intercept != 0.0:
        real = real * np.float32(slope) + np.float32(intercept)
    return np.ascontiguousarray(real, dtype=np.float32)


def _rescale(dataset: Any, frame: Frame) -> tuple[float, float]:
    """Slope and intercept of the frame, then of all frames, then of the file; default 1 and 0."""
    levels = [dataset]
    if frame.facts.enhanced:
        shared = item(dataset, "SharedFunctionalGroupsSequence")
        own = items(dataset, "PerFrameFunctionalGroupsSequence")[frame.index : frame.index + 1]
        groups = [group for group in (*own, shared) if group is not None]
        found = [item(group, "PixelValueTransformationSequence") for group in groups]
        levels = [*(level for level in found if level is not None), dataset]
    for level in levels:
        slope, intercept = number(level, "RescaleSlope"), number(level, "RescaleIntercept")
        if slope is None and text(level, "RescaleSlope"):
            raise ValueError("the slope is not a number")
        if slope:
            if abs(slope) > _MAX_RESCALE or abs(intercept or 0.0) > _MAX_RESCALE:
                raise ValueError("rescaling beyond any image")
            return slope, intercept or 0.0
    return 1.0, 0.0

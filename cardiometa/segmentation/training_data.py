"""The training set: labelled hearts → one packed file of slices at one spacing, and the recipe.

Sources: folders ``PATIENT/PATIENT_ED.nii.gz``, ``_ES`` with ``_gt`` labels (the layout of ACDC;
label order by name), folders of single slices (``images/*.png``, ``labels/*.png``) of which only
the LV cavity is labelled, and phantoms. Folds are by patient, never by slice, assigned within each
diagnosis.

A pack is a ``.npz`` with ``images`` uint8 ``[n, s, s]`` and ``labels`` uint8 ``[n, s, s]`` (0
background, 1 LV cavity, 2 myocardium, 3 RV cavity) at one spacing; ``volume`` int ``[n]`` (slices
of one volume are consecutive, in spatial order); ``kind`` int ``[n]`` (0 all three structures, 1 LV
cavity only, 2 phantom); ``patient`` str ``[n]``; ``phase`` str ``[n]`` (``ED``/``ES``);
``group`` str ``[n]``; ``fold`` int ``[n]`` (-1: always trained on, -2: never);
``spacing_mm`` float; ``slice_mm`` float ``[n]``.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..phantom.image import Bssfp, CineGrid, HeartPhantom, render
from .network import DEFAULT_WIDTHS
from .resample import Window, resample

FULL, LV_ONLY, PHANTOM = 0, 1, 2
# A pixel without a label of which the network is not sure: it counts in no loss.
UNKNOWN = 255
SIZE, SPACING_MM = 192, 1.5
FOLDS = 5
# What a data set's label values mean, as our labels 0 to 3 by position.
LABEL_ORDERS: Mapping[str, tuple[int, ...]] = {
    "acdc": (0, 3, 2, 1),
    "cardiometa": (0, 1, 2, 3),
}
# Spacing of the slices without one: the middle of the published 1.25 to 1.41 mm.
SLICES_SPACING_MM = 1.33
SLICES_PHASES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One labelled volume: uint8 ``images`` and ``labels`` ``[z, s, s]`` with its origin."""

    images: np.ndarray
    labels: np.ndarray
    kind: int
    patient: str
    phase: str
    group: str
    fold: int
    slice_mm: float


def to_grid(
    images: np.ndarray, labels: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Slices ``[z, y, x]`` on the packed grid: pixels averaged, labels by nearest pixel."""
    height, width = images.shape[1:]
    middle = ((height - 1) / 2, (width - 1) / 2)
    window = Window(
        centre=middle,
        size=SIZE,
        spacing_mm=SPACING_MM,
        source_spacing_mm=spacing_mm,
        source_shape=(height, width),
    )
    low, high = np.percentile(images, (0.5, 99.5))
    scaled = np.clip((images - low) / max(float(high - low), 1e-6), 0, 1) * 255
    pixels = resample(scaled.astype(np.float32), *window.to_window())
    offsets = (np.arange(SIZE) - (SIZE - 1) / 2) * SPACING_MM
    rows, columns = (
        np.round(c + offsets / s).astype(int) for c, s in zip(middle, spacing_mm, strict=True)
    )
    inside_rows = (rows >= 0) & (rows < height)
    inside_columns = (columns >= 0) & (columns < width)
    picked = labels[:, np.clip(rows, 0, height - 1)][:, :, np.clip(columns, 0, width - 1)]
    picked = picked * (inside_rows[:, None] & inside_columns)
    return pixels.round().astype(np.uint8), picked.astype(np.uint8)


def assign_folds(groups: Mapping[str, str], seed: int = 7) -> dict[str, int]:
    """Fold 0 to 4 of each patient, assigned within each group in seeded order."""
    members: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(groups):
        members[groups[patient]].append(patient)
    folds = {}
    for patients in members.values():
        order = np.random.default_rng(seed).permutation(patients)
        folds.update({str(patient): number % FOLDS for number, patient in enumerate(order)})
    return folds


def read_groups(folder: Path) -> dict[str, str]:
    """Diagnosis of each patient folder: ``reference_volumes.csv``, else its ``Info.cfg``."""
    patients = sorted(p.name for p in folder.iterdir() if p.is_dir())
    table = folder / "reference_volumes.csv"
    known: dict[str, str] = {}
    if table.exists():
        with table.open(newline="", encoding="utf-8") as stream:
            known = {row["participant_id"]: row["group"] for row in csv.DictReader(stream)}
    for patient in patients:
        info = folder / patient / "Info.cfg"
        if patient not in known and info.exists():
            found = re.search(r"^Group:\s*(\w+)", info.read_text(encoding="utf-8"), re.MULTILINE)
            known[patient] = found.group(1) if found else "unknown"
    return {patient: known.get(patient, "unknown") for patient in patients}


def read_pairs(folder: Path, label_order: str) -> Iterable[Volume]:
    """Volumes of ED/ES NIfTI pairs with ``_gt`` labels."""
    nibabel: Any = import_module("nibabel")
    lookup = np.array(LABEL_ORDERS[label_order], dtype=np.uint8)
    groups = read_groups(folder)
    folds = assign_folds(groups)
    for patient in sorted(groups):
        for phase in ("ED", "ES"):
            stem = folder / patient / f"{patient}_{phase}"
            paths = [Path(f"{stem}.nii.gz"), Path(f"{stem}_gt.nii.gz")]
            if not all(path.exists() for path in paths):
                raise InputError(
                    f"{patient} has no {phase} volume with labels.",
                    hint="Each patient folder needs *_ED, *_ES and their *_gt files.",
                )
            image, truth = (nibabel.load(path) for path in paths)
            zooms = [float(z) for z in image.header.get_zooms()]
            raw = np.asarray(truth.dataobj).astype(int).transpose(2, 1, 0)
            if raw.min() < 0 or raw.max() > 3:
                raise InputError(f"{patient} {phase}: labels must be 0 to 3, found {raw.max()}.")
            pixels, labels = to_grid(
                np.asarray(image.dataobj).astype(np.float32).transpose(2, 1, 0),
                lookup[raw],
                (zooms[1], zooms[0]),
            )
            yield Volume(
                images=pixels,
                labels=labels,
                kind=FULL,
                patient=patient,
                phase=phase,
                group=groups[patient],
                fold=folds[patient],
                slice_mm=zooms[2],
            )


def _stacks(paths: Iterable[Path]) -> dict[tuple[str, int], list[Path]]:
    """Files of one patient and phase, in order of slice.

    ``PATIENT-IM-0001-NUMBER.png``: images are numbered slice by slice, so numbers of one phase
    differ by multiples of the phases per slice.
    """
    stacks: dict[tuple[str, int], list[Path]] = defaultdict(list)
    for path in sorted(paths):
        patient, _, rest = path.stem.partition("-IM-")
        number = int(rest.rpartition("-")[2])
        stacks[patient, number % SLICES_PHASES].append(path)
    return stacks


def read_slices(
    folder: Path, held_out: Sequence[str], excluded: Sequence[str] = ()
) -> Iterable[Volume]:
    """Stacks of slices with LV cavity labels.

    ``held_out`` patients are never trained on, ``excluded`` ones (labels that do not lie on their
    heart) are not even packed.
    """
    from PIL import Image

    spacing = (SLICES_SPACING_MM, SLICES_SPACING_MM)
    for (patient, _), paths in _stacks((folder / "images").glob("*.png")).items():
        if patient in excluded:
            continue
        images = [np.asarray(Image.open(path).convert("L")) for path in paths]
        truths = [
            np.asarray(Image.open(folder / "labels" / path.name).convert("L")) for path in paths
        ]
        pixels, labels = to_grid(
            np.stack(images).astype(np.float32), (np.stack(truths) > 127).astype(np.uint8), spacing
        )
        yield Volume(
            images=pixels,
            labels=labels,
            kind=LV_ONLY,
            patient=patient,
            phase="ALL",
            group="LV-ONLY",
            fold=-2 if patient in held_out else -1,
            slice_mm=8.0,
        )


def _phantom_pair(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Pixels and labels ``[2, z, y, x]`` of a varied phantom at ED and ES, and the slice distance.

    Three phases are rendered with systole ending at the second.
    """
    rng = np.random.default_rng([seed, 77])
    edv = float(rng.uniform(80, 280))
    phantom = HeartPhantom(
        lv_edv_ml=edv,
        lv_ef_percent=float(rng.uniform(18, 72)),
        lv_mass_g=float(np.clip(edv * rng.uniform(0.55, 1.0), 60, 240)),
        rv_edv_ml=float(np.clip(edv * rng.uniform(0.75, 1.35), 80, 300)),
        rv_ef_percent=float(rng.uniform(25, 65)),
        trabeculation=float(rng.uniform(0, 1)),
        es_fraction=1 / 3,
        seed=seed,
    )
    distance = float(rng.choice([8.0, 9.0, 10.0]))
    grid = CineGrid(
        rows=SIZE,
        columns=SIZE,
        row_spacing_mm=SPACING_MM,
        column_spacing_mm=SPACING_MM,
        slices=int(rng.integers(9, 13)),
        thickness_mm=distance - float(rng.choice([0.0, 2.0])),
        slice_distance_mm=distance,
        base_offset_mm=float(rng.uniform(-5, 5)),
        frames=3,
        in_plane_deg=float(rng.uniform(0, 360)),
        flip_columns=bool(rng.integers(2)),
        shift_mm=(float(rng.uniform(-25, 25)), float(rng.uniform(-25, 25))),
    )
    sequence = Bssfp(
        flip_deg=float(rng.uniform(40, 70)),
        snr=float(rng.uniform(12, 60)),
        bias=float(rng.uniform(0.1, 1.0)),
    )
    cine = render(phantom, grid, sequence)
    return cine.pixels[:2].astype(np.float32), cine.labels[:2], distance


def phantoms(count: int, seed: int, held_out: int) -> Iterable[Volume]:
    """ED and ES of ``count`` varied phantoms; the last ``held_out`` are never trained on."""
    for number in range(count):
        pixels, labels, distance = _phantom_pair(seed + number)
        for index, phase in enumerate(("ED", "ES")):
            images, picked = to_grid(pixels[index], labels[index], (SPACING_MM, SPACING_MM))
            yield Volume(
                images=images,
                labels=picked,
                kind=PHANTOM,
                patient=f"phantom{number:03d}",
                phase=phase,
                group="PHANTOM",
                fold=-2 if number >= count - held_out else -1,
                slice_mm=distance,
            )


def pack_bytes(volumes: Iterable[Volume]) -> bytes:
    """The packed file (``.npz``) of the volumes, slices of one volume side by side."""
    parts = list(volumes)
    if not parts:
        raise InputError("There is nothing to pack: no labelled volume was found.")
    lengths = [len(part.images) for part in parts]

    def each(values: Iterable[object], dtype: str) -> np.ndarray:
        return np.repeat(np.array(list(values), dtype=dtype), lengths)

    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        volume=each(range(len(parts)), "int64"),
        kind=each((part.kind for part in parts), "int64"),
        patient=each((part.patient for part in parts), "U64"),
        phase=each((part.phase for part in parts), "U8"),
        group=each((part.group for part in parts), "U16"),
        fold=each((part.fold for part in parts), "int64"),
        slice_mm=each((part.slice_mm for part in parts), "float64"),
        spacing_mm=np.float64(SPACING_MM),
    )
    return buffer.getvalue()


# ------------------------------------------------------------------ the packed file


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """The arrays of one packed file, with the row of each slice's neighbours."""

    images: np.ndarray
    labels: np.ndarray
    volume: np.ndarray
    kind: np.ndarray
    patient: np.ndarray
    phase: np.ndarray
    group: np.ndarray
    fold: np.ndarray
    slice_mm: np.ndarray
    spacing_mm: float
    below: np.ndarray
    above: np.ndarray

    def training_rows(self, folds: Sequence[int], kind: int) -> np.ndarray:
        """Rows to train on when ``folds`` are held out."""
        return np.flatnonzero((self.kind == kind) & ~np.isin(self.fold, (*folds, -2)))

    def held_out_rows(self, folds: Sequence[int], kind: int) -> np.ndarray:
        """Rows of patients that are not trained on when ``folds`` are held out."""
        return np.flatnonzero((self.kind == kind) & np.isin(self.fold, (*folds, -2)))


def neighbours(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the slice before and after each slice; itself at the end of a volume."""
    rows = np.arange(len(volume))
    before, after = np.maximum(rows - 1, 0), np.minimum(rows + 1, len(rows) - 1)
    below = np.where(volume[before] == volume, before, rows)
    above = np.where(volume[after] == volume, after, rows)
    return below, above


def load(paths: list[Path]) -> Pack:
    """Read and join packed files of one spacing and size (hearts, phantoms)."""
    parts = [dict(np.load(path, allow_pickle=False)) for path in paths]
    spacings = {float(part["spacing_mm"]) for part in parts}
    if len(spacings) != 1:
        raise ValueError(f"packed files differ in spacing: {sorted(spacings)} mm")
    offset = 0
    for part in parts:
        part["volume"] = part["volume"] + offset
        offset = int(part["volume"].max()) + 1
    names = ("images", "labels", "volume", "kind", "patient", "phase", "group", "fold", "slice_mm")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in names}
    below, above = neighbours(joined["volume"])
    return Pack(**joined, spacing_mm=spacings.pop(), below=below, above=above)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a training run does; two runs of one recipe and seed differ only by rounding."""

    widths: tuple[int, ...] = DEFAULT_WIDTHS
    context_slices: int = 3
    unshuffle: int = 1
    crop: int = 128
    spacing_mm: float = 1.5
    epochs: int = 60
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup_fraction: float = 0.1
    ema_decay: float = 0.998
    # Folds never trained on, by patient; none: all fully labelled hearts are trained on.
    folds: tuple[int, ...] = (0,)
    seed: int = 1
    # Shares of a batch by kind of label: fully labelled hearts, LV cavity only, phantoms.
    share_partial: float = 0.12
    share_phantom: float = 0.0
    # From this epoch on the network's own labels complete the LV-only slices; 0: never.
    self_label_epoch: int = 0
    self_label_least: float = 0.75
    bias_field: float = 0.45
    # Geometry: the full dihedral group, so that no orientation of the source matters.
    rotation_deg: float = 30.0
    scale: float = 0.25
    shift_px: float = 22.0
    elastic_px: float = 5.0
    away_from_heart: float = 0.06
    drop_neighbours: float = 0.2
    # Shares of slices with other anatomy, and with other contrast between tissues.
    anatomy: float = 0.0
    tissue: float = 0.0
    # Added to the background's logit when the model is written, where outlines are too wide.
    background: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the checkpoint and the card."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The recipe a checkpoint was made with; names it does not know are an error."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"recipe has unknown settings: {', '.join(unknown)}")
        lists: dict[str, Any] = {n: tuple(values[n]) for n in ("widths", "folds") if n in values}
        return cls(**{**values, **lists})

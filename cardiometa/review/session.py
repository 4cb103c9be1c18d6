"""One reader's review of an output: scans in memory, edits, measures, decisions on disk.

Sources and the model's results are only read. What a reader saves goes to ``OUT/review``: masks
under ``masks/<trial>/<participant>/<visit>/``, named by reader and hash, and then a row of
``decisions.csv`` that names them, so that a kill at any moment leaves a complete earlier state.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..cohort.analysis_table import MEASUREMENTS_NAME
from ..errors import CardiometaError, InputError, UsageError
from ..files import remove, sha256_bytes, sha256_file, write_bytes
from ..imaging.nifti import nifti_bytes
from ..imaging.read import ReadOptions, read_cine
from ..locking import OutputLock
from ..measurement.measures import definition
from ..pipeline.cohort_snapshot import read_snapshot
from ..pipeline.corrections import (
    ACCEPTED,
    CORRECTED,
    OUTDATED,
    apply_correction,
    can_be_accepted,
    flags_of,
    model_measures,
)
from ..pipeline.jobs import Correction
from ..pipeline.plan import bodies_of
from ..pipeline.result_file import SEGMENTATION_NAME, read_result, scan_folder
from ..reading.decisions import (
    DECISIONS_NAME,
    MASKS_FOLDER,
    REVIEW_FOLDER,
    Decision,
    append_decision,
    is_reader_name,
    last_decisions,
    make_appendable,
    masks_of_reader,
    read_decisions,
)
from ..reading.label_file import LabelFileError, ScanGrid, read_labels
from ..records import BodySize, CineStack, Flag, ScanKey, ScanSource
from .queue import Queue, number, queue_of

# Scans in memory: the one that is shown, the next ones, some that were just left.
_MOST_BYTES = 600 * 1024**2
_FEWEST_SCANS = 3
_PERCENTILE = 99.7  # of the grey values is white; the page's window starts there
SHOWN_MEASURES = {
    "EDV (mL)": "edv_ml",
    "ESV (mL)": "esv_ml",
    "SV (mL)": "sv_ml",
    "EF (%)": "ef_percent",
    "mass (g)": "mass_g",
}
# Flags that need the other scans: they are in the table, not in the scan's record.
_COHORT_FLAGS = {
    "cohort-outlier": "Far from the other scans of its trial.",
    "slices-differ-between-visits": "The LV covers more or fewer slices than at another visit.",
    "other-participant": "Another participant has the same images or headers: check whose "
    "images these are. Accepting the contours does not settle it.",
}
_LEVELS = ("reject", "review", "info")  # worst first
_CURVES = {"lv": "lv_ml", "rv": "rv_ml"}
_TABLE_COLUMNS = ("trial", "participant_id", "visit", "status", "vendor")


class ReviewError(Exception):
    """A request that cannot be done; ``status`` is that of HTTP."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.status = message, status


@dataclass(slots=True, kw_only=True)
class OpenScan:
    """A scan in memory.

    ``pixels`` uint8 ``[t, z, y, x]`` to show; ``cine`` has their shape but no values, which no
    measure needs; ``own`` and ``labels`` uint8 ``[t, z, y, x]``: the model's and the reader's.
    ``frames``: indices of ED and ES that the reader chose. ``revision`` is another number after
    each change, so that of two tabs the one that is behind is refused.
    """

    key: ScanKey
    pixels: np.ndarray
    cine: CineStack
    own: np.ndarray
    labels: np.ndarray
    document: Mapping[str, Any]
    frames: dict[str, int] = field(default_factory=dict)
    revision: int
    saved_revision: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in (self.pixels, self.own, self.labels))

    @property
    def chosen(self) -> dict[str, int]:
        """The frames that the reader chose, in the source's numbering."""
        return {name: int(self.cine.frame_numbers[t]) for name, t in self.frames.items()}


class Session:
    """What the page asks for and sends; scans are numbered in the order of the page's table.

    Used as a context: it takes the reader's name for itself. Raises UsageError where another
    session has it, InputError where OUT or its decisions cannot be read.
    """

    def __init__(
        self,
        out: Path,
        sources: Mapping[ScanKey, ScanSource],
        *,
        reader: str = "reader-1",
        blind: bool = False,
        measure: str = "lv_ef_percent",
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        if not is_reader_name(reader):
            raise UsageError(
                f"--reader {reader!r} cannot be a name here.",
                hint="Use initials or a code of letters, digits, dash and underscore.",
            )
        self.out, self.reader, self.blind = out, reader, blind
        self._sources, self._most_bytes = sources, most_bytes
        self._review = out / REVIEW_FOLDER
        self._rows = _table(out, reader if blind else None)
        if not self._rows:
            raise InputError(f"{out.name} has no scan to review.")
        if measure not in self._rows[0]:
            raise UsageError(f"--measure {measure} is not a column of {MEASUREMENTS_NAME}.")
        self.keys = [
            ScanKey(trial=row["trial"], participant=row["participant_id"], visit=row["visit"])
            for row in self._rows
        ]
        self._place = {key: n for n, key in enumerate(self.keys)}
        # Masks of scans whose earlier decision was on another one: such a decision does not count.
        self._present = {}
        for key, row in zip(self.keys, self._rows, strict=True):
            if OUTDATED in (row.get("flags") or "").split(";"):
                result = read_result(scan_folder(out, key), key)
                outputs = result.document["outputs"] if result else {}
                self._present[key] = str(outputs.get(SEGMENTATION_NAME, ""))
        self.queue: Queue = queue_of(self._rows, measure, definition(measure).unit)
        self._bodies = bodies_of(read_snapshot(out).cohort)
        self._decisions: list[Decision] = []
        self._open: OrderedDict[int, OpenScan] = OrderedDict()
        self._lock = threading.Lock()  # of the two above and of decisions.csv
        self._reading = threading.Lock()  # one scan is read at a time
        self._held = ExitStack()
        # Never the same number twice, also where a scan left the memory and came back.
        self._revisions = itertools.count(1)

    def __enter__(self) -> Self:
        """Take the reader's name and read what was decided before."""
        path = self._review / DECISIONS_NAME
        with ExitStack() as held:
            try:
                held.enter_context(OutputLock(self._review / "readers" / self.reader))
            except UsageError:
                raise UsageError(
                    f"A review by {self.reader} is already running on {self.out.name}.",
                    hint="Stop it, or give another --reader.",
                ) from None
            if path.exists():
                make_appendable(path)
                self._decisions, problems = read_decisions(path)
                if problems:
                    raise InputError(f"{path.name} has problems.", problems=problems)
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Save what was edited and free the reader's name."""
        for scan in list(self._open.values()):
            with scan.lock:
                self._save(scan)
        self._held.close()

    def table(self) -> dict[str, Any]:
        """The rows of the overview, in the numbering of the scans."""
        last, own = self._decided(), self._own_rows()
        rows = []
        for n, (row, key) in enumerate(zip(self._rows, self.keys, strict=True)):
            by_reader = last.get(key, {})
            mine = by_reader.get(self.reader)
            draft = own.get(key)
            shown: dict[str, Any] = {
                "n": n,
                "name": self._name(n),
                "decision": mine.decision if mine else "",
                "saved": bool(draft and draft.decision == "saved"),
            }
            if not self.blind:
                shown |= {name: row.get(name) or "" for name in _TABLE_COLUMNS}
                shown |= {
                    "flags": (row.get("flags") or "").split(";") if row.get("flags") else [],
                    "quality": _finite(number(row.get("quality"))),
                    "value": _finite(number(row.get(self.queue.measure))),
                    "sd": _finite(number(row.get(f"{self.queue.measure}_sd"))),
                    "priority": float(self.queue.priority[n]),
                    "readers": [
                        f"{reader or 'no name'}: {found.decision}"
                        for reader, found in sorted(by_reader.items())
                        if reader != self.reader
                    ],
                }
            rows.append(shown)
        return {
            "reader": self.reader,
            "blind": self.blind,
            "measure": "" if self.blind else self.queue.measure,
            "unit": "" if self.blind else definition(self.queue.measure).unit,
            "rows": rows,
            "rule": self.rule(),
        }

    def rule(self) -> str:
        """What the scans that are left could change; in a blind review only how many they are."""
        last = self._decided()
        left = [n for n, key in enumerate(self.keys) if self.reader not in last.get(key, {})]
        if self.blind:
            return f"{len(left):,} of {len(self.keys):,} scans left." if left else "All reviewed."
        return self.queue.stopping_rule(left)

    def _name(self, n: int) -> str:
        return f"case {n + 1:04d}" if self.blind else str(self.keys[n])

    def _decided(self) -> dict[ScanKey, dict[str, Decision]]:
        """The decisions that count, by scan and reader."""
        with self._lock:
            found = last_decisions(self._decisions)
        for key in found.keys() & self._present.keys():
            said = found[key].items()
            found[key] = {r: d for r, d in said if d.before in ("", self._present[key])}
        return found

    def _own_rows(self) -> dict[ScanKey, Decision]:
        with self._lock:
            return masks_of_reader(self._decisions, self.reader)

    def warm(self) -> None:
        """Read the first scan of the queue and load what measuring needs, before it is asked."""
        first = 0 if self.blind else int(np.argmax(self.queue.priority))
        with suppress(ReviewError):
            self.scan(first)
        import_module("scipy.ndimage")

    def scan(self, n: int) -> OpenScan:
        """The scan in memory, read where it is not; raises ReviewError."""
        with self._lock:
            if not 0 <= n < len(self.keys):
                raise ReviewError("There is no such scan.", 404)
            if n in self._open:
                self._open.move_to_end(n)
                return self._open[n]
        with self._reading:
            with self._lock:
                if n in self._open:
                    return self._open[n]
            try:
                found = self._read(self.keys[n])
            except CardiometaError as error:
                raise ReviewError(f"This scan cannot be shown: {error.message}", 422) from None
            gone = []
            with self._lock:
                self._open[n] = found
                # Scans that were not used for longest leave the memory.
                while (
                    len(self._open) > _FEWEST_SCANS
                    and sum(scan.nbytes for scan in self._open.values()) > self._most_bytes
                ):
                    gone.append(self._open.popitem(last=False)[1])
            for scan in gone:
                with scan.lock:
                    self._save(scan)
        return found

    def _read(self, key: ScanKey) -> OpenScan:
        folder = scan_folder(self.out, key)
        result = read_result(folder, key)
        if result is None:
            raise InputError("its record in OUT is missing or damaged.")
        document = result.document
        if SEGMENTATION_NAME not in document["outputs"]:
            raise InputError(f"it has no mask ({flags_of(document)[0].sentence})")
        if key not in self._sources:
            raise InputError("the cohort has no such scan.")
        regex = document["options"].get("series_regex")
        cine = read_cine(self._sources[key], ReadOptions(series_regex=regex))
        if cine.source.sha256 != document["source"]["sha256"]:
            raise InputError("the images are not those that were segmented.")
        if "segmented_frames" in document:
            numbers = [int(frame) for frame in cine.frame_numbers]
            ed, es = (numbers.index(int(frame)) for frame in document["segmented_frames"])
            cine = cine.ed_es_only(ed, es)
        data = (folder / SEGMENTATION_NAME).read_bytes()
        if sha256_bytes(data) != document["outputs"][SEGMENTATION_NAME]:
            raise InputError("its mask was changed inside OUT.")
        own = _labels(data, cine)
        pixels = _to_bytes(cine.pixels)
        nothing = np.broadcast_to(np.uint8(0), cine.pixels.shape)
        revision = next(self._revisions)
        scan = OpenScan(
            key=key,
            pixels=pixels,
            cine=replace(cine, pixels=nothing),
            own=own,
            labels=own.copy(),
            document=document,
            revision=revision,
            saved_revision=revision,
        )
        self._resume(scan)
        return scan

    def _resume(self, scan: OpenScan) -> None:
        """Take this reader's saved mask and frames, where they are of the model's present mask."""
        row = self._own_rows().get(scan.key)
        if row is None or (row.before and row.before != self._shown(scan)):
            return
        numbers = [int(frame) for frame in scan.cine.frame_numbers]
        scan.frames = {name: numbers.index(f) for name, f in row.frames.items() if f in numbers}
        if row.mask:
            path = self._review.joinpath(*row.mask.split("/"))
            if path.is_file() and path.resolve().is_relative_to(self._review.resolve()):
                scan.labels = _labels(path.read_bytes(), scan.cine)

    def _shown(self, scan: OpenScan) -> str:
        return str(scan.document["outputs"][SEGMENTATION_NAME])

    # -------------------------------------------------------------- what the page shows

    def describe(self, n: int) -> dict[str, Any]:
        """Geometry, phases, decision and measures of a scan."""
        scan = self.scan(n)
        t, z, y, x = scan.own.shape
        mine = self._decided().get(scan.key, {}).get(self.reader)
        row = self._own_rows().get(scan.key)
        with scan.lock:
            return {
                "n": n,
                "name": self._name(n),
                "shape": [t, z, y, x],
                "spacing_mm": list(scan.cine.spacing_mm),
                "frame_ms": scan.cine.source.frame_ms,
                "is_pair": scan.cine.is_ed_es_pair,
                "numbers": [int(number) for number in scan.cine.frame_numbers],
                "base": scan.document.get("details", {}).get("base"),
                "decision": mine.decision if mine else "",
                "reason": mine.reason if mine else "",
                "comment": row.comment if row else "",
                # Contours that were saved after the decision: they count once it is made again.
                "newer": bool(mine and row and row.decision == "saved"),
                "facts": "" if self.blind else _facts(self._rows[n], self.queue),
                **self.measured(scan),
            }

    def measured(self, scan: OpenScan) -> dict[str, Any]:
        """Measures, flags and curves of the reader's labels, by the code of ``segment``."""
        begun = time.monotonic()
        values, flags, curves, status = self._measure(scan)
        numbers = [int(frame) for frame in scan.cine.frame_numbers]
        ed, es = (
            numbers.index(int(values[name])) if values.get(name) is not None else 0
            for name in ("ed_frame", "es_frame")
        )
        own = model_measures(scan.document)
        found: dict[str, Any] = {
            "revision": scan.revision,
            "saved": scan.revision == scan.saved_revision,
            "changed": self._is_changed(scan),
            "ed": ed,
            "es": es,
            "chosen": bool(scan.frames),
            "curves": {name: _scaled(curve, blind=self.blind) for name, curve in curves.items()},
            "measures": [],
            "flags": [],
            "status": "",
            "seconds": 0.0,
        }
        if not self.blind:
            both = values, own
            found["measures"] = [
                [
                    label,
                    *(_finite(of.get(f"{side}_{name}")) for side in ("lv", "rv") for of in both),
                ]
                for label, name in SHOWN_MEASURES.items()
            ]
            found["status"] = status
            found["flags"] = [
                [flag.code, flag.level, flag.sentence]
                for flag in flags
                if flag.code not in (ACCEPTED, CORRECTED)
            ]
            found["flags"] += [
                [code, "review", _COHORT_FLAGS[code]]
                for code in (self._rows[self._place[scan.key]].get("flags") or "").split(";")
                if code in _COHORT_FLAGS
            ]
            found["flags"].sort(key=lambda flag: _LEVELS.index(flag[1]))
        found["seconds"] = round(time.monotonic() - begun, 3)
        return found

    def _measure(
        self, scan: OpenScan
    ) -> tuple[Mapping[str, Any], Sequence[Flag], dict[str, Any], str]:
        body = self._bodies.get((scan.key.trial, scan.key.participant), BodySize())
        formula = str(scan.document["options"].get("bsa_formula"))
        given = Correction(key=scan.key, sha256="", frames=scan.chosen)
        made = apply_correction(
            scan.cine, scan.labels, (scan.own, scan.document), body, formula, given
        )
        if made.measured is None:
            curves = scan.document.get("curves", {})
            status = "review" if can_be_accepted(scan.document) else "failed"
            flags: Sequence[Flag] = flags_of(scan.document)
            values = model_measures(scan.document)
        else:
            curves, flags = made.measured.curves, made.measured.flags
            values = {one.name: one.value for one in made.measured.measures}
            values |= made.measured.details.get("rejected_measures", {})
            status = "failed" if any(f.level == "reject" for f in flags) else "review"
        return values, flags, {n: list(curves.get(name, ())) for n, name in _CURVES.items()}, status

    def _is_changed(self, scan: OpenScan) -> bool:
        return bool(scan.frames) or not np.array_equal(scan.labels, scan.own)

    def image(self, n: int, axis: str, index: int) -> bytes:
        """Grey values of one phase ``[z, y, x]`` (``phase``) or one slice ``[t, y, x]``."""
        pixels = self.scan(n).pixels
        if not 0 <= index < pixels.shape[0 if axis == "phase" else 1]:
            raise ReviewError("There is no such image.", 404)
        return (pixels[index] if axis == "phase" else pixels[:, index]).tobytes()

    def labels(self, n: int, whose: str) -> bytes:
        """All labels ``[t, z, y, x]``, compressed with gzip: the reader's or the ``model``'s."""
        scan = self.scan(n)
        with scan.lock:
            array = scan.own if whose == "model" else scan.labels
            return gzip.compress(array.tobytes(), compresslevel=1, mtime=0)

    def edit(self, n: int, revision: int, change: Callable[[OpenScan], None]) -> dict[str, Any]:
        """Apply a change to a scan that was not changed elsewhere meanwhile; the new measures."""
        scan = self.scan(n)
        with scan.lock:
            with self._lock:
                is_behind = self._open.get(n) is not scan
            if is_behind or revision != scan.revision:
                raise ReviewError(
                    "This scan was changed in another tab or window; its present state is shown.",
                    409,
                )
            change(scan)
            scan.revision = next(self._revisions)
            return self.measured(scan)

    def put_labels(
        self, n: int, places: Sequence[tuple[int, int]], data: bytes, revision: int
    ) -> dict[str, Any]:
        """Labels of slices, each ``(phase, slice)`` with ``[y, x]`` bytes one after the other."""
        t, z, y, x = self.scan(n).labels.shape
        if not places or any(not (0 <= a < t and 0 <= b < z) for a, b in places):
            raise ReviewError("There is no such slice.", 404)
        if len(data) != len(places) * y * x:
            raise ReviewError(f"The mask must have {len(places) * y * x} bytes.")
        planes = np.frombuffer(data, dtype=np.uint8).reshape(len(places), y, x)
        if planes.max(initial=0) > 3:
            raise ReviewError("The mask contains unknown labels.")

        def change(scan: OpenScan) -> None:
            for (phase, place), plane in zip(places, planes, strict=True):
                scan.labels[phase, place] = plane

        return self.edit(n, revision, change)

    def set_frames(self, n: int, ed: int | None, es: int | None, revision: int) -> dict[str, Any]:
        """Choose the frames of ED and ES by index; None is the extreme of the curve."""
        scan = self.scan(n)
        chosen = {k: v for k, v in (("ed_frame", ed), ("es_frame", es)) if v is not None}
        if scan.cine.is_ed_es_pair:
            raise ReviewError("An ED and ES pair keeps its phases.")
        if any(not 0 <= frame < scan.own.shape[0] for frame in chosen.values()):
            raise ReviewError("There is no such frame.")
        if ed is not None and ed == es:
            raise ReviewError("ED and ES cannot be one frame.")

        def change(scan: OpenScan) -> None:
            scan.frames = chosen

        return self.edit(n, revision, change)

    def restore(self, n: int, revision: int) -> dict[str, Any]:
        """The model's contours and phases in all slices."""

        def change(scan: OpenScan) -> None:
            scan.labels, scan.frames = scan.own.copy(), {}

        return self.edit(n, revision, change)

    def save(self, n: int, seconds: float, comment: str) -> dict[str, Any]:
        """Write the edited mask and a row ``saved``; nothing where all is saved."""
        scan = self.scan(n)
        with scan.lock:
            self._save(scan, seconds=seconds, comment=comment)
            return {"saved": True, "revision": scan.revision}

    def _save(self, scan: OpenScan, **more: Any) -> None:
        if scan.revision != scan.saved_revision:
            self._append(scan, "saved", **more)

    def decide(
        self, n: int, word: str, revision: int, *, reason: str, comment: str, seconds: float
    ) -> dict[str, Any]:
        """Accept, reject or reopen a scan; on disk when this returns."""
        if word not in ("accepted", "rejected", "reopened"):
            raise ReviewError("The decision is not known.")
        if word == "rejected" and not reason.strip():
            raise ReviewError("A rejected scan needs a reason.")
        key = self.keys[n] if 0 <= n < len(self.keys) else None
        try:
            scan = self.scan(n)
        except ReviewError:  # what cannot be shown can be rejected all the same
            if word != "rejected" or key is None:
                raise
            self._write_row(_row(key, self.reader, word, reason, comment, seconds))
            return {"rule": self.rule(), "decision": word}
        with scan.lock:
            if revision != scan.revision:
                raise ReviewError("This scan was changed in another tab or window.", 409)
            if word == "accepted":
                self._refuse_failed(scan)
                word = "edited" if self._is_changed(scan) else word
            self._append(scan, word, reason=reason, comment=comment, seconds=seconds)
        return {"rule": self.rule(), "decision": "" if word == "reopened" else word}

    def _refuse_failed(self, scan: OpenScan) -> None:
        _, flags, _, status = self._measure(scan)
        if status == "failed":
            reasons = " ".join(flag.sentence for flag in flags if flag.level == "reject")
            if self.blind:
                reasons = "not a complete ventricle or not a heart cycle."
            raise ReviewError(
                f"The checks reject these contours: {reasons} Edit them, or reject the scan.", 422
            )

    def _append(
        self,
        scan: OpenScan,
        word: str,
        reason: str = "",
        comment: str = "",
        seconds: float = 0.0,
    ) -> None:
        """Write the mask where it differs from the model's, then the row that names it."""
        shown = after = self._shown(scan)
        mask = ""
        if not np.array_equal(scan.labels, scan.own):
            frame_ms = scan.cine.source.frame_ms or 1.0
            data = nifti_bytes(scan.labels, scan.cine.affine, frame_ms=frame_ms)
            after = sha256_bytes(data)
            mask = f"{MASKS_FOLDER}/{scan.key}/{self.reader}-{after[:16]}.nii.gz"
            path = self._review.joinpath(*mask.split("/"))
            if not path.is_file() or sha256_file(path) != after:
                write_bytes(path, data)
        row = _row(scan.key, self.reader, word, reason, comment, seconds)
        ed, es = (scan.chosen.get(name) for name in ("ed_frame", "es_frame"))
        row = replace(row, before=shown, after=after, mask=mask, ed_frame=ed, es_frame=es)
        self._write_row(row)
        scan.saved_revision = scan.revision
        self._remove_old_masks(scan.key)

    def _write_row(self, row: Decision) -> None:
        with self._lock:
            append_decision(self._review / DECISIONS_NAME, row)
            self._decisions.append(row)

    def _remove_old_masks(self, key: ScanKey) -> None:
        """Remove this reader's masks that neither the last row nor the last decision names."""
        final = self._decided().get(key, {}).get(self.reader)
        kept = {row.mask for row in (self._own_rows().get(key), final) if row}
        folder = self._review.joinpath(MASKS_FOLDER, *str(key).split("/"))
        pattern = re.compile(re.escape(self.reader) + r"-[0-9a-f]{16}\.nii\.gz")
        old = [
            path.name
            for path in folder.glob("*.nii.gz")
            if pattern.fullmatch(path.name) and f"{MASKS_FOLDER}/{key}/{path.name}" not in kept
        ]
        remove(folder, old)


# ------------------------------------------------------------------ small things


def _row(
    key: ScanKey, reader: str, word: str, reason: str, comment: str, seconds: float
) -> Decision:
    return Decision(
        trial=key.trial,
        participant_id=key.participant,
        visit=key.visit,
        reader=reader,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        decision=word,
        reason=_line(reason),
        comment=_line(comment),
        seconds=round(max(0.0, min(seconds, 1e6)), 1),
    )


def _line(text: str) -> str:
    """Text of a reader on one line, at most 500 characters."""
    return " ".join(text.split())[:500]


def _table(out: Path, blind_reader: str | None) -> list[dict[str, str]]:
    """The rows of ``measurements.csv``; for a blind reader in an order that reveals nothing."""
    path = out / MEASUREMENTS_NAME
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"{out.name} has no {MEASUREMENTS_NAME}.",
            hint="Give the folder that `segment --out` wrote to, once it is complete.",
        ) from None
    if rows and not {"trial", "participant_id", "visit", "status"} <= set(rows[0]):
        raise InputError(f"{MEASUREMENTS_NAME} of {out.name} is not a table of `segment`.")
    if blind_reader is None:
        return rows
    seed = hashlib.sha256(json.dumps([blind_reader, len(rows)]).encode()).digest()[:8]
    order = np.random.default_rng(int.from_bytes(seed, "big")).permutation(len(rows))
    return [rows[place] for place in order]


def _labels(data: bytes, cine: CineStack) -> np.ndarray:
    t, z, y, x = cine.pixels.shape
    try:
        return read_labels(data, ScanGrid(shape=(t, z, y, x), affine=cine.affine))
    except LabelFileError as error:
        raise InputError(f"its mask cannot be used ({error}).") from None


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Grey values as bytes, the brightest 0.3 % being white."""
    sample = pixels[:, :, ::4, ::4]
    low, high = float(sample.min()), float(np.percentile(sample, _PERCENTILE))
    scale = 255.0 / (high - low) if high > low else 0.0
    shown = np.empty(pixels.shape, dtype=np.uint8)
    for t in range(len(pixels)):  # phase by phase, so that no second copy in floats is made
        shown[t] = np.clip((pixels[t] - low) * scale, 0, 255).astype(np.uint8)
    return shown


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _scaled(curve: Sequence[float | None], *, blind: bool) -> list[float | None]:
    """A volume curve; without its scale in a blind review."""
    values = [_finite(value) for value in curve]
    largest = max((value for value in values if value), default=None)
    if not blind or largest is None:
        return values
    return [None if value is None else value / largest for value in values]


def _facts(row: Mapping[str, str], queue: Queue) -> str:
    """What is known of a scan, for the heading of the page."""
    age, quality = number(row.get("age_years")), number(row.get("quality"))
    spread = number(row.get(f"{queue.measure}_sd"))
    parts = [
        *(row.get(name) for name in ("vendor", "sequence", "sex")),
        f"{age:.0f} y" if np.isfinite(age) else "",
        f"arm {row['arm']}" if row.get("arm") else "",
        f"quality {quality:.2f}" if np.isfinite(quality) else "",
        f"{queue.name} ± {spread:.1f} {queue.unit}" if np.isfinite(spread) else "",
    ]
    return " · ".join(part for part in parts if part)

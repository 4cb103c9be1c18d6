"""The only writer: atomic replace, canonical JSON, sha256, paths that cannot escape.

Every other module returns bytes or text and leaves the writing to this one, so that a run killed
at any moment leaves complete files or none.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from .errors import InputError, OutputError, UsageError

_SAFE_NAME = re.compile(r"[^\W_][\w.\- ]*", re.UNICODE)
NAME_RULE = "Use letters, digits, dot, dash, underscore; a letter or digit first."
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"COM{i}" for i in range(10))}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def is_safe_name(name: str) -> bool:
    """True for an id that may be a folder's name: no separator, no dot first, not reserved."""
    return (
        bool(_SAFE_NAME.fullmatch(name))
        and len(name.encode()) <= 120
        and not name.endswith((".", " "))
        and name.partition(".")[0].upper() not in _RESERVED
    )


def inside(folder: Path, *parts: str) -> Path:
    """``folder`` joined with ``parts``, each a safe name; raises InputError otherwise."""
    for part in parts:
        if not is_safe_name(part):
            raise InputError(
                f"{part!r} cannot be the name of a folder.",
                hint=NAME_RULE,
            )
    path = folder.joinpath(*parts)
    # A link below the folder would lead a write to another place.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise InputError(
            f"{path.name!r} below {folder.name} is a link to a place outside it.",
            hint="Put a real folder there, or choose another output.",
        )
    return path


@contextmanager
def _writing(name: str) -> Iterator[None]:
    """Turn what the system says of a write into an OutputError; no path, which may hold a name."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise OutputError(
            f"{name} cannot be written: {reason}.",
            hint="What was finished before is kept. Free disk space or fix permissions, then rerun "
            "the command.",
        ) from error


# File systems that cannot sync a folder say so; they keep the order of renames in other ways.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


def _sync_folder(folder: Path) -> None:
    # A rename is on disk only when its folder is; Windows has no such call.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise
        finally:
            os.close(descriptor)


_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp", re.DOTALL)


def _stage(path: Path, data: bytes, mode: int = 0o666) -> Path:
    """A temporary file next to ``path`` with ``data``, on disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with _writing(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(temporary, _CREATE, mode)
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except BaseException:
            _forget(temporary)
            raise
    return temporary


def _forget(temporary: Path) -> None:
    """Remove a temporary file; where even that fails, the next run does it."""
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _rename(temporary: Path, path: Path) -> None:
    with _writing(path.name):
        os.replace(temporary, path)
        _sync_folder(path.parent)


def write_bytes(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Write a file completely or not at all; a ``secret`` is for its owner only.

    Raises OutputError.
    """
    temporary = _stage(path, data, 0o600 if secret else 0o666)
    try:
        _rename(temporary, path)
    except BaseException:
        _forget(temporary)
        raise


def write_text(path: Path, text: str, *, secret: bool = False) -> None:
    """Write UTF-8 text with LF line ends, completely or not at all; raises OutputError."""
    write_bytes(path, text.encode("utf-8"), secret=secret)


def append_text(path: Path, text: str) -> None:
    """Add UTF-8 text to the end of a file, on disk when this returns; raises OutputError."""
    with _writing(path.name):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        try:
            left = memoryview(text.encode("utf-8"))
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_all(
    folder: Path, contents: Mapping[str, bytes | str], *, old: Iterable[str] = ()
) -> None:
    """Write several files below ``folder``: all are staged before the first gets its name.

    ``contents`` maps a relative path (``figures/forest.svg``) to bytes or text; the last one is
    renamed last, so put the record that says "complete" there. ``old`` names files that go once all
    is staged. Where the record is `RECORD_NAME`, one that says ``writing`` is there from the first
    rename on: a run killed between two renames is seen as unfinished, and resumes.
    Raises OutputError; a disk too full to stage all changes nothing.
    """
    final, waiting = len(contents), [*contents.items()]
    if waiting and waiting[-1][0] == RECORD_NAME:
        old = (*old, STALE_NAME)
        marker = {**json.loads(contents[RECORD_NAME]), "run": WRITING}
        waiting.insert(0, (RECORD_NAME, canonical_json(marker)))
    staged: list[tuple[Path, Path]] = []
    try:
        for name, data in waiting:
            target = folder.joinpath(*name.split("/"))
            raw = data.encode("utf-8") if isinstance(data, str) else data
            staged.append((_stage(target, raw), target))
        while staged:
            if len(staged) == final:  # all but the marker: the old set ends here
                remove(folder, old)
            _rename(*staged[0])
            staged.pop(0)
    finally:
        for temporary, _ in staged:
            _forget(temporary)


def create_new(path: Path, data: bytes, *, secret: bool = False) -> bool:
    """Write a file that does not exist yet; False, and nothing written, where it does.

    A hard link either gets the name or fails, on network file systems too. A ``secret`` is for its
    owner only. Raises OutputError.
    """
    temporary = _stage(path, data, 0o600 if secret else 0o666)
    try:
        with _writing(path.name):
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:
                # No hard links here (FAT, some mounted object stores): the next best.
                if os.path.lexists(path):
                    return False
                os.replace(temporary, path)
            _sync_folder(path.parent)
            return True
    finally:
        _forget(temporary)


def link(source: Path, path: Path) -> None:
    """Give a file a second name; a copy where the file system has none. Raises OutputError."""
    with _writing(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, path)
        except OSError:
            write_bytes(path, source.read_bytes())


def remove_empty(folder: Path) -> None:
    """Remove an empty folder; any other stays."""
    with suppress(OSError):
        folder.rmdir()


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours with its contents; links are removed, not followed.

    What a kill leaves of it is removed by the next call. Raises OutputError.
    """
    with _writing(folder.name):
        if folder.is_symlink() or not folder.is_dir():
            folder.unlink(missing_ok=True)
            return
        for path in folder.iterdir():
            remove_tree(path)
        folder.rmdir()
        _sync_folder(folder.parent)


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove the named files of ours from ``folder``, where they are there; raises OutputError."""
    for name in names:
        with _writing(name.rpartition("/")[2]):
            (folder / name).unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while it wrote below ``folder``."""
    with _writing(folder.name):
        for path in folder.glob("**/.*.tmp"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)


# ------------------------------------------------------------------ JSON and hashes


def _plain(value: Any) -> Any:
    """Plain JSON values; NaN and infinities become null (JSON has none)."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value
    if isinstance(value, Path):
        raise TypeError("a path must not reach an output: it may hold a name")
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, two-space indent and a final newline: equal values, equal bytes."""
    return json.dumps(_plain(value), sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON; a file of ours has null")


def read_json(path: Path) -> Any:
    """The JSON value of a file of ours; InputError where it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        # Half a character (\\ud800) could be read but never written again.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise InputError(f"{path.name} cannot be read as JSON ({reason}).") from error
    return value


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces; raises InputError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path.name} cannot be read ({error.strerror or type(error).__name__}).",
            hint="Check the path and the right to read it.",
        ) from error


def cell(value: Any) -> str:
    """One CSV cell by the contract: empty, ``true``/``false``, shortest round-trip number, text.

    Text that a spreadsheet would take for a formula gets an apostrophe; numbers are left alone.
    """
    if value is None:
        return ""
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    text = str(value)
    if text in ("<NA>", "NaT"):
        return ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A CSV by the contract: header, LF line ends, cells as `cell` writes them."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell(value) for value in row])
    return buffer.getvalue()


def record_columns(kind: type[Any]) -> list[str]:
    """The CSV columns of a record: its fields but those marked ``csv=False``, and its note."""
    names = [f.name for f in fields(kind) if f.metadata.get("csv", True)]
    return names if "note" in names or not hasattr(kind, "note") else [*names, "note"]


def records_csv(kind: type[Any], rows: Iterable[Any]) -> str:
    """The CSV of records of one kind."""
    names = record_columns(kind)
    return csv_text(names, ([getattr(row, name) for name in names] for row in rows))


def check_file(out: Path, source: Path, *, suffix: str, overwrite: bool) -> None:
    """Refuse an ``--out`` that is no new file of this ``suffix``, or that is the ``source``.

    Raises UsageError.
    """
    if out.suffix.lower() != suffix:
        raise UsageError(
            f"--out {out.name} is not a {suffix} file.", hint=f"Use --out NAME{suffix}."
        )
    if out.exists() and not overwrite:
        raise UsageError(f"{out.name} exists.", hint="Choose another name, or use --overwrite.")
    if out.exists() and out.samefile(source):
        raise UsageError(f"--out {out.name} is the input file.", hint="Inputs are not changed.")


# ------------------------------------------------------------------ output folders

RECORD_NAME = "cardiometa.json"
STALE_NAME = "stale.json"  # of `privacy.withdrawal`: the output's input has changed since
LOCK_PREFIX = ".cardiometa."  # of `locking`; these files are not part of the output
WRITING = {"state": "writing"}  # the run block of a record whose files are not all in place


def check_output(
    folder: Path,
    *,
    command: str,
    options: Mapping[str, Any],
    overwrite: bool,
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Refuse an OUT that another command, or this one with other options or inputs, has written.

    A folder that is absent, empty (but for what a killed run left), or made with the same options
    and ``inputs`` (name to SHA-256; None: not yet known) passes. Raises UsageError.
    """
    record_path = folder / RECORD_NAME
    try:
        folder.lstat()
        if _is_empty(folder):
            return
        known = record_path.exists()
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UsageError(f"{folder.name} is a file.", hint="Give --out a folder.") from None
    except OSError as error:
        raise UsageError(
            f"The folder {folder.name} cannot be read ({error.strerror}).",
            hint="Fix its permissions, or choose another folder for --out.",
        ) from error
    if not known:
        raise UsageError(
            f"The folder {folder.name} contains other files.",
            hint="Choose a new or empty folder for --out.",
        )
    record = _record_of(record_path)
    if record.get("command") != command:
        raise UsageError(
            f"The folder {folder.name} contains an output of `{record.get('command')}`.",
            hint="Choose another folder for --out.",
        )
    wanted = json.loads(canonical_json(options))
    found = record.get("options", {})
    if wanted != found and not overwrite:
        names = sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k))
        raise UsageError(
            f"The folder {folder.name} was made with other options ({', '.join(names)}).",
            hint="Choose another folder, or say --overwrite to replace it.",
        )
    made_from = record.get("inputs", {})
    # What a withdrawal marked is to be computed again, from the input as it is now.
    if inputs is not None and not overwrite and not (folder / STALE_NAME).exists():
        names = sorted(k for k in {*inputs, *made_from} if inputs.get(k) != made_from.get(k))
        if names:
            raise UsageError(
                f"The folder {folder.name} was made from another input ({', '.join(names)}).",
                hint="Choose another folder, or say --overwrite to replace it.",
            )


def _is_empty(folder: Path) -> bool:
    """True for a folder without any file but temporary ones and locks of this program."""
    if (folder / RECORD_NAME).exists():
        return False
    with os.scandir(folder) as entries:
        return all(
            _is_empty(Path(entry.path))
            if entry.is_dir(follow_symlinks=False)
            else bool(_TEMPORARY.fullmatch(entry.name)) or entry.name.startswith(LOCK_PREFIX)
            for entry in entries
        )


def _record_of(path: Path) -> Mapping[str, Any]:
    """The record of an output; UsageError where it is damaged: nothing there may be overwritten."""
    try:
        record = read_json(path)
    except InputError as error:
        raise UsageError(
            f"In the folder {path.parent.name}: {error.message}",
            hint="It says what the folder contains. Repair it, or choose another folder for --out.",
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("options", {}), dict):
        raise UsageError(
            f"{path.name} in the folder {path.parent.name} is damaged.",
            hint="It says what the folder contains. Choose another folder for --out.",
        )
    return record


def return_memory() -> None:
    """Have arrays of a megabyte or more go back to the system once they are no longer needed.

    glibc keeps up to 32 MB pieces for later, which for large tables is a third of the memory.
    """
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD

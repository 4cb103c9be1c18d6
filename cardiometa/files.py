"""The only writer: atomic replace, canonical JSON, sha256, paths that cannot escape.

Every other module returns bytes or text and leaves the writing to this one, so that a run killed
at any moment leaves whole files or none.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import InputError, UsageError

_SAFE_NAME = re.compile(r"[^\W_][\w.\- ]*", re.UNICODE)
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
                hint="Use letters, digits, dot, dash, underscore; a letter or digit first.",
            )
    return folder.joinpath(*parts)


def _sync_folder(folder: Path) -> None:
    # A rename is on disk only when its folder is; Windows has no such call.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _stage(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = _stage(path, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with LF line ends, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_all(folder: Path, contents: Mapping[str, bytes | str]) -> None:
    """Write several files below ``folder``: all are staged before the first gets its name.

    ``contents`` maps a relative path (``figures/forest.svg``) to bytes or text; the last one is
    renamed last, so put the record that says "complete" there.
    """
    staged: list[tuple[Path, Path]] = []
    try:
        for name, data in contents.items():
            target = folder.joinpath(*name.split("/"))
            raw = data.encode("utf-8") if isinstance(data, str) else data
            staged.append((_stage(target, raw), target))
        while staged:
            temporary, target = staged[0]
            os.replace(temporary, target)
            staged.pop(0)
            _sync_folder(target.parent)
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove the named files of ours from ``folder``, where they are there."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while it wrote below ``folder``."""
    for path in folder.glob("**/.*.tmp"):
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
    raise TypeError(f"no JSON form for {type(value).__name__}")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, two-space indent and a final newline: equal values, equal bytes."""
    return json.dumps(_plain(value), sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Any:
    """The JSON value of a file of ours; InputError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path.name} cannot be read as JSON ({type(error).__name__}).") from error


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ------------------------------------------------------------------ CSV


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


# ------------------------------------------------------------------ output folders

RECORD_NAME = "cardiometa.json"


def check_output(
    folder: Path, *, command: str, options: Mapping[str, Any], overwrite: bool
) -> None:
    """Refuse an OUT that another command, or this one with other options, has written.

    A folder that is absent, empty, or made with the same options passes. Raises UsageError.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder.name} is a file.", hint="Give --out a folder.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    record_path = folder / RECORD_NAME
    if not record_path.exists():
        raise UsageError(
            f"The folder {folder.name} holds other files.",
            hint="Choose a new or empty folder for --out.",
        )
    record = read_json(record_path)
    if record.get("command") != command:
        raise UsageError(
            f"The folder {folder.name} holds an output of `{record.get('command')}`.",
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

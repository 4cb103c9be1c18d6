"""A first cohort.toml for a folder, or a first --config for tables: every guess has a comment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote

import pandas as pd

from ..errors import CohortError, InputError
from .definition import DEFINED_COLUMNS
from .ethnicity import group_of
from .infer_columns import Recognised, measure_of, plain_name, recognise
from .models import ColumnRule
from .plausibility import LIMITS, CheckedColumns, Findings, Span, check_plausible
from .read_table import SUFFIXES, RawTable, read_any_table, read_raw
from .recode import (
    CODES,
    FALSE_WORDS,
    ROSTER_COLUMNS,
    TRUE_WORDS,
    UNITS,
    Kind,
    as_numbers,
    as_text,
    is_unknown,
    kind_of,
    map_text,
    proposed_map,
    quoted,
    toml_key,
)

_CONTROL_WORDS = frozenset({"placebo", "control", "usual care", "standard care", "standard"})
_BASELINE_WORDS = frozenset({"bl", "base", "baseline", "baselinearm1", "pre", "v0", "m0", "month0"})
# Words that need no map, and what the user chooses from otherwise.
_UNDERSTOOD: Mapping[Kind, tuple[frozenset[str], str]] = {
    "sex": (frozenset({"m", "f", "male", "female"}), "male, female"),
    "boolean": (TRUE_WORDS | FALSE_WORDS, "true, false"),
    "ethnicity": (frozenset(), "the group"),
}
_SCHEMES = ("hhc", "cdisc", "ons2021", "ukb21000", "omb1997", "spd15-2024")
_MOST_CODES = 30


def _recognised(table: pd.DataFrame) -> Recognised:
    return recognise([str(column) for column in table.columns], {})


def _guessed(table: pd.DataFrame, found: Recognised, names: Sequence[str]) -> list[str]:
    """A line of ``[columns]`` for each of ``names`` that the table seems to have, or may have."""
    lines = [_guess(name, found.rules[name], table) for name in names if name in found.rules]
    lines += [
        f"# {name} = {' or '.join(map(quoted, columns))}  # which one?"
        for name, columns in found.several.items()
        if name in names
    ]
    return lines


def _guess(name: str, rule: ColumnRule, table: pd.DataFrame) -> str:
    """The line of a column; its remark stays on it, whatever characters the codes contain."""
    values = table[rule.column]
    kind, extra, remark = kind_of(rule.name), "", "by its name"
    if rule.unit is not None:
        extra, remark = f"unit = {quoted(rule.unit)}", "by its name and the unit in it"
    elif kind in UNITS and rule.name in LIMITS and (span := LIMITS[rule.name].median) is not None:
        extra, remark = _guess_unit(rule.name, span, values)
    elif name in ("arm", "visit"):
        extra, remark = _guess_names(name, _counts(values))
    elif kind in _UNDERSTOOD:
        extra, remark = _guess_codes(name, kind, _counts(values))
    text = quoted(rule.column)
    text = f"{{ column = {text}, {extra} }}" if extra else text
    return f"{toml_key(name)} = {text}  # guessed: {' '.join(remark.split())}"


def _guess_codes(name: str, kind: Kind, counts: Sequence[tuple[str, int]]) -> tuple[str, str]:
    words, choices = _UNDERSTOOD[kind]
    listed = _listed(counts)
    fits = (s for s in _SCHEMES if all(group_of(s, v)[1] for v, _ in counts))
    # A single digit is in the scheme of UK Biobank, and in everyone's own codes.
    is_telling = kind == "ethnicity" and any(len(value) > 1 for value, _ in counts)
    scheme = next(fits, None) if is_telling else None
    if scheme is not None:
        return f"scheme = {quoted(scheme)}", f"all terms are of {scheme}: {listed}"
    if words and all(value.casefold() in words for value, _ in counts):
        return "", f"understood: {listed}"
    # Values that the user must give: "?" is refused until then.
    codes = proposed_map(name, (value for value, _ in counts[:_MOST_CODES]))
    ask = f"choose {choices} or NA for each" if "?" in codes.values() else "by their words"
    return map_text(codes), f"{ask}: {listed}"


def _counts(values: pd.Series) -> list[tuple[str, int]]:
    text = as_text(values)
    counts = pd.Series(text[~text.map(is_unknown).astype(bool)]).value_counts()
    return sorted((str(value), int(count)) for value, count in counts.items())


def _listed(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{value!r} {count}" for value, count in counts[:_MOST_CODES])


def _guess_unit(name: str, span: Span, values: pd.Series) -> tuple[str, str]:
    """The unit in which the median is in ``span``, that of adults."""
    numbers, bad = as_numbers(values)
    if bad.any() or not numbers.notna().any():
        return "", "by its name; not all cells are numbers"
    median, (low, high) = float(numbers.median()), span
    for unit, factor in UNITS[kind_of(name)].items():
        if low <= median * factor <= high:
            remark = f"by its median {median:.4g}: {unit}"
            return (f"unit = {quoted(unit)}" if factor != 1 else ""), remark
    return "", f"the median {median:.4g} fits no unit: check it"


def _guess_names(name: str, counts: Sequence[tuple[str, int]]) -> tuple[str, str]:
    """A map that calls the reference arm ``control``, or the first visit ``baseline``."""
    words, wanted = _CONTROL_WORDS, "control"
    if name == "visit":
        words, wanted = _BASELINE_WORDS, "baseline"
    listed = f"its {name}s: {_listed(counts)}"
    found = [v for v, _ in counts if v.casefold() in words or plain_name(v) in words]
    if len(found) != 1 or found[0] == wanted or len(counts) > _MOST_CODES:
        which = "reference arm" if name == "arm" else "first visit"
        return "", listed if found == [wanted] else f"{listed}; the {which} should become {wanted}"
    return map_text({v: wanted if v == found[0] else v for v, _ in counts}), listed


# ------------------------------------------------------------------ tables without images

_CONFIG_HEAD = """\
# How {table} is read, guessed from names and values.
# Check every line that ends in "guessed" and replace each "?"; then run for example
#   cardiometa {command}
"""
_POOLED = "pool-trials {table} --config {file} --outcome {outcome} --out pooled"
_RANGES = 'reference-ranges {table} --config {file} --healthy-rule "WHO IS HEALTHY" --out ranges'
_DEFINITION_HEAD = """\
# One table for each trial, guessed from names and values. Check every line that ends in "guessed"
# and replace each "?"; then give this file to reference-ranges or pool-trials.
"""


def first_config(tables: Sequence[Path], out: Path | None = None) -> str:
    """The text of a first --config for one table, or of a cohort.toml for one table per trial.

    Valid TOML always; ``out`` is the file that it is for. Raises TableError.
    """
    raws = [read_raw(path) for path in tables]
    if len(tables) > 1:
        lines = [_DEFINITION_HEAD, 'name = "cohort"  # guessed']
        for path, raw in zip(tables, raws, strict=True):
            found, where = _recognised(raw.rows), _relative(path, out.parent if out else Path())
            randomised = "arm" in found.rules
            lines += [
                "",
                f"[trials.{toml_key(path.stem)}]  # guessed: the name of the file",
                f"participants = {quoted(where)}  # {len(raw.rows)} rows",
                f"randomised = {str(randomised).lower()}  # guessed: whether it has arms",
                "",
                f"[trials.{toml_key(path.stem)}.columns]",
                *_column_lines(raw, found, trial=False),
            ]
        return "\n".join(lines) + "\n"
    (path,), (raw,) = tables, raws
    found = _recognised(raw.rows)
    measures = [name for name in found.rules if name.startswith(("lv_", "rv_"))]
    outcome = measures[-1] if measures else "MEASURE"
    command = _POOLED if "arm" in found.rules else _RANGES
    file = "FILE" if out is None else quote(str(out))
    command = command.format(table=quote(str(path)), file=file, outcome=outcome)
    lines = [_CONFIG_HEAD.format(table=quoted(path.name), command=command)]
    lines += [f"# {' '.join(notice.split())}" for notice in raw.notices]
    lines += [
        f'# {column!r}: {cell!r} is unclear, say decimal = "," or "."'
        for column, cell in raw.ambiguous.items()
    ]
    numbers = {
        name: as_numbers(raw.rows[rule.column])[0]
        for name, rule in found.rules.items()
        if kind_of(name) not in CODES
    }
    index = raw.rows.index
    rows = pd.DataFrame(numbers, index=index).assign(trial="all", participant_id=index)
    check_plausible(CheckedColumns(rows=rows, where=""), findings := Findings())
    if missing := ",".join(dict.fromkeys(findings.missing)):
        lines.append(f"missing = {quoted(missing)}  # guessed: they look like codes")
    return "\n".join([*lines, "", "[columns]", *_column_lines(raw, found, trial=True)]) + "\n"


def _column_lines(raw: RawTable, found: Recognised, *, trial: bool) -> list[str]:
    """A line for each column: those recognised, those to be asked about, and the others."""
    names = [name for name in DEFINED_COLUMNS if trial or name != "trial"]
    lines = _guessed(raw.rows, found, names)
    used = {rule.column for rule in found.rules.values()}
    others = [str(column) for column in raw.rows.columns if column not in used]
    # A measure's column of another name (EF_M12) needs a line where its unit is another.
    for column in others:
        rule = ColumnRule(name=measure_of(column), column=column)
        if rule.name in LIMITS and ", unit = " in (line := _guess(column, rule, raw.rows)):
            lines.append(line)
    if others:
        shown = ", ".join(map(quoted, others))
        lines.append(f"# not recognised, and used under their own names: {shown}")
    return lines


# ------------------------------------------------------------------ folders with images

_DEPTH = 3
_IMAGE_FOLDERS = ("images", "image", "dicom", "dicoms", "nifti", "scans", "mri")
_TRIAL_WORDS = ("participants", "participant", "roster", "subjects", "baseline", "adsl", "dm")
_HEAD = """\
# A first definition of this cohort, guessed from its files. Every line that ends in "guessed"
# needs a check; then run: cardiometa check COHORT
"""
_EMPTY = """\
# No table with a row for each participant was found, so no trial is defined yet.
# Make one table a trial and fill this in:
#
# [trials.ALPHA]
# participants = "alpha/participants.csv"   # one row per participant, all who were randomised
# scans        = "alpha/scans.csv"          # participant_id, visit, images
# root         = "alpha/images"             # where the image paths start
# randomised   = true
#
# Folders trial/participant/visit/images need no cohort.toml: give the folder itself to segment.
"""


def first_definition(folder: Path, base: Path | None = None) -> str:
    """The text of a first cohort.toml for ``folder``; paths in it start in ``base``.

    Valid TOML always. Codes that cannot be guessed are ``"?"``, which `check` refuses until
    the user has filled them in.
    """
    if not folder.is_dir():
        raise CohortError(f"There is no folder {folder.name}.", hint="Check the path.")
    base = base or folder
    lines = [_HEAD, f"name = {quoted(folder.resolve().name)}  # guessed\n"]
    rosters: dict[Path, pd.DataFrame] = {}
    scans: dict[Path, pd.DataFrame] = {}
    for path in _tables(folder, _DEPTH):
        try:
            table = read_any_table(path)
        except InputError as error:
            lines.append(f"# Not read: {quoted(path.name)} ({error.message.rstrip('.')})")
            continue
        known = _recognised(table)
        if {"images", "ed_images"} & {*map(str, table.columns)}:
            scans[path] = table
        elif "participant_id" in {*known.rules, *known.several}:
            rosters[path] = table
    if not rosters:
        return "\n".join([*lines, "", _EMPTY])
    names: set[str] = set()
    for path, table in rosters.items():
        name = _trial_name(path, folder, names)
        names.add(name)
        siblings = {one: rows for one, rows in scans.items() if one.parent == path.parent}
        lines += _trial_lines(name, path, table, siblings, base)
    return "\n".join(lines) + "\n"


def _tables(folder: Path, depth: int) -> Iterator[Path]:
    for child in sorted(folder.iterdir()):
        if child.name.startswith("."):
            continue
        if child.is_file() and child.suffix.lower() in SUFFIXES and child.suffix != ".txt":
            yield child
        elif child.is_dir() and depth > 1:
            yield from _tables(child, depth - 1)


def _trial_name(path: Path, folder: Path, taken: set[str]) -> str:
    """The folder's name, or for tables that lie together what tells their names apart."""
    name = path.parent.resolve().name
    if path.parent == folder or name in taken:
        words = [w for w in path.stem.replace("-", "_").split("_") if w.lower() not in _TRIAL_WORDS]
        name = "_".join(words) or name
    number, first = 2, name
    while name in taken:
        name, number = f"{first}_{number}", number + 1
    return name


def _trial_lines(
    name: str, path: Path, table: pd.DataFrame, scans: Mapping[Path, pd.DataFrame], base: Path
) -> list[str]:
    found = _recognised(table)
    rules = {name: found.rules[name] for name in ROSTER_COLUMNS if name in found.rules}
    arms = as_text(table[rules["arm"].column]) if "arm" in rules else pd.Series(dtype=object)
    randomised = len({*arms} - {""}) > 1
    root = _root(path.parent, scans)
    lines = [
        "",
        f"[trials.{toml_key(name)}]  # guessed from where its table lies",
        f"participants = {quoted(_relative(path, base))}  # {len(table)} rows",
    ]
    if scans:
        first, *others = (quoted(_relative(one, base)) for one in scans)
        lines.append(f"scans = {first}  # guessed: in the same folder")
        lines += [f"# also there: {other}" for other in others]
    else:
        lines.append("# no scans table: scans are folders participant/visit/images below root")
    why = "it has arms" if randomised else "no column of several arms was found"
    lines += [
        f"root = {quoted(_relative(root, base))}  # guessed: where image paths start",
        f"randomised = {str(randomised).lower()}  # guessed: {why}",
    ]
    if any(str(c).startswith("reported_") for rows in scans.values() for c in rows.columns):
        lines.append('papillary = "?"  # of the reported_ values: blood-pool or myocardium')
    used = {rule.column for rule in rules.values()}
    others = [str(column) for column in table.columns if column not in used]
    lines.append("carry = []  # columns to keep; the others are dropped")
    if others:
        lines.append(f"# it could carry: {', '.join(quoted(column) for column in others)}")
    lines += ["", f"[trials.{toml_key(name)}.columns]"]
    return [*lines, *_guessed(table, found, ROSTER_COLUMNS)]


def _root(folder: Path, scans: Mapping[Path, pd.DataFrame]) -> Path:
    """Where the first image path of the scans table leads somewhere, else a folder's name."""
    named = [c for c in sorted(folder.iterdir()) if c.is_dir()]
    likely = [c for c in named if plain_name(c.name) in _IMAGE_FOLDERS]
    for table in list(scans.values())[:1]:
        column = "images" if "images" in table.columns else "ed_images"
        first = next((cell for cell in as_text(table[column]) if cell), "")
        places = [folder, *likely, *named, folder.parent]
        return next((place for place in places if first and (place / first).exists()), folder)
    return likely[0] if likely else folder


def _relative(path: Path, base: Path) -> str:
    """The path from ``base``, with forward slashes on every system."""
    return Path(os.path.relpath(path.resolve(), base.resolve())).as_posix()

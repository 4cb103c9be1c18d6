"""Documents from outside (TOML, JSON) as records: every error at once, in plain sentences.

The records are dataclasses whose annotations are the rules, or pydantic models. pydantic is
imported when the first document is read.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from functools import cache
from types import UnionType
from typing import (
    Annotated,
    Any,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from .errors import InputError, Problem, nearest

T = TypeVar("T")


class Limits:
    """Limits of a field in pydantic's words, which needs no import of pydantic by the record."""

    def __init__(self, **limits: Any) -> None:
        self.limits = limits

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """The schema of the field's type with these limits."""
        return {**handler(source), **self.limits}


Text = Annotated[str, Limits(pattern=r"\S")]
Count = Annotated[int, Limits(ge=0)]
# A dataclass refuses unknown keys and silent conversions: ``__pydantic_config__ = STRICT``.
STRICT: Any = {"extra": "forbid", "strict": True, "allow_inf_nan": False}

_EXPECTED = {
    "string_type": "text",
    "string_pattern_mismatch": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "dataclass_type": "a table",
    "dataclass_exact_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_LONGEST_VALUE = 60
_VARIANTS = frozenset({"str", "int", "float", "bool"})


def validate(
    record: type[T], document: object, where: str, *, error: type[InputError] = InputError
) -> T:
    """``document`` as a ``record``; raises ``error`` with every problem of it.

    ``where`` names the document in messages (``"site.json"``, ``"cohort.toml, trials.ALPHA"``).
    """
    value, problems = validate_partly(record, document, where)
    if problems or value is None:
        raise error(f"{where} cannot be used.", problems=problems)
    return value


def validate_partly(
    record: type[T], document: object, where: str, **known: Any
) -> tuple[T | None, tuple[Problem, ...]]:
    """The record without the values that are wrong, and a problem for each of these.

    ``known`` are values of the record that the document may not state. None where nothing can be
    read: the document is not a table, or a required value is wrong.
    """
    from pydantic import ValidationError

    problems: tuple[Problem, ...] = ()
    if known and isinstance(document, Mapping):
        stated = [key for key in known if key in document]
        problems = tuple(Problem(where=where, what=f"unknown key {key!r}") for key in stated)
        document = {**document, **known}
    try:
        return _read(record, document), problems
    except ValidationError as error:
        found = error.errors(include_url=False)
    except RecursionError:
        return None, (Problem(where=where, what="it is nested too deeply"),)
    problems += tuple(dict.fromkeys(_problem(one, record, where, known) for one in found))
    rest = deepcopy(document)
    for one in found:
        _remove(rest, one["loc"])
    try:
        return _read(record, rest), problems
    except ValidationError:
        return None, problems


def _read(record: type[T], document: object) -> T:
    """Strict, with JSON's rules: a list for a tuple, text for a path; a date is not text."""
    text = json.dumps(document, default=lambda value: {type(value).__name__: str(value)})
    value: T = _adapter(cast("Any", record)).validate_json(text)
    return value


def load_toml(raw: bytes, name: str, *, error: type[InputError] = InputError) -> dict[str, Any]:
    """The tables of a TOML file; raises ``error`` where it cannot be parsed."""
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        what = "it is not encoded in UTF-8"
    except (ValueError, RecursionError) as fault:  # also numbers of thousands of digits
        detail = str(fault) if isinstance(fault, tomllib.TOMLDecodeError) else type(fault).__name__
        what = f"it cannot be read as TOML: {detail}"
    raise error(f"{name} cannot be used.", problems=[Problem(where=name, what=what)])


@cache
def _adapter(record: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(record)


def _problem(error: Mapping[str, Any], record: Any, where: str, known: Collection[str]) -> Problem:
    """One error of pydantic as the sentence a user needs."""
    kind, value, limits = error["type"], error["input"], error.get("ctx", {})
    # Without the names that pydantic puts into a path for the alternatives of a union.
    keys = [
        part
        for part in error["loc"]
        if not (isinstance(part, str) and (part.endswith(("]", ")")) or part in _VARIANTS))
    ]
    key = _path(keys)
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        names = [name for name in _keys_at(record, keys[:-1]) if len(keys) > 1 or name not in known]
        fix = nearest(str(keys[-1]), names)
        at = f"{where}, {_path(keys[:-1])}" if keys[:-1] else where
        return Problem(where=at, what=f"unknown key {str(keys[-1])!r}", fix=fix)
    if kind in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return Problem(where=where, what=f"{key} is missing")
    if kind == "value_error":  # the record's own check, in its own words
        return Problem(where=where, what=f"{key}: {limits['error']}" if key else limits["error"])
    text = "" if isinstance(value, Mapping | list | tuple) else repr(value)
    shown = text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
    subject = f"{key or 'it'} is {shown}" if shown else key or "it"
    if kind in _EXPECTED:
        joint = ", not" if shown else " must be"
        return Problem(where=where, what=f"{subject}{joint} {_EXPECTED[kind]}")
    if kind == "json_invalid":
        return Problem(where=where, what=f"it cannot be read ({limits['error']})")
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {limits['ge']:g}" if "ge" in limits else f"at most {limits['le']:g}"
        return Problem(where=where, what=f"{subject}, not {bound}")
    if kind == "literal_error":
        return Problem(where=where, what=subject, fix=f"Use {limits['expected']}.")
    reason = error["msg"][0].lower() + error["msg"][1:]
    return Problem(where=where, what=f"{subject}: {reason}")


def _path(keys: Sequence[str | int]) -> str:
    """``trials.ALPHA.carry 2``: list positions count from 1."""
    text = ""
    for key in keys:
        text += f" {key + 1}" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _remove(document: Any, keys: Sequence[str | int]) -> None:
    """Take the wrong value out of nested tables; a list that holds it goes as a whole."""
    for number, key in enumerate(keys):
        if not isinstance(document, dict) or key not in document:
            return
        inner = document[key]
        last = number == len(keys) - 1
        if last or not isinstance(inner, dict) or keys[number + 1] not in inner:
            del document[key]
            return
        document = inner


def _keys_at(record: Any, keys: Sequence[str | int]) -> list[str]:
    """The keys that a table has at ``keys`` below ``record``."""
    kinds = _alternatives(record)
    for key in keys:
        inner: list[Any] = []
        for kind in kinds:
            below = [one for one in get_args(kind) if one is not Ellipsis]
            fields = _hints(kind)
            inner += [fields[str(key)]] if str(key) in fields else below[-1:]
        kinds = [one for kind in inner for one in _alternatives(kind)]
    return [name for kind in kinds for name in _hints(kind)]


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) is Annotated:
        return _alternatives(get_args(hint)[0])
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _hints(kind: Any) -> dict[str, Any]:
    is_table = dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields")
    return get_type_hints(kind) if isinstance(kind, type) and is_table else {}

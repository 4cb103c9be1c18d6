"""Options, each declared once: a record's field is the option of command and Python function.

::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class PoolingOptions(Options):
        by: Annotated[tuple[str, ...], Option(help="Effect modifiers.")] = ()
        pi_df: Annotated[Literal["k-1", "k-2"], Option(help="...", group="Model")] = "k-1"

is ``--by sex,age --pi-df k-2`` and ``pool_trials(..., by=["sex", "age"], pi_df="k-2")``.
`cardiometa.cli.command` builds the command line. Nothing heavy is imported here, because the help
pages are made of these records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from .errors import UsageError, nearest

Condition = Callable[[Any], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How a field is shown: its help, the panel of the help page, and its limits.

    ``flag`` where it is not the field's name (``--baseline``, ``--healthy-only/--all``, or two
    names: ``--verbose -v``).
    ``repeat``: given once for each value, instead of a comma-separated list. ``exists``: the path
    must be there (``any``, or a ``file`` or ``folder``). ``internal``: choices of the program, not
    of the user.
    """

    help: str
    group: str = "Options"
    flag: str = ""
    minimum: float | None = None
    repeat: bool = False
    exists: Literal["", "any", "file", "folder"] = ""
    metavar: str = ""
    internal: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """An option as a record declares it: ``field`` of the record, ``name`` in Python and TOML."""

    field: str
    name: str
    flag: str
    kind: type
    choices: tuple[Any, ...]
    is_list: bool
    optional: bool
    default: Any
    option: Option
    flags: tuple[str, ...]

    def read(self, value: Any) -> Any:
        """The value of text from the command line or of a Python argument; raises UsageError."""
        if value is None and self.optional:
            return value
        if not self.is_list:
            return self._one(value)
        if isinstance(value, str):
            parts: list[Any] = [part.strip() for part in value.split(",")]
        else:
            parts = list(value or ())
        return tuple(self._one(part) for part in parts if part != "")

    def _one(self, value: Any) -> Any:
        is_text, is_bool = isinstance(value, str), isinstance(value, bool)
        if self.kind is Path and isinstance(value, str | Path):
            return Path(value)
        with suppress(ValueError):
            if self.kind in (int, float) and not is_bool and isinstance(value, str | int | float):
                number = self.kind(value)
                if is_text or number == value:
                    return number
        if self.choices or (isinstance(value, self.kind) and is_bool == (self.kind is bool)):
            return value
        noun = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise UsageError(f"{self.flag} {value} is not {noun.get(self.kind, 'a path')}.")

    def problem(self, value: Any) -> str:
        """What is wrong with a value, as a sentence; empty where it is allowed."""
        if value is None and self.optional:
            return ""
        values = value if self.is_list else (value,)
        if self.choices:
            allowed = (*self.choices, *self.option.internal)
            wrong = [str(one) for one in values if one not in allowed]
            if wrong:
                known = ", ".join(str(one) for one in self.choices)
                return f"{self.flag} {','.join(wrong)} is not known. Use one of {known}."
        least = self.option.minimum
        if least is not None and any(one < least for one in values):
            return f"{self.flag} {value} is less than {least:g}."
        return ""


def options_of(record: type[Options]) -> tuple[Declared, ...]:
    """The options of a record, in their order."""
    anything: Any = record  # `cache` takes what is hashable, which mypy doubts of classes
    return _options_of(anything)


@cache
def _options_of(record: Any) -> tuple[Declared, ...]:
    hints = get_type_hints(record, include_extras=True)
    found = []
    for field in fields(record):
        option = next((x for x in get_args(hints[field.name])[1:] if isinstance(x, Option)), None)
        if option is not None:
            default = field.default
            if field.default_factory is not MISSING:
                default = field.default_factory()
            found.append(_declared(field.name, get_args(hints[field.name])[0], option, default))
    return tuple(found)


def _declared(field: str, hint: Any, option: Option, default: Any) -> Declared:
    flags = (option.flag or "--" + field.replace("_", "-")).split()
    flag = flags[0].partition("/")[0]
    inner = [one for one in get_args(hint) if one is not NoneType]
    optional = get_origin(hint) in (Union, UnionType) and len(inner) < len(get_args(hint))
    kind = inner[0] if optional else hint
    is_list = get_origin(kind) in (tuple, list)
    if is_list:
        kind = get_args(kind)[0]
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    choices = tuple(choice for choice in choices if choice not in option.internal)
    return Declared(
        field=field,
        name=flag.lstrip("-").replace("-", "_"),
        flag=flag,
        kind=type(choices[0]) if choices else kind,
        choices=choices,
        is_list=is_list,
        optional=optional,
        default=default,
        option=option,
        flags=tuple(flags),
    )


class Options:
    """Base of the option records: every value and every combination is checked once, here.

    ``RULES`` are the combinations that a record refuses.
    """

    __slots__ = ()
    RULES: ClassVar[tuple[Conflict | Needs, ...]] = ()

    def __post_init__(self) -> None:
        """Raise UsageError with everything that is wrong."""
        declared = options_of(type(self))
        found = [(one.problem(getattr(self, one.field)), "") for one in declared]
        found = [pair for pair in found if pair[0]] or [rule.broken(self) for rule in self.RULES]
        found += [(problem, "") for problem in self.other_problems()]
        problems = [pair for pair in found if pair[0]]
        if problems:
            hints = dict.fromkeys(hint for _, hint in problems if hint)
            raise UsageError("\n  ".join(what for what, _ in problems), hint=" ".join(hints))

    def other_problems(self) -> list[str]:
        """What a record checks beyond choices and combinations."""
        return []

    @classmethod
    def of(cls, values: Mapping[str, Any], **others: Any) -> Self:
        """The record of options by name (``baseline``, ``by``); the rest have their defaults."""
        given = {
            one.field: one.read(values[one.name]) for one in options_of(cls) if one.name in values
        }
        return cls(**given, **others)


def named(record: Options, field: str, *, value: bool = True) -> str:
    """``--effect change`` or, for lists, switches and columns, ``--by``."""
    one = next(one for one in options_of(type(record)) if one.field == field)
    shown = value and one.choices and not one.is_list
    return f"{one.flag} {getattr(record, field)}" if shown else one.flag


def split(records: tuple[type[Options], ...], values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Keyword arguments of a Python function by record; UsageError for an unknown name."""
    known = [{one.name for one in options_of(record)} for record in records]
    for name in values:
        if not any(name in names for names in known):
            everything = sorted(set().union(*known))
            raise UsageError(f"There is no option {name}.", hint=nearest(name, everything))
    return [{k: v for k, v in values.items() if k in names} for names in known]


# ------------------------------------------------------------------ combinations


def is_given(value: Any) -> bool:
    """A condition: the option is set."""
    return value is not None and value is not False and value not in ((), "", 0)


def is_in(*values: Any) -> Condition:
    """A condition: the option has one of these values."""
    return lambda value: value in values


def is_not(*values: Any) -> Condition:
    """A condition: the option has none of these values."""
    return lambda value: value not in values


def _shown(when: Mapping[str, Condition], record: Options) -> str:
    """The options of ``when`` as they are given; empty where a condition does not hold."""
    if not all(condition(getattr(record, name)) for name, condition in when.items()):
        return ""
    return " ".join(named(record, name) for name in when)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Where every condition of ``when`` holds, none of ``against`` may."""

    when: Mapping[str, Condition]
    against: Mapping[str, Condition]
    why: str = ""
    hint: str = ""

    def broken(self, record: Options) -> tuple[str, str]:
        """The sentence and the hint where ``record`` has this conflict, else empty."""
        shown = _shown(self.when, record)
        names = [name for name, refused in self.against.items() if refused(getattr(record, name))]
        if not (shown and names):
            return "", ""
        others = " or ".join(named(record, name) for name in names)
        why = f": {self.why}" if self.why else ""
        return f"{shown} cannot be combined with {others}{why}.", self.hint


@dataclass(frozen=True, slots=True)
class Needs:
    """Where every condition of ``when`` holds, all of ``needed`` must be given."""

    when: Mapping[str, Condition]
    needed: tuple[str, ...]
    hint: str = ""

    def broken(self, record: Options) -> tuple[str, str]:
        """The sentence and the hint where something is missing, else empty."""
        shown = _shown(self.when, record)
        missing = [name for name in self.needed if not is_given(getattr(record, name))]
        if not (shown and missing):
            return "", ""
        names = " and ".join(named(record, name, value=False) for name in missing)
        return f"{shown} needs {names}.", self.hint


# ------------------------------------------------------------------ options of several commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Options):
    """What is replaced and what is printed."""

    overwrite: Annotated[
        bool, Option(help="Replace results made with other options or inputs.", group="Output")
    ] = False
    json: Annotated[bool, Option(help="Print the result as JSON.", group="Output")] = False
    quiet: Annotated[bool, Option(help="No progress and no summary.", group="Output")] = False
    verbose: Annotated[
        bool, Option(flag="--verbose -v", help="More details on stderr.", group="Output")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(Options):
    """Further files of the tables."""

    export: Annotated[
        tuple[Literal["docx", "xlsx", "tex", "analysis"], ...],
        Option(
            help="Write the tables of a paper as files too (extra `export`); analysis: of "
            "pool-trials, the analysed rows with R and Stata scripts in OUT/internal.",
            group="Output",
        ),
    ] = ()


# Of --error-model, besides a file.
ERROR_SOURCES = ("card", "scan-sd")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorModel(Options):
    """Where the error of the measurement is known from."""

    error_model: Annotated[
        str | None,
        Option(
            help="Correct for the model's error: evaluation.json of evaluate, `card` (the model's "
            "own) or `scan-sd` (SDs of the scans alone).",
            group="Sensitivity and output",
            metavar="FILE",
        ),
    ] = None

    def other_problems(self) -> list[str]:
        """A file that is not there."""
        named = self.error_model
        if named is None or named in ERROR_SOURCES or Path(named).is_file():
            return []
        return [f"--error-model {named} is no file. Use evaluation.json, card or scan-sd."]


CompareReported = Annotated[
    bool,
    Option(
        help="Compare the trials' own reported_ values, as they are and after ComBat, with the "
        "harmonised ones in the same participants.",
        group="Sensitivity and output",
    ),
]

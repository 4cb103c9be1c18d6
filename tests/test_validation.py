"""Documents from outside: every problem at once, in words that name the key and the value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from cardiometa.errors import CohortError, InputError
from cardiometa.validation import STRICT, load_toml, validate, validate_partly


@dataclass(frozen=True, kw_only=True)
class Person:
    __pydantic_config__ = STRICT
    age: float
    sex: Literal["male", "female"] | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    __pydantic_config__ = STRICT
    name: str
    randomised: bool
    count: int | None = None
    carry: tuple[str, ...] | list[str] = ()
    participants: Mapping[str, Person] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 0:
            raise ValueError("count is negative")


GOOD = {"name": "A", "randomised": True, "participants": {"p1": {"age": 61.5, "sex": "male"}}}


def sentences(document: Any) -> list[str]:
    _, problems = validate_partly(Study, document, "study.toml")
    return [str(problem) for problem in problems]


def test_a_good_document_becomes_the_record() -> None:
    study = validate(Study, GOOD, "study.toml")
    assert study == Study(
        name="A", randomised=True, participants={"p1": Person(age=61.5, sex="male")}
    )


def test_all_problems_are_reported_at_once() -> None:
    wrong = {
        "name": 3,
        "randomise": True,
        "count": 2.5,
        "participants": {"p1": {"age": "old", "sex": "m"}, "p2": {"agee": 3}},
    }
    text = "\n".join(sentences(wrong))
    assert "study.toml: name is 3, not text." in text
    assert "study.toml: unknown key 'randomise'. Did you mean 'randomised'?" in text
    assert "study.toml: randomised is missing." in text
    assert "count is 2.5, not a whole number" in text
    assert "participants.p1.age is 'old', not a number" in text
    assert "participants.p1.sex is 'm'. Use 'male' or 'female'." in text
    assert "study.toml, participants.p2: unknown key 'agee'. Did you mean 'age'?" in text
    assert "participants.p2.age is missing" in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"randomised": "yes"}, "randomised is 'yes', not true or false"),
        ({"randomised": 1}, "randomised is 1, not true or false"),
        ({"participants": []}, "participants must be a table"),
        ({"participants": {"p": {"age": float("nan")}}}, "p.age is nan, not a finite number"),
        ({"count": -1}, "count is negative"),
        ({"name": "x" * 3, "extra": 1}, "unknown key 'extra'. Known are name, randomised"),
    ],
)
def test_each_kind_of_problem_has_a_plain_sentence(change: Any, sentence: str) -> None:
    assert sentence in "\n".join(sentences({**GOOD, **change}))


@pytest.mark.parametrize("document", [None, [], "text", 3, [GOOD]])
def test_a_document_that_is_not_a_table(document: object) -> None:
    study, problems = validate_partly(Study, document, "study.toml")
    assert study is None
    assert "a table" in str(problems[0])


def test_what_is_wrong_is_left_out_of_the_partial_record() -> None:
    document = {**GOOD, "count": "many", "carry": ["nyha", 3], "unknown": {}}
    study, problems = validate_partly(Study, document, "study.toml")
    assert study is not None
    assert (study.name, study.count, tuple(study.carry)) == ("A", None, ())
    assert len(problems) >= 3
    assert document["count"] == "many"  # the caller's document is not changed


def test_a_long_value_is_cut_and_the_kind_of_error_is_the_callers() -> None:
    with pytest.raises(CohortError) as raised:
        validate(Study, {**GOOD, "count": "9" * 500}, "study.toml", error=CohortError)
    assert max(len(str(problem)) for problem in raised.value.problems) < 160
    assert raised.value.exit_code == 3


@dataclass(frozen=True, kw_only=True)
class Nested:
    __pydantic_config__ = STRICT
    value: Annotated[Any, "anything"] = None


def test_hostile_documents_are_input_errors() -> None:
    for raw in (b"a = = 1", b"\xff", b"a = " + b"[" * 20_000, b"a = " + b"9" * 10_000):
        with pytest.raises(InputError, match=r"x\.toml cannot be used"):
            load_toml(raw, "x.toml")
    assert load_toml(b"a = 1", "x.toml") == {"a": 1}
    deep: Any = {}
    for _ in range(50_000):
        deep = {"value": deep}
    assert isinstance(validate_partly(Nested, deep, "x.toml")[1], tuple)

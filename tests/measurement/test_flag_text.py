"""The table of all flags is whole: every code that is raised anywhere stands in it, once."""

import ast
import re
from pathlib import Path

import cardiometa
from cardiometa.measurement.flags import FLAG_NOTES, FLAG_RULES, flags_markdown

PACKAGE = Path(cardiometa.__file__).parent
COMMAND = (
    'python -c "from cardiometa.measurement.flags import flags_markdown as f; '
    "print(f(), end='')\" > examples/flags.md"
)


def raised_in_code() -> dict[str, set[str]]:
    """Code of every ``Flag(...)`` and ``raised(...)`` in the package, with its literal levels."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            words = {word.arg: word.value for word in node.keywords}
            if node.func.id == "raised" and node.args:
                codes, level = node.args[0], None
            elif node.func.id == "Flag" and "code" in words:
                codes, level = words["code"], words.get("level")
            else:
                continue
            levels = {level.value} if isinstance(level, ast.Constant) else set()
            for part in ast.walk(codes):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    found.setdefault(part.value, set()).update(levels)
                elif isinstance(part, ast.Name) and isinstance(constants.get(part.id), str):
                    found.setdefault(constants[part.id], set()).update(levels)
    return found


def test_every_flag_that_is_raised_stands_in_the_table():
    found = raised_in_code()
    assert len(found) > 40
    assert "slow_frames" in found
    assert set(found) - set(FLAG_RULES) - set(FLAG_NOTES) == set()


def test_no_note_is_about_a_flag_that_nobody_raises_or_another_level():
    found = raised_in_code()
    for code, note in FLAG_NOTES.items():
        assert code in found, code
        assert code not in FLAG_RULES
        assert set(note.level.split(" or ")) >= found[code], code
        assert not note.meaning.endswith(".")


def test_every_rule_is_raised_somewhere():
    text = "".join(p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*.py"))
    for code in FLAG_RULES:
        assert len(re.findall(rf'"{re.escape(code)}"', text)) >= 2, code


def test_the_file_for_people_is_the_table_of_the_rules():
    path = PACKAGE.parent / "examples" / "flags.md"
    if not path.is_file():  # an installed package has no examples
        assert "site-packages" in str(PACKAGE)
        return
    assert path.read_text(encoding="utf-8") == flags_markdown(), f"make it anew: {COMMAND}"


def test_all_five_tiers_have_flags():
    tiers = {note.tier for note in FLAG_NOTES.values()} | {r.tier for r in FLAG_RULES.values()}
    assert tiers == {1, 2, 3, 4, 5}

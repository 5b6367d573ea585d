"""The check of words finds prose, not code, and its lists are true."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_words", ROOT / "scripts/check_words.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_words"] = module
    spec.loader.exec_module(module)
    return module


script = load()
AVOID = script.words('nobody -> name the subject\nlet(?:s)? go -> "release"\n')


@pytest.mark.parametrize(
    ("path", "content", "lines"),
    [
        ("a.py", '"""Nobody reads.\n\nIt lets go."""\n', [1, 3]),
        ("a.py", "nobody = 1  # nobody\n", [1]),
        ("a.py", 'x = f"{y} nobody"\n', [1]),
        ("a.py", "nobody = 1\n", []),
        ("a.py", '"""The user `nobody`."""\n', []),
        ("a.lua", "local nobody = 1\nreturn 1 -- Nobody waits\n", [2]),
        ("a.md", "Nobody\n\n```\nnobody\n```\n`nobody`, nobody\n", [1, 6]),
        ("a.md", "nobodys\n", []),
    ],
)
def test_words_are_found_in_prose_only(path: str, content: str, lines: list[int]) -> None:
    assert [finding.line for finding in script.check(path, content, AVOID)] == lines


def test_a_finding_names_place_and_alternative() -> None:
    (finding,) = script.check("docs/a.md", "\nIt lets go.\n", AVOID)

    assert str(finding) == 'docs/a.md:2: "lets go": "release"'


def test_a_justified_place_is_passed_over_in_its_file_only() -> None:
    justified = script.allowed("# why\na.md: user nobody\n")

    assert not list(script.check("a.md", "user nobody\n", AVOID, justified))
    assert list(script.check("b.md", "user nobody\n", AVOID, justified))
    assert list(script.check("a.md", "nobody\n", AVOID, justified))


def test_a_justified_place_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("user nobody\n")
    justified = script.allowed("a.md: user nobody\na.md: gone\nb.md: x\n")

    assert script.unused(justified, tmp_path) == ["a.md: gone", "b.md: x"]


def test_every_word_of_the_list_has_an_alternative() -> None:
    found = script.words(script.WORDS.read_text())

    assert len(found) > 20
    assert all(word.instead for word in found)
    assert script.unused(script.allowed(script.ALLOWED.read_text()), ROOT) == []


def test_the_exit_code_says_whether_a_word_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["scripts/check_words.py"]) == 0
    assert capsys.readouterr().out == ""

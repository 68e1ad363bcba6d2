"""The JavaScript of the views and of the page: types as its comments state them."""

import subprocess
from pathlib import Path

import pytest
from node import installed

pytestmark = pytest.mark.slow
WIDGETS = Path(__file__).resolve().parents[1] / "compgpt_lib" / "widgets"
TYPESCRIPT = "typescript@5.9.3"
OPTIONS = [
    *("--noEmit", "--allowJs", "--checkJs", "--target", "es2022", "--module", "es2022"),
    *("--lib", "es2023,dom,dom.iterable"),
]


@pytest.fixture(scope="module")
def checker(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("node"), TYPESCRIPT) / ".bin" / "tsc"


def checked(checker, *paths):
    done = subprocess.run([checker, *OPTIONS, *paths], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout


def test_types_are_as_the_comments_state_them(checker):
    code, said = checked(checker, *WIDGETS.rglob("*.js"))
    assert code == 0, said


def test_a_wrong_type_is_found(checker, tmp_path):
    (tmp_path / "wrong.js").write_text(
        "/** @param {number} a */\nexport const twice = (a) => 2 * a;\ntwice('x');\n"
    )
    code, said = checked(checker, tmp_path / "wrong.js")
    assert code and "TS2345" in said

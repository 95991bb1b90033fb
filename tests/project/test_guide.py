"""Checks of docs/authors/plugin-guide.md without its commands; tests/end_to_end/test_guides.py runs them."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT
from support.documentation_examples import File, PageRunner, is_expected_output, parse_steps

from expfw.plugins.kinds import KINDS
from expfw.plugins.scaffold import new

PAGE = (ROOT / "docs" / "authors" / "plugin-guide.md").read_text()
NEW = r"^\$ expfw plugins new (\S+) --kind (\w+)$"


def test_the_guide_creates_plugins_of_all_kinds():
    assert {kind for _, kind in re.findall(NEW, PAGE, re.MULTILINE)} == set(KINDS)


@pytest.mark.slow
def test_the_plugins_of_the_guide_pass_the_static_checks(call, workdir):
    for name, kind in re.findall(NEW, PAGE, re.MULTILINE):
        new.write_distribution(new.name_plugin(kind, name), workdir)
    runner = PageRunner(workdir, {})
    for step in parse_steps(PAGE):
        if isinstance(step, File):
            runner.write_file(step)
    files = [*workdir.glob("expfw-*/src/*/__init__.py"), workdir / "fewer.py"]
    assert len(files) == 6
    for file in files:
        name = (file.parent if file.stem == "__init__" else file).stem.removeprefix("expfw_")
        assert call("-p", str(file), "plugins", "check", name) == (0, "1 plugin checked, no problems found\n", "")


@pytest.mark.parametrize(
    ("expected", "printed", "varies", "is_same"),
    [
        ("a\nb\n", "a\nb\n", False, True),
        ("a\nb\n", "a\nc\n", False, False),
        ("a\nb\n", "\na  \n b\n\n", False, True),
        ("a\n...\nc\n", "a\nb\nb\nc\n", False, True),
        ("a\n...\n", "b\na\n", False, False),
        ("a\n", "a\nb\n", False, False),
        ("", "a\n", False, False),
        ("a ... c\n", "a b c\n", False, True),
        ("loss 0.25\n", "loss 0.5\n", False, False),
        ("loss 0.25\n", "loss 1e-05\n", True, True),
        ("loss 0.25\n", "cost 0.25\n", True, False),
        ("run 4jv6kd38\nb\n", "b\nrun abcdefgh\n", True, True),
        ("a 1\na 2\n", "a 3\n", True, False),
        ("a\n", "a\nb\n", True, False),
        ("a\n...\n", "a\nb\n", True, True),
    ],
)
def test_printed_output_is_compared_with_the_expected_output(expected, printed, varies, is_same):
    assert is_expected_output(expected, printed, varies) is is_same


def test_a_command_is_interrupted_and_later_commands_use_the_id_of_its_run(tmp_path):
    page, folder = tmp_path / "page.md", tmp_path / "work"
    folder.mkdir()
    page.write_text(
        "<!-- varies -->\n```console\n"
        "$ trap 'echo expfw: expfw runs resume abcdefgh; exit 130' INT; echo 1; while :; do sleep 0.1; done\n"
        "2\n^C\nexpfw: expfw runs resume 3v9w2xqk\n"
        "$ echo 3v9w2xqk > id\n```\n"
    )
    PageRunner(folder, {"PATH": "/usr/bin:/bin"}).run_page(page)
    assert (folder / "id").read_text() == "abcdefgh\n"


def test_a_wrong_page_fails_with_file_and_line(tmp_path):
    page, folder = tmp_path / "page.md", tmp_path / "work"
    folder.mkdir()
    for text, match in [
        ("```console\n$ echo a\nb\n```\n", r"page.md:2: \$ echo a\nexit code 0, output:\na\n"),
        ("```console\n$ mkdir b\n$ cd b\n$ pwd\n...\n$ false\n```\n", r"page.md:6: \$ false\nexit code 1"),
        ("```console\n$ echo 1 failed\n1 failed\n```\n", "exit code 0"),
    ]:
        page.write_text(text)
        with pytest.raises(AssertionError, match=match):
            PageRunner(folder, {"PATH": "/usr/bin:/bin"}).run_page(page)

"""Every error that a user can cause, word by word; see tests/gallery/."""

from __future__ import annotations

import re

import pytest
from support.error_gallery import FOLDER, Case, Place, cases, place

CASES = [case for file in sorted(FOLDER.glob("*.txt")) for case in cases(file)]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "EXPFW_DISABLE_PLUGINS", "EXPFW_ALLOW_PLUGINS"):
            patch.delenv(name, raising=False)
        with place(tmp_path_factory.mktemp("gallery")) as made:
            yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.typed}")
def test_what_is_said(here: Place, case: Case, request: pytest.FixtureRequest):
    if case.file == "training":
        request.getfixturevalue("processors")
    assert str(here.answer(case)) == str(case)


def test_each_is_one_line_perhaps_behind_a_warning():
    for case in CASES:
        if case.code == 2:
            assert re.fullmatch(r"(.+\n)?expfw: .+\n", case.said), case
            assert len(case.said) < 600, case
            assert re.search(r"hydra\.errors|omegaconf|Traceback", case.said) is None, case


def test_no_command_stands_there_twice():
    typed = [case.typed for case in CASES]
    assert sorted(typed) == sorted(set(typed))
    assert len(typed) >= 250

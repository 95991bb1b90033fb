"""Plugin files of a record, if the user has edited the original file."""

from __future__ import annotations

import pytest

from expfw.api.plugin_code import hash_file
from expfw.errors import TrustError
from expfw.plugins.trust import Trust

MODEL = "import expfw\nclass Mine(expfw.Model):\n    def build(self, data): ...\n"
CALLBACK = "import expfw\nclass Seen(expfw.Callback):\n    pass\n"


@pytest.fixture
def files(tmp_path):
    """A recorded file, its edited original, and a file with another plugin."""
    paths = tmp_path / "copy" / "mine.py", tmp_path / "mine.py", tmp_path / "seen.py"
    paths[0].parent.mkdir()
    for path, text in zip(paths, (MODEL, MODEL + "# edited", CALLBACK), strict=True):
        path.write_text(text)
    return tuple(map(str, paths))


def list_files(trust, copy):
    catalogue = trust.make_catalogue("the model", {copy: hash_file(copy)}, [("model", "mine")], is_exact=True)
    return catalogue.files


def test_a_changed_file_gives_way_to_the_recorded_one(files):
    copy, edited, other = files
    assert list_files(Trust((edited, other), records=True), copy) == (other, copy)
    assert list_files(Trust((copy, edited, other)), copy) == (copy, other)


def test_a_changed_file_is_named_in_the_error(files):
    copy, edited, other = files
    with pytest.raises(TrustError, match="which has changed") as raised:
        list_files(Trust((edited, other)), copy)
    assert f"{copy} (not {edited}, which has changed); read it" in str(raised.value)
    assert raised.value.files == (copy,)


def test_a_file_that_equals_the_recorded_one_is_enough(files):
    copy, edited, other = files
    with open(edited, "w") as file:
        file.write(MODEL)
    assert list_files(Trust((edited, other)), copy) == (edited, other)

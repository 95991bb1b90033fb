"""The pytest plugin from an author's view: few imports, support for a plugin class in a test file."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from expfw import testing

IN_A_TEST_FILE = '''
from dataclasses import dataclass
import expfw
from expfw.testing import ModelContract

class Mine(expfw.Model):
    """A model in the file of its test."""

    @dataclass
    class Config:
        units: int = expfw.option(4, help="how wide", at_least=1)

    def build(self, data):
        import keras
        layers = [keras.layers.Input(data.input_shape), keras.layers.Flatten(),
                  keras.layers.Dense(self.config.units, "relu"), keras.layers.Dense(data.classes, "softmax")]
        model = keras.Sequential(layers)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

class Lazy(Mine):
    """Builds nothing."""

    def build(self, data):
        pass

class TestMine(ModelContract):
    plugin = Mine

class TestLazy(ModelContract):
    plugin = Lazy

class TestOther(ModelContract):
    plugin = expfw.Callback

class TestInside(ModelContract):
    class Inside(Mine):
        """Not importable by another process."""

    plugin = Inside
'''
USED_BEFORE = "import tensorflow; tensorflow.constant(1)"


def test_the_pytest_plugin_imports_only_pytest_and_expfw():
    script = (
        "import sys, pytest; before = set(sys.modules); import expfw.testing.pytest_plugin; import expfw.testing;"
        "print(sorted(m for m in set(sys.modules) - before if not m.startswith('expfw')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_all_public_names_can_be_imported():
    for name in testing.__all__:
        assert getattr(testing, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        testing.Nothing  # noqa: B018


@pytest.mark.slow
def test_a_class_in_a_test_file_is_tested(tmp_path):
    """TensorFlow was already used in this process, so the run on two replicas uses another process."""
    (tmp_path / "test_mine.py").write_text(IN_A_TEST_FILE)
    (tmp_path / "conftest.py").write_text(USED_BEFORE)
    chosen = "TestMine or (TestLazy and builds) or test_class"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, "test_mine.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    summary = r"^1 failed, 17 passed, \d+ deselected,( \d+ warnings?,)? 2 errors"
    assert re.search(summary, done.stdout, re.MULTILINE), done.stdout
    assert "model plugin 'lazy': build returns None\n  to fix it: return the model" in done.stdout
    assert "expected a subclass of expfw.Model\n  to fix it: set `plugin` to your class" in done.stdout
    assert "Inside cannot be tested: TestInside.Inside is not defined at the top level of a file" in done.stdout

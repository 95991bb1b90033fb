"""Tests my_plugin with expfw's checks for datasets."""

from expfw.testing import DatasetContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(DatasetContract):
    plugin = MyPlugin
    options = {"samples": 100}  # small and fast

"""my_plugin keeps what expfw's datasets promise."""

from expfw.testing import DatasetContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(DatasetContract):
    plugin = MyPlugin
    options = {"samples": 100}  # small and quick

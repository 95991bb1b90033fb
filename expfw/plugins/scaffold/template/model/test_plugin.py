"""my_plugin keeps what expfw's models promise."""

from expfw.testing import ModelContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(ModelContract):
    plugin = MyPlugin
    options = {"layers": 1, "units": 16}  # small and quick
    without_noise = {"dropout": 0.0}  # replicas draw what to leave out each for itself

"""Tests my_plugin with expfw's checks for models."""

from expfw.testing import ModelContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(ModelContract):
    plugin = MyPlugin
    options = {"layers": 1, "units": 16}  # small and fast
    without_noise = {"dropout": 0.0}  # replicas would draw different dropout masks

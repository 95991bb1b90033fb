"""Tests my_plugin with expfw's checks for backends."""

from expfw.testing import BackendContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(BackendContract):
    plugin = MyPlugin
    same_as = "tf-cpu"  # backend with the same losses

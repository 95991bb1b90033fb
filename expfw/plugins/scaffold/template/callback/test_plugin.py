"""Tests my_plugin with expfw's checks for callbacks."""

from expfw.testing import CallbackContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(CallbackContract):
    plugin = MyPlugin
    options = {"limit": 100.0}

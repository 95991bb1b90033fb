"""my_plugin keeps what expfw's callbacks promise."""

from expfw.testing import CallbackContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(CallbackContract):
    plugin = MyPlugin
    options = {"limit": 100.0}

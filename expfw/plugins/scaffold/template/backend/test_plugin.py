"""my_plugin keeps what expfw's backends promise."""

from expfw.testing import BackendContract

from expfw_my_plugin import MyPlugin


class TestMyPlugin(BackendContract):
    plugin = MyPlugin
    same_as = "tf-cpu"  # its losses are those of this one

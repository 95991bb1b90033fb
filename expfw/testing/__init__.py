"""Contracts for tests of plugins: one base class for each kind. Imports nothing until used.

from expfw.testing import ModelContract
from expfw_mine import Mine

class TestMine(ModelContract):
    plugin = Mine
"""

from expfw.system.lazy_names import make_module_functions

__getattr__, __dir__ = make_module_functions(__name__, __file__)
__all__ = __dir__()  # noqa: PLE0605  # type checkers read the stub file

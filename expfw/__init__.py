"""expfw: plugin-based experiment tracking. `__init__.pyi` lists all public names."""

from expfw.system.lazy_names import make_module_functions

__getattr__, __dir__ = make_module_functions(__name__, __file__)
__all__ = __dir__()  # noqa: PLE0605  # type checkers read the stub file

"""A plugin that does not import: it needs what nobody installed."""

import a_library_that_is_not_installed  # noqa: F401  # the import is the point

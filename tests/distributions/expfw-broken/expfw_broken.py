"""A plugin that cannot be imported, because a library is not installed."""

import a_library_that_is_not_installed  # noqa: F401  # the import is the point

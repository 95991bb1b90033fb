"""Several runs next to each other, as a table or a page."""

"""Tables, live views and HTML pages of recorded results."""

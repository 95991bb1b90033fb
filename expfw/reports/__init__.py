"""Records as tables, live views and pages; computes nothing new."""

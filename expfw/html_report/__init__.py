"""The report of a sweep as one HTML file: tables, figures, curves."""

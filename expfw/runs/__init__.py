"""One run, from request to result; resume; use of the saved model."""

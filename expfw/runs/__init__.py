"""One run, from request to result; resuming it and using its model."""

"""From overrides to a frozen `RunConfig`, or one line that says what is wrong."""

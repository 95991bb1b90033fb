"""What is on the screen while a run or a sweep is in progress."""

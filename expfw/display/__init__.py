"""What people see while a run or a sweep goes on."""

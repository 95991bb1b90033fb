"""Many runs: where configurations come from, where trials run, and how they ended."""

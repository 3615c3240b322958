"""Every claim of speed as a command: ``make bench`` prints ratios within one run."""

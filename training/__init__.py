"""Training from the command line: runs, checkpoints, reports and the tables of the theses."""

"""The theses' tables: what they claim, the runs that test it, and the pages that show the outcome."""

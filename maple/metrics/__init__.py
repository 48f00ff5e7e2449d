"""Scores of one answer against its references, each 0 to 1. Each file names the outside reference that it equals."""

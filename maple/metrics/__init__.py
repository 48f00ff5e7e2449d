"""Scores of one answer against its references, each 0 to 1; the outside references they equal are named in each file."""

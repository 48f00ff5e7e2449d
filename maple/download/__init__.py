"""Fetching sources, each file checked against its pin."""

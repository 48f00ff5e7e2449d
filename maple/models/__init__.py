"""Base models at their bit widths, adapters on them, and their shapes."""

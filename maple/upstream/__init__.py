"""Upstream's files as rows, and the languages as upstream names them."""

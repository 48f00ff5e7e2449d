"""The part of a grid and of its evaluation that one claim reads: what it is, what it costs, its answers and scores."""

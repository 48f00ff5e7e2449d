"""What the paper asks beyond its tables, from the same records."""


def all_of(results):
    return {}

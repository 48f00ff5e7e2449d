"""The smoke profile's inputs: sample rows and tiny models in the Hub's layout, made here, the same bytes at every run.

They go through the same download, readers and training as the real files; their numbers say nothing about the paper.
"""

from pathlib import Path

from maple.smoke import evaluation, instructions


def write(root: Path, params) -> None:
    """Write root/datasets/<org>/<name>/<upstream path> and root/models/<org>/<name>/...; takes some 20 seconds."""
    evaluation.write(root)
    instructions.write(root)

"""How much memory this process may use: the machine's, or less where a container, a scheduler or `ulimit -v` says so."""

import os
import resource
from pathlib import Path


def allowed(root: Path = Path("/")) -> tuple[int, str]:
    """(bytes, who sets them): the least of what the machine has and of every limit that holds for this process.

    Control groups of both versions are read, as docker, Slurm and systemd set them (Linux kernel documentation,
    admin-guide/cgroup-v1/memory and cgroup-v2).
    """
    found = [(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine")]
    found += [(int(text), "its control group") for text in _groups(root) if text.isdigit()]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        found.append((address_space, "`ulimit -v`"))
    return min(found, key=lambda one: one[0])


def _groups(root: Path) -> list[str]:
    """What the limit file of every control group above this process says; version 2 says `max` where there is none."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    said = []
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers == "":
            mount, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be the host's, which is not mounted; its own group is then the mount itself.
        folder = mount / group.lstrip("/")
        for one in [folder, *folder.parents]:
            if one.is_relative_to(mount) and (one / name).is_file():
                said.append((one / name).read_text().strip())
    return said

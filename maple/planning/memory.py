"""How much memory this process may use: the machine's, or less where a container, a scheduler or `ulimit -v` says so."""

import os
import resource
from pathlib import Path

from maple.core.errors import MapleError

# What a process maps that loads a model, however small: libraries, threads and allocators reserve far more than they
# use. Training a smoke cell was seen at 3.1 GB, with 1.0 GB in use.
ADDRESS_SPACE_GB = 4
ULIMIT = "`ulimit -v`"


def allowed(root: Path = Path("/")) -> tuple[int, str]:
    """(bytes, who sets them): the least of what the machine has and of every limit that holds for this process.

    Control groups of both versions are read, as docker, Slurm and systemd set them (Linux kernel documentation,
    admin-guide/cgroup-v1/memory and cgroup-v2).
    """
    found = [(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "this machine")]
    found += [(int(text), "its control group") for text in _groups(root) if text.isdigit()]
    found += [(limit, ULIMIT) for limit in _address_space()]
    return min(found, key=lambda one: one[0])


def check_address_space() -> None:
    """Before a model is loaded: where `ulimit -v` allows too little, a library ends in a segmentation fault, which says
    nothing."""
    for limit in _address_space():
        if limit < ADDRESS_SPACE_GB * 1e9:
            raise MapleError(
                "a model cannot be loaded here",
                why=f"{ULIMIT} allows {limit / 1e9:.1f} GB of address space, and {ADDRESS_SPACE_GB} GB are reserved for one",
                do="say `ulimit -v unlimited` (or raise the limit where it is set), then run the same command again",
            )


def _address_space() -> list[int]:
    """The shell's limit in bytes; empty where it sets none."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return [] if limit == resource.RLIM_INFINITY else [limit]


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

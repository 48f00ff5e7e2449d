"""Resolve the .in files again and write the locks cuda.txt, cpu.txt, test.txt and image.txt beside them.

    python requirements/lock.py              add or drop what the .in files changed, keep every other version
    python requirements/lock.py --upgrade    take the newest versions the .in files allow

Needs `uv` on the PATH. Only cuda.txt, test.txt and image.txt are resolved. cpu.txt is cuda.txt without the CUDA packages and with
PyTorch's CPU builds in place of the index's, so the two cannot disagree; test.txt lists what the tests add to either.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CUDA_ONLY = re.compile(r"(nvidia|cuda)-.*|triton")


def compile_lock(source: str, lock: Path, *options: str) -> dict[str, str]:
    """Run uv for all platforms and Pythons from 3.11; return {package: its lines in the lock}."""
    command = [
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version=3.11",
        "--fork-strategy=fewest",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        f"--output-file={lock.name}",
        *options,
        source,
    ]
    subprocess.run(command, cwd=HERE, check=True)
    return entries(lock.read_text())


def entries(lock: str) -> dict[str, str]:
    r"""Split a lock into its requirements.

    >>> entries("a==1 \\\n    --hash=sha256:00\nb==2 \\\n    --hash=sha256:11\n")["b"]
    'b==2 \\\n    --hash=sha256:11'
    """
    blocks = re.split(r"\n(?=\S)", lock.strip())
    return {block.split("==")[0]: block for block in blocks if not block.startswith("#")}


def cpu_torch(entry: str, listing: str) -> str:
    """The index's torch serves macOS; Linux takes the CPU builds whose hashes are listed in torch-cpu.txt."""
    pin, hashes = entry.split(" ", 1)
    builds = re.findall(r"^([0-9a-f]{64})  torch-(\S+?)-cp", listing, flags=re.MULTILINE)
    if {f"torch=={version}" for _, version in builds} != {f"{pin}+cpu"}:
        sys.exit(f"torch-cpu.txt does not list builds of {pin}+cpu: see README.md beside it")
    linux = " \\\n".join(
        [f"{pin}+cpu ; sys_platform == 'linux'", *(f"    --hash=sha256:{digest}" for digest, _ in builds)]
    )
    return f"{linux}\n{pin} ; sys_platform != 'linux' {hashes}"


def write(lock: Path, what: str, found: dict[str, str]) -> None:
    header = f"# {what}\n# Written by: python requirements/lock.py (do not edit; see README.md beside it)\n"
    lock.write_text(header + "\n".join(found[name] for name in sorted(found)) + "\n")


def main() -> None:
    upgrade = [option for option in sys.argv[1:] if option == "--upgrade"]
    cuda = compile_lock("runtime.in", HERE / "cuda.txt", *upgrade)
    cpu = {name: entry for name, entry in cuda.items() if not CUDA_ONLY.fullmatch(name)}
    cpu["torch"] = cpu_torch(cuda["torch"], (HERE / "torch-cpu.txt").read_text())
    test = compile_lock("test.in", HERE / "test.txt", "--constraints=cuda.txt", *upgrade)
    write(HERE / "cuda.txt", "The pipeline, with the CUDA build of torch (runs on a CPU too)", cuda)
    write(HERE / "cpu.txt", "The pipeline, with the CPU build of torch", cpu)
    image = compile_lock("image.in", HERE / "image.txt", *upgrade)
    write(HERE / "image.txt", "What lists the image's packages while it is built; it stays apart from them", image)
    write(
        HERE / "test.txt",
        "What the tests need on top of cpu.txt or cuda.txt",
        {name: entry for name, entry in test.items() if name not in cuda},
    )


if __name__ == "__main__":
    main()

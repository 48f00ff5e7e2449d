"""The locks are complete, agree with each other, and install.sh does what it says when something is wrong."""

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
LOCKS = ("cpu", "cuda", "test", "image")


def locked(lock: str) -> list[tuple[Requirement, list[str]]]:
    """[(requirement, its hashes)] of a lock, read independently of lock.py."""
    text = (REQUIREMENTS / f"{lock}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [
        (Requirement(line.split(" --hash=")[0]), re.findall(r"--hash=sha256:([0-9a-f]{64})(?:\s|$)", line))
        for line in lines
    ]


def versions(lock: str) -> dict[str, str]:
    """{package: version}, without a local part such as +cpu."""
    return {
        requirement.name: str(requirement.specifier).removeprefix("==").split("+")[0] for requirement, _ in locked(lock)
    }


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def direct(source: str) -> list[Requirement]:
    lines = (REQUIREMENTS / f"{source}.in").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_to_one_version_and_has_hashes(lock):
    for requirement, hashes in locked(lock):
        assert re.fullmatch(r"==[\w.+!]+", str(requirement.specifier)), requirement
        assert hashes and len(hashes) == len(set(hashes)), requirement


@pytest.mark.parametrize(
    ("source", "lock"), [("runtime", "cpu"), ("runtime", "cuda"), ("test", "test"), ("image", "image")]
)
def test_every_direct_dependency_is_locked_at_a_version_it_allows(source, lock):
    found = versions(lock)
    for requirement in direct(source):
        assert requirement.specifier.contains(found[canonical(requirement.name)]), requirement


def test_locked_versions_are_not_below_those_that_mend_the_listed_advisories():
    page = (ROOT / "docs/SECURITY.md").read_text()
    rows = re.findall(r"^\| ([\w-]+) \| .*CVE-.* \| ([\d.]+|none) \| [\w./-]+#\d+ \|$", page, re.MULTILINE)
    assert len(rows) == page.count("| CVE-") and len(rows) > 5
    for package, mended in rows:
        found = [Version(versions(lock)[package]) for lock in LOCKS if package in versions(lock)]
        assert found, f"{package} is in no lock any more: take its row out"
        # What no release mends is said below the table, with what to do.
        assert all(one >= Version(mended) for one in found) if mended != "none" else f"**{package} is affected" in page


def test_the_cpu_lock_is_the_cuda_lock_without_cuda():
    cpu, cuda = versions("cpu"), versions("cuda")
    assert cpu == {name: cuda[name] for name in cpu}
    left_out = set(cuda) - set(cpu)
    assert left_out and all(re.fullmatch(r"(nvidia|cuda)-.*|triton", name) for name in left_out)


def test_the_tests_add_packages_and_replace_none():
    assert not set(versions("test")) & set(versions("cuda"))


def test_on_linux_the_cpu_lock_allows_only_the_listed_cpu_builds_of_torch():
    listed = re.findall(
        r"^([0-9a-f]{64})  torch-\S+\+cpu-\S+\.whl$", (REQUIREMENTS / "torch-cpu.txt").read_text(), re.MULTILINE
    )
    linux = [
        (requirement, hashes)
        for requirement, hashes in locked("cpu")
        if requirement.name == "torch" and requirement.marker.evaluate({"sys_platform": "linux"})
    ]
    assert [(str(requirement.specifier), hashes) for requirement, hashes in linux] == [("==2.13.0+cpu", listed)]


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_an_index_or_a_place_on_a_machine(lock):
    text = (REQUIREMENTS / f"{lock}.txt").read_text()
    assert not re.search(r"index-url|find-links|://|@|(^|\s)/", text)


def test_the_environment_in_use_is_the_locked_one():
    if not Path(sys.prefix, ".complete").exists():
        pytest.skip(f"{sys.prefix} was not made by install.sh")
    lock = Path(sys.prefix, ".complete").read_text().split()[0]
    for requirement, _ in locked(lock) + locked("test"):
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(version(requirement.name)), requirement
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_lock_writes_the_cpu_lock_that_is_here():
    spec = importlib.util.spec_from_file_location("lock", REQUIREMENTS / "lock.py")
    lock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lock)
    cuda = lock.entries((REQUIREMENTS / "cuda.txt").read_text())
    torch = lock.cpu_torch(cuda["torch"], (REQUIREMENTS / "torch-cpu.txt").read_text())
    assert torch in (REQUIREMENTS / "cpu.txt").read_text()


def install(clone: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """install.sh of a copy of requirements/, with pip cut off from every index."""
    (clone / "requirements").mkdir(exist_ok=True)
    for path in [REQUIREMENTS / "install.sh", *REQUIREMENTS.glob("*.txt")]:
        (clone / "requirements" / path.name).write_bytes(path.read_bytes())
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(clone / "nothing")}
    settings = {key: value for key, value in os.environ.items() if key not in ("VENV", "LOCK", "PYTHON", "TORCH_INDEX")}
    return subprocess.run(
        ["bash", "requirements/install.sh", *arguments],
        cwd=clone,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**settings, **offline, **environment},
    )


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A clone in which setup failed for want of a network, and what setup said."""
    clone = tmp_path_factory.mktemp("clone")
    return clone, install(clone, PYTHON=sys.executable)


def test_setup_without_a_network_says_so_and_leaves_no_complete_environment(unfinished):
    clone, done = unfinished
    assert done.returncode == 1
    assert "no package could be installed" in done.stderr and "network" in done.stderr
    assert (clone / ".venv/.unfinished").exists() and not (clone / ".venv/.complete").exists()


def test_a_half_finished_environment_is_begun_again(unfinished):
    clone, _ = unfinished
    (clone / ".venv/half").touch()
    install(clone, PYTHON=sys.executable)
    assert not (clone / ".venv/half").exists()


def test_a_finished_environment_is_left_as_it_is(unfinished):
    clone, _ = unfinished
    lock = (clone / "requirements/cpu.txt").read_bytes()
    (clone / ".venv/.complete").write_text(f"cpu {hashlib.sha256(lock).hexdigest()}\n")
    done = install(clone)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_environment_that_setup_did_not_make_is_not_touched(tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/mine").touch()
    done = install(tmp_path, PYTHON=sys.executable)
    assert done.returncode == 1 and "was not made by this script" in done.stderr
    assert (tmp_path / ".venv/mine").exists()


def test_a_python_that_is_too_old_or_missing_is_named(tmp_path):
    old = tmp_path / "old-python"
    old.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 1\nexec {sys.executable} "$@"\n')
    old.chmod(0o755)
    for python in (str(old), "no-such-python"):
        done = install(tmp_path, PYTHON=python)
        assert done.returncode == 1 and "no Python 3.11 or newer" in done.stderr and python in done.stderr


def test_an_unknown_lock_is_refused_before_anything_is_made(tmp_path):
    done = install(tmp_path, PYTHON=sys.executable, LOCK="gpu")
    assert done.returncode == 1 and "LOCK=gpu" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_dockerfile_is_clean():
    hadolint = Path(sys.prefix, "bin", "hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed (requirements/test.txt)")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout


def test_the_image_gets_no_file_that_git_ignores_or_that_may_hold_a_secret():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", ".dvc/cache", ".dvc/config.local", "**/.env*", "**/.netrc", "artifacts", "work"} <= set(
        ignored
    )
    for path in Path(ROOT / "Dockerfile").read_text().splitlines():
        assert not re.match(r"(ARG|ENV)\s+\w*(TOKEN|KEY|PASSWORD|SECRET)", path)
        assert not path.startswith("# syntax=") and "<<" not in path


def test_a_clone_with_windows_line_ends_has_the_committed_bytes(tmp_path):
    """core.autocrlf would turn `set -euo pipefail` into an invalid option and put every stage out of date."""
    clone = [
        "git",
        "-c",
        "core.autocrlf=true",
        "clone",
        "-q",
        "--depth",
        "1",
        f"file://{ROOT}",
        str(tmp_path / "clone"),
    ]
    subprocess.run(clone, check=True)
    for name in (
        "requirements/install.sh",
        "dvc.yaml",
        "maple/core/errors.py",
        "Makefile",
        "maple/upstream/languages.csv",
    ):
        assert b"\r" not in (tmp_path / "clone" / name).read_bytes(), name

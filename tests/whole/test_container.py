"""The image is built and used as a reader would, without an engine: buildah on a Debian base, in a chroot.

Slow (minutes), so marked `container`; skipped where buildah, debootstrap or root are missing (.ci/run installs them).
The base is kept between runs, and so are the layers up to the code. `make reproduce` runs there on a small grid;
MAPLE_CONTAINER_COMMAND="make reproduce" has it run the whole one, and another command tries the test itself.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import copies
import pytest

ROOT = Path(__file__).parents[2]
BASE = "localhost/maple-base:bookworm"
IMAGE = "localhost/maple-repro:test"
# What python:3.11-slim-bookworm has and the Dockerfile relies on.
BASE_PACKAGES = "ca-certificates,python3,python3-venv,python3-dev"
COMMAND = os.environ.get("MAPLE_CONTAINER_COMMAND")

LOCK_SHA256 = hashlib.sha256((ROOT / "requirements/cpu.txt").read_bytes()).hexdigest()
REVISION = "0" * 40
# What may be in no layer: this machine's folders, tokens of the Hub, keys of AWS (its own documentation has an example).
PRIVATE = re.compile(
    rb"hf_[A-Za-z]{34}\b|AKIA(?![0-9A-Z]*EXAMPLE)[0-9A-Z]{16}\b|https://[^\s/:@]+:[^\s/:@]+@|"
    + re.escape(str(ROOT).encode())
    + rb"/"
)


def missing() -> str:
    tools = [tool for tool in ("buildah", "debootstrap") if not shutil.which(tool)]
    if tools:
        return f"not installed: {', '.join(tools)} (bash .ci/run installs them)"
    return "" if os.geteuid() == 0 else "needs root: debootstrap and buildah's chroot isolation"


pytestmark = [pytest.mark.container, pytest.mark.skipif(bool(missing()), reason=missing())]


def run(*command: str | Path) -> str:
    """Run a command; its output is shown only when it fails, and then its end."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{shlex.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-6000:]}"
    return done.stdout


def pip_settings() -> dict[str, str]:
    """pip's own settings on this machine: {"find-links": "...", "extra-index-url": "...", ...}; environment wins."""
    lines = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    pairs = sorted((line.split("=", 1) for line in lines if "=" in line), key=lambda pair: pair[0].startswith(":env:"))
    return {key.rpartition(".")[2]: value.strip("'") for key, value in pairs}


def host_mounts(folder: Path) -> list[str]:
    """Mounts that let pip in the build reach what pip reaches here: certificates, local wheels, other indexes.

    They are read-only and belong to the build, not to the image. The container's own certificates stay as they are.
    """
    settings, mounts, lines = pip_settings(), [], ["[global]"]

    def mount(path: str, name: str) -> str:
        mounts.append(f"--volume={path}:/run/host/{name}:ro")
        return f"/run/host/{name}"

    certificates = settings.get("cert") or os.environ.get("SSL_CERT_FILE")
    if certificates:
        lines.append(f"cert = {mount(certificates, 'certificates.crt')}")
    links = [place for place in settings.get("find-links", "").split() if Path(place).is_dir()]
    lines += (
        ["find-links ="] + [f"    {mount(place, f'wheels{number}')}" for number, place in enumerate(links)]
        if links
        else []
    )
    for key in ("index-url", "extra-index-url"):
        served = [url for url in settings.get(key, "").split() if urlparse(url).scheme != "file"]
        lines += [f"{key} = {' '.join(served)}"] if served else []
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
    return [*mounts, f"--volume={folder / 'pip.conf'}:/etc/pip.conf:ro"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """A Debian with Python, as the official image would be; made once on a machine."""
    if BASE not in run("buildah", "images", "--format", "{{.Name}}:{{.Tag}}").split():
        root = tmp_path_factory.mktemp("base") / "root"
        run("debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", root)
        container = run("buildah", "from", "scratch").strip()
        shutil.rmtree(root / "var/cache/apt/archives")
        run("buildah", "add", "--quiet", container, root, "/")
        run("buildah", "commit", "--quiet", "--rm", "--format", "docker", container, BASE)
        shutil.rmtree(root)
    return BASE


@pytest.fixture(scope="module")
def image(base, tmp_path_factory) -> str:
    """The image, with the CPU lock: the CUDA one differs in wheels only, by gigabytes."""
    earlier = run("buildah", "images", "--quiet", "--filter", f"reference={IMAGE}").split()
    run(
        "buildah",
        "bud",
        "--isolation",
        "chroot",
        "--format",
        "docker",
        "--layers",
        "--build-arg",
        f"BASE_IMAGE={base}",
        "--build-arg",
        "LOCK=cpu",
        "--build-arg",
        f"LOCK_SHA256={LOCK_SHA256}",
        "--build-arg",
        f"REVISION={REVISION}",
        *host_mounts(tmp_path_factory.mktemp("pip")),
        "--tag",
        IMAGE,
        ROOT,
    )
    for image in set(earlier) - set(run("buildah", "images", "--quiet", IMAGE).split()):
        run("buildah", "rmi", "--force", image)
    return IMAGE


@pytest.fixture(scope="module")
def name(image):
    """A container of the image."""
    found = run("buildah", "from", "--pull-never", image).strip()
    yield found
    run("buildah", "rm", found)


@pytest.fixture(scope="module")
def container(name):
    """`container(command)` runs a command in the container as the image's user and returns the output."""
    return lambda command, *options: run(
        "buildah", "run", "--isolation", "chroot", *options, name, "--", *shlex.split(command)
    )


def small(given: dict[str, Any]) -> None:
    """A cell on each base model, trained for ten steps, unless a test says otherwise, and asked a handful of questions."""
    given["grid"] |= {"bases": ["llama-2-7b-4bit", "mistral-7b-8bit"], "datasets": ["alpaca"], "ranks": [8]}
    given |= {"dataset": "alpaca", "datasets": {"alpaca": given["datasets"]["alpaca"]}}
    given["prepare"] |= {"rows": 80, "heldout_rows": 8}
    for options in given["evaluation"]["tasks"].values():
        options["limit"] = 4


def settle(name: str, folder: Path, **recipe: Any) -> None:
    """Give a container the parameters of a small grid."""
    path = folder / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    copies.change(path, small)
    copies.change(path, lambda given: given["recipe"].update(recipe))
    run("buildah", "copy", "--quiet", "--chown", "1000:1000", name, path, "/maple-repro/params.yaml")


def test_the_image_runs_as_a_user_and_passes_signals_on(image):
    config = json.loads(run("buildah", "inspect", "--type", "image", image))["Docker"]["config"]
    assert config["User"] == "1000"
    assert config["Entrypoint"] == ["tini", "-g", "--"]
    assert config["Cmd"] == ["make", "reproduce"]
    assert config["StopSignal"] == "SIGINT"
    assert config["WorkingDir"] == "/maple-repro"


def test_the_image_tells_the_gpu_driver_and_the_caches_where_to_go(image):
    config = json.loads(run("buildah", "inspect", "--type", "image", image))["Docker"]["config"]
    environment = dict(pair.split("=", 1) for pair in config["Env"])
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert environment["VENV"] == "/opt/venv" and environment["PATH"].startswith("/opt/venv/bin:")
    assert environment["HF_HOME"] == "/cache/huggingface" and environment["TRITON_CACHE_DIR"] == "/cache/triton"


def test_no_layer_holds_a_secret_or_a_setting_of_the_machine_that_built_it(image, container):
    described = run("buildah", "inspect", "--type", "image", image)
    assert not [word for word in ("HF_TOKEN", "API_KEY", "PASSWORD", "/run/host") if word in described]
    secrets = "-name .netrc -o -name .git-credentials -o -name .env -o -path '*/.git/logs/refs/remotes'"
    settings = "( -path /etc/pip.conf -o -path '/run/host/*' ) -type f -size +0"  # empty ones are places of mounts
    assert container(f"find / -xdev {secrets} -o {settings}", "--user=0").strip() == ""


def test_no_layer_holds_a_token_or_a_folder_of_the_machine_that_built_it(image, base, tmp_path):
    """Every file of every layer, also those that a later layer removes; the base's own layer is Debian's."""
    run("buildah", "push", "--quiet", "--disable-compression", image, f"dir:{tmp_path}")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    layers = [layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
    config = json.loads((tmp_path / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    assert not PRIVATE.search(json.dumps(config).encode())
    found, files = [], 0
    for layer in layers[1:]:
        with tarfile.open(tmp_path / layer) as archive:
            for member in archive:
                if member.isfile() and member.size:
                    files += 1
                    match = PRIVATE.search(archive.extractfile(member).read())
                    found += [(member.name, match[0][:60])] if match else []
    # Addresses with a name and a password stand as examples in the documentation of packages.
    assert [pair for pair in found if not (pair[0].startswith("opt/venv/") and pair[1].startswith(b"https://"))] == []
    assert files > 10_000


def test_the_image_says_what_it_was_made_of(image, container):
    labels = json.loads(run("buildah", "inspect", "--type", "image", image))["Docker"]["config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == REVISION and labels["maple-repro.lock.sha256"] == LOCK_SHA256
    said = {"revision": REVISION, "lock": "cpu", "lock_sha256": LOCK_SHA256}
    assert json.loads(container("cat /usr/share/maple-repro/image.json")) == said
    script = "from maple.config import bills; import json; print(json.dumps(bills.Bill().total()['image']))"
    assert json.loads(container(f"python -B -c {shlex.quote(script)}")) == said


def test_the_image_lists_its_packages(container):
    listed = json.loads(container("cat /usr/share/maple-repro/python.cdx.json"))
    assert listed["bomFormat"] == "CycloneDX" and listed["specVersion"] >= "1.5"
    known = {canonical(found["name"]): found["version"] for found in listed["components"]}
    installed = {
        canonical(found["name"]): found["version"]
        for found in json.loads(container("python -m pip list --format json"))
    }
    assert known == installed and known["torch"].endswith("+cpu")
    assert not container("sh -c 'ls -d /tmp/lister 2>/dev/null || true'").strip(), "the lister stayed"
    debian = [line.split("\t") for line in container("cat /usr/share/maple-repro/debian.tsv").splitlines()]
    assert {"libc6", "gcc", "git", "tini"} <= {name for name, *_ in debian}
    assert len(debian) == int(container("sh -c 'dpkg-query --show | wc -l'"))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_stopped_container_goes_on_and_ends_with_the_same_bytes(image, tmp_path):
    """`docker stop` sends SIGINT to tini (STOPSIGNAL), which hands it to every process of the group."""
    name = run("buildah", "from", "--pull-never", image).strip()
    words = ["buildah", "run", "--isolation", "chroot", name, "--"]
    stage = "dvc.yaml:train@llama-2-7b-4bit-alpaca-8-42"
    try:
        # Long enough to be stopped in the middle; a checkpoint is written at the signal, not only every so often.
        settle(name, tmp_path, epochs=8)
        root = Path(run("buildah", "mount", name).strip()) / "maple-repro"
        log = root / "work/smoke/logs/train-llama-2-7b-4bit.alpaca.r8.s42.log"
        with subprocess.Popen(
            [*words, "tini", "-g", "--", "dvc", "repro", stage],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as running:
            while not (log.exists() and "step 5 " in log.read_text()):
                assert running.poll() is None, running.stdout.read()
                time.sleep(0.05)
            os.kill(tini_below(running.pid), signal.SIGINT)
            said = running.communicate(timeout=120)[0]
        assert running.returncode and "SIGINT was received" in said, said
        said = run(*words, "sh", "-c", f"dvc repro {stage} && cat artifacts/smoke/bills/train/*.json")
        assert 5 <= int(re.search(r'"resumed_at_step": (\d+)', said)[1]) < 80
        kept = (root / "dvc.lock").read_bytes()
        run(*words, "sh", "-c", f"rm -rf work && dvc repro --force --single-item {stage}")
        assert (root / "dvc.lock").read_bytes() == kept
    finally:
        run("buildah", "rm", name)


def tini_below(pid: int) -> int:
    """The container's first process, among the descendants of the one that started it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue

    def is_below(one: int) -> bool:
        return one == pid or (one in parents and is_below(parents[one]))

    return next(
        one for one in sorted(parents) if is_below(one) and (Path("/proc") / str(one) / "comm").read_text() == "tini\n"
    )


def test_the_container_works_as_an_ordinary_user_with_git_compiler_and_writable_caches(container):
    assert container("id -u").strip() == "1000"
    assert container("git rev-list --count HEAD").strip() == "1"
    assert container("git status --porcelain --ignored").strip() == "", (
        ".dockerignore let something in that git ignores"
    )
    container("sh -ec 'for d in $HOME $HF_HOME $TRITON_CACHE_DIR $MPLCONFIGDIR; do touch $d/x; rm $d/x; done'")


def test_the_compiler_that_triton_needs_finds_the_headers(container):
    script = """
        echo '#include <Python.h>' > /tmp/x.c
        gcc -c -I"$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')" -o /tmp/x.o /tmp/x.c
    """
    container(f"sh -ec {shlex.quote(script)}")


def test_the_pipeline_runs_in_the_container(container, name, tmp_path):
    assert container("python -c 'import torch; print(torch.__version__)'").strip().endswith("+cpu")
    if COMMAND is None:
        settle(name, tmp_path)
    container(COMMAND or "make reproduce")
    if COMMAND in (None, "make reproduce"):
        assert "SMOKE" in container("cat paper_tables/regenerated/smoke/tables/table1.md")

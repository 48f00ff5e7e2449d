"""The image is built and used as a reader would, without an engine: buildah on a Debian base, in a chroot.

Slow (minutes), so marked `container`; skipped where buildah, debootstrap or root are missing (.ci/run installs them).
The base is kept between runs, and so are the layers up to the code. MAPLE_CONTAINER_COMMAND names another command to
run in the container than `make reproduce`, to try the test itself.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest

ROOT = Path(__file__).parents[2]
BASE = "localhost/maple-base:bookworm"
IMAGE = "localhost/maple-repro:test"
# What python:3.11-slim-bookworm has and the Dockerfile relies on.
BASE_PACKAGES = "ca-certificates,python3,python3-venv,python3-dev"
COMMAND = os.environ.get("MAPLE_CONTAINER_COMMAND", "make reproduce")


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
        *host_mounts(tmp_path_factory.mktemp("pip")),
        "--tag",
        IMAGE,
        ROOT,
    )
    for image in set(earlier) - set(run("buildah", "images", "--quiet", IMAGE).split()):
        run("buildah", "rmi", "--force", image)
    return IMAGE


@pytest.fixture(scope="module")
def container(image):
    """A container: `container(command)` runs a command in it as the image's user and returns the output."""
    name = run("buildah", "from", "--pull-never", image).strip()
    yield lambda command, *options: run(
        "buildah", "run", "--isolation", "chroot", *options, name, "--", *shlex.split(command)
    )
    run("buildah", "rm", name)


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


def test_the_pipeline_runs_in_the_container(container):
    assert container("python -c 'import torch; print(torch.__version__)'").strip().endswith("+cpu")
    container(COMMAND)
    if COMMAND == "make reproduce":
        assert "SMOKE" in container("cat paper_tables/regenerated/smoke/tables/table1.md")

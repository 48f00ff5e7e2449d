"""The files for clusters, clouds and workstations: what they say is what the tools that read them expect."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"
VERBS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
# Sections that an Apptainer definition may have, and the agents it may start from (its user guide, 1.3).
SECTIONS = {"setup", "files", "environment", "post", "runscript", "startscript", "test", "labels", "help", "arguments"}
AGENTS = {"docker", "docker-daemon", "docker-archive", "oras", "library", "localimage"}
# Keys of a SkyPilot task, and of its resources, that are used here (its YAML specification).
TASK = {"name", "resources", "envs", "secrets", "workdir", "setup", "run", "num_nodes", "file_mounts"}
RESOURCES = {"accelerators", "disk_size", "use_spot", "memory", "cpus", "infra", "image_id"}


def definition() -> tuple[dict[str, str], dict[str, str]]:
    """(header, sections) of the Apptainer definition."""
    head, *parts = re.split(r"^%(\w+)\n", (CONTAINERS / "maple.def").read_text(), flags=re.MULTILINE)
    header = dict(re.findall(r"^(\w+): (\S+)$", head, re.MULTILINE))
    return header, dict(zip(parts[::2], parts[1::2]))


def verbs(script: str) -> list[list[str]]:
    """The words after `make` of each line that has it."""
    lines = [shlex.split(line, comments=True) for line in script.splitlines()]
    found = [line[line.index("make") + 1 :] for line in lines if "make" in line]
    return [
        [w for w in words[: words.index("||")] if "=" not in w] if "||" in words else [w for w in words if "=" not in w]
        for words in found
    ]


def test_the_apptainer_definition_starts_from_the_docker_image():
    header, sections = definition()
    assert header["Bootstrap"] in AGENTS and header["From"] == "maple-repro:latest"
    assert set(sections) <= SECTIONS and 'exec "$@"' in sections["runscript"]
    assert "docker build -t maple-repro" in (ROOT / "Dockerfile").read_text()


def test_apptainer_keeps_caches_where_a_read_only_image_can_write_them():
    environment = definition()[1]["environment"]
    image = (ROOT / "Dockerfile").read_text()
    for name in ("HF_HOME", "TRITON_CACHE_DIR", "MPLCONFIGDIR"):
        assert f"export {name}=" in environment and f"{name}=/cache" in image


def test_the_skypilot_task_runs_verbs_of_this_project():
    task = yaml.safe_load((CONTAINERS / "skypilot.yaml").read_text())
    assert set(task) <= TASK and set(task["resources"]) <= RESOURCES
    assert re.fullmatch(r"[A-Z]\w+-?\w*:\d+", task["resources"]["accelerators"])
    for script in ("setup", "run"):
        called = verbs(task[script])
        assert called and all(set(words) <= VERBS for words in called)
    assert ["submit"] in verbs(task["run"]) and ["collect"] in verbs(task["run"])


def test_the_compose_file_builds_this_image_and_gives_it_the_gpus():
    service = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())["services"]["reproduce"]
    assert (CONTAINERS / service["build"]["context"] / "Dockerfile").is_file()
    declared = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert set(service["build"]["args"]) <= declared
    assert service["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]
    assert verbs(service["command"]) == [["reproduce"]]
    # The grace must hold a training step and a checkpoint, and the checkout is where results land.
    assert service["stop_grace_period"] == "5m" and "..:/maple-repro" in service["volumes"]
    assert f"WORKDIR {service['volumes'][0].split(':')[1]}" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("path", sorted(CONTAINERS.iterdir()), ids=lambda path: path.name)
def test_no_file_holds_a_secret(path):
    assert not re.search(r"hf_\w{20}|AKIA\w{16}|HF_TOKEN[:=] *[\"']?\w", path.read_text())

"""Preflight says what is missing before anything starts."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from maple.config import params
from maple.core.errors import MapleError
from maple.planning import memory, preflight

ROOT = Path(__file__).parents[2]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with the parameter files of both profiles, without a lock and without git."""
    for name in ("params.yaml", "profiles/paper/params.yaml", "sources.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "HUGGING_FACE_HUB_TOKEN", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def check(profile):
    command = [sys.executable, "-m", "stages.check", "--profile", profile]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_smoke_needs_nothing_but_room(elsewhere):
    assert check("smoke").returncode == 0


LOCK = """schema: '2.0'
stages:
  download:
    cmd: python -m stages.download --profile smoke
    outs:
    - path: artifacts/smoke/sources
      hash: md5
      md5: d41d8cd98f00b204e9800998ecf8427e.dir
"""
DAMAGE = {
    "empty": ("", "it is empty"),
    "cut in a key": (LOCK[: LOCK.index("md5: d4")], "the stage download is cut short"),
    "cut in a block": (LOCK[: LOCK.index("cmd:")] + "cm", "holds no stages|cut"),
    "merge markers": (
        LOCK.replace("stages:", "<<<<<<< ours\nstages:\n=======\nstages:\n>>>>>>> theirs"),
        "cut or mangled",
    ),
    "of another version": (LOCK.replace("2.0", "3.0"), "its schema is '3.0'"),
    "binary": (b"\xff\xfe\x00", "no text"),
    "zero bytes": ("\0" * 64, "cut or mangled"),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("path", ["dvc.lock", "profiles/paper/dvc.lock"])
def test_a_damaged_lock_of_any_profile_is_found_and_put_back_from_its_copy(elsewhere, name, path):
    content, says = DAMAGE[name]
    (elsewhere / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    result = check("smoke")
    assert result.returncode == 1 and re.search(says, result.stdout), result.stdout
    assert f"git checkout {path}, or rm {path}" in result.stdout
    (elsewhere / path).write_text(LOCK)
    assert check("smoke").returncode == 0
    (elsewhere / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    result = check("smoke")
    assert result.returncode == 0 and "restored from work/locks" in result.stdout
    assert (elsewhere / path).read_text() == LOCK


def test_outside_of_git_dvc_is_told_so_and_untold_when_there_is_a_repository(elsewhere, monkeypatch):
    local = elsewhere / ".dvc" / "config.local"
    assert check("smoke").returncode == 0 and "no_scm = true" in local.read_text()
    once = local.read_text()
    check("smoke")
    assert local.read_text() == once
    subprocess.run(["git", "init", "-q"], check=True)
    assert "without a commit" in check("smoke").stdout and "no_scm" not in local.read_text()
    monkeypatch.setenv("PATH", "/nowhere")
    result = check("smoke")
    assert result.returncode == 0 and "no repository of its own" in result.stdout


def test_the_paper_profile_asks_for_gpu_and_token_naming_the_page(elsewhere):
    result = check("paper")
    assert result.returncode == 1
    assert "GPU: none seen" in result.stdout
    assert "https://huggingface.co/meta-llama/Llama-2-7b-hf" in result.stdout and "HF_TOKEN" in result.stdout
    assert "nothing was started" in result.stderr


def test_a_wrong_parameter_stops_it_first(elsewhere):
    path = elsewhere / "params.yaml"
    path.write_text(path.read_text().replace("schedule: constant", "schedule: constnat"))
    result = check("smoke")
    assert result.returncode == 1 and "did you mean 'constant'" in result.stderr


def test_too_little_room_is_said_in_gigabytes(elsewhere, monkeypatch):
    monkeypatch.setitem(preflight.NEEDS_GB, "smoke", (10**6, 3))
    found = {f.name: f for f in preflight.findings(params.load("smoke"))}
    assert found["disk"].stops and "GB more" in found["disk"].do


def driver(folder, monkeypatch, cards, fields=("name", "memory.total", "compute_cap")):
    """A nvidia-smi that knows `fields` of cards, given as {name: capability}."""
    lines = {"name,memory.total": [f"{name}, 16384 MiB" for name in cards], "compute_cap": list(cards.values())}
    known = {query: "\n".join(answer) for query, answer in lines.items() if set(query.split(",")) <= set(fields)}
    script = folder / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nknown = {known!r}\nquery = sys.argv[1].partition('=')[2]\n"
        "lines = known[query].splitlines() if query in known else sys.exit(2)\n"
        "asked = [a.partition('=')[2].split(',') for a in sys.argv if a.startswith('--id=')]\n"
        "print('\\n'.join(lines[int(i)] for i in asked[0]) if asked else '\\n'.join(lines))\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")


def finding(name):
    return {found.name: found for found in preflight.findings(params.load("paper"))}.get(name)


@pytest.mark.parametrize(
    "card, capability", [("Tesla T4", "7.5"), ("Tesla V100-SXM2-16GB", "7.0"), ("NVIDIA GeForce RTX 2080 Ti", "7.5")]
)
@pytest.mark.parametrize("fields", [("name", "memory.total", "compute_cap"), ("name", "memory.total")])
def test_a_card_without_bfloat16_stops_the_run_before_it_starts(card, capability, fields, elsewhere, monkeypatch):
    driver(elsewhere, monkeypatch, {card: capability}, fields)
    assert finding("GPU").found == f"{card}, 16384 MiB"
    found = finding("bfloat16")
    assert found.stops and card in found.found and "Ampere" in found.do
    result = check("paper")
    assert result.returncode == 1 and "MISS  bfloat16" in result.stdout and "bfloat16" in result.stderr


@pytest.mark.parametrize(
    "card, capability",
    [("NVIDIA A10G", "8.6"), ("NVIDIA L4", "8.9"), ("NVIDIA H100 80GB HBM3", "9.0"), ("NVIDIA B200", "10.0")],
)
@pytest.mark.parametrize("fields", [("name", "memory.total", "compute_cap"), ("name", "memory.total")])
def test_a_card_with_bfloat16_is_let_pass(card, capability, fields, elsewhere, monkeypatch):
    driver(elsewhere, monkeypatch, {card: capability}, fields)
    assert finding("bfloat16") is None


def test_an_old_card_beside_a_new_one_is_a_note_and_a_hidden_one_nothing(elsewhere, monkeypatch):
    driver(elsewhere, monkeypatch, {"Tesla T4": "7.5", "NVIDIA A100-SXM4-40GB": "8.0"})
    assert not finding("bfloat16").stops and "CUDA_VISIBLE_DEVICES" in finding("bfloat16").do
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert finding("bfloat16") is None


@pytest.mark.parametrize("place", ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "home"])
def test_a_token_is_found_where_the_hub_s_own_client_finds_it(place, elsewhere, monkeypatch):
    assert "MISS  Hub token" in check("paper").stdout
    file = (
        elsewhere
        / {"HF_TOKEN": "x", "HF_TOKEN_PATH": "secret/mine", "HF_HOME": "hf/token", "home": ".cache/huggingface/token"}[
            place
        ]
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("hf_secret\n")
    if place != "home":
        monkeypatch.setenv(
            place, {"HF_TOKEN": "hf_secret", "HF_TOKEN_PATH": str(file), "HF_HOME": str(file.parent)}[place]
        )
    result = check("paper")
    assert "ok    Hub token: present" in result.stdout and "hf_secret" not in result.stdout + result.stderr


def test_an_empty_token_file_is_no_token(elsewhere):
    (elsewhere / ".cache/huggingface").mkdir(parents=True)
    (elsewhere / ".cache/huggingface/token").write_text("\n")
    assert "MISS  Hub token" in check("paper").stdout


@pytest.mark.parametrize("content", ["", '{"artifacts/smo', "\0" * 8])
def test_what_a_kill_left_of_dvc_s_list_of_readers_and_writers_is_removed(elsewhere, content):
    """DVC refuses every command with it, for ever."""
    rwlock = elsewhere / ".dvc/tmp/rwlock"
    rwlock.parent.mkdir(parents=True)
    rwlock.write_text(content)
    result = check("smoke")
    assert result.returncode == 0 and "rwlock: removed" in result.stdout and not rwlock.exists()
    rwlock.write_text("{}")
    assert check("smoke").returncode == 0 and rwlock.exists()


def test_a_list_of_readers_and_writers_in_use_is_left_alone(elsewhere):
    import fcntl

    rwlock = elsewhere / ".dvc/tmp/rwlock"
    rwlock.parent.mkdir(parents=True)
    rwlock.write_text("half")
    with open(rwlock.with_name("rwlock.lock"), "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        assert check("smoke").returncode == 0 and rwlock.exists()


GROUPS = {
    # Lines of /proc/self/cgroup, limit files, and the bytes that hold (None: no limit of a group).
    "version 2": ("0::/user/job\n", {"sys/fs/cgroup/user/job/memory.max": "max", "sys/fs/cgroup/user/memory.max": "7000"}, 7000),
    "version 2, docker": ("0::/\n", {"sys/fs/cgroup/memory.max": "5000\n"}, 5000),
    "version 2, the host's path": ("0::/docker/ab12\n", {"sys/fs/cgroup/memory.max": "5000\n"}, 5000),
    "version 1": (
        "9:cpu:/\n4:memory:/slurm/job_1\n0::/\n",
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/slurm/job_1/memory.limit_in_bytes": "3000\n",
            "sys/fs/cgroup/cpu/memory.limit_in_bytes": "1",
        },
        3000,
    ),
    "no limit": ("0::/\n", {"sys/fs/cgroup/memory.max": "max\n"}, None),
    "no groups": ("", {}, None),
}  # fmt: skip


@pytest.mark.parametrize("lines, files, expected", GROUPS.values(), ids=GROUPS)
def test_the_memory_is_what_the_control_group_allows_not_what_the_host_has(tmp_path, lines, files, expected):
    for name, text in (files | {"proc/self/cgroup": lines}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory.allowed(tmp_path) == ((expected, "its control group") if expected else (host, "this machine"))


def test_a_limit_of_the_shell_is_named_before_anything_starts(elsewhere):
    command = f"ulimit -v 800000; {sys.executable} -m stages.check --profile smoke"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and re.search(r"MISS  memory: 0\.8 GB allowed by `ulimit -v`, 4 needed", done.stdout), (
        done
    )


@pytest.mark.parametrize("verb", ["train", "answer"])
def test_a_stage_that_loads_a_model_says_that_the_shell_s_limit_is_too_low_for_one(verb, monkeypatch):
    """A library would crash without a word in the middle of it."""
    import importlib

    limits = (2_400_000_000, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits if kind == resource.RLIMIT_AS else (0, 0))
    stage = importlib.import_module(f"stages.{verb}")
    with pytest.raises(MapleError, match=r"`ulimit -v` allows 2.4 GB of address space(.|\n)*unlimited"):
        if verb == "train":
            stage.main(None, None)
        else:
            monkeypatch.setattr(stage, "subject_of", lambda *_: (run_subject(), Path("x"), None, None))
            monkeypatch.setattr(stage.auto, "asked", lambda *_: None)
            monkeypatch.setattr(stage.run, "answer", lambda subject, load, *_: load())
            stage.ask(params.load("smoke"), "mistral-7b-16bit", Path("y"))


def run_subject():
    return type("Subject", (), {"name": "x", "evaluated_bits": 16, "model": "mistral-7b"})

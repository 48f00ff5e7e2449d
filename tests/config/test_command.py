"""What a person sees when a stage fails: three lines for an error we foresaw, one for one we did not, and the log's
path.
"""

import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(tmp_path, body, *arguments, then=""):
    for name in ("params.yaml", "sources.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    script = tmp_path / "verb.py"
    script.write_text(
        '"""A verb."""\nfrom maple.config import command\nfrom maple.core.errors import MapleError\n'
        + textwrap.dedent(body)
    )
    command = ["bash", "-c", f"set -o pipefail; {shlex.join([sys.executable, str(script), *arguments])} {then}"]
    return subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


def test_a_foreseen_error_is_three_lines_its_log_and_its_code(tmp_path):
    body = """
    def main(params, arguments):
        raise MapleError("no row", why="the file is empty", do="download it again", code=2)
    command.run(__doc__, main)
    """
    result = run(tmp_path, body)
    assert result.returncode == 2
    assert (
        result.stderr == "no row\n  why: the file is empty\n  do:  download it again\n  log: work/smoke/logs/verb.log\n"
    )


def test_a_defect_names_the_log_that_holds_its_traceback(tmp_path):
    body = """
    def main(params, arguments):
        raise KeyError("x")
    command.run(__doc__, main, name="a name")
    """
    result = run(tmp_path, body, "--name", "one")
    assert result.returncode == 1
    assert "KeyError: 'x'" in result.stderr and "Traceback" not in result.stderr
    log = tmp_path / "work/smoke/logs/verb-one.log"
    assert str(log.relative_to(tmp_path)) in result.stderr and "Traceback" in log.read_text()


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    body = """
    import time
    def main(params, arguments):
        print("first", flush=True)
        for _ in range(500):
            time.sleep(0.01)
            print("more", flush=True)
    command.run(__doc__, main)
    """
    result = run(tmp_path, body, then="| head -1")
    assert (result.returncode, result.stdout, result.stderr) == (141, "first\n", "")


def test_a_pipe_of_the_stage_s_own_that_breaks_is_a_defect(tmp_path):
    body = """
    def main(params, arguments):
        raise BrokenPipeError("a worker is gone")
    command.run(__doc__, main)
    """
    result = run(tmp_path, body)
    assert result.returncode == 1 and "a worker is gone" in result.stderr


def test_a_bad_parameter_stops_every_stage_before_its_body(tmp_path):
    body = """
    from pathlib import Path
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("lora:", "lorra:", 1))
    def main(params, arguments):
        print("ran")
    command.run(__doc__, main)
    """
    result = run(tmp_path, body)
    assert result.returncode == 1 and "ran" not in result.stdout
    assert "did you mean 'lora'?" in result.stderr


def test_loading_a_model_loads_no_compiler_and_leaves_torch_as_it_was(tmp_path):
    """bitsandbytes alone would load it; a stage is a process, so every stage would wait for it."""
    script = """
    import sys, stages, torch
    compile = torch.compile
    from maple.answering import run
    from maple.models import loading
    import peft
    assert torch.compile is compile and "bitsandbytes" in sys.modules
    print("torch._inductor.compile_fx" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.stdout == "False\n", done.stdout + done.stderr


def test_a_folder_in_which_no_log_can_be_written_is_named(tmp_path):
    (tmp_path / "work").write_text("a file stands where the folder should be")
    result = run(tmp_path, "def main(params, arguments):\n    print('ran')\ncommand.run(__doc__, main)\n")
    assert result.returncode == 1 and result.stdout == "" and "Traceback" not in result.stderr
    assert (
        result.stderr.startswith("could not write work/smoke/logs/verb.log\n  why: ")
        and "\n  do:  make this folder writable" in result.stderr
    )


NO_MEMORY = {
    "Python": "x = bytearray(1 << 50)",
    "numpy": "import numpy; numpy.ones(1 << 50)",
    "torch": "import torch; torch.ones(1 << 50)",
    "a card": "raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')",
    "the system": "raise OSError(12, 'Cannot allocate memory')",
    "a library": "raise ImportError('libtorch_cpu.so: failed to map segment from shared object')",
    "oneDNN": "raise RuntimeError('could not create a primitive')",
    "a thread": 'raise RuntimeError("can\'t start new thread")',
    "the limit": "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); x = bytearray(1 << 31)",
}


@pytest.mark.parametrize("line", NO_MEMORY.values(), ids=NO_MEMORY)
def test_where_memory_ends_no_defect_is_reported(tmp_path, line):
    result = run(tmp_path, f"def main(params, arguments):\n    {line}\ncommand.run(__doc__, main)\n")
    assert result.returncode == 1 and result.stderr.startswith("the stage ran out of memory\n  why: "), result.stderr
    assert "ulimit -v" in result.stderr and "report" not in result.stderr
    assert "Traceback" in (tmp_path / "work/smoke/logs/verb.log").read_text()


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EMFILE", "EROFS"])
def test_where_the_system_refuses_a_file_no_defect_is_reported(tmp_path, name):
    line = f"import errno, os; raise OSError(errno.{name}, os.strerror(errno.{name}), 'artifacts/x')"
    result = run(tmp_path, f"def main(params, arguments):\n    {line}\ncommand.run(__doc__, main)\n")
    assert result.returncode == 1 and result.stderr.startswith(
        "could not write artifacts/x\n  why: the system refuses: "
    )
    assert "report" not in result.stderr and "Traceback" not in result.stderr


def test_a_python_without_the_packages_is_named_and_what_mends_it(tmp_path):
    """-I -S: as an interpreter of the system's, which sees no site-packages."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import stages.check"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[0] == f"{sys.executable} is not the environment's Python"
    assert len(done.stderr.splitlines()) == 3 and "activate" in done.stderr

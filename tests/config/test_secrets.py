"""Marked secrets in the environment, commands that fail over them, and no trace in anything shown or written."""

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import outside
import pytest
import yaml

from maple.config import bills, params
from maple.core import redaction
from maple.core.errors import MapleError
from tests import hub as stand_in

ROOT = Path(__file__).parents[2]
MARK = "SeCrEt"
# Each holds the mark in every piece that could be printed by itself.
SECRETS = {
    "HF_TOKEN": f"hf_{MARK}TokenOfTheHub{MARK}",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{MARK}OldTokenOfTheHub{MARK}",
    "OPENAI_API_KEY": f"sk-{MARK}KeyOfTheJudge{MARK}",
    "AWS_SECRET_ACCESS_KEY": f"aws/{MARK}+Key/Of+The/Store{MARK}",
    "AWS_SESSION_TOKEN": f"aws-{MARK}-session-{MARK}",
}
USER = f"me:{MARK}Word@"
QUERY = f"?api_key={MARK}InQuery"


def run(folder: Path, body: str, **environment: str) -> subprocess.CompletedProcess:
    """A stage of this body in a folder of its own, with every secret in its environment."""
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (folder / "verb.py").write_text('"""A verb."""\nfrom maple.config import command\n' + textwrap.dedent(body))
    base = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "OPENAI_"))}
    paths = {"PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "hf")}
    command = [sys.executable, folder / "verb.py"]
    # The script holds no secret: what is found came out of the environment.
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, env=base | paths | SECRETS | environment
    )


def leaks(folder: Path, result: subprocess.CompletedProcess) -> list[str]:
    """Every place below the folder, and the two streams, that holds the mark."""
    places = {"stdout": result.stdout.encode(), "stderr": result.stderr.encode()}
    places |= {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return [
        f"{name}: {content[max(0, content.find(MARK.encode()) - 80) :][:200]!r}"
        for name, content in places.items()
        if MARK.encode() in content
    ]


def log_of(folder: Path) -> str:
    return (folder / "work/smoke/logs/verb.log").read_text()


def test_a_defect_that_holds_secrets_shows_none(tmp_path):
    body = """
    import logging, os, sys, urllib.parse
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    def main(params, arguments):
        values = [os.environ[name] for name in names]
        print(values, *values, urllib.parse.quote(values[3], safe=""), file=sys.stderr)
        print(os.environ["HTTPS_PROXY"], "https://h/v1?x=1&X-Amz-Signature=" + values[4])
        logging.info("sent %s", values)
        logging.getLogger("httpx").info("GET %s", os.environ["HTTPS_PROXY"])
        raise KeyError(values)
    command.run(__doc__, main)
    """
    result = run(tmp_path, body, HTTPS_PROXY=f"http://{USER}proxy:3128/")
    assert result.returncode == 1 and "KeyError" in result.stderr
    assert leaks(tmp_path, result) == []
    for name in SECRETS:
        assert f"<{name}>" in result.stderr and f"<{name}>" in log_of(tmp_path)
    assert "http://***@proxy:3128/" in result.stdout and "X-Amz-Signature=" in result.stdout


@pytest.mark.parametrize("key", [f"sk-{MARK}ключ{MARK}", f"sk-{MARK}first\nsk-{MARK}second"])
def test_an_odd_key_is_shown_in_none_of_its_forms(tmp_path, key):
    body = """
    import json, os
    def main(params, arguments):
        key = os.environ["OPENAI_API_KEY"]
        print(key, repr(key), ascii(key), json.dumps({"key": key}), *key.splitlines())
        key.encode("ascii") if not key.isascii() else json.loads("{" + key)
    command.run(__doc__, main)
    """
    result = run(tmp_path, body, OPENAI_API_KEY=key)
    assert result.returncode == 1 and leaks(tmp_path, result) == []


@contextmanager
def served(handler: type):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class Echo(BaseHTTPRequestHandler):
    """Answers with a status and everything that it was sent."""

    status = 401

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"error": {"message": f"Incorrect API key provided at {self.path}: {self.headers}"}}).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


JUDGE = """
import sys
from maple.judging import judgements, judges
def main(params, arguments):
    judges.ATTEMPTS = 1
    pairs = [judgements.Pair(str(i), f"instruction {i}", "reference", "output") for i in range(6)]
    store = judgements.JudgementStore(params.work / "judgements.jsonl")
    found = judges.judge(pairs, "alpaca_eval_gpt4", 42, store, say=lambda text: print(text, file=sys.stderr))
command.run(__doc__, main)
"""


@pytest.mark.parametrize("status", [400, 401, 500])
def test_an_endpoint_that_echoes_the_key_makes_no_one_print_it(tmp_path, status):
    outside.package("alpaca_eval.annotators")
    with served(type("Bound", (Echo,), {"status": status})) as place:
        result = run(tmp_path, JUDGE, OPENAI_API_BASE=f"http://{USER}{place}/v1{QUERY}", OPENAI_MAX_RETRIES="0")
    assert leaks(tmp_path, result) == [] and "Incorrect API key" in result.stderr + log_of(tmp_path)
    assert "HTTP Request" not in log_of(tmp_path)


HUB = """
import sys
from pathlib import Path
from maple.config import catalogue
from maple.download import fetch, hub
def main(params, arguments):
    catalogue.PATH = Path("sources.yaml")
    hub.PAUSES = (0.01,)
    needs = [fetch.Need(source, tuple(source.parts(["en"], ["train"]))) for source in catalogue.datasets().values()]
    fetch.download(params, hub.Hub(), needs)
command.run(__doc__, main)
"""


@pytest.mark.parametrize("status", [200, 401, 403, 429, 500])
def test_an_endpoint_with_a_password_leaves_none_of_it_behind_whether_it_answers_or_fails(tmp_path, status):
    data = tmp_path / "hub/datasets/org/open"
    data.mkdir(parents=True)
    (data / "en.jsonl").write_text('{"instruction": "a", "output": "b", "id": "0"}\n')
    entry = {
        "label": "Open",
        "hub_id": "org/open",
        "revision": "0" * 40,
        "licence": "CC0",
        "gated": False,
        "origin": "human",
    }
    entry |= {
        "files": {"train": "{code}.jsonl"},
        "columns": {"instruction": "instruction", "output": "output", "id": "id"},
        "languages": ["en"],
    }
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"models": {}, "datasets": {"open": entry}}))
    with stand_in.serve(tmp_path / "hub") as server:
        if status != 200:
            echo = json.dumps({"error": f"token {SECRETS['HF_TOKEN']} is refused"}).encode()
            server.first = [(status, {"X-Error-Message": f"bad token {SECRETS['HF_TOKEN']}"}, echo, None)] * 9
        result = run(tmp_path, HUB, HF_ENDPOINT=server.url.replace("//", f"//{USER}"))
    assert result.returncode == (status != 200), result.stderr
    assert leaks(tmp_path, result) == []


def test_clients_log_warnings_only(tmp_path):
    body = """
    import logging
    def main(params, arguments):
        for name in ("httpx", "httpx2", "httpcore", "openai", "urllib3", "huggingface_hub"):
            logging.getLogger(name).info("said in passing")
            logging.getLogger(name).warning("said with reason")
    command.run(__doc__, main)
    """
    assert run(tmp_path, body).returncode == 0
    assert log_of(tmp_path).count("with reason") == 6 and "in passing" not in log_of(tmp_path)


@pytest.mark.parametrize(
    "text, shown",
    [
        ("postgres://u:p%40ss@h/d", "postgres://***@h/d"),
        ("s3://bucket/key/of/a/file", "s3://bucket/key/of/a/file"),
        ("https://h/p?x=1&sig=abc&n=2#f", "https://h/p?x=1&sig=***&n=2#f"),
        ("https://h/p?keyboard=de", "https://h/p?keyboard=***"),  # rather too much than too little
        ("a@b.c wrote", "a@b.c wrote"),
        ("mail to hf_short", "mail to hf_short"),
        ("hf_" + "a" * 34, "***"),
        ("sk-proj-" + "a1" * 20, "***"),
    ],
)
def test_what_addresses_and_keys_show_by_themselves(text, shown):
    assert redaction.redacted(text) == shown


def test_the_token_of_a_login_and_the_keys_of_a_client_file_are_known_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("a-login-of-mine\n")
    (tmp_path / "clients.yaml").write_text('default:\n  - {client_class: openai.OpenAI, api_key: "key-in-a-file"}\n')
    monkeypatch.setenv("OPENAI_CLIENT_CONFIG_PATH", str(tmp_path / "clients.yaml"))
    assert (
        redaction.redacted("a-login-of-mine, key-in-a-file, openai.OpenAI")
        == "<HF_TOKEN>, <OPENAI_CLIENT_CONFIG_PATH>, openai.OpenAI"
    )


def test_a_short_value_is_a_word_not_a_secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    assert redaction.redacted("the tests") == "the tests"


def test_nothing_that_may_hold_a_secret_gets_into_an_image_from_any_folder():
    """Docker's patterns are paths from the root; ** stands for any folders or none."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")]
    names = [re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*") for pattern in patterns]
    for path in (
        ".env",
        ".env.local",
        "profiles/mine/.env",
        "a/b/.netrc",
        ".netrc",
        "keys/server.pem",
        "home/.aws",
        ".dvc/config.local",
    ):
        assert any(re.fullmatch(name, path) for name in names), path


def test_bills_that_are_damaged_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(bills, "KEPT", tmp_path)
    for content in (b"\xff\n", b'{"verb": "train"}\n', b"[]\n", b"{"):
        (tmp_path / "smoke.jsonl").write_bytes(content)
        with pytest.raises(MapleError, match="smoke.jsonl is damaged"):
            bills.kept(params.load("smoke"))

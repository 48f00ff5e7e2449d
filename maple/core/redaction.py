"""Secrets out of whatever is shown or written: tokens and keys by their values, and parts of addresses by their place.

>>> redacted("GET http://me:word@host/v1?api_key=abc&n=1")
'GET http://***@host/v1?api_key=***&n=1'
"""

import json
import logging
import os
import re
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

# A variable is a secret by the end of its name: HF_TOKEN, OPENAI_API_KEYS, AWS_SECRET_ACCESS_KEY, PASSWORD.
_NAME = re.compile(r"(TOKEN|KEY|KEYS|KEY_ID|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
# Shorter values are words ("test") that a message may hold for another reason.
_SHORTEST = 8
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/?#\s'\"]*@", re.IGNORECASE)
_QUERY = re.compile(
    r"([?&;][\w.%-]*?(?:key|token|secret|passw(?:or)?d|signature|sig|credential)[\w.%-]*=)[^&;\s'\"<>#]+", re.IGNORECASE
)
# Keys of the Hub and of OpenAI show what they are.
_SHAPE = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,})")
_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "urllib3", "huggingface_hub", "botocore", "boto3")


def redacted(text: str) -> str:
    """The text without the secrets of this process's environment and files, and without those that addresses carry."""
    for value, name in known().items():
        text = text.replace(value, f"<{name}>")
    return _SHAPE.sub("***", _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text)))


def known() -> dict[str, str]:
    """{what a secret may look like in a text: the name of what holds it}, the longest first."""
    found: dict[str, str] = {}
    for name, value in os.environ.items():
        if _NAME.search(name):
            _add(found, name, value, *re.split(r"[,\s]+", value))
        elif "://" in value:
            _add(found, name, *_of_address(value))
    for name, path in _files():
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        keys = re.findall(r"""(?:api_key|token|secret)\w*["']?\s*[:=]\s*["']?([^\s"',}\]]+)""", text, re.IGNORECASE)
        _add(found, name, *(keys if name == "OPENAI_CLIENT_CONFIG_PATH" else text.split()))
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def quiet_clients() -> None:
    """Libraries that speak HTTP log each request with its address; from here on only their warnings."""
    for name in _CLIENTS:
        logging.getLogger(name).setLevel(logging.WARNING)


class Formatter(logging.Formatter):
    """Lines of the log file, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class Screen:
    """A stream that passes on what is written without secrets; in all else it is the stream itself."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redacted(text) if text.strip() else text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _add(found: dict[str, str], name: str, *values: str | None) -> None:
    """Each value as it stands and as Python, JSON and an address would write it."""
    for value in values:
        value = (value or "").strip()
        if len(value) < _SHORTEST:
            continue
        forms = {
            value,
            repr(value)[1:-1],
            ascii(value)[1:-1],
            json.dumps(value)[1:-1],
            json.dumps(value, ensure_ascii=False)[1:-1],
        }
        for form in forms | {urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value)}:
            found.setdefault(form, name)


def _of_address(value: str) -> list[str]:
    """The password and the key-like query values of an address."""
    try:
        address = urllib.parse.urlsplit(value.strip())
        password = address.password
        query = urllib.parse.parse_qsl(address.query)
    except ValueError:
        return []
    hidden = [password] if password else []
    hidden += [text for key, text in query if _QUERY.fullmatch(f"?{key}=x")]
    return hidden + [urllib.parse.unquote(text) for text in hidden]


def _files() -> list[tuple[str, Path]]:
    """Where huggingface_hub and alpaca_eval find what is not in the environment."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    token = os.environ.get("HF_TOKEN_PATH") or Path(home) / "token"
    files = [("HF_TOKEN", token), ("OPENAI_CLIENT_CONFIG_PATH", os.environ.get("OPENAI_CLIENT_CONFIG_PATH"))]
    return [(name, Path(os.path.expanduser(path))) for name, path in files if path]

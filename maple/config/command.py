"""What all stages share: options, checked parameters, a log file, and errors a person can read."""

import argparse
import contextlib
import errno
import logging
import os
import re
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TextIO

from maple.config import params
from maple.core import redaction
from maple.core.errors import MapleError, is_out_of_memory


def run(doc: str, main: Callable, **options: str | dict) -> None:
    """Parse `--profile` and one option per keyword, load the parameters, call main.

    A keyword's value is the help text of a required option, or the arguments of argparse's `add_argument`.

    A MapleError is printed in three lines, with the log's path once there is one, and ends the process with its code;
    anything else is a defect: its traceback goes to the log and its last line to the screen.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="smoke", help="which parameter file (default: smoke)")
    for name, text in options.items():
        parser.add_argument(f"--{name}", **(text if isinstance(text, dict) else {"required": True, "help": text}))
    arguments = parser.parse_args()
    sys.stdout, sys.stderr = redaction.Screen(sys.stdout), redaction.Screen(sys.stderr)
    try:
        settings = params.load(arguments.profile)
        log = _log_to(settings, [getattr(arguments, name) for name, text in options.items() if isinstance(text, str)])
    except MapleError as error:
        sys.exit(_say(str(error), error.code))
    try:
        main(settings, arguments)
    except MapleError as error:
        logging.exception("stage failed")
        sys.exit(_say(f"{error}\n  log: {log}", error.code))
    except KeyboardInterrupt:
        sys.exit(_say("stopped; finished work is kept, the same command goes on from there", 130))
    except Exception as error:
        if is_out_of_memory(error):
            _end_short_of_memory(error, log)
        if isinstance(error, OSError) and error.errno in _REFUSALS:
            sys.exit(_end_without_room(error, log))
        logging.exception("stage failed")
        if isinstance(error, BrokenPipeError) and _unread(sys.stdout):
            # Whatever read the output, `head` say, has seen enough; Python would complain again when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        last = traceback.format_exc().strip().splitlines()[-1]
        sys.exit(
            _say(f"{last}\n  why: unexpected; the traceback is in {log}\n  do:  please report it with that file", 1)
        )


def _log_to(settings: params.Params, names: list[str]) -> str:
    verb = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    # A name is checked later; whatever it holds, the log stays in its folder.
    path = settings.work / "logs" / (re.sub(r"[^\w.-]+", "_", "-".join([verb, *names]))[:150] + ".log")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise MapleError(
            f"could not write {path}",
            why=str(error),
            do="make this folder writable for you, or run in a copy of it that is",
        ) from error
    handler.setFormatter(redaction.Formatter("%(asctime)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    redaction.quiet_clients()
    return str(path)


# Not a defect either: a full disk, a quota, a limit of files' size or number, a tree that can only be read.
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EROFS)


def _end_without_room(error: OSError, log: str) -> int:
    # The log may find no room for its line.
    logging.raiseExceptions = False
    logging.exception("stage failed")
    told = MapleError(
        f"could not write {error.filename2 or error.filename or 'a file'}",
        why=f"the system refuses: {error.strerror}",
        do="free some space, raise the limit (`ulimit -f`, `ulimit -n`, a quota) or make the folder writable, then run "
        "the command again; finished work is kept",
    )
    return _say(f"{told}\n  log: {log}", 1)


def _end_short_of_memory(error: Exception, log: str) -> None:
    """Not a defect: the machine, a container's limit or `ulimit -v` gives less than the stage needs."""
    # The log may find no memory for its line, and what libraries run at the end of Python none either.
    logging.raiseExceptions = False
    logging.exception("stage failed")
    said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    told = MapleError(
        "the stage ran out of memory",
        why=f"the system or the card gave no more ({said})",
        do="end what else uses it, raise the limit (`ulimit -v`, a container's, a scheduler's), or use a larger machine; "
        "finished work is kept, `make plan` says what a cell needs",
    )
    _say(f"{told}\n  log: {log}", 1)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(1)


def _unread(stream: TextIO) -> bool:
    """Whether the other end of a pipe is closed."""
    poll = select.poll()
    poll.register(stream, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code

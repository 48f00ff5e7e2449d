"""DVC's lock files before and after a run: found damaged, put back from a copy.

A signal in the half second in which DVC writes dvc.lock leaves it empty or cut, and then DVC ends with a message about
YAML, in every profile: it reads all lock files. `make reproduce` keeps a copy when it starts and when it ends. With
the copy back, finished stages that it does not know of come from DVC's run-cache.
"""

import fcntl
import json
import os
import shutil
from pathlib import Path

import yaml

from maple.config.params import PROFILES

COPIES = Path("work", "locks")
# Which process reads or writes which output; DVC drops what dead processes hold, but not a file that it cannot read.
RWLOCK = Path(".dvc", "tmp", "rwlock")


def paths() -> list[Path]:
    return [path for path in (Path("dvc.lock"), *sorted(PROFILES.glob("*/dvc.lock"))) if path.exists()]


def damage(path: Path) -> str | None:
    """What is wrong with a lock file, or None."""
    try:
        found = yaml.load(path.read_bytes().decode("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except UnicodeDecodeError:
        return "it is no text"
    except yaml.YAMLError as error:
        return f"it is cut or mangled: {str(error).splitlines()[0]}"
    if found is None:
        return "it is empty"
    if not isinstance(found, dict) or not isinstance(found.get("stages", {}), dict):
        return "it holds no stages"
    if found.get("schema") != "2.0":
        return f"its schema is {found.get('schema')!r}, not '2.0'"
    for name, stage in found.get("stages", {}).items():
        if not isinstance(stage, dict) or "cmd" not in stage or any("md5" not in out for out in stage.get("outs", [])):
            return f"the stage {name} is cut short"
    return None


def keep() -> None:
    """Copy every sound lock file aside; the copy appears whole or not at all."""
    for path in paths():
        if damage(path) is None:
            copy = _copy_of(path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            part = copy.with_name(copy.name + ".part")
            shutil.copyfile(path, part)
            os.replace(part, copy)


def restore(path: Path) -> bool:
    """Put a damaged lock file's copy in its place; False where there is none."""
    copy = _copy_of(path)
    if not copy.is_file() or damage(copy) is not None:
        return False
    part = path.with_name(path.name + ".part")
    shutil.copyfile(copy, part)
    os.replace(part, path)
    return True


def clear_rwlock() -> bool:
    """Removes DVC's list of who reads and writes what if a kill cut it off; whether it did. One in use is left alone."""
    if not RWLOCK.is_file():
        return False
    with open(RWLOCK.with_name("rwlock.lock"), "a") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            json.loads(RWLOCK.read_bytes())
        except ValueError:
            RWLOCK.unlink()
            return True
        except OSError:
            return False
    return False


def _copy_of(path: Path) -> Path:
    return COPIES / path

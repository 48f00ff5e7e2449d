"""Make a profile of your own from another one's parameters: a folder in profiles/ to edit and run.

make profile NAME=mine
python -m stages.profile --name mine --profile smoke
"""

import argparse
import re
import sys

from maple.config import bills, params
from maple.core import storage
from maple.core.errors import MapleError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="the new profile's name: small letters, digits and hyphens")
    parser.add_argument("--profile", default="paper", help="whose parameters to begin with (default: paper)")
    arguments = parser.parse_args()
    try:
        print(make(arguments.name, arguments.profile))
    except MapleError as error:
        sys.exit(f"{error}")


def make(name: str, template: str) -> str:
    """Write profiles/<name>/params.yaml; the Makefile adds dvc.yaml. Returns what to do next."""
    folder = params.PROFILES / name
    if not re.fullmatch(params.NAME, name) or name == "smoke":
        raise MapleError(
            f"'{name}' names no new profile",
            why="a profile is a folder of small letters, digits and hyphens",
            do="choose another name",
        )
    if folder.exists():
        raise MapleError(
            f"{folder} is there already", why="nothing is overwritten", do="choose another name, or edit that folder"
        )
    text = params.path_of(template).read_text(encoding="utf-8")
    for key, value in (("profile", name), ("params_file", folder / "params.yaml"), ("root", "../..")):
        text = re.sub(rf"(?m)^{key}: [^\s#]+", f"{key}: {value}", text)
    storage.write_text(folder / "params.yaml", text)
    params.load(name)
    empty = bills.KEPT / f"{name}.jsonl"
    if not empty.exists():
        storage.write_text(empty, "")
    return f"{folder / 'params.yaml'} begins as {template}'s: edit it, then make plan PROFILE={name}"


if __name__ == "__main__":
    main()

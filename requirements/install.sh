#!/usr/bin/env bash
# Build the virtual environment from the hash-locked files; end at once when it is already there.
#
#   bash requirements/install.sh         what the pipeline needs (make setup)
#   bash requirements/install.sh test    and what the tests add  (make test)
#
# VENV=.venv         where the environment goes
# LOCK=cpu|cuda      which lock; if unset: cuda where nvidia-smi finds a GPU, cpu elsewhere
# TORCH_INDEX=URL    where the CPU build of torch is found when the package index has none (see README.md beside this)
# PYTHON=python3.11  the interpreter, 3.11 or newer
#
# The stamp VENV/.complete holds the hash of the lock that was installed: a changed lock, or an installation that was
# interrupted, is done again from nothing. An environment that this script did not make is never touched.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
locks=requirements

fail() { # what, why, do: the three lines of maple.core.errors.MapleError
    printf '%s\n  why: %s\n  do:  %s\n' "$1" "$2" "$3" >&2
    exit 1
}

say() { printf 'setup: %s\n' "$*" >&2; }

fingerprint() { # lock name; the checksum tool differs between Linux and macOS
    { sha256sum 2>/dev/null || shasum -a 256; } <"$locks/$1.txt" | cut -d' ' -f1
}

is_complete() { # stamp file, lock name
    [ "$(cat "$venv/$1" 2>/dev/null)" = "$2 $(fingerprint "$2")" ] && "$venv/bin/python" -c '' 2>/dev/null
}

stamp() { # stamp file, lock name; written last, so its presence means that all went well
    echo "$2 $(fingerprint "$2")" >"$venv/$1.part" && mv "$venv/$1.part" "$venv/$1"
}

entry() { # lock name, package: the package's lines of the lock
    awk -v name="$2==" '/^[^ ]/ {keep = index($0, name) == 1} keep' "$locks/$1.txt"
}

# The locks are complete and checked by the tests, so pip need not resolve anything: --no-deps. A few packages come as
# source only; they are built with the locked setuptools instead of one that pip would fetch unchecked.
install() { # requirements file
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input --require-hashes --no-deps \
        --use-pep517 --no-build-isolation --no-compile ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r "$1"
}

compile_all() { # what pip would do on one core; the few files that no Python 3.11 can compile are templates and tests
    "$venv/bin/python" -m compileall -qq -j 0 "$venv/lib" || true
}

install_entry() { # lock name, package
    entry "$1" "$2" >"$venv/$2.txt" && install "$venv/$2.txt"
}

find_python() { # the base interpreter: the first on the PATH may be that of the environment about to be replaced
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13}; do
        "$candidate" -c '
import sys, venv, ensurepip
sys.exit(1) if sys.version_info < (3, 11) else print(sys._base_executable)' 2>/dev/null && return
    done
    fail "no Python 3.11 or newer was found" "tried ${PYTHON:-python3.11, python3, python3.12 and python3.13}, each with its venv module" \
        "install Python 3.11 (on Debian and Ubuntu also python3.11-venv), or name one: make setup PYTHON=/path/to/python3.11"
}

choose_lock() {
    if [ -n "${LOCK:-}" ]; then
        echo "$LOCK"
    elif nvidia-smi -L >/dev/null 2>&1; then
        echo cuda
    else
        echo cpu
    fi
}

begin() { # an empty environment, marked as unfinished
    if [ -e "$venv" ] && [ ! -e "$venv/.complete" ] && [ ! -e "$venv/.unfinished" ]; then
        fail "$venv exists but was not made by this script" "it would have to be replaced, and it may be yours" \
            "remove it, or choose another place: make setup VENV=.venv-maple"
    fi
    [ ! -e "$venv" ] || rm -rf "$venv" 2>/dev/null || [ ! -e "$venv" ] ||
        fail "the environment $venv does not fit this checkout and cannot be replaced" "it belongs to somebody else, as in the container image" \
            "rebuild the image, or choose another place: make setup VENV=.venv"
    mkdir -p "$venv" && touch "$venv/.unfinished"
    "$1" -m venv "$venv"
}

install_runtime() {
    local python lock
    python=$(find_python)
    lock=$(choose_lock)
    say "building $venv from $locks/$lock.txt with $("$python" --version), one to three minutes"
    begin "$python"
    install_entry "$lock" setuptools ||
        fail "no package could be installed" "pip's message is above; most often the package index cannot be reached" \
            "check the network and 'pip config list', then run the same command again"
    if [ "$lock" = cpu ] && ! install_entry cpu torch 2>"$venv/torch.log"; then
        if [ -n "${LOCK:-}" ] || ! grep -q 'No matching distribution' "$venv/torch.log"; then
            cat "$venv/torch.log" >&2
            fail "the CPU build of torch cannot be installed" "pip's message is above; most package indexes do not carry it, PyTorch's own does" \
                "set TORCH_INDEX to the address that pytorch.org shows under 'Get started' for CPU, or say LOCK=cuda (larger, runs on a CPU too)"
        fi
        say "the package index has no CPU build of torch, so the CUDA build is taken: 2.9 GB to download instead of 0.4, runs on a CPU too."
        say "To save that, stop now and set TORCH_INDEX to the address that pytorch.org shows under 'Get started' for CPU."
        lock=cuda
    fi
    install "$locks/$lock.txt" ||
        fail "the environment is not complete" "pip's message is above" "run the same command again; it starts from nothing"
    compile_all
    "$venv/bin/python" -c 'import torch' || fail "torch is installed but does not import" "the message is above" "report it with the output of 'make setup'"
    stamp .complete "$lock"
    rm -f "$venv/.unfinished"
}

case ${LOCK:-} in
'') is_complete .complete cpu || is_complete .complete cuda || install_runtime ;;
cpu | cuda) is_complete .complete "$LOCK" || install_runtime ;;
*) fail "LOCK=$LOCK names no lock" "there are two, cpu and cuda" "say LOCK=cpu or LOCK=cuda" ;;
esac

if [ "${1:-}" = test ] && ! is_complete .complete-test test; then
    say "adding $locks/test.txt"
    install "$locks/test.txt" || fail "the packages for the tests are not complete" "pip's message is above" "run the same command again"
    compile_all
    stamp .complete-test test
fi

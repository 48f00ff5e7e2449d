# The artifact's verbs. `make help` lists them with the time each takes.

VENV ?= .venv
PROFILE ?= smoke
export PATH := $(abspath $(VENV))/bin:$(PATH)
export TOKENIZERS_PARALLELISM := false
# DVC's own place for it is one that every user of the machine may write to, and what lies there is unpickled: docs/SECURITY.md.
export DVC_SITE_CACHE_DIR ?= $(CURDIR)/.dvc/tmp/site
# A claim of paper_tables/claims.yaml for `make plan` and `make claim`, and which of its parts is run; CLAIMS=all plans each.
CLAIM ?=
CLAIMS ?=
PART ?= exact
# A base of the grid for `make answers`, say mistral-7b-16bit; all of them where there is none.
BASE ?=
# Further options of `make submit` and some others, say ARGS="--partition gpu --account lab"; how much `make pull` fetches.
ARGS ?=
WHAT ?= all
PIPELINE = $(if $(filter smoke,$(PROFILE)),dvc.yaml,profiles/$(PROFILE)/dvc.yaml)

.DEFAULT_GOAL := help
.PHONY: help setup profile check plan reproduce answers claim protocols test test-gpu lint bills compare report verify-sources calibrate clean \
	submit status collect remote push pull experiments smoke-models

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

setup: ## build the environment from the hash-locked list; ends at once when it stands (1 min)
	@VENV=$(VENV) bash requirements/install.sh

# DVC reads parameters beside dvc.yaml only, so every other profile has a copy of the one that is edited.
profiles/%/dvc.yaml: dvc.yaml
	@{ echo "# Made from dvc.yaml at the root by: make $@ (do not edit)"; cat dvc.yaml; } >$@.part && mv $@.part $@

profile: setup ## a profile of your own, from the paper's: make profile NAME=mine (1 s)
	@python -m stages.profile --name $(NAME) && $(MAKE) -s profiles/$(NAME)/dvc.yaml

check: setup $(PIPELINE) ## what this machine lacks for PROFILE (default smoke), before anything starts (1 s)
	python -m stages.check --profile $(PROFILE)

plan: setup $(PIPELINE) ## steps, memory, time, disk and money of PROFILE, or of one CLAIM, or of each (CLAIMS=all) (3 s)
	python -m stages.plan --profile $(PROFILE) $(addprefix --claim ,$(CLAIM)$(CLAIMS))

reproduce: check ## every stage of PROFILE, from download to report; shows the bill and asks (YES=1: does not) (smoke: 5 min on 2 cores)
	@python -m stages.confirm --profile $(PROFILE)
	$(if $(filter smoke,$(PROFILE)),python -m stages.cells,dvc repro $(PIPELINE):train && python -m stages.answers --profile $(PROFILE))
	dvc repro $(PIPELINE)
	@python -m stages.identical --profile $(PROFILE)

answers: setup $(PIPELINE) ## ask all models of PROFILE that are trained and not asked, each base loaded once; only one BASE's with BASE=... (a start saved a model)
	python -m stages.answers --profile $(PROFILE) $(addprefix --base ,$(BASE))

claim: check ## decide one CLAIM from the part of PROFILE's grid that it reads; shows the bill and asks (smoke: 1 min)
	python -m stages.claim --profile $(PROFILE) --claim $(CLAIM) --part $(PART)

protocols: setup $(PIPELINE) ## Table 1 under the follow-up's protocol, which cells move (ARGS=--ask: asks the models too) (smoke: 5 s)
	@python -m stages.protocols --profile $(PROFILE) $(ARGS)

test: ## the tests, with what they need (10 min)
	@VENV=$(VENV) bash requirements/install.sh test
	python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# What is compared with PEFT, transformers, TRL and lm-evaluation-harness, and what only a GPU does.
ON_GPU = tests/models/test_loading.py tests/training tests/answering/test_loglikelihood.py \
	tests/answering/test_generate.py tests/answering/test_architectures.py tests/answering/test_harness.py
test-gpu: ## the tests of training and answering, on this machine's GPU, with the Python at hand (2 min)
	MAPLE_TEST_DEVICE=cuda python -m pytest $(ON_GPU)

lint: ## style: ruff's rules and format, 120 columns, no file exempt (1 s after make test's setup)
	@VENV=$(VENV) bash requirements/install.sh test
	ruff check . && ruff format --check .

bills: setup ## keep what this run cost, for git: report and plan of other clones then know it (1 s)
	python -m stages.bills --profile $(PROFILE)

compare: setup ## our tables against the paper's; exit 0 same, 1 differs, 2 missing, 3 could not run (1 s)
	@python -m stages.verdict --profile $(PROFILE)

report: setup ## the HTML report again (5 s)
	dvc repro --single-item $(PIPELINE):report

verify-sources: setup ## whether every pinned model and data set can be reached (needs the network)
	python -m stages.verify_sources --profile $(PROFILE)

submit: setup $(PIPELINE) ## what PROFILE still lacks to Slurm (ARGS=--dry-run: the arrays and their bill); see docs/CLUSTER.md (5 s)
	python -m stages.submit --profile $(PROFILE) $(ARGS)

status: setup ## where every submitted model stands, from files alone (1 s)
	@python -m stages.status --profile $(PROFILE) $(ARGS)

collect: setup $(PIPELINE) ## what tasks made into DVC, then the stages after them, here on a CPU (smoke: 1 min)
	python -m stages.commit --profile $(PROFILE) && dvc repro $(PIPELINE)

remote: setup ## set the store of results: URL=s3://bucket/folder, ssh://host/folder or /a/folder (1 s)
	dvc remote add --force --default store $(URL) && dvc remote modify store verify true

push: setup $(PIPELINE) ## every output of PROFILE and the run-cache into the store
	python -m stages.push --profile $(PROFILE)

pull: setup $(PIPELINE) ## results from the store instead of making them; WHAT=scores, answers, adapters or all; sizes first
	@python -m stages.pull --profile $(PROFILE) --what $(WHAT)

experiments: setup ## `dvc exp run`s side by side: their scores first, then what they changed (3 s)
	@python -m stages.experiments

smoke-models: setup ## pretrain the smoke profile's two bases again; no run needs it, see docs/SMOKE.md (40 min on 2 cores)
	python -m stages.smoke_models $(ARGS)

calibrate: setup ## how often the claims' verdicts are right: planted truth, 200 grids of each; see docs/CLAIMS.md (12 min)
	python -m benchmarks.calibrate

clean: ## remove outputs and half results of every profile (not the environment, not DVC's cache)
	rm -rf artifacts work

# The two that matter: `make demo` shows the product at work, `make test` proves it. Both install what they need.
# Heavy builds (Kubernetes binaries, the image's root file system) are cached in $(CACHE), outside the tree.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CACHE := $(or $(SWITCHBOARD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/switchboard)
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
CLUSTER := $(PYTHON) -m e2e.embedded
IMAGES := --images build/images.json
BESIDE :=      # set: targets run side by side, and each line says whose it is
LABELLED = $(if $(strip $(BESIDE)),2>&1 | sed --unbuffered 's/^/$@: /')
export SWITCHBOARD_CACHE := $(CACHE)

.PHONY: help demo test lint unit sip networks embedded cluster life claims e2e bench fuzz up down enter clean packages tools helm image images asterisk clients
help:
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: tools image  ## a real Kubernetes API, the operator, a pool, SIP calls; about a minute when built
	@$(CLUSTER) run $(IMAGES) -- $(PYTHON) -m e2e.demo

# The tests with real parts wait for clocks more than for a processor: two at a time.
test: lint unit  ## all tests, with real parts
	@$(MAKE) --no-print-directory --jobs=2 BESIDE=1 cluster sip life networks claims embedded

lint: .venv/ready  ## ruff, mypy --strict, import-linter
	@scripts/lint

unit: tools helm  ## pure code, property tests; pool, resources and link covered to the last branch
	@scripts/unit

sip: .venv/ready packages image asterisk clients  ## real Kamailio, rtpengine and SIPp on loopback
	@{ tests() { $(PYTEST) -o cache_dir=.pytest_cache/$@ "$$@" tests/sip tests/agent; }; $(TWICE); } $(LABELLED)

networks: .venv/ready packages image clients  ## clients and proxies in networks of their own, behind NAT
	@{ tests() { unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc \
	  $(PYTEST) -o cache_dir=.pytest_cache/$@ "$$@" tests/networks; }; $(TWICE); } $(LABELLED)

embedded: tools image  ## the cluster that the tests run in, itself
	@$(IN_CLUSTER)

cluster: tools helm image asterisk  ## the operator on a real Kubernetes API
	@$(IN_CLUSTER)

life: tools image  ## the life of proxies: scaling, drains, dead nodes, hand-over
	@$(IN_CLUSTER)

claims: tools image asterisk clients  ## one test per claim
	@$(IN_CLUSTER)

# Real processes against real clocks: on a machine that stalls for seconds one of hundreds may miss its deadline; what failed
# is run once more, in fresh processes, and must pass then.
TWICE := tests || tests --last-failed --last-failed-no-failures=none

# Runs tests/<target>.
define IN_CLUSTER
{ export SWITCHBOARD_ROOTFS="$$(proxy/rootfs.sh | tail -n 1)"; \
  tests() { $(CLUSTER) run $(IMAGES) -- $(PYTEST) -o cache_dir=.pytest_cache/$@ "$$@" tests/$@; }; \
  $(TWICE); } $(LABELLED)
endef

bench: tools image  ## the goals, measured
	@$(CLUSTER) run $(IMAGES) -- $(PYTHON) -m tests.bench

fuzz: .venv/ready packages image  ## a million mutated SIP messages to real proxies; about ten minutes
	@for users in "" --users; do $(PYTHON) -m tests.fuzz --messages $(or $(MESSAGES),500000) --seed $(or $(SEED),1) $$users $(if $(HIDING),--hiding); done

up: tools image  ## leave the demo's cluster running
	@$(CLUSTER) up $(IMAGES)
	@$(CLUSTER) enter -- $(PYTHON) -m e2e.product install

images: .venv/ready packages  ## container images of operator and proxy; needs Docker, and no registry unless BASE names one
	@scripts/images
	@$(PYTEST) tests/images

e2e: tools helm  ## the product on a real cluster of three nodes, by kind; KEEP=1 keeps it, SMOKE=1 its core
	@scripts/e2e

down: .venv/ready  ## end what `make up` left running
	@$(CLUSTER) down

clean:  ## remove what was built in the tree (the cache stays: $(CACHE))
	@rm -rf .venv .venv-e2e build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

.venv/ready: requirements.lock pyproject.toml | packages
	@scripts/venv

packages:
	@scripts/packages

tools: .venv/ready packages
	@$(CLUSTER) build

asterisk: packages
	@tests/tools/rootfs.sh asterisk > /dev/null

clients: packages  ## Chromium, baresip, linphone and a page with a phone, for the tests and the demo
	@tests/tools/rootfs.sh clients > /dev/null
	@tests/tools/clients/page.sh > /dev/null

helm: .venv/ready packages
	@$(PYTHON) -m e2e.helm version > /dev/null

image: .venv/ready packages
	@mkdir -p build && $(PYTHON) -m e2e.product images "$$(proxy/rootfs.sh | tail -n 1)" > build/images.json

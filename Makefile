# Needs python3 >= 3.11 with venv, and make; everything else is installed below .venv and .tox.
PYTHON ?= python3
TOX := .venv/bin/tox
RUN := $(TOX) run

.DEFAULT_GOAL := help
.PHONY: help lint unit functional test demo bench bench-full bench-stores chaos sample servers clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lint: $(TOX) ## ruff and mypy --strict
	$(RUN) -e lint

unit: $(TOX) ## tests that need no servers
	$(RUN) -e unit

functional: $(TOX) ## tests against real Glance, databases and stores
	$(RUN) -e glance,keystone,stores,functional

test: $(TOX) ## lint, unit and functional
	$(RUN) -e glance,keystone,stores,lint,unit,functional

demo: $(TOX) ## a scene played against a real Glance
	$(RUN) -e glance,demo

FULL := --full --repeat 2 --into docs/benchmarks

# Only these rows: make bench ONLY="s3 tombstones"
bench: $(TOX) ## speed on real servers, beside glance-scrubber and the limit (8 minutes)
	$(RUN) -e glance,stores,bench $(if $(ONLY),-- --only $(ONLY))

bench-full: $(TOX) ## all of it, written into docs/benchmarks (35 minutes)
	$(RUN) -e glance,stores,bench -- $(FULL) $(if $(ONLY),--only $(ONLY))

bench-stores: $(TOX) ## every store by pool size, round trip and requests (15 minutes)
	$(RUN) -e glance,stores,bench-stores

chaos: $(TOX) ## faults on real servers, injected from outside (10 minutes)
	$(RUN) -e glance,stores,chaos

sample: $(TOX) ## write etc/scrubber.conf.sample
	$(RUN) -e sample

servers: $(TOX) ## only install the real Glance, Swift and S3 that tests, demo and bench use
	$(RUN) -e glance,keystone,stores

$(TOX):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$(PYTHON) is older than 3.11; set PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check 'tox>=4.11'

clean: ## remove everything that was made here
	rm -rf .venv .tox build dist *.egg-info .eggs .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The house's door: `make` lists what can be asked for. Needs make and Python 3.11 or newer, nothing else.

VENV := .venv
PY := $(VENV)/bin/python
SETUP := $(VENV)/.setup-done
PACKAGES := libs/common services/gateway services/canvas services/presence services/activity clients/python
LOCK := requirements/dev.txt
DEPLOY := .venv-deploy
DEPLOY_SETUP := $(DEPLOY)/.setup-done
CODE := libs services clients/python clients/typescript clients/table tests $(wildcard bench deploy conftest.py)
TESTS := $(wildcard libs/common/tests services/*/tests clients/python/tests clients/typescript/tests clients/table/tests tests/spec tests/contract)
E2E := $(wildcard tests/e2e tests/chaos)
CONTAINERS ?= $(shell command -v docker >/dev/null && echo docker || echo podman)
COMPOSE ?= $(shell command -v docker >/dev/null && echo docker compose || echo podman-compose)
COMMON := libs/common/src/roundtable/common
BROWSER_SETUP := $(VENV)/.browser-done
CLIENTS_SETUP := clients/node_modules/.setup-done
CLIENTS_BUILT := clients/node_modules/.report
CLIENTS_MADE := node_modules dist build
# The machine's Node.js if it is 20 or newer and has npm, else that of a wheel
WITH_NODE := { command -v npm && node -e 'process.exit(+(parseInt(process.versions.node) < 20))'; } >/dev/null 2>&1 || { \
	  export PATH="$(CURDIR)/$(VENV)/bin:$$PATH"; command -v $(VENV)/bin/npm >/dev/null || \
	  $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/node.txt; }
FIND_PYTHON := for p in "$$PYTHON" python3 python3.14 python3.13 python3.12 python3.11; do \
	  [ -n "$$p" ] && "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; \
	done
UV_LOCK := ../$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-config --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
UV_INSTALL := $(PY) -m uv pip install --quiet --no-config --require-hashes

.DEFAULT_GOAL := help
.PHONY: help setup run test check check-deploy monitoring secrets images up down containers-test fmt e2e browser pictures soak fuzz bench bench-quick schema clients lock clean

help: ## this list
	@echo "Roundtable: a shared table for role players. First \`make run\`; then"
	@echo
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

setup: $(SETUP) ## everything into .venv/ (again only when a lock or a package changed)

$(SETUP): $(LOCK) $(PACKAGES:%=%/pyproject.toml)
	@python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
	  echo "setup: needs Python 3.11 or newer; python3 here is: $$(python3 --version 2>&1 || true)." >&2; \
	  echo "       Install one (Debian 12: apt-get install python3 python3-venv), or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! $(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "setup: $$python has no venv or ensurepip module (Debian: apt-get install python3-venv)." >&2; exit 1; \
	  fi; \
	  echo "setup: $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "setup: locked packages ($(LOCK))"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	@echo "setup: our own packages, editable"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(PACKAGES:%=-e ./%)
	@touch $@

run: $(SETUP) ## the whole system on this machine, the page at http://localhost:8080, Ctrl-C ends it
	@$(MAKE) --no-print-directory $(CLIENTS_BUILT) || echo "run: the page could not be built: the table starts without it" >&2
	@exec $(PY) -m roundtable.common.localrun

test: check ## check, then all tests, with a real nats-server
	@$(PY) -m pytest $(TESTS) $(E2E)

check: $(SETUP) ## lint, format, types, import rule, generated files
	$(PY) -m ruff check $(CODE)
	$(PY) -m ruff format --check $(CODE)
	$(PY) -m mypy $(CODE)
	$(VENV)/bin/lint-imports
	@if [ -e $(COMMON)/codegen.py ] || [ -d $(COMMON)/codegen ]; then set -x; $(PY) -m roundtable.common.codegen --check; fi

check-deploy: $(DEPLOY_SETUP) ## what is deployed: manifests, policies, images, and the tests of these checks
	$(DEPLOY)/bin/python -m deploy.checks $(ONLY)
	$(DEPLOY)/bin/python -m pytest --confcutdir=deploy deploy

monitoring: $(DEPLOY_SETUP) ## generated files: Grafana's dashboards, rules for Kubernetes
	$(DEPLOY)/bin/python -m deploy.monitoring

$(DEPLOY_SETUP): requirements/deploy.txt requirements/netpol.txt deploy/checks/npm/package-lock.json $(SETUP)
	@echo "setup: tools that check deployments ($(DEPLOY))"
	@$(PY) -m venv --clear $(DEPLOY)
	@$(PY) -m venv $(DEPLOY)/netpol
	@$(UV_INSTALL) --python $(DEPLOY)/bin/python -r requirements/deploy.txt
	@$(UV_INSTALL) --python $(DEPLOY)/netpol/bin/python -r requirements/netpol.txt
	@$(DEPLOY)/bin/python -m deploy.checks.node
	@touch $@

secrets: ## .env with random secrets for docker compose; what stands there already stays
	@python=$$($(FIND_PYTHON)); "$${python:?needs Python 3.11 or newer}" -m deploy.envfile

images: ## the four images
	@for program in gateway canvas presence activity; do \
	  $(CONTAINERS) build $(if $(findstring podman,$(CONTAINERS)),--format docker) --target $$program --tag roundtable/$$program:0.1.0 \
	    --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) . || exit 1; \
	done

up: secrets images ## all of it with docker compose, the page at http://localhost:8080 (UP="--scale canvas=2")
	$(COMPOSE) up --detach $(UP)

down: ## ends what `up` started; the data stays in its volumes
	$(COMPOSE) down --remove-orphans

containers-test: $(SETUP) $(DEPLOY_SETUP) ## the manifests in containers: a rollout under load, servers killed (as root, ten minutes)
	@manifests=$$(mktemp) && $(DEPLOY)/bin/python -m deploy.checks.manifests deploy/containers/overlay > "$$manifests" && \
	$(PY) -m deploy.containers $(if $(SEED),--seed $(SEED)) < "$$manifests" && \
	$(PY) -m deploy.containers.compose $(DEPLOY)/bin/podman-compose; status=$$?; rm -f "$$manifests"; exit $$status

fmt: $(SETUP) ## format the code, sort imports, mend what can be mended
	$(PY) -m ruff check --fix-only $(CODE)
	$(PY) -m ruff format $(CODE)

e2e: $(SETUP) ## only the end-to-end tests
	$(PY) -m pytest $(E2E)

browser: $(BROWSER_SETUP) $(CLIENTS_BUILT) ## the page in Chromium, Firefox and WebKit, those that are installed, at a real system
	$(PY) -m pytest tests/browser $(if $(ONLY),-k "$(ONLY)")

pictures: $(BROWSER_SETUP) $(CLIENTS_BUILT) ## the README's pictures anew, into docs/pictures/
	$(PY) -m tests.browser.pictures

$(BROWSER_SETUP): requirements/browser.txt tests/browser/package-lock.json requirements/node.txt $(SETUP)
	@echo "setup: what drives browsers"
	@$(UV_INSTALL) --python $(PY) -r requirements/browser.txt
	@$(WITH_NODE); cd tests/browser && npm ci --loglevel=error
	@touch $@

soak: $(SETUP) ## five minutes of use while processes die at random (SECONDS=300 SEED=n)
	@$(PY) -m tests.chaos.soak --seconds $(or $(SECONDS),300) $(if $(SEED),--seed $(SEED))

fuzz: $(SETUP) ## all parsers under a fuzzer, a minute each (FUZZ_SECONDS=60)
	@$(PY) tests/fuzz/fuzz.py --seconds $(or $(FUZZ_SECONDS),60) $(if $(SEED),--seed $(SEED))

bench: $(BROWSER_SETUP) $(CLIENTS_BUILT) ## measure beside the peers, a verdict for each promise, into bench/results.md (20 minutes)
	$(PY) -m bench

bench-quick: $(SETUP) ## has a delivery become dearer? ratios beside the last landed ones (2 minutes)
	@$(PY) -m bench.quick

schema: $(SETUP) ## generated files: JSON Schema, TypeScript types, AsyncAPI, tables of the docs
	$(PY) -m roundtable.common.codegen

clients: $(CLIENTS_BUILT) ## the client library and the page, from their sources; prints sizes and the browsers' check
	@cat $(CLIENTS_BUILT)

$(CLIENTS_BUILT): $(CLIENTS_SETUP) $(shell find clients -type f -not -path 'clients/python/*' -not -name '*.py*' $(CLIENTS_MADE:%=-not -path '*/%/*'))
	@$(WITH_NODE); cd clients && npm run --silent build >$(@:clients/%=%).new && mv $(@:clients/%=%).new $(@:clients/%=%)

$(CLIENTS_SETUP): clients/package-lock.json requirements/node.txt | $(SETUP)
	@$(WITH_NODE); echo "clients: locked packages (clients/package-lock.json), with Node.js $$(node --version)"; \
	cd clients && npm ci --loglevel=error
	@touch $@

lock: $(SETUP) ## new locks from requirements/*.in
	cd requirements && $(UV_LOCK) $(UPGRADE:%=--upgrade) runtime.in -o runtime.txt
	cd requirements && $(UV_LOCK) $(UPGRADE:%=--upgrade) dev.in -o dev.txt
	cd requirements && $(UV_LOCK) $(UPGRADE:%=--upgrade) build.in -o build.txt
	cd requirements && $(UV_LOCK) $(UPGRADE:%=--upgrade) deploy.in -o deploy.txt
	cd requirements && $(UV_LOCK) $(UPGRADE:%=--upgrade) node.in -o node.txt
	cd requirements && $(UV_LOCK) $(UPGRADE:%=--upgrade) bench.in -o bench.txt
	cd requirements && $(UV_LOCK) $(UPGRADE:%=--upgrade) browser.in -o browser.txt
	cd requirements && $(UV_LOCK) $(UPGRADE:%=--upgrade) netpol.in -o netpol.txt

clean: ## caches, builds and .venv/; the table's data only with DATA=1
	rm -rf $(VENV) $(DEPLOY) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov
	rm -rf clients/node_modules clients/*/dist clients/*/build
	find . -name node_modules -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
ifdef DATA
	@data="$${ROUNDTABLE_DATA_DIR:-.data}"; set -x; rm -rf "$$data/nats" "$$data/jwt-secret" "$$data/lock"; \
	[ ! -d "$$data" ] || rmdir "$$data"
endif

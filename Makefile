# Two commands do everything on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
RUN := $(BIN)/python -m local
OPERATE := $(BIN)/python -m infra.operate
named = $(or $(ENV),$(error say which deployment: make $(firstword $(MAKECMDGOALS)) ENV=dev))

export UV_VERSION := 0.13.8

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# --- set-up: each stamp is remade when what it was made from changes -----------------------------

.tools/.ready: scripts/bootstrap-uv.sh
	@PYTHON=$(PYTHON) bash scripts/bootstrap-uv.sh && touch $@

.venv/.ready: .tools/.ready requirements/dev.txt requirements/java.txt pyproject.toml scripts/sync.sh
	@bash scripts/sync.sh && touch $@

.venv/.deploy: .venv/.ready requirements/deploy.txt
	@bash scripts/sync-deploy.sh && touch $@

node_modules/.ready: package.json package-lock.json
	@npm ci --silent --no-fund --no-audit && touch $@

.PHONY: setup
setup: .venv/.ready node_modules/.ready  ## Install what runs locally into this folder (others call it)

.PHONY: setup-deploy
setup-deploy: setup .venv/.deploy  ## Install what builds and checks deployments, too (0.5 GB)

.PHONY: lock
lock: .tools/.ready  ## Resolve requirements/*.txt and package-lock.json anew from pyproject.toml
	@bash scripts/lock.sh

# --- running -------------------------------------------------------------------------------------

.PHONY: demo
demo: setup  ## Meter a web server's log end to end and check every number (INPUT=FILE for your own)
	@$(RUN) demo $(if $(INPUT),--input $(INPUT))

.PHONY: dev
dev: setup  ## Keep the local stack running (ARGS="--data DIR --free-ports"; Ctrl-C stops it)
	@$(RUN) dev $(ARGS)

.PHONY: stripe
stripe: setup  ## Run the Stripe stand-in alone
	@$(RUN) stripe $(ARGS)

.PHONY: month
month: setup  ## Live through a simulated month with faults and check every number (SEED=7)
	@$(RUN) month $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: bench
bench: setup  ## Measure functions and the whole stack (ARGS="--only stripe" for a part, --quick)
	@$(RUN) bench $(ARGS)

.PHONY: cost
cost: setup  ## Measure, and say dollars per million events (ARGS="--events 50m --customers 2000")
	@$(RUN) cost $(ARGS)

.PHONY: scale
scale: .venv/.ready  ## What 1 k to 1 M events/s need, and where the design ends
	@$(BIN)/python -m infra.scale $(ARGS)

.PHONY: storm
storm: setup  ## Push to Stripe among faults and crashes, exact to the unit (ARGS="--pushes 10000")
	@$(RUN) storm $(ARGS)

# --- deploying -----------------------------------------------------------------------------------

.PHONY: assets
assets: .venv/.deploy  ## Build what Lambda gets, without Docker (ARGS="--platform x86_64")
	@$(BIN)/python -m infra.packaging $(ARGS)

.PHONY: synth
synth: setup-deploy  ## Write the CloudFormation templates to build/cdk.out (ENV=prod; no credentials)
	@npx cdk synth --quiet -c env=$(or $(ENV),dev) $(ARGS)

# An estimate of another month than this: COST="--events 50m --customers 2000 --metrics 3".
COST ?= --events 10m

.PHONY: preflight
preflight: setup  ## Say what a deployment needs and is not there, and how to fix it (ENV=dev)
	@$(OPERATE) preflight --env $(named)

.PHONY: deploy
deploy: preflight .venv/.deploy  ## Deploy to your AWS account, or update; checks and estimates first (ENV=dev)
	@$(BIN)/python -m infra.packaging
	@$(RUN) cost --measured infra/cost/measured.toml --brief $(COST)
	@mkdir -p build
	@npx cdk deploy --all -c env=$(ENV) --outputs-file build/outputs-$(ENV).json
	@$(OPERATE) outputs --env $(ENV)

.PHONY: smoke
smoke: setup  ## Send events and read them back (ENV=dev STRIPEMETER_KEY=sm_..., ARGS="--api-url URL")
	@$(OPERATE) smoke $(if $(findstring --api-url,$(ARGS)),,--env $(named)) $(ARGS)

.PHONY: destroy
destroy: .venv/.deploy node_modules/.ready  ## Remove a deployment (ENV=dev; ENV=prod CONFIRM=prod)
	@$(OPERATE) destroy --env $(named) --confirm "$(CONFIRM)"

# --- checking ------------------------------------------------------------------------------------

.PHONY: check
check: .venv/.deploy  ## Format, lint, types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

.PHONY: format
format: .venv/.ready  ## Format and mend what ruff can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

.PHONY: test
test: setup-deploy  ## All tests, on the real local stack where they need one
	@$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

.PHONY: sim
sim: .venv/.ready  ## Live through one simulated world and tell of it (SEED=7), or 100 quickly
	@$(BIN)/python -m tests.simulation run $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: soak
soak: .venv/.ready  ## Live through N simulated worlds (N=100000 JOBS=2 FIRST=0); ARGS="--report FILE"
	@$(BIN)/python -m tests.simulation soak $(or $(N),2000) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(FIRST),--first $(FIRST)) $(ARGS)

.PHONY: bugs
bugs: .venv/.ready  ## Plant known bugs one by one and see each found (ARGS="count-frozen --seeds 500")
	@$(BIN)/python -m tests.simulation bugs $(if $(JOBS),--jobs $(JOBS)) $(ARGS)

.PHONY: fuzz
fuzz: setup  ## Ask every operation of the API at its edges (SEED=7 EXAMPLES=500)
	@SCHEMATHESIS_EXAMPLES=$(or $(EXAMPLES),500) $(if $(SEED),SCHEMATHESIS_SEED=$(SEED)) \
		$(BIN)/pytest -n 2 tests/api_fuzz $(ARGS)

.PHONY: mutants
mutants: setup  ## Break the pure core in thousands of ways and see tests notice (ARGS="quantity lane")
	@$(BIN)/python -m tests.mutation $(ARGS)

.PHONY: sandbox
sandbox: .venv/.ready  ## Ask Stripe itself (STRIPE_SANDBOX_KEY=sk_test_...); writes build/sandbox-report
	@$(BIN)/pytest -n 0 -m sandbox tests/sandbox $(ARGS)

.PHONY: clean
clean:  ## Remove what set-up installed
	rm -rf .venv .tools node_modules .mypy_cache .ruff_cache .pytest_cache

# Every target has one line in `make help` (tests/arch checks it). Variables with ?= may be set on the command line.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUZZTIME ?= 30s
COUNT ?= 6
BENCH ?= .
BENCHTIME ?= 1s
SCENARIOS ?=
N ?= 1000000
SEEDS ?= 10000
ARGS ?=
KILLS ?= 200
FAILOVERS ?= 20
FLUSHES ?= 5
BOUNCES ?= 20
REBUILD ?= 1000000
RATE ?= 10000
DURATION ?= 60s
NUDGE ?= on
SEED ?=
OTEL ?=
LOGS ?=
CONTAINERS ?=
SHOTS ?=

GOLANGCI_LINT_VERSION := v2.15.0
GOLANGCI_LINT := .bin/golangci-lint-$(GOLANGCI_LINT_VERSION)
TOOL := go tool -modfile=infra/tools/go.mod

# What Lambda runs: no RPC mode, no paths of the machine that built it, no symbols; OpenTelemetry only if OTEL is set.
comma := ,
BOOTSTRAP_FLAGS := -tags lambda.norpc$(if $(OTEL),$(comma)otel) -trimpath -ldflags "-s -w"
ARCHITECTURES := arm64 amd64
# What `sam build` builds for: its makefile builder does not tell, so this has to agree with the template's parameter Architecture.
ARCHITECTURE ?= arm64
BOOTSTRAPS := $(patsubst functions/%/bootstrap/main.go,%,$(wildcard functions/*/bootstrap/main.go))

.PHONY: help
help: ## what each target does
	@awk 'BEGIN { FS = ":.*## " } /^[a-z][A-Za-z0-9-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## the main job on this machine, with Go alone: sample events in, windows out (ARGS="--for 30s")
	@go build -o dist/tidemark ./localdev && exec dist/tidemark run $(ARGS)

.PHONY: up
up: ## all of it in containers (Docker, Compose v2): Kafka, Redis, the functions in Lambda's image, console; waits for results
	@localdev/up $(BOOTSTRAP_FLAGS)

.PHONY: down
down: ## removes everything that make up started and built
	@localdev/down

.PHONY: build
build: ## the bootstrap binaries for Lambda in dist/ARCH/FUNCTION/, and dist/tidemark for this machine (OTEL=1: with traces)
	@for arch in $(ARCHITECTURES); do \
	  for name in $(BOOTSTRAPS); do \
	    echo "dist/$$arch/$$name/bootstrap"; \
	    CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build $(BOOTSTRAP_FLAGS) -o "dist/$$arch/$$name/bootstrap" "./functions/$$name/bootstrap"; \
	  done; \
	done
	@echo dist/tidemark
	@CGO_ENABLED=0 go build -trimpath -o dist/tidemark ./localdev

.PHONY: build-Ingest build-Fire build-Ops
build-Ingest: ## for `sam build`: function ingest into ARTIFACTS_DIR (ARCHITECTURE=arm64|x86_64)
	$(call package,ingest)
build-Fire: ## for `sam build`: function fire into ARTIFACTS_DIR
	$(call package,fire)
build-Ops: ## for `sam build`: function ops into ARTIFACTS_DIR
	$(call package,ops)

# A bootstrap and the spec beside it are all that a package has.
define package
@: "$${ARTIFACTS_DIR:?is set by sam build}"
CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCHITECTURE:x86_64=amd64) go build $(BOOTSTRAP_FLAGS) -o "$$ARTIFACTS_DIR/bootstrap" ./functions/$(1)/bootstrap
cp infra/tidemark.yaml "$$ARTIFACTS_DIR/tidemark.yaml"
endef

.PHONY: templates
templates: ## template.yaml and infra/: linters, what the SAM translator makes of it, permissions, parameters, metrics, sam build
	tools=$$(infra/tools/aws-tools); TIDEMARK_AWS_TOOLS=$$tools go test -tags templates -timeout 15m ./tests/templates

.PHONY: test
test: ## every test, with the race detector, on real servers (starts or installs them, saying so)
	servers=$$(tests/servers/up); eval "$$servers"; rie=$$(tests/servers/rie); eval "$$rie"; tests/servers/shells; race=$$(tests/servers/race); \
	  go test $$race -shuffle=on -timeout 20m -tags servers ./...; \
	  go test $$race -tags otel ./functions/telemetry/...

.PHONY: test-browser
test-browser: ## the console in a real headless Chromium, which it finds or installs (SHOTS=folder keeps pictures)
	browser=$$(tests/servers/chromium); eval "$$browser"; TIDEMARK_SCREENSHOTS=$(if $(SHOTS),$(abspath $(SHOTS))) \
	  go test -tags browser -count=1 -timeout 5m ./localdev/internal/console

.PHONY: test-short
test-short: ## the tests that need Go alone: no server, no C compiler
	CGO_ENABLED=0 go test -short -shuffle=on ./...

.PHONY: test-containers
test-containers: ## the tests in containers: functions in Lambda's image, make up and make down (CONTAINERS=off leaves them out)
ifeq ($(CONTAINERS),off)
	@echo 'CONTAINERS=off: the container tests were LEFT OUT; nothing of localdev/compose.yaml or of the functions in containers was tested'
else
	docker=$$(tests/containers/up); eval "$$docker"; go test -count=1 -v -timeout 45m -tags containers ./tests/containers
endif

.PHONY: simulate
simulate: ## random schedules of the real functions over simulated servers: deaths, zombies, lost state (SEEDS=10000)
	@go test -c -o dist/simulation.test ./tests/simulation
	TIDEMARK_SEEDS=$(SEEDS) dist/simulation.test -test.run '^TestSchedules$$' -test.timeout 0

.PHONY: rules
rules: ## what goes wrong without each rule of the protocol: a table, found by the simulation (SEEDS=5000 each, at most)
	@go test -tags faults -c -o dist/rules.test ./tests/simulation
	TIDEMARK_SEEDS=$(if $(filter command line,$(origin SEEDS)),$(SEEDS),5000) dist/rules.test -test.run WithoutARule -test.timeout 0

.PHONY: conformance
conformance: ## the scenarios of a file through the real handlers (SCENARIOS=file.jsonl)
	@[ -f "$(SCENARIOS)" ] || { echo 'usage: make conformance SCENARIOS=file.jsonl' >&2; exit 2; }
	TIDEMARK_SCENARIOS="$(abspath $(SCENARIOS))" go test -count=1 -run '^TestScenarios$$' -v ./tests/conformance

.PHONY: crash
crash: ## the real functions and servers, killed again and again: nothing lost, nothing doubled (KILLS=200 FAILOVERS=20 FLUSHES=5 BOUNCES=20 REBUILD=1000000 SEED= LOGS=folder)
	@go build -o dist/crash ./tests/crash/cmd && exec dist/crash -kills $(KILLS) -failovers $(FAILOVERS) -flushes $(FLUSHES) -bounces $(BOUNCES) \
	  -rebuild $(REBUILD) $(if $(SEED),-seed $(SEED)) $(if $(LOGS),-logs $(LOGS))

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (30s)
	infra/tools/fuzz $(FUZZTIME)

.PHONY: bench
bench: ## benchmarks of core, statestore and functions: a benchstat table and RESULT lines (COUNT=6 BENCH=. BENCHTIME=1s)
	infra/tools/bench $(COUNT) '$(BENCH)' $(BENCHTIME)

.PHONY: bench-e2e
bench-e2e: ## what the whole path costs on a real Redis: CPU seconds per million events (N=1000000)
	servers=$$(tests/servers/up redis); eval "$$servers"; go run ./tests/bench/stream -n $(N)

.PHONY: latency
latency: ## how long records take to be folded, and windows to be read once they may close: the deployed template, real servers (RATE=10000 DURATION=60s NUDGE=off)
	@go build -o dist/tidemark ./localdev && go build -o dist/latency ./tests/latency
	servers=$$(tests/servers/up kafka redis); eval "$$servers"; exec dist/latency -rate $(RATE) -for $(DURATION) -nudge=$(if $(filter off,$(NUDGE)),false,true)

.PHONY: lint
lint: $(GOLANGCI_LINT) ## golangci-lint as .golangci.yml says, and functions that nothing reaches
	$(GOLANGCI_LINT) run ./...
	@dead=$$($(TOOL) deadcode -test -tags servers,containers,browser ./...); [ -z "$$dead" ] || { echo "unreachable functions:"; echo "$$dead"; exit 1; }

# Built from source once per version: the released binary may be out of reach, the module proxy is not.
$(GOLANGCI_LINT):
	@echo "building golangci-lint $(GOLANGCI_LINT_VERSION) (about three minutes, once)" >&2
	@mkdir -p .bin
	GOFLAGS= GOBIN="$(CURDIR)/.bin" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	@rm -f .bin/golangci-lint-v* && mv .bin/golangci-lint $@

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## format every Go file (gofumpt, goimports)
	$(GOLANGCI_LINT) fmt ./...

.PHONY: golden
golden: ## rewrite the golden files in testdata; read the diff before you commit it
	@for dir in $$(grep -rl --include='*_test.go' 'flag\.Bool("update"' . | xargs -n 1 dirname | sort -u); do \
	  go test -count=1 "$$dir" -update; \
	done

.PHONY: cover
cover: ## coverage by function in cover.out, and the total
	go test -coverpkg=./core/...,./statestore/...,./functions/... -coverprofile=cover.out ./...
	@go tool cover -func=cover.out | tail -n 1

.PHONY: ci
ci: ## what continuous integration runs
	.ci/run

# Everything a developer does. `make` alone prints the list; nothing has to be
# installed by hand but Go, Python 3.11 or newer and make. Works with GNU make
# 3.81, which macOS has.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
# For loops: make 3.81 does not know .SHELLFLAGS, and would look at the last round alone.
STRICTLY := set -euo pipefail

# Relative, since make takes a path with a space for two.
BIN := .bin
VENV := .venv
# The first that runs and is new enough: a name on the PATH may be a version
# manager's shim with nothing behind it.
PYTHON ?= $(firstword $(foreach v,3 3.14 3.13 3.12 3.11,$(shell \
	python$(v) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo python$(v))) python3)
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Modules of the workspace, the root one first. tools/ stays out of it: what
# builds the code must not decide the versions that the code runs on.
MODULES := . services/aligner services/schema services/merger cmd/rasterloom test/scenario
PACKAGES := $(patsubst ././...,./...,$(MODULES:%=./%/...))
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
LDFLAGS := -X github.com/rasterloom/rasterloom/internal/boot.version=$(VERSION)

step = @printf '\n── %s\n' "$(1)"

.PHONY: help
help: ## Print this list
	@printf 'Rasterloom. Two commands to begin with: make demo, make test.\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-15s %s\n", $$1, $$2}' Makefile


.PHONY: demo
demo: ## Weave real rasters into tables and a picture, in demo-output/
	@# Side by side: one waits for the compiler, the other for the network.
	@$(MAKE) -j2 command venv
	@$(VENV)/bin/python examples/demo/demo.py

.PHONY: up
up: build ## Run the suite, with a PostgreSQL of its own, until Ctrl-C
	@$(BIN)/rasterloom up

.PHONY: command
command:
	@[ -e $(BIN)/rasterloom ] || echo 'Building rasterloom into .bin/ (a minute or two, once)'
	@go build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/rasterloom

.PHONY: build
build: ## Build the command line and the three services into .bin/
	@go build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/rasterloom ./services/aligner/cmd/aligner ./services/schema/cmd/schema ./services/merger/cmd/merger


.PHONY: test
test: tools venv verify lint modules test-go test-python ## Pass everything, as CI does
	@printf '\nAll passed.\n'

.PHONY: test-go
test-go: tools venv ## Go tests of every module, with the race detector
	$(call step,Go tests)
	@gotestsum --format pkgname-and-test-fails --hide-summary skipped -- -race -timeout 10m $(PACKAGES)

.PHONY: test-python
test-python: build venv ## Python tests, against the suite built here
	$(call step,Python tests)
	@cd python && ../$(VENV)/bin/pytest
	@$(VENV)/bin/pytest -q bench/tests

.PHONY: test-java
test-java: build venv ## Build and run the Java client of docs/clients.md; needs a JDK and Maven
	$(call step,Java client)
	@cd python && ../$(VENV)/bin/pytest -m java tests/test_clients.py

.PHONY: test-clusters
test-clusters: build venv ## Run the programs of docs/guides/clusters.md; fetches Dask, Ray and Spark, needs Java 17
	$(call step,Clusters)
	@$(PYTHON) -m venv .cache/clusters
	@.cache/clusters/bin/pip install --quiet --disable-pip-version-check -e 'python[dev,demo]' \
		'dask[dataframe]>=2025' 'ray[data]>=2.50' 'pyspark>=4' -c python/constraints.txt
	@cd python && ../.cache/clusters/bin/pytest -m clusters tests/test_clients.py

.PHONY: prove
prove: build venv ## Compare PROVE_SETS (10000) generated merges with numpy, PROVE_PAIRS (500) with GDAL
	@cd python && RASTERLOOM_PROVE_SETS=$(or $(PROVE_SETS),10000) RASTERLOOM_PROVE_PAIRS=$(or $(PROVE_PAIRS),500) \
		../$(VENV)/bin/pytest -s tests/test_prove.py tests/test_resampling.py

.PHONY: faults
faults: venv ## Cut, kill, stop and abandon streams as often as promised, break exports, and send what must be refused; half an hour
	@RASTERLOOM_FAULTS=all go test -count=1 -timeout 30m -v ./test/scenario/refusal
	@RASTERLOOM_FAULTS=all go test -count=1 -timeout 60m -v -run '^TestFault' ./test/scenario

.PHONY: memory
memory: ## Compare the memory of a merge of 100 million cells a layer with one million's; 20 minutes and 14 GB of disk
	@RASTERLOOM_FAULTS=all go test -count=1 -timeout 180m -v -run '^TestMemory' ./test/scenario

.PHONY: crash
crash: ## Kill the migration at every step, in every way, and swap tables; an hour and more
	@RASTERLOOM_CRASH=all go test -count=1 -timeout 180m -v ./test/crash
	@RASTERLOOM_SWAPS=50 RASTERLOOM_ROLLBACKS=50 go test -count=1 -timeout 30m -v -run 'TestManySwaps|TestRollBacks' ./services/schema/internal/worker

.PHONY: upgrade
upgrade: ## Let the programs of commit OLD, by default from before the newest catalog version, and today's work on one database
	@bash tools/upgrade.sh $(OLD)

.PHONY: soak
soak: ## Work a suite for SOAK_TIME (10m) with all kinds of calls, and look that it holds no more than before
	@RASTERLOOM_SOAK=$(or $(SOAK_TIME),10m) go test -count=1 -timeout 0 -v -run '^TestSoak$$' ./test/scenario

.PHONY: short
short: ## Go tests without the race detector; a minute or so
	@go test $(PACKAGES)

.PHONY: modules
modules: ## Check that each module builds, and vets, without the workspace
	$(call step,Modules on their own)
	@$(STRICTLY); for m in $(MODULES); do echo "$$m"; (cd $$m && GOWORK=off go vet ./...); done

FUZZ_TIME ?= 10s
.PHONY: fuzz-short
fuzz-short: ## Run every fuzz target for FUZZ_TIME (10s)
	@bash tools/fuzz.sh $(FUZZ_TIME)

.PHONY: bench
bench: venv ## Measure peers, limits and Rasterloom side by side; FORM=full takes 25 minutes
	@bash bench/run.sh $(or $(FORM),short)

.PHONY: bench-resampling
bench-resampling: venv ## Measure the resampling kernels and rasterio's reproject, in turn
	@$(VENV)/bin/python bench/resampling.py

.PHONY: lint
lint: lint-proto lint-go lint-python lint-deployment ## Look for mistakes: proto, Go, Python, what deploys them

.PHONY: lint-proto
lint-proto: tools
	$(call step,Contracts)
	@buf lint
	@# Against the contracts of the last release: see the target baseline.
	@buf breaking --against proto/baseline.binpb

.PHONY: lint-go
lint-go: tools
	$(call step,Go)
	@golangci-lint run --allow-parallel-runners $(PACKAGES)

.PHONY: lint-python
lint-python: venv
	$(call step,Python)
	@$(VENV)/bin/ruff check python examples bench docs services test/golden test/scenario
	@$(VENV)/bin/ruff format --check python examples bench docs services
	@$(VENV)/bin/pyright -p python

.PHONY: lint-deployment
lint-deployment:
	@# Never from the cache, which does not see files outside of the module, and these are all.
	$(call step,Deployment)
	@cd tools/deployment && GOWORK=off go test -count=1 ./...

.PHONY: sbom
sbom: tools build ## List what each binary is made of, as CycloneDX, in .bin/sbom/, and check the lists
	$(call step,What the binaries are made of)
	@mkdir -p $(BIN)/sbom
	@$(STRICTLY); for n in rasterloom aligner schema merger; do \
		cyclonedx-gomod bin -json -output $(BIN)/sbom/$$n.cdx.json $(BIN)/$$n 2>/dev/null; done
	@$(PYTHON) tools/sbom.py $(BIN)/sbom

.PHONY: vulnerabilities
vulnerabilities: tools ## Look for known vulnerabilities; VULNDB=file:///path names a database
	@$(STRICTLY); for m in $(MODULES); do echo "$$m"; (cd $$m && govulncheck $(if $(VULNDB),-db $(VULNDB)) ./...); done


.PHONY: generate
generate: tools venv ## Make the code of proto/, and the pages of docs/reference and docs/cli.md, again
	@cd tools/protoc && GOWORK=off go run ./vendorproto ../../proto
	@buf format -w --path proto/rasterloom
	@buf generate
	@bash python/generate.sh
	@buf build -o - | (cd tools/protoc && GOWORK=off go run ./reference ../../docs/reference/rpc)
	@go test ./internal/wire ./cmd/rasterloom -run '^TestReference' -update

.PHONY: verify
verify: tools venv ## Check that generated code is fresh and go.mod files are tidy
	$(call step,Generated code)
	@bash tools/verify.sh

.PHONY: baseline
baseline: tools ## At a release: keep the contracts, for buf breaking to compare with
	@buf build --exclude-source-info -o proto/baseline.binpb


.PHONY: tools
tools: $(BIN)/.tools ## Install the pinned tools into .bin/

$(BIN)/.tools: tools/go.mod tools/go.sum tools/protoc/go.mod tools/protoc/go.sum tools/grpcurl/go.mod tools/grpcurl/go.sum
	@echo 'Building the tools into .bin/ (a few minutes, once)'
	@mkdir -p $(BIN)
	@cd tools && GOWORK=off GOBIN="$(CURDIR)/$(BIN)" go install tool
	@cd tools/protoc && GOWORK=off GOBIN="$(CURDIR)/$(BIN)" go install tool
	@# Apart, so that what a client of the tests needs moves no version of a linter.
	@cd tools/grpcurl && GOWORK=off GOBIN="$(CURDIR)/$(BIN)" go install tool
	@touch $@

.PHONY: venv
venv: $(VENV)/.installed ## Install the Python client and its tools into .venv/

$(VENV)/.installed: python/pyproject.toml python/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed; PYTHON=/path/to/python3 names one' >&2; exit 1; }
	@echo 'Installing the Python client into .venv/'
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -e 'python[dev,demo]' -c python/constraints.txt
	@touch $@

.PHONY: clean
clean: ## Remove what was built or installed into the checkout
	@rm -rf $(BIN) $(VENV) .cache demo-output

# One target for each task. A newcomer needs `make demo` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
RUNS ?= 5
GO_MODULES := $(shell git ls-files '*go.mod' | xargs -n1 dirname)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: setup
setup: ## Install what is missing on this machine (Debian, Ubuntu)
	@scripts/setup

.PHONY: setup-tests
setup-tests: ## Install the same, and the browser for the tests of reports
	@scripts/setup --for-tests

.PHONY: build
build: ## Build the lab command
	cargo build --locked --bin lab

.PHONY: images
images: ## Build the lab command, the reference node images, the workload images, and the programs of this host
	@scripts/stage 1/3 "compile the image builder" 0 780 cargo build --locked --bin lab-images
	+@$(MAKE) --no-print-directory --jobs=2 lab-stage images-stage
	@scripts/stage 3/3 "build the programs of this host" 480 780 target/debug/lab image programs

# Rust and Go compile at the same time: each alone leaves a core idle while it links.
.PHONY: lab-stage images-stage
lab-stage:
	@scripts/stage $(or $(STAGE),2/3) "compile the lab" 150 $(or $(TOTAL),780) cargo build --locked --bin lab
images-stage:
	@scripts/stage $(or $(STAGE),2/3) "build the images" 150 $(or $(TOTAL),780) target/debug/lab-images $(VARIANTS)

.PHONY: dist
dist: images ## Make the release archive of this host's platform, with its Debian package
	scripts/dist

.PHONY: demo
demo: setup ## Form a three-node cluster and report a verdict
	@scripts/stage 1/2 "compile the image builder" 0 480 cargo build --locked --bin lab-images
	+@$(MAKE) --no-print-directory --jobs=2 lab-stage images-stage VARIANTS=compute TOTAL=480 STAGE=2/2
	target/debug/lab run 01

.PHONY: test
test: setup-tests images ## Run every test: unit, component, whole clusters
	@for module in images/node images/spin images/workloads; do echo "go test: $$module"; \
	  (cd $$module && ANSWER_WASM=$(CURDIR)/target/images/work/answer.wasm go test ./...); done
	scripts/tests

.PHONY: test-unit
test-unit: ## Run the tests that need no VM (seconds)
	cargo test --locked --lib --bins

.PHONY: test-component
test-component: images ## Run the tests against real processes, without clusters
	cargo test --locked --test network --test network_faults --test machine --test killed --test talos_config --test config_check --test scenario_files --test registry --test preflight --test gate \
	  --test inspect --test tailnet --test ci --test fleet --test report --test command_line --test limits --test vet --test dist --test network_plugin

.PHONY: test-cluster
test-cluster: images ## Run the tests that form whole clusters
	cargo test --locked --test compute_only --test warm --test mixed_role --test tailscale_routing --test extension_isolation \
	  --test control --test detach --test other_user --test exhaustion

.PHONY: test-long
test-long: setup-tests images ## Run the tests that take too long for every change (half an hour and more)
	PROPTEST_CASES=1000 cargo test --locked --test config_check
	cargo test --locked --test ci --test fleet --test rehearsal --test start_order --test compute_only --test mixed_role --test tailscale_routing \
	  --test extension_isolation --test network_plugin --test own_checks --test hostile_node --test every_check --test network_partition --test experiment --test control --test detach --test warm -- --ignored --nocapture

.PHONY: test-slow
test-slow: setup-tests images ## Run the four scenarios and their negative rows on nodes that run a quarter of the time (SHARE=25)
	LAB_CPU_SHARE=$(or $(SHARE),25) cargo test --locked --no-fail-fast --test compute_only --test mixed_role --test tailscale_routing \
	  --test extension_isolation

.PHONY: soak
soak: images ## Repeat a cluster test, and stop at the first failure (TEST=compute_only TIMES=10)
	@for time in $$(seq $(or $(TIMES),10)); do echo "$$time of $(or $(TIMES),10)"; \
	  cargo test --locked --test $(or $(TEST),compute_only); done

.PHONY: check
check: images ## Check formatting, lints and licences
	cargo fmt --all --check
	@# The macro that lists the checks declares their modules; cargo fmt does not look into it.
	rustfmt --check --edition 2024 lab/scenario/checks/*.rs
	cargo clippy --locked --all-targets -- -D warnings
	@# Without their tests: the fuzz targets compile files of other crates as their own.
	cargo clippy --locked --workspace --lib --bins -- -D warnings
	@unformatted=$$(gofmt -l $(GO_MODULES)); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change: $$unformatted"; exit 1; fi
	@# The guest's modules are vetted with the flags of their build, so that what the images compiled is used
	@# again. A module whose dependencies are edited is vetted by that build itself.
	@for module in $(filter images/%,$(GO_MODULES)); do \
	  if ! git ls-files --error-unmatch $$module/'*.go' >/dev/null 2>&1; then continue; fi; \
	  if [ -e $$module/edits.yaml ]; then echo "go vet: $$module passed as it was built"; continue; fi; \
	  echo "go vet: $$module"; \
	  (cd $$module && CGO_ENABLED=0 GOOS=linux GOARCH=arm64 \
	    go vet -trimpath -buildvcs=false -gcflags=all=-dwarf=false -tags osusergo,netgo,grpcnotrace ./...); done
	@for module in $(filter-out images/% tools/%,$(GO_MODULES)); do echo "go vet: $$module"; (cd $$module && go vet ./...); done
	scripts/ci/lint
	@scripts/deny

.PHONY: imports
imports: ## Draw the imports between crates and folders (AS=mermaid, AS=files)
	@cargo run --locked --quiet --package lab-imports $(if $(AS),-- --$(AS))

.PHONY: fuzz
fuzz: ## Fuzz every parser of foreign bytes for a minute (SECONDS=60)
	fuzz/campaign.sh $(or $(SECONDS),60)

.PHONY: bench
bench: images ## Measure cluster formation (RUNS=5)
	target/debug/lab bench formation --runs $(RUNS)

.PHONY: clean
clean: ## Remove everything that was built
	cargo clean

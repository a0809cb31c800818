# firstboot: what can be done here. `make` alone says it.
#
# The slow builds of the lab are kept outside the checkout, in
# FIRSTBOOT_CACHE (default /var/cache/firstboot-lab).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

BINARY  := bin/firstboot
MAX_MB  := 20
# Without grpc's traces and without HTTP/2 for downloads (etcd's client has its
# own) the binary is 1 MB smaller. Inlining (1.8 MB) stays on. Nothing may find
# methods by their names, as text/template does: that makes it 3 MB larger
# (TestUnusedMethodsAreRemoved in test/).
LDFLAGS := -s -w
GOFLAGS_BUILD := -trimpath -tags grpcnotrace,nethttpomithttp2 -ldflags "$(LDFLAGS)"

# The linter's version, and where it is built once.
LINT_VERSION := v2.15.0
# Root's builds are shared by everybody on the machine; others keep their own.
FIRSTBOOT_CACHE ?= $(if $(filter 0,$(shell id -u)),/var/cache/firstboot-lab,$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/firstboot-lab)
LINT := $(FIRSTBOOT_CACHE)/tools/golangci-lint-$(LINT_VERSION)

# Options of the demo; see `make demo-help`.
DEBIAN ?=
HOSTS ?= 2
KEEP ?=
CALICOCTL ?=
NODE_IMAGE ?=
MINIONS_RPM ?=
HOST ?= host1
export DEBIAN HOSTS KEEP CALICOCTL NODE_IMAGE MINIONS_RPM FIRSTBOOT_CACHE

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this
	@printf 'usage: make TARGET [VARIABLE=VALUE...]\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nexample: make demo HOSTS=3 KEEP=1\n'

.PHONY: build
build: ## the static binary, bin/firstboot, at most 20 MB
	@CGO_ENABLED=0 go build -buildvcs=auto $(GOFLAGS_BUILD) -o $(BINARY) ./cmd/firstboot
	@size=$$(stat -c %s $(BINARY)); \
	printf '%s: %d.%d MB, %s\n' $(BINARY) $$((size / 1000000)) $$((size / 100000 % 10)) "$$($(BINARY) version)"; \
	if [ $$size -gt $$(($(MAX_MB) * 1000000)) ]; then echo 'cannot ship it: more than $(MAX_MB) MB' >&2; exit 1; fi

.PHONY: demo
demo: bin/demo ## boot bare machines that join by themselves; needs root. HOSTS=2 KEEP=1 CALICOCTL= NODE_IMAGE= MINIONS_RPM=
	@exec bin/demo run

.PHONY: demo-shell
demo-shell: bin/demo ## a shell on a machine of a demo that was kept. HOST=host1
	@exec bin/demo shell $(HOST)

.PHONY: demo-stop
demo-stop: bin/demo ## end a demo that was kept
	@exec bin/demo stop

.PHONY: demo-help
demo-help: bin/demo ## the demo's options
	@bin/demo help

# Always asked for: go build knows what is out of date.
.PHONY: bin/demo
bin/demo:
	@go build -o $@ ./test/lab/cmd/demo

include images/*.mk

.PHONY: check
check: ## what every change runs: format, vet, lint, unit tests with the race detector, words; no root
	@test/all.sh check

.PHONY: test
test: ## every test, the lab of machines included: root, within an hour on two cores. STEPS="unit lab"
	@test/all.sh $(STEPS)

.PHONY: lint
lint: $(LINT) ## golangci-lint, without and with every build tag
	$(LINT) run --allow-parallel-runners ./...
	$(LINT) run --allow-parallel-runners --build-tags integration,lab,soak ./...

# Built from source once, outside the checkout.
$(LINT):
	@echo 'building golangci-lint $(LINT_VERSION) (some minutes, once)'
	@mkdir -p $(@D)
	@GOBIN=$(@D) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv $(@D)/golangci-lint $@

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME seconds (30), with the number of inputs that it executed
	@test/fuzz.sh

.PHONY: soak
soak: ## what takes hours: fuzz targets, recipes for image builders, Ignition on Debian 13, the lab's tests ROUNDS times
	@test/soak.sh

.PHONY: bench
bench: build ## counts, a complete host's boot, the adapter, and firstboot beside a careful script in machines of the lab: root, 40 minutes. BENCH_PAIRS=3 BENCH_ONLY=global
	go test -count=1 -v -run 'TestRunWritesFewSyncedFiles|TestRunReadsEachArtifactOnce|TestStatusReadsNoUnchangedCalicoctl' ./stages
	go test -run '^$$' -bench Call ./internal/adapter
	go test -count=1 -tags lab -v -run 'TestUnits/^a_complete_host$$' ./test/nspawn
	BENCH_PAIRS=$(or $(BENCH_PAIRS),3) BENCH_ONLY=$(BENCH_ONLY) go test -count=1 -tags lab -v -timeout 12h -run TestBench ./test/bench

.PHONY: clean
clean: ## remove what was built in the checkout
	rm -rf bin dist

.PHONY: clean-cache
clean-cache: ## remove what the lab built outside it (rebuilding takes about ten minutes)
	rm -rf $(FIRSTBOOT_CACHE)

# SPDX-License-Identifier: Apache-2.0
# `make help` lists the targets. Everything here is one or two commands; the logic is in Rust.
SHELL   := /bin/sh
PREFIX  ?= /usr/local
TARGET  := x86_64-unknown-linux-gnu
SHIM    := containerd-shim-wedge-v2
RELEASE := target/$(TARGET)/release/$(SHIM)
CARGO   ?= cargo
# What -v and -info report; the build does not depend on it otherwise.
export WEDGE_REVISION ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup-demo build ## install what is missing, build, and run containers through Wedge (root)
	$(CARGO) build --locked -p wedge-integration --bins
	$(CARGO) run --quiet --locked -p wedge-integration --bin wedge-demo

.PHONY: test
test: setup-test check build ## install what is missing, and run every check and test (root)
	$(CARGO) nextest run --locked --workspace
	integration/vm/tests.sh vm
	integration/vm/tests.sh vm-systemd

.PHONY: build
build: ## the shim binary, as released
	$(CARGO) build --locked --release -p $(SHIM)

.PHONY: check
check: ## formatting, and lints if there is a clippy
	$(CARGO) fmt --all --check
	@if $(CARGO) clippy --version >/dev/null 2>&1; then set -x; \
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings && \
	$(CARGO) clippy --locked --release -p wedge-setns-helper --features standalone -- -D warnings; \
	else echo '*** NOTE: lints were NOT checked, this toolchain has no clippy. Debian has none that'; \
	echo '*** fits its cargo-web; with rustup: rustup component add clippy'; fi

.PHONY: unit
unit: ## the tests that need no containerd
	$(CARGO) nextest run --locked --workspace --exclude wedge-integration --exclude wedge-cri-tests

.PHONY: integration
integration: build ## the tests with a real containerd, ctr and runc (root)
	$(CARGO) nextest run --locked -p wedge-integration

.PHONY: cri
cri: setup-test build ## the tests through containerd's CRI plugin: what a kubelet asks for (root)
	$(CARGO) build --locked -p wedge-integration --bins
	$(CARGO) nextest run --locked -p wedge-cri-tests

VM_PROFILES ?= vm vm-systemd
.PHONY: test-vm
test-vm: setup-test build ## what depends on cgroup v2, systemd or CRIU, in VMs (root, no KVM needed)
	set -e; for profile in $(VM_PROFILES); do integration/vm/tests.sh $$profile $(VM_ARGS); done

.PHONY: test-vm-full
test-vm-full: VM_PROFILES = vm-full vm-systemd vm-affinity
test-vm-full: export WEDGE_LONG ?= 1
test-vm-full: export VM_TIMEOUT ?= 10800
test-vm-full: test-vm ## the same with many rounds, and the rest of the tests with containerd under v2 (an hour)

.PHONY: compat
compat: setup-test build ## the same tests with ctr and CRI against containerd's own Go shim (root)
	SHIM_UNDER_TEST=go $(CARGO) nextest run --locked -p wedge-integration -p wedge-cri-tests

.PHONY: bench
bench: build ## what an exec costs, beside containerd's Go shim, on this machine's cgroups and on v2 (root)
	$(CARGO) build --locked -p wedge-integration --bins
	$(CARGO) run --quiet --locked -p wedge-integration --bin wedge-bench
	$(CARGO) run --quiet --locked -p wedge-integration --bin wedge-bench -- --unified

FUZZ_SECONDS ?= 300
.PHONY: fuzz
fuzz: setup-fuzz ## each parser of foreign input for FUZZ_SECONDS (300); what it finds is in fuzz/artifacts
	$(CARGO) fuzz build --sanitizer none --target-dir target/fuzz
	$(CARGO) fuzz list | xargs -I{} $(CARGO) fuzz run --sanitizer none --target-dir target/fuzz {} -- \
		-seed_inputs=$(CURDIR)/fuzz/seeds/{} -max_total_time=$(FUZZ_SECONDS)

.PHONY: deny
deny: ## licences, advisories and duplicates; needs cargo-deny
	$(CARGO) deny check bans licenses sources

.PHONY: install
install: build ## copy the shim to $(DESTDIR)$(PREFIX)/bin
	install -D -m 0755 $(RELEASE) $(DESTDIR)$(PREFIX)/bin/$(SHIM)

.PHONY: uninstall
uninstall: ## remove it again
	rm -f $(DESTDIR)$(PREFIX)/bin/$(SHIM)

.PHONY: clean
clean: ## remove everything that was built
	$(CARGO) clean

.PHONY: setup-demo setup-test setup-fuzz
setup-demo setup-test setup-fuzz: setup-%:
	@integration/setup.sh $*

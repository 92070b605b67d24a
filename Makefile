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

.PHONY: build
build: ## the shim binary, as released
	$(CARGO) build --locked --release -p $(SHIM)

.PHONY: check
check: ## formatting, and lints if there is a clippy
	$(CARGO) fmt --all --check
	@if $(CARGO) clippy --version >/dev/null 2>&1; then set -x; \
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings; \
	else echo '*** NOTE: lints were NOT checked, this toolchain has no clippy. Debian has none that'; \
	echo '*** fits its cargo-web; with rustup: rustup component add clippy'; fi

.PHONY: unit
unit: ## the tests that need no containerd
	$(CARGO) nextest run --locked --workspace --exclude wedge-integration

.PHONY: integration
integration: build ## the tests with a real containerd, ctr and runc (root)
	$(CARGO) nextest run --locked -p wedge-integration

.PHONY: compat
compat: setup-test ## the same ctr tests against containerd's own Go shim (root)
	SHIM_UNDER_TEST=go $(CARGO) nextest run --locked -p wedge-integration

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

.PHONY: setup-demo setup-test
setup-demo setup-test: setup-%:
	@integration/setup.sh $*

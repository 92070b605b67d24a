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
test: setup-test check build packages ## install what is missing; every check; every test but those of manifests, test-apt, test-vm-full (root)
	$(CARGO) nextest run --locked --workspace --no-run
	sync # gigabytes were built: an fsync(2) of dpkg would wait for them, longer than a test
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
	$(CARGO) clippy --locked --release -p wedge-setns-helper --features standalone -- -D warnings && \
	$(CARGO) clippy --locked --release -p wedge-setns-helper --features standalone -- \
		--cfg failpoints -D warnings; \
	else echo '*** NOTE: lints were NOT checked, this toolchain has no clippy. Debian has none that'; \
	echo '*** fits its cargo-web; with rustup: rustup component add clippy'; fi

.PHONY: unit
unit: ## the tests that need no containerd
	$(CARGO) nextest run --locked --workspace --exclude wedge-integration --exclude wedge-cri-tests \
		--exclude wedge-package-tests

.PHONY: integration
integration: build ## the tests with a real containerd, ctr and runc (root)
	$(CARGO) nextest run --locked -p wedge-integration

.PHONY: cri
cri: setup-test build ## the tests through containerd's CRI plugin: what a kubelet asks for (root)
	$(CARGO) build --locked -p wedge-integration --bins
	$(CARGO) nextest run --locked -p wedge-cri-tests

.PHONY: test-apt
test-apt: setup-test packages ## the package, installed by apt in a new Debian (root, Debian's mirrors)
	WEDGE_LONG=1 $(CARGO) nextest run --locked -p wedge-package-tests -E 'test(by_apt_in_a_new_debian)'

VM_PROFILES ?= vm vm-systemd
.PHONY: test-vm
test-vm: setup-test build ## what depends on cgroup v2, systemd or CRIU, in VMs (root, no KVM needed)
	set -e; for profile in $(VM_PROFILES); do integration/vm/tests.sh $$profile $(VM_ARGS); done

.PHONY: test-vm-full
test-vm-full: VM_PROFILES = vm-full vm-systemd vm-affinity
test-vm-full: export WEDGE_LONG ?= 1
test-vm-full: export VM_TIMEOUT ?= 10800
test-vm-full: test-vm ## the same with many rounds, and the rest of the tests with containerd under v2 (an hour)

.PHONY: test-vm-cri
test-vm-cri: VM_PROFILES = vm-cri vm-cri-systemd
test-vm-cri: test-vm ## all tests through CRI under v2, with either driver of cgroups (20 minutes)

.PHONY: manifests
manifests: setup-manifests ## what Helm and Kubernetes' published schemas say of chart and manifests (root, PyPI)
	$(CARGO) nextest run --locked --profile manifests -p wedge-package-tests

.PHONY: compat
compat: setup-test build ## the tests of integration and cri against containerd's own Go shim (root)
	SHIM_UNDER_TEST=go $(CARGO) nextest run --locked -p wedge-integration -p wedge-cri-tests

BENCH      := target/$(TARGET)/measure/wedge-bench
BENCH_JSON ?= target/bench.json
.PHONY: bench
bench: setup-bench build bench-programs ## Wedge beside the Go shim, with runc and crun, and the kernel alone (root, 7 minutes)
	nice -n -5 $(BENCH) --json $(BENCH_JSON) $(BENCH_ARGS)

.PHONY: performance
performance: bench-programs ## docs/performance.md and its picture, from what `make bench` has measured
	$(BENCH) --document docs $(BENCH_JSON)

.PHONY: bench-programs
bench-programs:
	$(CARGO) build --locked --profile measure -p wedge-integration -p wedge-floor --bins

FUZZ_SECONDS ?= 300
.PHONY: fuzz
fuzz: setup-fuzz ## each parser of foreign input for FUZZ_SECONDS (300); what it finds is in fuzz/artifacts
	$(CARGO) fuzz build --sanitizer none --target-dir target/fuzz
	$(CARGO) fuzz list | xargs -I{} $(CARGO) fuzz run --sanitizer none --target-dir target/fuzz {} -- \
		-seed_inputs=$(CURDIR)/fuzz/seeds/{} -max_total_time=$(FUZZ_SECONDS)

.PHONY: deny
deny: ## licences, sources and duplicate crates; needs cargo-deny
	$(CARGO) deny check bans licenses sources

# What `install` copies and `uninstall` removes: file in the tree : file below PREFIX.
DOCDIR  := share/doc/wedge
INSTALLED := \
	dist/config.toml:$(DOCDIR)/config.toml \
	dist/options.toml:$(DOCDIR)/options.toml \
	dist/containerd/wedge-v2.toml:share/wedge/containerd/wedge-v2.toml \
	dist/containerd/wedge-v3.toml:share/wedge/containerd/wedge-v3.toml \
	docs/man/containerd-shim-wedge-v2.8:share/man/man8/containerd-shim-wedge-v2.8 \
	docs/man/wedge-config.toml.5:share/man/man5/wedge-config.toml.5 \
	README.md:$(DOCDIR)/README.md \
	CHANGELOG.md:$(DOCDIR)/CHANGELOG.md \
	LICENSE:$(DOCDIR)/licenses/LICENSE \
	dist/licenses/README:$(DOCDIR)/licenses/README \
	dist/licenses/LGPL-2.1.txt:$(DOCDIR)/licenses/LGPL-2.1.txt

.PHONY: install
install: build ## copy the shim, its man pages and examples below $(DESTDIR)$(PREFIX)
	install -D -m 0755 $(RELEASE) $(DESTDIR)$(PREFIX)/bin/$(SHIM)
	set -e; for pair in $(INSTALLED); do \
		install -D -m 0644 "$${pair%%:*}" "$(DESTDIR)$(PREFIX)/$${pair#*:}"; done

.PHONY: uninstall
uninstall: ## remove them again; what is in /etc/wedge is the operator's and stays
	rm -f $(DESTDIR)$(PREFIX)/bin/$(SHIM)
	set -e; for pair in $(INSTALLED); do rm -f "$(DESTDIR)$(PREFIX)/$${pair#*:}"; done
	-rmdir $(addprefix $(DESTDIR)$(PREFIX)/,$(DOCDIR)/licenses $(DOCDIR) share/wedge/containerd share/wedge) 2>/dev/null

# Packages carry the time of the commit, so that they come out the same each time.
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
DIST := target/dist

.PHONY: packages
packages: setup-packages deb rpm dist ## every package there is, in target/dist

.PHONY: sbom
sbom: ## what the binary is made of (CycloneDX), in target/dist
	dist/sbom.sh $(TARGET) $(DIST)/wedge.cdx.json

.PHONY: deb
deb: build sbom ## a package for Debian and its kin; needs cargo-deb (make setup-packages)
	rm -f $(DIST)/*.deb
	$(CARGO) deb --quiet --locked --no-build --no-strip --target $(TARGET) -p $(SHIM) --output $(DIST)/

.PHONY: rpm
rpm: build sbom ## a package for Fedora, SUSE and their kin; needs cargo-generate-rpm
	rm -f $(DIST)/*.rpm
	$(CARGO) generate-rpm -p cmd/$(SHIM) --target $(TARGET) --source-date $(SOURCE_DATE_EPOCH) --output $(DIST)/

.PHONY: dist
dist: build sbom ## a tarball that comes out the same each time, its checksums, its bill of materials
	dist/tarball.sh $(TARGET) $(DIST)

.PHONY: image-context
image-context: dist ## what the image of the Kubernetes installer is built from, in target/dist/image
	rm -rf $(DIST)/image && mkdir -p $(DIST)/image
	tar --directory $(DIST)/image --strip-components 1 --extract --file $(DIST)/*.tar.gz
	cp dist/kubernetes/installer/Dockerfile dist/kubernetes/installer/install.sh $(DIST)/image/

.PHONY: clean
clean: ## remove everything that was built
	$(CARGO) clean

.PHONY: setup-demo setup-test setup-bench setup-fuzz setup-packages setup-manifests
setup-demo setup-test setup-bench setup-fuzz setup-packages setup-manifests: setup-%:
	@integration/setup.sh $*

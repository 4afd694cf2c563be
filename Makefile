# Short names for `cargo xtask`, which has the logic. Only `make demo`, `make test`, `make test-kvm`,
# `make test-containerfiles`, `make test-inits`, `make test-kernels`, `make test-packages`,
# `make test-fleets`, `make test-distributions` and `make test-architectures` install packages; the
# others name what is missing and fail.

PREFIX  ?= /usr
BINDIR  ?= $(PREFIX)/bin
LIBDIR  ?= $(PREFIX)/lib
DATADIR ?= $(PREFIX)/share
MANDIR  ?= $(DATADIR)/man
DESTDIR ?=
# `/init` for other architectures, as far as they are built.
FOREIGN_INITS ?= $(wildcard target/guest-*/init)

RUN      := run --quiet --locked --release --package xtask --
VENDORED := $(if $(wildcard vendor/config.toml),--config vendor/config.toml)
XTASK    := cargo $(VENDORED) $(RUN)

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.DEFAULT_GOAL := all

# Each step builds what the next one runs.
.NOTPARALLEL:

.PHONY: all
all: vendor build ## Vendor the crates and build everything

.PHONY: vendor
vendor: vendor/config.toml ## Put all crates into vendor/, for building without a network

# Remove the old crates first: cargo would build xtask from them, and fails if they no
# longer match Cargo.lock.
vendor/config.toml: Cargo.lock
	@rm -rf vendor
	@cargo $(RUN) vendor

.PHONY: build
build: ## Build /init, /step and the host tools; name what is missing, install nothing
	@scripts/setup --check build
	@$(XTASK) build

# Files that `make build` makes and `make install` installs.
BUILT := target/guest/init target/guest/step target/release/chrootvm target/release/mkvirtinitrd target/completions/bash/chrootvm

.PHONY: install
install: ## Install the build into DESTDIR (PREFIX, BINDIR, LIBDIR, DATADIR, MANDIR)
	@for file in $(BUILT); do \
		[ -f "$$file" ] || { echo "make install: $$file is missing: run \`make build\` first" >&2; exit 1; }; \
	done
	@bindir="$(BINDIR)"; case "$(LIBDIR)" in \
	/usr/lib | "$${bindir%/*}/lib") ;; \
	*) echo "LIBDIR is $(LIBDIR): chrootvm looks for /init in BINDIR/../lib and /usr/lib" >&2; exit 1 ;; \
	esac
	install -D -m 0755 target/guest/init "$(DESTDIR)$(LIBDIR)/osbuild/initrd/initrd"
	for init in $(FOREIGN_INITS); do \
		[ ! -f "$$init" ] || install -D -m 0755 "$$init" "$(DESTDIR)$(LIBDIR)/osbuild/initrd/initrd.$$(basename "$$(dirname "$$init")" | sed 's/guest-//')"; \
	done
	install -D -m 0755 target/guest/step "$(DESTDIR)$(LIBDIR)/virtinitrd/step"
	install -D -m 0755 -t "$(DESTDIR)$(BINDIR)" target/release/chrootvm target/release/mkvirtinitrd
	install -D -m 0644 -t "$(DESTDIR)$(MANDIR)/man1" man/chrootvm.1 man/chrootvm-image.1 man/mkvirtinitrd.1
	install -D -m 0644 -t "$(DESTDIR)$(MANDIR)/man5" man/recipe.toml.5
	install -D -m 0644 -t "$(DESTDIR)$(MANDIR)/man7" man/virtinitrd.7
	install -D -m 0644 -t "$(DESTDIR)$(DATADIR)/bash-completion/completions" target/completions/bash/*
	install -D -m 0644 -t "$(DESTDIR)$(DATADIR)/zsh/site-functions" target/completions/zsh/*
	install -D -m 0644 -t "$(DESTDIR)$(DATADIR)/fish/vendor_completions.d" target/completions/fish/*

# The small kernel that `make kernel` has built or found last.
SMALL_KERNEL ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/virtinitrd/kernel/current

.PHONY: install-kernel
install-kernel: ## Install the small kernel of SMALL_KERNEL for all users, as make install does the rest
	install -D -m 0644 -t "$(DESTDIR)$(LIBDIR)/virtinitrd/kernel" "$(SMALL_KERNEL)/vmlinux" "$(SMALL_KERNEL)/config"

.PHONY: dist
dist: vendor ## Make a release tarball that builds without a network
	@$(XTASK) dist

.PHONY: distcheck
distcheck: dist ## Build and install from the tarball, without a network
	@$(XTASK) distcheck

.PHONY: deb rpm
deb: ## Make a Debian package in target/packages
rpm: ## Make an RPM package in target/packages
deb rpm:
	@scripts/setup --check packages
	@$(XTASK) build
	@$(XTASK) documents
	@$(XTASK) $@

.PHONY: deb-kernel rpm-kernel
deb-kernel: ## Make a Debian package of the small kernel that make kernel has built
rpm-kernel: ## Make an RPM package of it
deb-kernel rpm-kernel:
	@scripts/setup --check packages
	@$(XTASK) $(@:-kernel=) --kernel "$(SMALL_KERNEL)"

.PHONY: demo
demo: ## Install what is missing, boot a stock kernel on a small root, show its output
	@scripts/setup demo
	@$(XTASK) demo

.PHONY: kernel
kernel: ## Build the small guest kernel of chrootvm --kernel-builtin
	@scripts/setup --check kernel
	@$(XTASK) build
	@scripts/chrootvm kernel build

.PHONY: test test-all
test: ## Install what is missing, run every test
test-all: ## As test, with the tests in machines that repeat others in another way
test-all: export REPEAT_VM := 1
test test-all:
	@scripts/setup test
	@scripts/setup aarch64 || echo "Tests of machines of aarch64 are skipped." >&2
	@$(XTASK) test

.PHONY: test-kvm
test-kvm: ## Run tests in machines of KVM, in a machine that has it
	@scripts/setup test
	@KVM_VM=1 VM_DEADLINE=7200 $(XTASK) test --machines kvm

.PHONY: test-containerfiles
test-containerfiles: ## Build tests/containerfiles, and compare the images with those of buildah
	@scripts/setup test
	@scripts/setup containerfiles
	@$(XTASK) containerfiles --buildah

.PHONY: test-inits
test-inits: ## Run /init, tini and others as PID 1, and compare with docs/workloads.md
	@scripts/setup test
	@$(XTASK) inits

.PHONY: test-packages
test-packages: ## Make both packages twice; check, install, use and remove them in a fresh Debian; KERNEL=yes adds that of the small kernel
	@scripts/setup test
	@scripts/setup packages
	@$(XTASK) packages $(if $(KERNEL),--kernel "$(SMALL_KERNEL)")

.PHONY: test-fleets
test-fleets: ## Run machines by Slurm and GNU parallel, validate the manifest for Kubernetes
	@scripts/setup test
	@scripts/setup fleets
	@$(XTASK) fleets

.PHONY: test-kernels
test-kernels: ## Boot kernels of several versions and forms, as docs/kernel.md lists them; TREE=DIR adds a tree
	@scripts/setup test
	@$(XTASK) kernels $(if $(TREE),--tree $(TREE))

.PHONY: test-distributions
test-distributions: ## Run make demo and scripts/setup in fresh Debians, and with stand-ins for others; print a table
	@scripts/setup test
	@$(XTASK) distributions

# A missing tool or kernel is told in the table.
.PHONY: test-architectures
test-architectures: ## Build /init for each architecture, boot it, and print what works, as docs/architectures.md has it
	@scripts/setup test
	@for arch in aarch64 riscv64 ppc64le s390x; do scripts/setup $$arch || true; done
	@$(XTASK) architectures

.PHONY: budget
budget: ## Hold a boot's instructions and the size of /init against bench/budget.toml
	@scripts/setup --check test
	@$(XTASK) bench boot --runs 2 --budget bench/budget.toml
	@$(XTASK) bench size --budget bench/budget.toml

.PHONY: fuzz
fuzz: ## Feed damaged input to all readers, FUZZ_S (10) seconds each, two at a time
	@$(XTASK) fuzz

.PHONY: soak
soak: ## Run SOAK (1000) commands in warm machines, and kill some; this takes long
	@scripts/setup --check test
	@$(XTASK) build
	@$(XTASK) soak

.PHONY: test-day
test-day: ## 10,000 restarts and 100,000 health checks of a workload; this takes long
	@scripts/setup --check test
	@$(XTASK) build
	@$(XTASK) day

.PHONY: check
check: ## Check format, lints, documentation and scripts
	@scripts/setup --check test
	@$(XTASK) check

.PHONY: deny
deny: ## Check licences, sources and security advisories of all crates with cargo-deny
	@command -v cargo-deny >/dev/null || { \
		echo "make deny: cargo-deny is missing: run \`cargo install --locked cargo-deny\`" >&2; exit 1; \
	}
	cargo deny --locked check licenses bans sources
	@cargo deny --locked fetch db 2>/dev/null || { \
		echo "make deny: the advisories cannot be fetched: they were not checked" >&2; exit 0; \
	}; cargo deny --locked check --disable-fetch advisories

.PHONY: clean
clean: ## Delete all that was built or fetched
	rm -rf target vendor virtinitrd-*.tar.gz

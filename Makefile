# Entry point for all development tasks. `make test` runs everything that a change must pass.
.DEFAULT_GOAL := help
.PHONY: help setup setup-tests versions deny-tool demo test bench bench-large simulate races torture power mutants deny
SHELL := /bin/bash

# command-or-path:package, with the package names of Debian and Ubuntu. The build needs the first list, the tests both.
BUILD_TOOLS := cmake:cmake cc:build-essential
BROWSER := $(if $(shell grep -sx ID=ubuntu /etc/os-release),\
  chromium-browser:chromium-browser chromedriver:chromium-chromedriver,\
  chromium:chromium chromedriver:chromium-driver)
TEST_TOOLS := openssl:openssl nginx:nginx $(BROWSER) \
  /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc:fonts-noto-cjk \
  curl:curl node:nodejs npm:npm javac:default-jdk-headless
# Evaluated lazily: a Python that cannot create virtual environments counts as missing.
PYTHON_TOOLS = python3:python3 $(if $(shell python3 -c 'import ensurepip' 2>/dev/null || echo none),none:python3-venv)

# Installs missing packages from the distribution; prints nothing if everything is installed.
define install
@PATH="$$PATH:/usr/sbin"; missing=(); \
for tool in $(1); do \
  command -v "$${tool%%:*}" >/dev/null || [ -e "$${tool%%:*}" ] || missing+=("$${tool##*:}"); \
done; \
[ $${#missing[@]} -gt 0 ] || exit 0; \
ask="apt-get -y -o DPkg::Lock::Timeout=300"; root=(); \
if [ "$$(id -u)" -ne 0 ]; then root=(sudo); fi; \
if ! command -v apt-get >/dev/null || { [ "$$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; }; then \
  echo "missing: $${missing[*]}. Install them manually: this needs apt-get, and root or sudo." >&2; exit 1; \
fi; \
echo "installing from the distribution: $${missing[*]}"; \
"$${root[@]}" $$ask update -qq || true; \
"$${root[@]}" env DEBIAN_FRONTEND=noninteractive $$ask install -qq --no-install-recommends "$${missing[@]}" \
  || { echo "could not install: $${missing[*]}; see the output of apt-get above." >&2; exit 1; }
endef

# Arguments: program name, minimum version, command that prints the installed version.
define at_least
@found="$$($(3))"; [ "$$(printf '%s\n' $(2) "$$found" | sort -V | head -n 1)" = $(2) ] || { \
  echo "too old: $(1) $$found, expected $(2) or later. Install a newer version and put it first in PATH." >&2; exit 1; }
endef

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install the build's missing dependencies
	@command -v cargo >/dev/null || { echo "missing: Rust. Install it from https://rustup.rs." >&2; exit 1; }
	$(call install,$(BUILD_TOOLS))

setup-tests: setup ## install the tests' missing dependencies
	$(call install,$(TEST_TOOLS) $(PYTHON_TOOLS))
	@$(MAKE) --no-print-directory versions
	@cmp -s tests/python/requirements.txt target/python/requirements.txt || { \
	  echo "installing the tests' PyPI packages into target/python" && \
	  python3 -m venv --clear target/python && \
	  target/python/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
	    --requirement tests/python/requirements.txt && \
	  target/python/bin/pip check && cp tests/python/requirements.txt target/python/; }
	@cmp -s docs/clients/node/package-lock.json target/node/filled-from || { \
	  echo "installing the tests' npm packages into target/node" && \
	  mkdir -p target/node && cp docs/clients/node/package*.json target/node/ && \
	  npm --prefix target/node ci --silent --no-audit --no-fund && \
	  cp docs/clients/node/package-lock.json target/node/filled-from; }
	@for part in fmt clippy; do cargo $$part --version >/dev/null 2>&1 || rustup component add rustfmt clippy; done

# Python: the minimum of the packages pinned in tests/python/requirements.txt. Node and Java: docs/clients.md.
versions: # check that the tests' tools are new enough
	$(call at_least,Python,3.11,python3 -c 'import platform; print(platform.python_version())')
	$(call at_least,Node,18,node --version | tr -d v)
	$(call at_least,Java,17,javac -version 2>&1 | tr -d 'a-z ')

demo: setup ## run gateway, simulated institutions and merchants on this machine, with real payments
	cargo run -- demo

test: setup-tests deny-tool ## run everything that a change must pass
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
	cargo deny --log-level error check bans licenses sources
	cargo test --doc
	cargo test --tests

bench: setup ## run all benchmarks, with nginx as a yardstick; PART="place full" selects parts, QUICK=1 is a short trial
	$(call install,nginx:nginx taskset:util-linux)
	cargo bench --bench journey -- $(PART) $(if $(QUICK),--quick)
	$(if $(PART),,cargo bench --bench statement $(if $(QUICK),-- 50000))
	$(if $(PART),,cargo bench --bench exchange_log $(if $(QUICK),-- 5000))

bench-large: setup ## benchmark query and select on five million orders; creates a 17 GB file in target/tmp once
	$(call install,nginx:nginx taskset:util-linux)
	cargo bench --bench journey -- large $(if $(QUICK),--quick)

simulate: setup ## run SEEDS=n seeded simulations, optimised, on all cores; FIRST=m is the first seed
	PAYMUX_SEEDS=$(or $(SEEDS),100000) PAYMUX_FIRST_SEED=$(or $(FIRST),0) \
		cargo test --release --test it simulation::thousands -- --nocapture

races: setup ## run ROUNDS=n rounds of concurrent orders, selections, refunds and callbacks
	PAYMUX_ROUNDS=$(or $(ROUNDS),1000) cargo test --release --test it journey::races:: -- --nocapture

torture: setup ## kill and freeze the real binary KILLS=n times under load, restart it, check all records; SEED=n
	PAYMUX_KILLS=$(or $(KILLS),500) PAYMUX_SEED=$(or $(SEED),1) cargo test --test it torture:: -- --nocapture

power: setup ## replay power loss at IMAGES=n points of a recorded run; open and verify each image
	PAYMUX_IMAGES=$(or $(IMAGES),10000) cargo test --release --test it power::a_power_loss -- --nocapture

mutants: setup ## mutation test: remove each safety check in turn; the simulation must detect it
	python3 tests/mutants/run.py

deny: setup deny-tool ## check licences, sources and known vulnerabilities of all dependencies
	cargo deny check bans licenses sources
	@if cargo deny fetch db; then cargo deny check --disable-fetch advisories; \
	else echo "advisories not checked: the advisory database could not be fetched, see above." >&2; fi

# Built without optimisation, in a minute or two; installed next to cargo.
deny-tool: setup
	@cargo deny --version >/dev/null 2>&1 || CARGO_PROFILE_DEV_DEBUG=false cargo install --locked --debug --version 0.20.2 cargo-deny

# The front door. `make test` is all a change has to pass; everything else is here to be found.
.DEFAULT_GOAL := help
.PHONY: help setup setup-tests versions deny-tool demo test bench bench-large simulate races torture power mutants deny
SHELL := /bin/bash

# command-or-path:package, as Debian and Ubuntu call it. Building takes the first list, the tests both.
BUILD_TOOLS := cmake:cmake cc:build-essential
BROWSER := $(if $(shell grep -sx ID=ubuntu /etc/os-release),\
  chromium-browser:chromium-browser chromedriver:chromium-chromedriver,\
  chromium:chromium chromedriver:chromium-driver)
TEST_TOOLS := openssl:openssl nginx:nginx $(BROWSER) \
  /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc:fonts-noto-cjk \
  curl:curl node:nodejs npm:npm javac:default-jdk-headless
# Looked at when it is used: a Python without what makes virtual environments counts as none.
PYTHON_TOOLS = python3:python3 $(if $(shell python3 -c 'import ensurepip' 2>/dev/null || echo none),none:python3-venv)

# Asks the distribution for what is missing and for nothing else; with everything there it is silent.
define install
@PATH="$$PATH:/usr/sbin"; missing=(); \
for tool in $(1); do \
  command -v "$${tool%%:*}" >/dev/null || [ -e "$${tool%%:*}" ] || missing+=("$${tool##*:}"); \
done; \
[ $${#missing[@]} -gt 0 ] || exit 0; \
ask="apt-get -y -o DPkg::Lock::Timeout=300"; root=(); \
if [ "$$(id -u)" -ne 0 ]; then root=(sudo); fi; \
if ! command -v apt-get >/dev/null || { [ "$$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; }; then \
  echo "missing: $${missing[*]}. Install them by hand: this needs apt-get, and root or sudo." >&2; exit 1; \
fi; \
echo "installing from the distribution: $${missing[*]}"; \
"$${root[@]}" $$ask update -qq || true; \
"$${root[@]}" env DEBIAN_FRONTEND=noninteractive $$ask install -qq --no-install-recommends "$${missing[@]}" \
  || { echo "could not install: $${missing[*]}; what apt-get said is above." >&2; exit 1; }
endef

# What it is, the least that serves, and how to ask for what is there.
define at_least
@found="$$($(3))"; [ "$$(printf '%s\n' $(2) "$$found" | sort -V | head -n 1)" = $(2) ] || { \
  echo "too old: $(1) $$found, expected $(2) or later. Install that, and let it come first in PATH." >&2; exit 1; }
endef

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## installs what the build needs, where it is missing
	@command -v cargo >/dev/null || { echo "missing: Rust. Install it as https://rustup.rs says." >&2; exit 1; }
	$(call install,$(BUILD_TOOLS))

setup-tests: setup ## the same for the tests
	$(call install,$(TEST_TOOLS) $(PYTHON_TOOLS))
	@$(MAKE) --no-print-directory versions
	@cmp -s tests/python/requirements.txt target/python/requirements.txt || { \
	  echo "installing what the tests take from PyPI into target/python" && \
	  python3 -m venv --clear target/python && \
	  target/python/bin/pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
	    --requirement tests/python/requirements.txt && \
	  target/python/bin/pip check && cp tests/python/requirements.txt target/python/; }
	@cmp -s docs/clients/node/package-lock.json target/node/filled-from || { \
	  echo "installing what the tests take from npm into target/node" && \
	  mkdir -p target/node && cp docs/clients/node/package*.json target/node/ && \
	  npm --prefix target/node ci --silent --no-audit --no-fund && \
	  cp docs/clients/node/package-lock.json target/node/filled-from; }
	@for part in fmt clippy; do cargo $$part --version >/dev/null 2>&1 || rustup component add rustfmt clippy; done

# Python: what tests/python/requirements.txt pins takes no older one. Node and Java: docs/clients.md.
versions: # whether the tools of the tests are new enough
	$(call at_least,Python,3.11,python3 -c 'import platform; print(platform.python_version())')
	$(call at_least,Node,18,node --version | tr -d v)
	$(call at_least,Java,17,javac -version 2>&1 | tr -d 'a-z ')

demo: setup ## starts everything on this machine and pays: gateway, institutions, merchant
	cargo run -- demo

test: setup-tests deny-tool ## everything a change has to pass; ends with the tests' own last line
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
	cargo deny --log-level error check bans licenses sources
	cargo test --doc
	cargo test --tests

bench: setup ## measures everything, optimised, beside nginx; PART="place full" a part, QUICK=1 a trial
	$(call install,nginx:nginx taskset:util-linux)
	cargo bench --bench journey -- $(PART) $(if $(QUICK),--quick)
	$(if $(PART),,cargo bench --bench statement $(if $(QUICK),-- 50000))
	$(if $(PART),,cargo bench --bench exchange_log $(if $(QUICK),-- 5000))

bench-large: setup ## asks and selects among five million orders; makes a file of 17 GB below target/tmp, once
	$(call install,nginx:nginx taskset:util-linux)
	cargo bench --bench journey -- large $(if $(QUICK),--quick)

simulate: setup ## runs SEEDS=n seeded simulations, optimised, on all cores; FIRST=m continues where a run ended
	PAYMUX_SEEDS=$(or $(SEEDS),100000) PAYMUX_FIRST_SEED=$(or $(FIRST),0) \
		cargo test --release --test it simulation::thousands -- --nocapture

races: setup ## ROUNDS=n rounds of everything that may come at the same moment
	PAYMUX_ROUNDS=$(or $(ROUNDS),1000) cargo test --release --test it journey::races:: -- --nocapture

torture: setup ## KILLS=n SEED=n kills and freezes the real binary under load, starts it again, checks every book
	PAYMUX_KILLS=$(or $(KILLS),500) PAYMUX_SEED=$(or $(SEED),1) cargo test --test it torture:: -- --nocapture

power: setup ## replays power loss at IMAGES=n points of a recorded run, opens and verifies each image
	PAYMUX_IMAGES=$(or $(IMAGES),10000) cargo test --release --test it power::a_power_loss -- --nocapture

mutants: setup ## mutation test: removes each safety check in turn and requires the simulation to find it
	python3 tests/mutants/run.py

deny: setup deny-tool ## licences, origins and known faults of everything we link
	cargo deny check bans licenses sources
	@if cargo deny fetch db; then cargo deny check --disable-fetch advisories; \
	else echo "not checked: the advisory database could not be fetched, see above." >&2; fi

# Unoptimised, it is built in a minute or two; it lands beside cargo.
deny-tool: setup
	@cargo deny --version >/dev/null 2>&1 || CARGO_PROFILE_DEV_DEBUG=false cargo install --locked --debug --version 0.20.2 cargo-deny

# Two commands do all the set-up: `make demo` runs the main job, `make test` installs what the
# tests need and passes them all.

SHELL := /bin/bash
CARGO ?= cargo
CURFEW := target/release/curfew
DEMO := target/demo
MODULE := target/release/ngx_http_curfew_module.so

.PHONY: build demo setup test test-nginx-1.28 module soak soak-nginx loom fmt lint doc deny bench bench-nginx clean

build:
	$(CARGO) build --release --locked

demo: build
	@mkdir -p $(DEMO)
	@echo "A working week of 300 people, made up ($(DEMO)/week.log):"
	$(CURFEW) synth --seed 7 --users 300 --days 5 --output $(DEMO)/week.log
	@echo
	@echo "What four policies would have done to them:"
	$(CURFEW) replay $(DEMO)/week.log --key user --policies examples/policies.toml
	@echo
	@echo "Now yours:  $(CURFEW) replay /var/log/nginx/access.log --policy idle=15m,lifetime=8h"
	@echo "The key of a session is the address unless you say otherwise (--key user, --key ip+ua)."

setup:
	@./scripts/setup

# The first line, because no test can link to the module: they have nginx load it.
test: setup
	$(CARGO) build --locked -p curfew-nginx
	$(CARGO) test --workspace --locked

# The nginx module for the nginx that is installed; for another one with NGINX_TREE, the folder of its
# sources, and NGINX_CONFIGURE, what its `nginx -V` says after "configure arguments:".
module: setup
	$(CARGO) build --release --locked -p curfew-nginx
	cp target/release/libngx_http_curfew_module.so $(MODULE)
	@echo "built $(MODULE)"

# The module's tests in an nginx of another version, built from its sources; takes some minutes at
# first.
OTHER := $(CURDIR)/target/nginx-1.28
test-nginx-1.28: setup
	./scripts/nginx-1.28
	NGINX_SOURCE_DIR=$(OTHER) NGINX_BUILD_DIR=$(OTHER)/objs \
		$(CARGO) build --locked -p curfew-nginx --target-dir target/with-nginx-1.28
	NGINX_SOURCE_DIR=$(OTHER) NGINX_BUILD_DIR=$(OTHER)/objs CURFEW_NGINX=$(OTHER)/objs/nginx \
		$(CARGO) test --locked -p curfew-nginx --target-dir target/with-nginx-1.28

# Sessions, reloads and killed workers against a model, for CURFEW_SOAK_SECONDS.
soak-nginx: setup
	$(CARGO) build --locked -p curfew-nginx
	CURFEW_SOAK_SECONDS=$${CURFEW_SOAK_SECONDS:-300} \
		$(CARGO) test --locked -p curfew-nginx --test nginx soak -- --nocapture

# The same for longer: more random histories, and threads that run for a minute.
soak:
	PROPTEST_CASES=300000 CURFEW_THREAD_SECONDS=60 $(CARGO) test --release --locked -p curfew-engine

# The engine on loom's atomics; longer with CURFEW_LOOM_SECONDS (each model), further with
# CURFEW_LOOM_PREEMPTIONS.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --release --locked --target-dir target/loom -p curfew-engine --lib models

fmt:
	$(CARGO) fmt --all --check

lint: setup
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

deny:
	@./scripts/setup deny
	.tools/bin/cargo-deny check bans licenses sources

# All figures of docs/performance.md that the engine is in; takes some minutes.
bench:
	$(CARGO) build --release --locked -p curfew-bench
	target/release/curfew-bench touch
	target/release/curfew-bench expire
	target/release/curfew-bench fill

# What the module costs in nginx, beside others. The first needs a quiet machine.
bench-nginx: module
	@./scripts/setup bench-nginx
	bench/nginx/bench.py cpu
	bench/nginx/bench.py instructions

clean:
	$(CARGO) clean
	rm -rf .tools

# Two commands do all the set-up: `make demo` runs the main job, `make test` installs what the
# tests need and passes them all.

SHELL := /bin/bash
CARGO ?= cargo
CURFEW := target/release/curfew
DEMO := target/demo
MODULE := target/release/ngx_http_curfew_module.so

.PHONY: build demo setup test test-nginx test-nginx-1.28 memcheck-nginx module soak soak-nginx sim kill death loom mutants tsan asan \
	valgrind miri fuzz fuzz-ci fmt lint doc deny bench bench-engine bench-peers test-peers instructions bench-nginx clean

build:
	@command -v cc >/dev/null || { echo "a C compiler is missing; make setup installs one" >&2; exit 1; }
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

# The tests of the module wait more than they work.
WAITING := --test-threads=4

# The first line, because no test can link to the module: they have nginx load it.
test: setup
	$(CARGO) build --locked -p curfew-nginx
	$(CARGO) test --workspace --exclude curfew-nginx --locked
	$(CARGO) test --locked -p curfew-nginx -- $(WAITING)
	@$(MAKE) --no-print-directory test-peers
	$(CARGO) test --locked -p curfew-engine --features crash-points --test cut_rotation --test death --test sim --test kill --test watch_steps --test revocation
	@$(MAKE) --no-print-directory test-nginx-1.28 test-c test-go

# The module's tests alone, in the nginx that is installed.
test-nginx: setup
	$(CARGO) build --locked -p curfew-nginx
	$(CARGO) test --locked -p curfew-nginx -- $(WAITING)

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
		$(CARGO) test --locked -p curfew-nginx --target-dir target/with-nginx-1.28 -- $(WAITING)

# The same under valgrind's memcheck, in an nginx whose pools hide nothing from it; takes a long while.
MEMCHECK := $(CURDIR)/target/nginx-1.28-memcheck
memcheck-nginx: setup
	./scripts/nginx-1.28
	./scripts/nginx-1.28 memcheck
	NGINX_SOURCE_DIR=$(OTHER) NGINX_BUILD_DIR=$(OTHER)/objs \
		$(CARGO) build --locked -p curfew-nginx --target-dir target/with-nginx-1.28
	NGINX_SOURCE_DIR=$(OTHER) NGINX_BUILD_DIR=$(OTHER)/objs CURFEW_NGINX=$(MEMCHECK)/objs/nginx CURFEW_MEMCHECK=1 \
		$(CARGO) test --locked -p curfew-nginx --target-dir target/with-nginx-1.28 -- --test-threads=2 --skip soak

# Sessions, reloads and killed workers against a model, for CURFEW_SOAK_SECONDS.
soak-nginx: setup
	@./scripts/setup bench-nginx
	$(CARGO) build --locked -p curfew-nginx
	CURFEW_SOAK_SECONDS=$${CURFEW_SOAK_SECONDS:-300} \
		$(CARGO) test --locked -p curfew-nginx --test nginx soak -- --nocapture

# The same for longer: more random histories, and threads that run for a minute.
soak:
	PROPTEST_CASES=300000 CURFEW_THREAD_SECONDS=60 $(CARGO) test --release --locked -p curfew-engine

# Death, for longer. `make sim SEEDS=1000 FIRST=5000`, or `make sim SEED=7`, which shows what it does;
# `make kill KILLS=5000`; `make death` cuts every heir off at every step.
sim:
	SEEDS=$(or $(SEEDS),20000) FIRST=$(or $(FIRST),0) $(CARGO) test --release --locked -p curfew-engine \
		--features crash-points --test sim -- --nocapture

kill:
	KILLS=$(or $(KILLS),3000) $(CARGO) test --release --locked -p curfew-engine \
		--features crash-points --test kill -- --nocapture

death:
	CURFEW_DEATHS=all $(CARGO) test --release --locked -p curfew-engine \
		--features crash-points --test death -- --nocapture

# The engine on loom's atomics; longer with CURFEW_LOOM_SECONDS (each model), further with
# CURFEW_LOOM_PREEMPTIONS. Each model says how many interleavings it looked at, and whether they are all.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --profile loom --locked --target-dir target/loom -p curfew-engine --lib models

# Weakens the engine in one place after the other, and expects the model that is meant for it to fail.
mutants:
	./scripts/mutants

# Sanitizers (the nightly's), memcheck and Miri. What is missing is said, and is exit code 2.
tsan:
	CURFEW_THREAD_SECONDS=$${CURFEW_THREAD_SECONDS:-30} ./scripts/sanitize thread

asan:
	./scripts/sanitize address

valgrind:
	./scripts/sanitize valgrind

miri:
	./scripts/sanitize miri

# Every fuzz target for so long, by chance; needs a nightly compiler. docs/fuzzing.md.
SECONDS ?= 60
fuzz:
	@./scripts/setup fuzz
	@./fuzz/run $(SECONDS)
	@$(MAKE) --no-print-directory fuzz-ffi FUZZ_SECONDS=$(SECONDS)

# The same inputs every time, so that one commit has one answer.
fuzz-ci:
	@./scripts/setup fuzz
	@./fuzz/run --fixed

fmt:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path ffi/fuzz/Cargo.toml

lint: setup
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p curfew-engine --all-targets --features crash-points --locked -- -D warnings

doc: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

deny:
	@./scripts/setup deny
	.tools/bin/cargo-deny check bans licenses sources
	.tools/bin/cargo-deny --manifest-path fuzz/Cargo.toml --config deny.toml check bans licenses sources
	.tools/bin/cargo-deny --manifest-path ffi/fuzz/Cargo.toml --config deny.toml check bans licenses sources

# Curfew beside its peers and the limit, then the engine by itself: some twenty minutes. It needs a quiet machine.
bench: bench-peers bench-engine

# The engine beside the limit; some minutes.
bench-engine:
	$(CARGO) build --release --locked -p curfew-bench
	target/release/curfew-bench touch
	target/release/curfew-bench expire
	target/release/curfew-bench fill

# In one run. What does not fit into the machine's memory at ten million sessions (24 GB for all) is left out, and
# that is said; `UP_TO=1000000` leaves out larger tables. A page to look at is written beside the figures: target/bench/peers.html.
bench-peers:
	@mkdir -p target/bench
	$(CARGO) bench --locked -p curfew-bench --bench peers -- --json $(CURDIR)/target/bench/peers.json \
		--html $(CURDIR)/target/bench/peers.html $(if $(UP_TO),--up-to $(UP_TO))

# The same with a few sessions: all come to the same answers, and the page is drawn.
test-peers:
	@mkdir -p target/bench
	$(CARGO) test --quiet --locked -p curfew-bench --bench peers -- mix --sessions 2000 --rounds 1 --steps 5000 --from key,id \
		--html $(CURDIR)/target/bench/few.html >target/bench/few.txt
	$(CARGO) test --quiet --locked -p curfew-bench --bench peers -- crowd --live 5000 --due 1000 \
		--only curfew,dashmap-wheel,papaya-wheel,scc-wheel,quick-cache-wheel,dashmap-delayqueue >>target/bench/few.txt
	$(CARGO) test --quiet --locked -p curfew-bench --bench peers -- grows --sessions 500,2000 --rounds 1 --steps 5000 \
		--html $(CURDIR)/target/bench/grown.html >>target/bench/few.txt
	grep -q 'Curfew' target/bench/few.txt && grep -q '<svg' target/bench/few.html && grep -q '<polyline' target/bench/grown.html

# Instructions of each step under callgrind, beside the committed ones; growth is said, and is no failure.
instructions: setup
	$(CARGO) build --release --locked -p curfew-bench
	target/release/curfew-bench instructions --against bench/instructions.json

# What the module costs in nginx, beside others. The first needs a quiet machine.
bench-nginx: module
	@./scripts/setup bench-nginx
	bench/nginx/bench.py cpu
	bench/nginx/bench.py instructions
	bench/nginx/streams.py

clean:
	$(CARGO) clean
	rm -rf .tools fuzz/target

include ffi/ffi.mk

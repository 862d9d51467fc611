# The C library and what is built on it. Included by the Makefile at the root.

PREFIX ?= /usr/local
DESTDIR ?=
INSTALL ?= install

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# Raised when a program that was linked with an earlier library would not work with this one.
SOVERSION := 0
LIB := target/release
STAGE := $(CURDIR)/target/stage

.PHONY: lib header install uninstall stage

# Asked for by name, and not as the crate's own kinds, so that it is optimised across crates. The
# library is never unloaded: it has handlers for forks.
lib:
	$(CARGO) rustc --release --locked -p curfew-ffi --lib --crate-type cdylib,staticlib -- \
	    -C link-arg=-Wl,-soname,libcurfew.so.$(SOVERSION) -C link-arg=-Wl,-z,nodelete

header:
	@./scripts/setup header
	./scripts/header

install: lib
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	$(INSTALL) -m 644 include/curfew.h $(DESTDIR)$(PREFIX)/include/curfew.h
	$(INSTALL) -m 755 $(LIB)/libcurfew.so $(DESTDIR)$(PREFIX)/lib/libcurfew.so.$(VERSION)
	ln -sfn libcurfew.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/libcurfew.so.$(SOVERSION)
	ln -sfn libcurfew.so.$(SOVERSION) $(DESTDIR)$(PREFIX)/lib/libcurfew.so
	$(INSTALL) -m 644 $(LIB)/libcurfew.a $(DESTDIR)$(PREFIX)/lib/libcurfew.a
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' ffi/curfew.pc.in \
	    > $(DESTDIR)$(PREFIX)/lib/pkgconfig/curfew.pc
	chmod 644 $(DESTDIR)$(PREFIX)/lib/pkgconfig/curfew.pc

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,include/curfew.h lib/libcurfew.a lib/libcurfew.so \
	    lib/libcurfew.so.$(SOVERSION) lib/libcurfew.so.$(VERSION) lib/pkgconfig/curfew.pc)

# Where the tests have it installed.
stage:
	@$(MAKE) --no-print-directory install PREFIX=$(STAGE) DESTDIR=

.PHONY: test-c
test-c: lib
	@./scripts/setup
	@./scripts/setup header
	./ffi/tests/check

GO_ENV = cd bindings/go/curfew && PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig LD_LIBRARY_PATH=$(STAGE)/lib

# cgo checks every pointer that crosses: by a variable before Go 1.21, by an experiment since.
CGOCHECK = $(shell go version | grep -q 'go1\.\(19\|20\)' && echo GODEBUG=cgocheck=2 || echo GOEXPERIMENT=cgocheck2)

.PHONY: test-go
test-go: stage
	@./scripts/setup
	$(GO_ENV) sh -c 'badly=$$(gofmt -l .); test -z "$$badly" || { echo "gofmt -w $$badly" >&2; exit 1; }; go vet ./...'
	$(GO_ENV) $(CGOCHECK) go test -race -count=1 ./...

# Nanoseconds per touch through the engine, C and Go, in one run; for a machine that does nothing else.
# `make bench-ffi BENCH="--rounds 3 --sessions 1000"`.
.PHONY: bench-ffi
bench-ffi: stage
	@./scripts/setup
	@mkdir -p target/bench
	$(CARGO) build --release --locked -p curfew-bench
	cc -std=c11 -O2 ffi/bench/touch.c -o target/bench/c \
	    $$(PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig pkg-config --cflags --libs curfew)
	$(GO_ENV) go build -o $(CURDIR)/target/bench/go ./internal/turns
	LD_LIBRARY_PATH=$(STAGE)/lib ffi/bench/run $(BENCH) \
	    "engine=target/release/curfew-bench turns --sessions {sessions} --touches {touches}" \
	    "C=target/bench/c {sessions} {touches}" "Go=target/bench/go {sessions} {touches}"

# Random calls under AddressSanitizer, guided by coverage; for as long as FUZZ_SECONDS says.
FUZZ_SECONDS ?= 60
FUZZ_VERBOSITY ?= 0
FUZZ_FLAGS := -Zsanitizer=address -Cforce-frame-pointers --cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table

.PHONY: fuzz-ffi
fuzz-ffi:
	@if ! $(CARGO) +nightly --version >/dev/null 2>&1; then \
	    echo "FUZZING SKIPPED: there is no nightly toolchain (rustup toolchain install nightly)"; exit 0; fi; \
	mkdir -p target/fuzz/corpus && \
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) +nightly run --release --manifest-path ffi/fuzz/Cargo.toml --bin calls \
	    --target x86_64-unknown-linux-gnu --target-dir target/fuzz -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=60 -print_final_stats=1 -verbosity=$(FUZZ_VERBOSITY) \
	    -artifact_prefix=target/fuzz/ target/fuzz/corpus

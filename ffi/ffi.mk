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

# shoal's build.  `make help` lists the targets.
#
#   B=DIR     root of everything built (default build); one folder per configuration below it
#   CFG=...   release (default), debug, asan (with UBSan), tsan or fuzz
#   CC=...    gcc (default) or clang
#   V=1       show the commands
#   RUN=...   what runs a test program (an emulator, for a foreign CC; scripts/make-arm64.sh)
#
# All paths are relative, so a clone whose path has spaces builds too.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-builtin-variables

B ?= build
PREFIX ?= /usr/local
DESTDIR ?=
RUN ?=
ifneq ($(filter default undefined,$(origin AR)),) # undefined: called by make itself
AR := ar
endif
OBJCOPY ?= objcopy

Q := $(if $(V),,@)
say = $(if $(V),,@echo '  $(1)')

include mk/parts.mk
include mk/flags.mk
include mk/fuzz.mk

O := $(B)/$(CFG)

# ---- what there is to build ---------------------------------------------------------------------

reverse = $(if $(1),$(call reverse,$(wordlist 2,$(words $(1)),$(1))) $(firstword $(1)))
# A part with all that it may use, and the same in link order (users before the used).
closure = $(sort $(1) $(foreach d,$(DEPS_$(1)),$(call closure,$(d))))
ordered = $(call reverse,$(filter $(1),$(PARTS)))
objects = $(patsubst %.c,$(O)/obj/%.o,$(1))

define part_vars
SRC_$(1) := $$(filter-out %_test.c $$(ISA_SKIP),$$(sort $$(wildcard src/$(1)/*.c)))
TESTSRC_$(1) := $$(sort $$(wildcard src/$(1)/*_test.c))
OBJ_$(1) := $$(call objects,$$(SRC_$(1)))
TESTS_$(1) := $$(patsubst src/%.c,$(O)/test/%,$$(TESTSRC_$(1)))
LIB_$(1) := $$(if $$(SRC_$(1)),$(O)/lib/lib$(1).a)
endef
$(foreach p,$(PARTS),$(eval $(call part_vars,$(p))))

# Libraries of a part and of all below it; the pkg-config names that come with them.
libs_of = $(foreach d,$(call ordered,$(call closure,$(1))),$(LIB_$(d)))
pkgs_of = $(sort $(foreach d,$(call closure,$(1)),$(if $(SRC_$(d)),$(PKGS_$(d)))))
pkg_cflags = $(if $(strip $(1)),$(shell $(PKG_CONFIG) --cflags $(1)))
pkg_libs = $(if $(strip $(1)),$(shell $(PKG_CONFIG) --libs $(1)))

LIB_PARTS := $(filter-out cmd,$(PARTS))
LIB_PARTS_ALL := $(call ordered,$(LIB_PARTS))
ALL_LIBS := $(foreach p,$(LIB_PARTS_ALL),$(LIB_$(p)))
ALL_PKGS := $(sort $(foreach p,$(LIB_PARTS),$(if $(SRC_$(p)),$(PKGS_$(p)))))

# tests/<dir>/*_test.c are programs; the other .c files of that folder are linked into each of
# them, and those of tests/support into all.
TOP_TESTSRC := $(sort $(wildcard tests/*/*_test.c))
TOP_TESTS := $(patsubst %.c,$(O)/test/%,$(TOP_TESTSRC))
FULL_TESTS := $(filter $(O)/test/tests/full/%,$(TOP_TESTS))
SUPPORT_OBJ := $(call objects,$(filter-out %_test.c,$(sort $(wildcard tests/support/*.c))))
dir_objects = $(call objects,$(filter-out %_test.c tests/support/%,$(sort $(wildcard $(1)/*.c))))

# Programs that tests and bench use: the .c files of tests/tools/<name> are the program tool/<name>.
TOOL_NAMES := $(notdir $(patsubst %/,%,$(sort $(dir $(wildcard tests/tools/*/*.c)))))
TOOLS := $(addprefix $(O)/tool/,$(TOOL_NAMES))

UNIT_TESTS := $(foreach p,$(PARTS),$(TESTS_$(p)))
TSAN_TESTS := $(foreach p,$(TSAN_PARTS),$(TESTS_$(p))) \
	$(filter $(foreach d,$(TSAN_DIRS),$(O)/test/tests/$(d)/%),$(TOP_TESTS))
PORTABLE_TESTS := $(foreach p,$(PORTABLE_PARTS),$(TESTS_$(p))) \
	$(filter $(foreach d,$(PORTABLE_DIRS),$(O)/test/tests/$(d)/%),$(TOP_TESTS))
ALL_TESTS := $(UNIT_TESTS) $(filter-out $(FULL_TESTS),$(TOP_TESTS))
PROGRAM := $(if $(SRC_cmd),$(O)/shoal)

# ---- targets ------------------------------------------------------------------------------------

.PHONY: all release debug asan tsan libs libshoal tests tests-full tests-tsan check lint format
.PHONY: install clean help tools list-tests list-tests-full list-tests-tsan
.PHONY: tests-portable list-tests-portable

all: libs $(PROGRAM)

release debug asan tsan:
	+$(MAKE) --no-print-directory CFG=$@ all

libs: $(foreach p,$(PARTS),$(LIB_$(p)))

tools: $(TOOLS)
tests: all tools $(ALL_TESTS)
tests-full: tests $(FULL_TESTS)
tests-tsan: $(TSAN_TESTS)
tests-portable: $(PORTABLE_TESTS)
list-tests:
	@printf '%s\n' $(ALL_TESTS)
list-tests-full:
	@printf '%s\n' $(ALL_TESTS) $(FULL_TESTS)
list-tests-tsan:
	@printf '%s\n' $(TSAN_TESTS)
list-tests-portable:
	@printf '%s\n' $(PORTABLE_TESTS)

check: tests
	@for t in $(ALL_TESTS); do echo "== $$t"; $(RUN) "$$t" || exit 1; done

.PHONY: fuzz fuzz-replay
fuzz:
	+$(MAKE) --no-print-directory CFG=fuzz CC=$(FUZZ_CC) fuzz-replay
fuzz-replay: $(FUZZ_PROGRAMS)

lint:
	@python3 scripts/lint.py
format:
	@find include src tests examples -name '*.[ch]' -exec clang-format -i {} + 2>/dev/null || true

clean:
	rm -rf "$(B)"

help:
	@echo 'make [all]          the program and libraries ($(B)/release)'
	@echo 'make debug|asan|tsan  the same in another configuration ($(B)/<configuration>)'
	@echo 'make lib-<part>     one library, nothing else'
	@echo 'make test-<part>    build and run the unit tests of one part (CFG=asan for sanitizers)'
	@echo 'make tests          build all test programs; check: and run them'
	@echo 'make tools          the programs that tests and bench/compare use'
	@echo 'make fuzz           the fuzz targets with libFuzzer (mk/fuzz.mk)'
	@echo 'make lint           formatting, include direction, banned calls; format: reformat'
	@echo 'make install        PREFIX=$(PREFIX) DESTDIR=; program, libshoal, headers, shoal.pc'
	@echo 'make clean          remove $(B)'
	@echo 'variables           B=DIR CFG=release|debug|asan|tsan CC=gcc|clang V=1 WERROR='
	@echo 'for arm64           scripts/make-arm64.sh TARGETS (cross compiler, tests under qemu)'
	@echo 'parts               $(PARTS)'

# ---- compiling ----------------------------------------------------------------------------------

# Part of an object: src/<part>/...; empty for tests/.
part_of = $(word 2,$(subst /, ,$(filter src/%,$(1))))
isa_of = $(ISA_$(lastword $(subst _, ,$(basename $(notdir $(1))))))
warn_of = $(if $(filter $(part_of),$(STRICT_PARTS)),$(if $(filter %_test.c,$(1)),,$(WARN_STRICT)))$(if \
	$(filter kernels,$(part_of)), -Wno-cast-align)
tests_include = $(if $(filter tests/%,$(1)),-Itests)
pkgs_of_file = $(if $(filter src/%,$(1)),$(PKGS_$(part_of)),$(ALL_PKGS) $(PKGS_tests))$(if \
	$(filter %_test.c tests/%,$(1)), cmocka)

# Changing flags must rebuild: every object depends on this file, rewritten only when it differs.
FLAGS_FILE := $(O)/flags
FLAGS_TEXT := $(CC) $(ALL_CFLAGS) $(WARN_STRICT) $(ISA_avx512) $(ISA_scalar) $(ALL_LDFLAGS)
ifneq ($(filter-out clean help format,$(or $(MAKECMDGOALS),all)),)
ifneq ($(strip $(FLAGS_TEXT)),$(strip $(shell cat $(FLAGS_FILE) 2>/dev/null)))
$(shell mkdir -p $(O) && printf '%s\n' '$(FLAGS_TEXT)' > $(FLAGS_FILE))
endif
endif

$(O)/obj/%.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CC   $<)
	$(Q)$(CC) $(ALL_CFLAGS) $(call warn_of,$<) $(call isa_of,$<) $(call tests_include,$<) \
		$(call pkg_cflags,$(call pkgs_of_file,$<)) -MMD -MP -c -o $@ $<

define part_rules
.PHONY: lib-$(1) test-$(1) tests-$(1)
lib-$(1): $$(LIB_$(1))
tests-$(1): $$(TESTS_$(1))
test-$(1): $$(TESTS_$(1))
	@for t in $$(TESTS_$(1)); do echo "== $$$$t"; $(RUN) "$$$$t" || exit 1; done
$(O)/lib/lib$(1).a: $$(OBJ_$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(call say,AR   $$@)
	$(Q)$(AR) rcs $$@ $$^
$(TESTS_$(1)): $(O)/test/%: $(O)/obj/src/%.o $$(call libs_of,$(1))
	@mkdir -p $$(@D)
	$$(call say,LINK $$@)
	$(Q)$(CC) -pie $(ALL_LDFLAGS) -o $$@ $$^ $$(call pkg_libs,cmocka $$(call pkgs_of,$(1))) -lm
endef
$(foreach p,$(PARTS),$(eval $(call part_rules,$(p))))

define top_test_rule
$(O)/test/$(basename $(1)): $(call objects,$(1)) $(call dir_objects,$(patsubst %/,%,$(dir $(1)))) \
		$(SUPPORT_OBJ) $(ALL_LIBS)
	@mkdir -p $$(@D)
	$$(call say,LINK $$@)
	$(Q)$(CC) -pie $(ALL_LDFLAGS) -o $$@ $$^ $$(call pkg_libs,cmocka $(ALL_PKGS) $(PKGS_tests)) -lm
endef
$(foreach s,$(TOP_TESTSRC),$(eval $(call top_test_rule,$(s))))
$(foreach t,$(FUZZ_TARGETS),$(eval $(call fuzz_rule,$(t))))

define tool_rule
$(O)/tool/$(1): $(call objects,$(sort $(wildcard tests/tools/$(1)/*.c))) $(ALL_LIBS)
	@mkdir -p $$(@D)
	$$(call say,LINK $$@)
	$(Q)$(CC) -pie $(ALL_LDFLAGS) -o $$@ $$^ $$(call pkg_libs,$(ALL_PKGS)) -lm
endef
$(foreach t,$(TOOL_NAMES),$(eval $(call tool_rule,$(t))))

$(O)/shoal: $(OBJ_cmd) $(ALL_LIBS)
	$(call say,LINK $@)
	$(Q)$(CC) -pie $(ALL_LDFLAGS) -o $@ $^ $(call pkg_libs,$(ALL_PKGS) $(PKGS_cmd)) -lm

# ---- libshoal -----------------------------------------------------------------------------------

VERSION := $(shell sed -n 's/^\#define SHOAL_VERSION "\(.*\)"/\1/p' include/shoal/version.h)
SONAME := libshoal.so.$(firstword $(subst ., ,$(VERSION)))
API_LIBS := $(call libs_of,host)
API_PKGS := $(call pkgs_of,host)

libshoal: $(O)/libshoal.a $(O)/$(SONAME) $(O)/shoal.pc

# One object whose hidden symbols are made local: a program that links it sees shoal_* only.
$(O)/libshoal.a: $(API_LIBS)
	$(call say,AR   $@)
	$(Q)$(CC) -r -nostdlib -o $(O)/libshoal.o -Wl,--whole-archive $^ -Wl,--no-whole-archive
	$(Q)$(OBJCOPY) --localize-hidden $(O)/libshoal.o
	@rm -f $@
	$(Q)$(AR) rcs $@ $(O)/libshoal.o

$(O)/$(SONAME): $(API_LIBS)
	$(call say,LINK $@)
	$(Q)$(CC) -shared $(ALL_LDFLAGS) -Wl,-soname,$(SONAME) $(LINK_NO_GAPS) \
		-o $@ -Wl,--whole-archive $^ -Wl,--no-whole-archive $(call pkg_libs,$(API_PKGS)) -lm

.PHONY: $(O)/shoal.pc # PREFIX may differ each time
$(O)/shoal.pc: shoal.pc.in
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@PKGS@|$(API_PKGS)|' $< > $@

install: all libshoal
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/lib/pkgconfig" \
		"$(DESTDIR)$(PREFIX)/include/shoal"
	$(if $(PROGRAM),install -m 755 $(PROGRAM) "$(DESTDIR)$(PREFIX)/bin/shoal")
	install -m 644 $(O)/libshoal.a "$(DESTDIR)$(PREFIX)/lib/libshoal.a"
	install -m 755 $(O)/$(SONAME) "$(DESTDIR)$(PREFIX)/lib/libshoal.so.$(VERSION)"
	ln -sf libshoal.so.$(VERSION) "$(DESTDIR)$(PREFIX)/lib/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(PREFIX)/lib/libshoal.so"
	install -m 644 include/shoal/*.h "$(DESTDIR)$(PREFIX)/include/shoal/"
	install -m 644 $(O)/shoal.pc "$(DESTDIR)$(PREFIX)/lib/pkgconfig/shoal.pc"

-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)

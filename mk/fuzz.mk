# Fuzz targets: tests/fuzz/<name>_fuzz.c, each a program that is fed bytes.
#
#   make fuzz                with libFuzzer, ASan and UBSan, by clang: B/fuzz/fuzz/<name>
#   make fuzz-replay CFG=..  the same targets in any configuration, with a main() that runs the
#                            files and folders it is given once: B/CFG/fuzz/<name>
#
# CFG=fuzz is for these programs only.  It leaves the faster tiers of the kernels out: with
# sanitizers they take minutes to compile, and tests/kernels compares them with the scalar one.

FUZZ_CC ?= clang
FUZZ_TARGETS := gguf wire client tokenizer rpc tls conn session

# Parts that a target uses, objects beyond its own, pkg-config names of both.
FUZZ_PARTS_gguf := gguf
FUZZ_PARTS_wire := ggmlrpc cpu
FUZZ_OBJ_wire := tests/fuzz/wire_frames tests/fuzz/wire_nodes
FUZZ_PARTS_client := ggmlrpc
FUZZ_PARTS_tokenizer := text gguf
FUZZ_OBJ_tokenizer := src/engine/vocab_file
FUZZ_PARTS_rpc := rpc
FUZZ_PARTS_tls := net
FUZZ_PARTS_conn := rpc
FUZZ_PARTS_session := rpc cpu

ifeq ($(CFG),fuzz)
FUZZ_LINK := -fsanitize=fuzzer
ifeq ($(ARCH),x86_64)
ISA_SKIP += %_avx2.c %_avx512.c
FUZZ_OBJ_wire += tests/fuzz/no_tiers
FUZZ_OBJ_session := tests/fuzz/no_tiers
endif
else
FUZZ_MAIN := tests/fuzz/replay
endif

FUZZ_PROGRAMS = $(foreach t,$(FUZZ_TARGETS),$(O)/fuzz/$(t))
fuzz_libs = $(foreach d,$(call ordered,$(sort $(foreach p,$(1),$(call closure,$(p))))),$(LIB_$(d)))
fuzz_pkgs = $(sort $(foreach p,$(1),$(call pkgs_of,$(p))))
fuzz_objects = $(foreach o,tests/fuzz/$(1)_fuzz $(FUZZ_MAIN) $(FUZZ_OBJ_$(1)),$(O)/obj/$(o).o)

define fuzz_rule
$(O)/fuzz/$(1): $(call fuzz_objects,$(1)) $(call fuzz_libs,$(FUZZ_PARTS_$(1)))
	@mkdir -p $$(@D)
	$$(call say,LINK $$@)
	$(Q)$(CC) -pie $(ALL_LDFLAGS) $(FUZZ_LINK) -o $$@ $$^ \
		$$(call pkg_libs,$$(call fuzz_pkgs,$(FUZZ_PARTS_$(1)))) -lm
endef

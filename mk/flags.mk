# Compiler and linker flags of the configurations.  Everything here may change speed and
# checks, never a bit of a result: no -ffast-math kin, no build-machine flags, and
# -ffp-contract=off because clang fuses a*b+c by default where gcc -std=c11 does not.

CFGS := release debug asan tsan fuzz
CFG ?= release
ifeq ($(filter $(CFG),$(CFGS)),)
$(error CFG=$(CFG) is none of: $(CFGS))
endif

ifneq ($(filter default undefined,$(origin CC)),)
CC := $(if $(filter fuzz,$(CFG)),clang,gcc)
endif
PKG_CONFIG ?= pkg-config
IS_CLANG := $(findstring clang,$(shell $(CC) --version 2>/dev/null | head -n 1))
TARGET := $(shell $(CC) -dumpmachine 2>/dev/null)
ifneq ($(filter x86_64-%,$(TARGET)),)
ARCH := x86_64
else ifneq ($(filter aarch64-%,$(TARGET)),)
ARCH := aarch64
else
ARCH := other
endif

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wcast-align -Wfloat-conversion \
	-Wnull-dereference
WARN_STRICT := -Wconversion -Wno-sign-conversion
ifneq ($(IS_CLANG),)
WARN += -Wshorten-64-to-32
else
WARN += -Wlogical-op -Wduplicated-cond
endif
WERROR ?= -Werror

STD := -std=c11 -D_GNU_SOURCE -ffp-contract=off -Isrc -Iinclude
CODE := -fPIC -fvisibility=hidden -pthread
ifeq ($(ARCH),x86_64)
CET := -fcf-protection
endif

# Sanitizers need line numbers only; tracking variables through instrumented kernels takes minutes.
CFG_release := -g -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong $(CET)
CFG_debug := -g -O0 -fno-omit-frame-pointer
CFG_asan := -g1 -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
CFG_tsan := -g1 -O1 -fno-omit-frame-pointer -fsanitize=thread
CFG_fuzz := $(CFG_asan) -fsanitize=fuzzer-no-link
# -Wnull-dereference guesses from optimised code; instrumented code makes it guess wrong.
ifneq ($(filter asan tsan fuzz,$(CFG)),)
WARN := $(filter-out -Wnull-dereference,$(WARN))
endif

LINK_release := -Wl,-z,relro,-z,now -Wl,-z,noexecstack
LINK_debug :=
LINK_asan := -fsanitize=address,undefined
LINK_tsan := -fsanitize=thread
LINK_fuzz := -fsanitize=address,undefined
# A shared library with every symbol resolved; sanitizers leave theirs to the program.
ifneq ($(filter release debug,$(CFG)),)
LINK_NO_GAPS := -Wl,-z,defs
endif

ALL_CFLAGS = $(STD) $(CODE) $(WARN) $(WERROR) $(CFG_$(CFG)) $(CFLAGS)
ALL_LDFLAGS = -pthread $(LINK_$(CFG)) $(LDFLAGS)

# Instruction sets by file name.  Only these files may use them; the dispatcher asks the CPU.
ISA_avx2 := -mavx2 -mfma -mf16c -mbmi2
ISA_avx512 := $(ISA_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
ISA_neon :=
ISA_dotprod := -march=armv8.2-a+dotprod
# The scalar kernels are the definition of the bits: baseline code, not auto-vectorised.
ISA_scalar := -O2 -fno-tree-vectorize
ifneq ($(IS_CLANG),)
ISA_scalar += -fno-slp-vectorize
endif
ifeq ($(ARCH),x86_64)
ISA_SKIP := %_neon.c %_dotprod.c
else ifeq ($(ARCH),aarch64)
ISA_SKIP := %_avx2.c %_avx512.c
else
ISA_SKIP := %_avx2.c %_avx512.c %_neon.c %_dotprod.c
endif

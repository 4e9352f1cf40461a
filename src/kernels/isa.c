/* kernels/isa.c - which instruction sets this CPU has and this system lets us use.
 *
 * A tier is granted when CPUID names every extension that its files are compiled for and XGETBV
 * says that the system saves the registers: XMM and YMM for AVX2 (bits 1, 2), and the masks and
 * both halves of the ZMM file for AVX-512 (bits 5 to 7).  On arm64 NEON is part of the base
 * architecture, and Linux says in HWCAP whether there are dot products.
 * Threads: pure, apart from reading the environment.
 */
#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/tiers_priv.h"

#if SH_ARCH_X86
#include <cpuid.h>

#define XCR0_YMM UINT64_C(0x06)
#define XCR0_ZMM UINT64_C(0xe6)

static uint64_t read_xcr0(void)
{
    uint32_t lo, hi;

    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

unsigned sh_isa_detect(void)
{
    const unsigned need1_c = bit_FMA | bit_OSXSAVE | bit_AVX | bit_F16C;
    const unsigned need7_avx2 = bit_AVX2 | bit_BMI2;
    const unsigned need7_avx512 = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    unsigned a, b, c, d;
    uint64_t xcr0;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & need1_c) != need1_c) return 0;
    xcr0 = read_xcr0();
    if ((xcr0 & XCR0_YMM) != XCR0_YMM) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & need7_avx2) != need7_avx2) return 0;
    if ((xcr0 & XCR0_ZMM) != XCR0_ZMM || (b & need7_avx512) != need7_avx512 ||
        !(c & bit_AVX512VNNI)) {
        return SH_ISA_AVX2;
    }
    return SH_ISA_AVX2 | SH_ISA_AVX512;
}
#elif SH_ARCH_ARM64
#include <sys/auxv.h>

#define HWCAP_BIT_ASIMDDP (1ul << 20)

unsigned sh_isa_detect(void)
{
    return SH_ISA_NEON | (getauxval(AT_HWCAP) & HWCAP_BIT_ASIMDDP ? SH_ISA_DOTPROD : 0u);
}
#else
unsigned sh_isa_detect(void)
{
    return 0;
}
#endif

unsigned sh_isa_allowed(void)
{
    const char *want = getenv("SHOAL_CPU");
    unsigned mask = ~0u;

    if (want) {
        if (strcmp(want, "scalar") == 0) mask = 0;
        if (strcmp(want, "avx2") == 0) mask = SH_ISA_AVX2;
        if (strcmp(want, "avx512") == 0) mask = SH_ISA_AVX2 | SH_ISA_AVX512;
        if (strcmp(want, "neon") == 0) mask = SH_ISA_NEON;
        if (strcmp(want, "dotprod") == 0) mask = SH_ISA_NEON | SH_ISA_DOTPROD;
    }
    return sh_isa_detect() & mask;
}

const char *sh_isa_name(unsigned isa)
{
    if (isa & SH_ISA_AVX512) return "avx512";
    if (isa & SH_ISA_AVX2) return "avx2";
    if (isa & SH_ISA_DOTPROD) return "dotprod";
    if (isa & SH_ISA_NEON) return "neon";
    return "scalar";
}

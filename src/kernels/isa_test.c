/* kernels/isa_test.c - tier masks and names, and what a filled table holds. */
#include "kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void isa__mask_from_environment(void **state)
{
    const unsigned have = sh_isa_detect();

    (void)state;
    unsetenv("SHOAL_CPU");
    assert_int_equal(sh_isa_allowed(), have);
    setenv("SHOAL_CPU", "scalar", 1);
    assert_int_equal(sh_isa_allowed(), 0);
    setenv("SHOAL_CPU", "avx2", 1);
    assert_int_equal(sh_isa_allowed(), have & SH_ISA_AVX2);
    setenv("SHOAL_CPU", "avx512", 1);
    assert_int_equal(sh_isa_allowed(), have & (SH_ISA_AVX2 | SH_ISA_AVX512));
    setenv("SHOAL_CPU", "neon", 1);
    assert_int_equal(sh_isa_allowed(), have & SH_ISA_NEON);
    setenv("SHOAL_CPU", "dotprod", 1);
    assert_int_equal(sh_isa_allowed(), have & (SH_ISA_NEON | SH_ISA_DOTPROD));
    unsetenv("SHOAL_CPU");
}

static void isa__names(void **state)
{
    (void)state;
    assert_string_equal(sh_isa_name(0), "scalar");
    assert_string_equal(sh_isa_name(SH_ISA_AVX2), "avx2");
    assert_string_equal(sh_isa_name(SH_ISA_AVX2 | SH_ISA_AVX512), "avx512");
    assert_string_equal(sh_isa_name(SH_ISA_NEON), "neon");
    assert_string_equal(sh_isa_name(SH_ISA_NEON | SH_ISA_DOTPROD), "dotprod");
    // a tier that includes another is never granted without it
    if (sh_isa_detect() & SH_ISA_AVX512) assert_true(sh_isa_detect() & SH_ISA_AVX2);
    if (sh_isa_detect() & SH_ISA_DOTPROD) assert_true(sh_isa_detect() & SH_ISA_NEON);
}

/* Every type with a product has it, its partner's rounding and a decoder, in every tier. */
static void table__complete(void **state)
{
    const unsigned tiers[] = {0, SH_ISA_AVX2, SH_ISA_AVX2 | SH_ISA_AVX512, SH_ISA_NEON,
                              SH_ISA_NEON | SH_ISA_DOTPROD};

    (void)state;
    for (size_t i = 0; i < sizeof tiers / sizeof *tiers; i++) {
        struct sh_kernels k;
        sh_kernels_fill(&k, tiers[i] & sh_isa_detect());
#define X(type)                                                                                    \
    assert_non_null(k.mm[SH_DTYPE_##type]);                                                        \
    assert_non_null(k.act[sh_dtype_info(SH_DTYPE_##type)->partner]);                               \
    assert_non_null(k.decode[SH_DTYPE_##type]);                                                    \
    assert_non_null(k.encode[SH_DTYPE_##type]);
        SH_MM_TYPES(X)
#undef X
#define X(name, ret, args) assert_non_null((void *)(uintptr_t)k.name);
        SH_VECTOR_KERNELS(X)
#undef X
        assert_null(k.mm[SH_DTYPE_I32]);
        assert_null(k.decode[SH_DTYPE_IQ1_S]);
    }
    assert_ptr_equal(sh_kernels(), sh_kernels());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(isa__mask_from_environment),
        cmocka_unit_test(isa__names),
        cmocka_unit_test(table__complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Element and block types: sizes, names, and ids that are none. */
#include "tensor/dtype.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void dtype__retired_and_unknown_ids_are_no_types(void **state)
{
    static const uint32_t NONE[] = {4, 5, 31, 32, 33, 36, 37, 38, 43, 44, 255, UINT32_MAX};
    int n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof NONE / sizeof NONE[0]; i++) {
        assert_false(sh_dtype_valid(NONE[i]));
    }
    for (uint32_t id = 0; id < SH_DTYPE_COUNT; id++)
        n += sh_dtype_valid(id);
    assert_int_equal(n, 35);
}

/* Bits per weight as published for each type: block bytes * 8 / block length, times 1000. */
static void dtype__bits_per_weight(void **state)
{
    static const struct {
        enum sh_dtype t;
        int millibits;
    } WANT[] = {{SH_DTYPE_F32, 32000},    {SH_DTYPE_F16, 16000},   {SH_DTYPE_Q4_0, 4500},
                {SH_DTYPE_Q4_1, 5000},    {SH_DTYPE_Q5_0, 5500},   {SH_DTYPE_Q5_1, 6000},
                {SH_DTYPE_Q8_0, 8500},    {SH_DTYPE_Q2_K, 2625},   {SH_DTYPE_Q3_K, 3437},
                {SH_DTYPE_Q4_K, 4500},    {SH_DTYPE_Q5_K, 5500},   {SH_DTYPE_Q6_K, 6562},
                {SH_DTYPE_IQ2_XXS, 2062}, {SH_DTYPE_IQ2_XS, 2312}, {SH_DTYPE_IQ2_S, 2562},
                {SH_DTYPE_IQ3_XXS, 3062}, {SH_DTYPE_IQ3_S, 3437},  {SH_DTYPE_IQ1_S, 1562},
                {SH_DTYPE_IQ1_M, 1750},   {SH_DTYPE_IQ4_NL, 4500}, {SH_DTYPE_IQ4_XS, 4250},
                {SH_DTYPE_BF16, 16000},   {SH_DTYPE_TQ1_0, 1687},  {SH_DTYPE_TQ2_0, 2062},
                {SH_DTYPE_MXFP4, 4250},   {SH_DTYPE_NVFP4, 4500},  {SH_DTYPE_Q1_0, 1125},
                {SH_DTYPE_Q2_0, 2250},    {SH_DTYPE_I64, 64000},   {SH_DTYPE_I8, 8000}};

    (void)state;
    for (size_t i = 0; i < sizeof WANT / sizeof WANT[0]; i++) {
        const struct sh_dtype_info *info = sh_dtype_info(WANT[i].t);
        assert_int_equal((int64_t)info->block_bytes * 8000 / info->block_len, WANT[i].millibits);
    }
}

static void dtype__row_bytes_count_whole_blocks(void **state)
{
    size_t bytes = 0;

    (void)state;
    assert_true(sh_dtype_row_bytes(SH_DTYPE_Q4_0, 64, &bytes));
    assert_int_equal(bytes, 36);
    assert_true(sh_dtype_row_bytes(SH_DTYPE_Q6_K, 512, &bytes));
    assert_int_equal(bytes, 420);
    assert_true(sh_dtype_row_bytes(SH_DTYPE_F16, 0, &bytes));
    assert_int_equal(bytes, 0);
    assert_false(sh_dtype_row_bytes(SH_DTYPE_Q4_0, 33, &bytes));
    assert_false(sh_dtype_row_bytes(SH_DTYPE_F32, -1, &bytes));
    assert_false(sh_dtype_row_bytes(SH_DTYPE_F64, INT64_MAX, &bytes));
}

static void dtype__names_are_found_in_any_case(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < SH_DTYPE_COUNT; id++) {
        if (!sh_dtype_valid(id)) continue;
        const char *name = sh_dtype_info((enum sh_dtype)id)->name;
        assert_int_equal(sh_dtype_find(sh_str_from(name)), id);
    }
    assert_int_equal(sh_dtype_find(SH_STR_LIT("Q4_k")), SH_DTYPE_Q4_K);
    assert_int_equal(sh_dtype_find(SH_STR_LIT("q4_")), SH_DTYPE_COUNT);
    assert_int_equal(sh_dtype_find(SH_STR_LIT("")), SH_DTYPE_COUNT);
}

/* A product rounds the other operand's rows to the partner: blocks no longer than the weight's. */
static void dtype__partners_fit_the_blocks(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < SH_DTYPE_COUNT; id++) {
        if (!sh_dtype_valid(id)) continue;
        const struct sh_dtype_info *info = sh_dtype_info((enum sh_dtype)id);
        if (info->partner == SH_DTYPE_COUNT) continue;
        assert_int_equal(info->block_len % sh_dtype_info(info->partner)->block_len, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtype__retired_and_unknown_ids_are_no_types),
        cmocka_unit_test(dtype__bits_per_weight),
        cmocka_unit_test(dtype__row_bytes_count_whole_blocks),
        cmocka_unit_test(dtype__names_are_found_in_any_case),
        cmocka_unit_test(dtype__partners_fit_the_blocks),
    };
    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}

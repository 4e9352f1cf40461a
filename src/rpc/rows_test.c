/* rpc/rows_test.c - rows in their three formats: exact bytes, sizes, and what does not fit.
 */
#include "rpc/rows.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void rows__sizes(void **state)
{
    (void)state;
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_ROWS_F32, 576), 2304);
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_ROWS_F16, 576), 1152);
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_ROWS_Q8, 576), 612);
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_ROWS_Q8, 577), 0);
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_ROWS_F32, 0), 0);
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_ROWS_F32, -4), 0);
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_ROWS_F32, INT64_MAX), 0);
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_FORMAT_COUNT, 576), 0);
    // The widest row that fits, and one more.
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_ROWS_F32, 262144), 1048576);
    assert_int_equal(sh_rpc_row_bytes(SH_RPC_ROWS_F32, 262145), 0);
    assert_int_equal(sh_rpc_rows_per_piece(SH_RPC_ROWS_F32, 262144), 1);
    assert_int_equal(sh_rpc_rows_per_piece(SH_RPC_ROWS_F32, 262145), 0);
    assert_int_equal(sh_rpc_rows_per_piece(SH_RPC_ROWS_F32, 576), 455);
    assert_int_equal(sh_rpc_rows_per_piece(SH_RPC_ROWS_Q8, 576), 1713);
    assert_int_equal(sh_rpc_rows_per_piece(SH_RPC_ROWS_F32, 1), 262144);
}

static void rows__q8_needs_whole_blocks(void **state)
{
    (void)state;
    assert_int_equal(sh_rpc_rows_format(SH_RPC_ROWS_Q8, 576), SH_RPC_ROWS_Q8);
    assert_int_equal(sh_rpc_rows_format(SH_RPC_ROWS_Q8, 560), SH_RPC_ROWS_F16);
    assert_int_equal(sh_rpc_rows_format(SH_RPC_ROWS_F32, 560), SH_RPC_ROWS_F32);
    assert_int_equal(sh_rpc_rows_format(SH_RPC_ROWS_F16, 1), SH_RPC_ROWS_F16);
}

static void rows__f32_is_every_bit(void **state)
{
    static const float ROWS[2][3] = {{1.0f, -0.0f, 1e-40f}, {INFINITY, -2.5f, 3.0f}};
    static const uint8_t BYTES[24] = {0, 0, 0x80, 0x3f, 0, 0, 0,    0x80, 0xc2, 0x16, 1,    0,
                                      0, 0, 0x80, 0x7f, 0, 0, 0x20, 0xc0, 0,    0,    0x40, 0x40};
    uint8_t wire[25];
    float back[2][3];

    (void)state;
    sh_rpc_rows_encode(SH_RPC_ROWS_F32, 3, 2, wire + 1, ROWS[0]);
    assert_memory_equal(wire + 1, BYTES, sizeof BYTES);
    sh_rpc_rows_decode(SH_RPC_ROWS_F32, 3, 2, back[0], wire + 1);
    assert_memory_equal(back, ROWS, sizeof ROWS);
}

static void rows__f16_rounds_to_even(void **state)
{
    // 2049 lies between 2048 and 2050; 65520 is beyond the largest; 2^-25 is half the smallest.
    static const float ROW[6] = {1.0f, -2.0f, 2049.0f, 65520.0f, 0x1p-24f, 0x1p-25f};
    static const uint8_t BYTES[12] = {0, 0x3c, 0, 0xc0, 0, 0x68, 0, 0x7c, 1, 0, 0, 0};
    static const float BACK[6] = {1.0f, -2.0f, 2048.0f, INFINITY, 0x1p-24f, 0.0f};
    uint8_t wire[13];
    float back[6];

    (void)state;
    sh_rpc_rows_encode(SH_RPC_ROWS_F16, 6, 1, wire + 1, ROW);
    assert_memory_equal(wire + 1, BYTES, sizeof BYTES);
    sh_rpc_rows_decode(SH_RPC_ROWS_F16, 6, 1, back, wire + 1);
    assert_memory_equal(back, BACK, sizeof BACK);
}

static void rows__q8_is_ggufs_block(void **state)
{
    float row[64] = {0}, back[64], want[64] = {0};
    uint8_t wire[69], bytes[68] = {0};

    (void)state;
    // First block: the largest is 63.5, so the scale is 0.5 and halves are exact; 0.2 rounds away.
    row[0] = 63.5f, row[1] = -63.5f, row[2] = 0.5f, row[3] = -3.0f, row[31] = 0.2f;
    bytes[1] = 0x38; // f16 of 0.5
    bytes[2] = 127, bytes[3] = 0x81, bytes[4] = 1, bytes[5] = 0xfa;
    want[0] = 63.5f, want[1] = -63.5f, want[2] = 0.5f, want[3] = -3.0f;
    // Second block: zeros have the scale 0.
    sh_rpc_rows_encode(SH_RPC_ROWS_Q8, 32, 2, wire + 1, row);
    assert_memory_equal(wire + 1, bytes, sizeof bytes);
    sh_rpc_rows_decode(SH_RPC_ROWS_Q8, 32, 2, back, wire + 1);
    assert_memory_equal(back, want, sizeof want);
}

static void rows__nothing_is_nothing(void **state)
{
    (void)state;
    sh_rpc_rows_encode(SH_RPC_ROWS_F32, 576, 0, NULL, NULL);
    sh_rpc_rows_decode(SH_RPC_ROWS_Q8, 576, 0, NULL, NULL);
}

static void expect(uint32_t format, int64_t width, uint32_t n, size_t bytes, const char *reason)
{
    struct shoal_error err = {.code = SHOAL_OK};
    const enum shoal_status st = sh_rpc_rows_check(format, width, n, bytes, &err);

    if (!reason) {
        assert_int_equal(st, SHOAL_OK);
    } else {
        assert_int_equal(st, SHOAL_ERR_FORMAT);
        if (!strstr(err.message, reason)) fail_msg("\"%s\" without \"%s\"", err.message, reason);
    }
}

static void rows__what_came_must_fit(void **state)
{
    (void)state;
    expect(0, 576, 2, 4608, NULL);
    expect(2, 576, 1, 612, NULL);
    expect(0, 576, 0, 0, NULL);
    expect(3, 576, 1, 612, "format 3");
    expect(2, 560, 1, 595, "width 560 cannot be q8");
    expect(0, 576, 2, 4607, "4607 bytes");
    expect(0, 576, 2, 4609, "4609 bytes");
    expect(1, 576, UINT32_MAX, 1048576, "4294967295 rows");
}

static void rows__names(void **state)
{
    (void)state;
    assert_int_equal(sh_rpc_format_find(sh_str_from("f32")), SH_RPC_ROWS_F32);
    assert_int_equal(sh_rpc_format_find(sh_str_from("f16")), SH_RPC_ROWS_F16);
    assert_int_equal(sh_rpc_format_find(sh_str_from("q8")), SH_RPC_ROWS_Q8);
    assert_int_equal(sh_rpc_format_find(sh_str_from("q8_0")), SH_RPC_FORMAT_COUNT);
    assert_string_equal(sh_rpc_format_name(SH_RPC_ROWS_Q8), "q8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows__sizes),
        cmocka_unit_test(rows__q8_needs_whole_blocks),
        cmocka_unit_test(rows__f32_is_every_bit),
        cmocka_unit_test(rows__f16_rounds_to_even),
        cmocka_unit_test(rows__q8_is_ggufs_block),
        cmocka_unit_test(rows__nothing_is_nothing),
        cmocka_unit_test(rows__what_came_must_fit),
        cmocka_unit_test(rows__names),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}

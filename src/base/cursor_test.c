/* Reader and writer: byte order, the end, and that nothing recovers from bad. */
#include "base/cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const uint8_t bytes[15] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static void cursor__reads_little_endian_at_any_offset(void **state)
{
    struct sh_reader r = sh_reader_over(bytes, sizeof bytes);

    (void)state;
    assert_int_equal(sh_read_u8(&r), 1);
    assert_int_equal(sh_read_u16(&r), 0x0302);
    assert_int_equal(sh_read_u32(&r), 0x07060504);
    assert_int_equal(sh_read_u64(&r), UINT64_C(0x0f0e0d0c0b0a0908));
    assert_int_equal(sh_reader_left(&r), 0);
    assert_false(r.bad);
    assert_ptr_equal(sh_read_bytes(&r, 0), bytes + 15); // nothing at the end is not past it
    assert_false(r.bad);
    assert_int_equal(sh_read_u8(&r), 0);
    assert_true(r.bad);
}

static void cursor__a_read_past_the_end_is_final(void **state)
{
    struct sh_reader r = sh_reader_over(bytes, 7);

    (void)state;
    assert_int_equal(sh_read_u32(&r), 0x04030201);
    assert_int_equal(sh_read_u32(&r), 0); // three bytes are left: none is used
    assert_true(r.bad);
    assert_int_equal(sh_read_u8(&r), 0);
    assert_null(sh_read_bytes(&r, 0));
    assert_int_equal(sh_reader_left(&r), 0);
}

static void cursor__lengths_cannot_wrap(void **state)
{
    struct sh_reader r = sh_reader_over(bytes, sizeof bytes);
    struct sh_reader empty = sh_reader_over(NULL, 0);

    (void)state;
    assert_int_equal(sh_read_u8(&r), 1);
    assert_null(sh_read_bytes(&r, SIZE_MAX));
    assert_true(r.bad);
    assert_int_equal(sh_read_u8(&empty), 0);
    assert_true(empty.bad);
}

static void cursor__writer_mirrors_reader(void **state)
{
    uint8_t out[17];
    struct sh_writer w = sh_writer_over(out, 15);

    (void)state;
    memset(out, 0xee, sizeof out);
    sh_write_u8(&w, 1);
    sh_write_u16(&w, 0x0302);
    sh_write_u32(&w, 0x07060504);
    sh_write_u64(&w, UINT64_C(0x0f0e0d0c0b0a0908));
    assert_false(w.bad);
    assert_int_equal(w.pos, 15);
    assert_memory_equal(out, bytes, 15);
    sh_write_bytes(&w, NULL, 0);
    assert_false(w.bad);
    sh_write_u8(&w, 9);
    assert_true(w.bad);
    assert_int_equal(out[15], 0xee);
}

static void cursor__a_write_that_does_not_fit_writes_nothing(void **state)
{
    uint8_t out[8];
    struct sh_writer w = sh_writer_over(out, 6);

    (void)state;
    memset(out, 0xee, sizeof out);
    sh_write_u32(&w, 0);
    sh_write_u32(&w, 0);
    assert_true(w.bad);
    assert_int_equal(out[4], 0xee);
    sh_write_u8(&w, 0); // would fit, but the record is broken already
    assert_int_equal(out[4], 0xee);
    assert_null(sh_write_room(&w, SIZE_MAX));
    assert_int_equal(w.pos, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursor__reads_little_endian_at_any_offset),
        cmocka_unit_test(cursor__a_read_past_the_end_is_final),
        cmocka_unit_test(cursor__lengths_cannot_wrap),
        cmocka_unit_test(cursor__writer_mirrors_reader),
        cmocka_unit_test(cursor__a_write_that_does_not_fit_writes_nothing),
    };
    return cmocka_run_group_tests_name("cursor", tests, NULL, NULL);
}

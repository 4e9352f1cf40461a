/* stage/cut_weight_test.c - slices of f32 and block tensors along each axis, element by element. */
#include "stage/cut_weight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

/* A tensor whose blocks say where they stand: byte k of block (b, j, i2, i3) is made of these. */
static uint8_t mark(int64_t b, int64_t j, int64_t i2, int64_t i3, size_t k)
{
    return (uint8_t)(1 + b * 7 + j * 31 + i2 * 101 + i3 * 151 + (int64_t)k * 3);
}

static void make(struct sh_weight *w, enum sh_dtype type, const int64_t ne[4])
{
    const struct sh_dtype_info *t = sh_dtype_info(type);
    const int64_t blocks = ne[0] / t->block_len;
    uint8_t *p;

    *w = (struct sh_weight){.dtype = type};
    memcpy(w->ne, ne, sizeof w->ne);
    w->bytes = (size_t)(blocks * ne[1] * ne[2] * ne[3]) * t->block_bytes;
    p = sh_malloc(w->bytes);
    assert_non_null(p);
    w->data = p;
    for (int64_t i3 = 0; i3 < ne[3]; i3++)
        for (int64_t i2 = 0; i2 < ne[2]; i2++)
            for (int64_t j = 0; j < ne[1]; j++)
                for (int64_t b = 0; b < blocks; b++)
                    for (size_t k = 0; k < t->block_bytes; k++)
                        *p++ = mark(b, j, i2, i3, k);
}

// Index along the cut axis of element `i` of the slice.
static int64_t original(const struct sh_slice *s, int64_t i)
{
    for (int k = 0; k < s->n_segments; k++) {
        const int64_t n = s->segment[k].end - s->segment[k].begin;
        if (i < n) return s->segment[k].begin + i;
        i -= n;
    }
    return -1;
}

static void check(enum sh_dtype type, const int64_t ne[4], const struct sh_slice *s)
{
    const struct sh_dtype_info *t = sh_dtype_info(type);
    struct shoal_error err = SHOAL_ERROR_INIT;
    int64_t at[4], cut[4];
    struct sh_weight w;
    void *out = NULL;
    size_t bytes = 0, n = 0;

    make(&w, type, ne);
    if (sh_cut_weight(&out, &bytes, &w, s, &err)) fail_msg("%s", err.message);
    memcpy(cut, ne, sizeof cut);
    cut[s->axis] = 0;
    for (int k = 0; k < s->n_segments; k++)
        cut[s->axis] += s->segment[k].end - s->segment[k].begin;
    for (at[3] = 0; at[3] < cut[3]; at[3]++)
        for (at[2] = 0; at[2] < cut[2]; at[2]++)
            for (at[1] = 0; at[1] < cut[1]; at[1]++)
                for (at[0] = 0; at[0] < cut[0]; at[0] += t->block_len) {
                    int64_t from[4];
                    memcpy(from, at, sizeof from);
                    from[s->axis] = original(s, at[s->axis]);
                    for (size_t k = 0; k < t->block_bytes; k++, n++) {
                        const uint8_t have = ((const uint8_t *)out)[n];
                        const uint8_t want =
                            mark(from[0] / t->block_len, from[1], from[2], from[3], k);
                        if (have == want) continue;
                        fail_msg("%s, axis %d, byte %zu of %zu is %u, expected %u", t->name,
                                 s->axis, n, bytes, have, want);
                    }
                }
    assert_int_equal(bytes, n);
    sh_free(out);
    sh_free((void *)(uintptr_t)w.data);
}

static struct sh_slice slice_of(int axis, int n, const int64_t *borders)
{
    struct sh_slice s = {.axis = axis, .n_segments = n};

    for (int i = 0; i < n; i++) {
        s.segment[i].begin = borders[2 * i];
        s.segment[i].end = borders[2 * i + 1];
    }
    return s;
}

static void cut__every_axis_and_type(void **state)
{
    static const enum sh_dtype TYPE[] = {SH_DTYPE_F32, SH_DTYPE_F16, SH_DTYPE_Q4_0, SH_DTYPE_Q8_0};
    static const int64_t NE[4] = {128, 6, 5, 4};
    static const int64_t COLUMNS[2][2] = {{0, 64}, {32, 128}}, ROWS[2][2] = {{0, 6}, {2, 3}};

    (void)state;
    for (int t = 0; t < 4; t++) {
        for (int i = 0; i < 2; i++) {
            struct sh_slice s = slice_of(0, 1, COLUMNS[i]);
            check(TYPE[t], NE, &s);
            s = slice_of(1, 1, ROWS[i]);
            check(TYPE[t], NE, &s);
        }
        struct sh_slice s = slice_of(2, 1, (const int64_t[]){1, 4});
        check(TYPE[t], NE, &s);
        s = slice_of(3, 1, (const int64_t[]){3, 4});
        check(TYPE[t], NE, &s);
    }
}

static void cut__segments_are_stacked_in_order(void **state)
{
    static const int64_t NE[4] = {64, 12, 3, 1};
    struct sh_slice s = slice_of(1, 3, (const int64_t[]){1, 3, 5, 5, 8, 12});

    (void)state;
    check(SH_DTYPE_Q4_0, NE, &s);
    s = slice_of(0, 2, (const int64_t[]){32, 64, 0, 32}); // turned round
    check(SH_DTYPE_Q8_0, NE, &s);
    s = slice_of(2, 2, (const int64_t[]){0, 1, 2, 3});
    check(SH_DTYPE_F32, NE, &s);
}

static void expect_refused(enum sh_dtype type, const struct sh_slice *s, const char *message)
{
    static const int64_t NE[4] = {64, 4, 1, 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_weight w;
    size_t bytes;
    void *out;

    make(&w, type, NE);
    assert_int_equal(sh_cut_weight(&out, &bytes, &w, s, &err), SHOAL_ERR_ARG);
    assert_string_equal(err.message, message);
    assert_null(out);
    sh_free((void *)(uintptr_t)w.data);
}

static void cut__never_inside_a_block_or_outside(void **state)
{
    struct sh_slice s = slice_of(0, 1, (const int64_t[]){0, 33});

    (void)state;
    expect_refused(SH_DTYPE_Q4_0, &s, "stage: a slice from 0 to 33 of 64 cuts a block of 32");
    s = slice_of(0, 1, (const int64_t[]){16, 64});
    expect_refused(SH_DTYPE_Q4_0, &s, "stage: a slice from 16 to 64 of 64 cuts a block of 32");
    s = slice_of(0, 1, (const int64_t[]){32, 96});
    expect_refused(SH_DTYPE_Q4_0, &s, "stage: a slice from 32 to 96 of 64 cuts a block of 32");
    s = slice_of(1, 1, (const int64_t[]){3, 2});
    expect_refused(SH_DTYPE_F32, &s, "stage: a slice from 3 to 2 of 4 cuts a block of 1");
    s = slice_of(1, 1, (const int64_t[]){-1, 2});
    expect_refused(SH_DTYPE_F32, &s, "stage: a slice from -1 to 2 of 4 cuts a block of 1");
}

static void cut__no_memory_is_a_status(void **state)
{
    static const int64_t NE[4] = {64, 4, 1, 1};
    const struct sh_slice s = slice_of(1, 1, (const int64_t[]){0, 2});
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_weight w;
    size_t bytes;
    void *out;

    (void)state;
    make(&w, SH_DTYPE_F32, NE);
    sh_mem_fail_after(0);
    assert_int_equal(sh_cut_weight(&out, &bytes, &w, &s, &err), SHOAL_ERR_NOMEM);
    sh_mem_fail_after(-1);
    assert_string_equal(err.message, "stage: no memory for a slice of 512 bytes");
    sh_free((void *)(uintptr_t)w.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut__every_axis_and_type),
        cmocka_unit_test(cut__segments_are_stacked_in_order),
        cmocka_unit_test(cut__never_inside_a_block_or_outside),
        cmocka_unit_test(cut__no_memory_is_a_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

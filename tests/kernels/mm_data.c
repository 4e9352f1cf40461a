/* tests/kernels/mm_data.c - see mm_data.h. */
#include "mm_data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

struct guarded guarded_open(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct guarded g = {.page = page, .room = (bytes + page - 1) / page * page};
    void *p;

    g.map_bytes = g.room + 2 * page;
    p = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    g.map = p;
    assert_int_equal(mprotect(g.map, page, PROT_NONE), 0);
    assert_int_equal(mprotect(g.map + page + g.room, page, PROT_NONE), 0);
    return g;
}

void guarded_close(struct guarded *g)
{
    munmap(g->map, g->map_bytes);
    g->map = NULL;
}

uint8_t *guarded_first(const struct guarded *g, size_t skew)
{
    return g->map + g->page + skew;
}

uint8_t *guarded_last(const struct guarded *g, size_t bytes)
{
    assert_true(bytes <= g->room);
    return g->map + g->page + g->room - bytes;
}

uint32_t data_rand(uint32_t *state)
{
    uint32_t x = *state;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

/* Where a block keeps f16 scales; n = 0 for the plain floats and mxfp4. */
static const struct {
    uint8_t n, at[2];
} SCALES[SH_DTYPE_COUNT] = {
    [SH_DTYPE_Q4_0] = {1, {0}},      [SH_DTYPE_Q4_1] = {2, {0, 2}}, [SH_DTYPE_Q5_0] = {1, {0}},
    [SH_DTYPE_Q5_1] = {2, {0, 2}},   [SH_DTYPE_Q8_0] = {1, {0}},    [SH_DTYPE_IQ4_NL] = {1, {0}},
    [SH_DTYPE_Q2_K] = {2, {80, 82}}, [SH_DTYPE_Q3_K] = {1, {108}},  [SH_DTYPE_Q4_K] = {2, {0, 2}},
    [SH_DTYPE_Q5_K] = {2, {0, 2}},   [SH_DTYPE_Q6_K] = {1, {208}},
};

static uint16_t wild_f16(uint32_t *r)
{
    static const uint16_t WILD[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff,
                                    0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x3c00, 0x7d00};
    return WILD[(data_rand(r) >> 9) % (sizeof WILD / sizeof *WILD)];
}

/* Plain floats get an exponent near 1, so that sums say something. */
static void tame_float(uint8_t *block, enum sh_dtype type)
{
    if (type == SH_DTYPE_F32) block[3] = 0x3c | (block[3] & 0x83);
    if (type == SH_DTYPE_F16) block[1] = 0x30 | (block[1] & 0x87);
    if (type == SH_DTYPE_BF16) block[1] = 0x3c | (block[1] & 0x83);
}

void data_weights(uint8_t *dst, size_t bytes, enum sh_dtype type, enum weight_kind kind,
                  uint32_t seed)
{
    static const uint8_t FILL[WEIGHT_KINDS] = {[WEIGHT_FILL_00] = 0x00,
                                               [WEIGHT_FILL_FF] = 0xff,
                                               [WEIGHT_FILL_80] = 0x80,
                                               [WEIGHT_FILL_7F] = 0x7f};
    const size_t block_bytes = sh_dtype_info(type)->block_bytes;
    const bool filled = kind >= WEIGHT_FILL_00 && kind <= WEIGHT_FILL_7F;
    const bool wild = kind == WEIGHT_WILD_SCALES;
    uint32_t r = seed;

    for (uint8_t *b = dst; b < dst + bytes; b += block_bytes) {
        for (size_t i = 0; i < block_bytes; i++) {
            const uint8_t v = (uint8_t)(data_rand(&r) >> 11);
            b[i] = filled ? FILL[kind] : v;
        }
        for (int s = 0; s < SCALES[type].n; s++) {
            uint16_t v = (uint16_t)(0x2c00 | (data_rand(&r) >> 7 & 0x83ff));
            if (wild) v = wild_f16(&r);
            memcpy(b + SCALES[type].at[s], &v, sizeof v);
        }
        if (type == SH_DTYPE_MXFP4 && !wild) b[0] = (uint8_t)(120 + (data_rand(&r) >> 5 & 7));
        if (!wild) tame_float(b, type);
    }
}

void data_act(float *x, int64_t n, enum act_kind kind, uint32_t seed)
{
    static const float WILD[] = {3e38f, -3e38f, 1e-44f, -0.0f, 7e4f, 1e30f};
    uint32_t r = seed;

    for (int64_t i = 0; i < n; i++) {
        const float v = ((float)(data_rand(&r) >> 8 & 0xffff) - 32768.0f) / 1024.0f;
        const uint32_t pick = data_rand(&r) >> 7;
        switch (kind) {
        case ACT_ONES:
            x[i] = 1;
            break;
        case ACT_ALTERNATING:
            x[i] = pick & 1 ? 2.5f : -2.5f;
            break;
        case ACT_ZERO:
            x[i] = 0;
            break;
        case ACT_TIES: // scales become 1
            x[i] = i % 32 == 0 ? 127.0f : (float)(pick % 253) - 126.5f;
            break;
        case ACT_TINY:
            x[i] = v * 1e-40f;
            break;
        case ACT_WILD:
            x[i] = pick % 200 == 0   ? (float)__builtin_inf()
                   : pick % 200 == 1 ? (float)__builtin_nan("")
                   : pick % 50 == 2  ? WILD[pick / 50 % 6]
                                     : v;
            break;
        default:
            x[i] = v;
        }
    }
}

uint32_t data_hash(const void *p, size_t bytes)
{
    const uint8_t *b = p;
    uint32_t h = 0x811c9dc5;

    for (size_t i = 0; i < bytes; i++)
        h = (h ^ b[i]) * 0x01000193;
    return h;
}

/* tests/bench/mm_bench.c - speed of the matrix products, per type and tier, on one thread.
 *
 *     mm_bench [n_out [k [type...]]]
 *
 * Prints GB/s of weights for one activation row (weights are re-read from memory: about 512 MB of
 * them in turn), for 4 and for 8 rows, GOP/s for 512 rows (two operations per multiply-add), and
 * microseconds to round one activation row.  A plain read of the same memory comes first.  Time is
 * the thread's own, so that other work on the machine disturbs less.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "kernels/kernels.h"

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct bench {
    enum sh_dtype type;
    int64_t n_out, k, n_copies;
    size_t row_bytes, act_bytes;
    uint8_t *w, *act;
    float *x, *dst;
};

enum { ROWS_MAX = 512 };
static const size_t POOL_BYTES = (size_t)512 << 20;

/* Best seconds for one product with n_act rows; each round reads other copies of the weights. */
static double product_seconds(const struct bench *b, const struct sh_kernels *k, int64_t n_act)
{
    const size_t bytes = (size_t)b->n_out * b->row_bytes;
    const int64_t per_round = n_act > 8 ? 1 : b->n_copies;
    double best = 1e30;

    for (int round = 0; round < 5; round++) {
        const double start = seconds();
        for (int64_t c = 0; c < per_round; c++) {
            k->mm[b->type](b->k, 0, b->k, b->n_out, n_act, b->dst, (size_t)b->n_out,
                           b->w + (size_t)c * bytes, b->row_bytes, b->act, b->act_bytes);
        }
        const double each = (seconds() - start) / (double)per_round;
        if (each < best) best = each;
    }
    return best;
}

static double act_seconds(const struct bench *b, const struct sh_kernels *k)
{
    double best = 1e30;

    for (int round = 0; round < 20; round++) {
        const double start = seconds();
        k->act[sh_dtype_info(b->type)->partner](b->k, b->act, b->x);
        const double each = seconds() - start;
        if (each < best) best = each;
    }
    return best;
}

typedef uint64_t wide __attribute__((vector_size(32)));

static double read_gb_per_s(const uint8_t *p, size_t bytes)
{
    double best = 0;

    for (int round = 0; round < 5; round++) {
        const double start = seconds();
        wide s[4] = {{0}};
        for (size_t i = 0; i + 128 <= bytes; i += 128) {
            __builtin_prefetch(p + i + 4096, 0, 2);
            __builtin_prefetch(p + i + 4160, 0, 2);
            for (int j = 0; j < 4; j++) {
                wide v;
                memcpy(&v, p + i + 32 * (size_t)j, sizeof v);
                s[j] += v;
            }
        }
        s[0] += s[1] + s[2] + s[3];
        volatile uint64_t sink = s[0][0] + s[0][1] + s[0][2] + s[0][3];
        (void)sink;
        const double rate = (double)bytes / (seconds() - start) / 1e9;
        if (rate > best) best = rate;
    }
    return best;
}

static void bench_type(struct bench *b, unsigned isa)
{
    struct sh_kernels k, scalar;
    const enum sh_dtype partner = sh_dtype_info(b->type)->partner;
    const double ops = 2.0 * (double)b->n_out * (double)b->k * ROWS_MAX;
    const double bytes = (double)b->row_bytes * (double)b->n_out;

    sh_kernels_fill(&scalar, 0);
    sh_kernels_fill(&k, isa);
    for (int64_t i = 0; i < ROWS_MAX; i++)
        k.act[partner](b->k, b->act + (size_t)i * b->act_bytes, b->x);
    if (isa && k.mm[b->type] == scalar.mm[b->type]) return;
    printf("%-7s %-7s", sh_isa_name(isa), sh_dtype_info(b->type)->name);
    for (int64_t n = 1; n <= 8; n *= n == 1 ? 4 : 2)
        printf("  %6.1f", bytes / product_seconds(b, &k, n) / 1e9);
    printf("  %7.0f  %7.2f\n", ops / product_seconds(b, &k, ROWS_MAX) / 1e9,
           act_seconds(b, &k) * 1e6);
    fflush(stdout);
}

/* A size from the command line: a multiple of 256 up to 65536, else the default. */
static int64_t size_arg(int argc, char **argv, int at)
{
    const long long v = argc > at ? strtoll(argv[at], NULL, 10) : 2048;

    return v >= 256 && v <= 65536 && v % 256 == 0 ? v : 2048;
}

int main(int argc, char **argv)
{
    struct bench b = {.n_out = size_arg(argc, argv, 1), .k = size_arg(argc, argv, 2)};
    const unsigned have = sh_isa_allowed();
    const unsigned isas[] = {SH_ISA_AVX2, SH_ISA_AVX2 | SH_ISA_AVX512, SH_ISA_NEON};
    uint8_t *pool = sh_malloc(POOL_BYTES);

    if (!pool) return 1;
    memset(pool, 0x11, POOL_BYTES);
    printf("read %.1f GB/s; %lld x %lld, one thread\n", read_gb_per_s(pool, POOL_BYTES),
           (long long)b.n_out, (long long)b.k);
    printf("%-7s %-7s  %6s  %6s  %6s  %7s  %7s\n", "tier", "type", "1 row", "4 rows", "8 rows",
           "GOP/s", "us/act");
    for (unsigned t = 0; t < SH_DTYPE_COUNT; t++) {
        struct sh_kernels k;
        bool wanted = argc <= 3;

        sh_kernels_fill(&k, 0);
        if (!k.mm[t]) continue;
        for (int i = 3; i < argc; i++)
            wanted |= strcmp(argv[i], sh_dtype_info((enum sh_dtype)t)->name) == 0;
        if (!wanted) continue;
        b.type = (enum sh_dtype)t;
        sh_dtype_row_bytes(b.type, b.k, &b.row_bytes);
        b.act_bytes = sh_act_row_bytes(sh_dtype_info(b.type)->partner, b.k);
        b.n_copies = (int64_t)(POOL_BYTES / (b.row_bytes * (size_t)b.n_out));
        b.w = pool;
        b.act = sh_calloc(ROWS_MAX, b.act_bytes);
        b.x = sh_calloc((size_t)b.k, sizeof *b.x);
        b.dst = sh_calloc(ROWS_MAX * (size_t)b.n_out, sizeof *b.dst);
        if (b.n_copies < 1 || !b.act || !b.x || !b.dst) return 1;
        for (int64_t i = 0; i < b.k; i++)
            b.x[i] = (float)(i * 7919 % 255 - 127) / 64.0f;
        for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
            if ((have & isas[i]) == isas[i]) bench_type(&b, isas[i]);
        }
        sh_free(b.act);
        sh_free(b.x);
        sh_free(b.dst);
    }
    sh_free(pool);
    return 0;
}

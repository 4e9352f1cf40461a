/* cmd/bench_priv.h - what the files of `shoal bench` share.
 *
 *     bench.c          lists the tests, opens the model, measures
 *     bench_options.c  the command line
 *     bench_table.c    tables for people
 *     bench_json.c     the same for programs
 */
#ifndef CMD_BENCH_PRIV_H
#define CMD_BENCH_PRIV_H

#include "cmd/bench_options.h"
#include "cmd/console.h"
#include "host/bench.h"

#define SH_BENCH_TESTS_MAX 256

struct sh_bench_job {
    struct sh_bench_flags o;
    struct sh_host *host;
    struct sh_bench_test test[SH_BENCH_TESTS_MAX];
    struct sh_bench_result result[SH_BENCH_TESTS_MAX];
    int n_tests;
    struct sh_bench_way way[SH_BENCH_WAYS_MAX];
    int n_ways;
    int64_t n_ctx, n_seqs, rows_max; /* that the tests need */
    int64_t load_ns;
};

/* "pp512 @ d1024", "tg128 x8, 2 groups". */
struct sh_bench_name {
    char text[128];
};
struct sh_bench_name sh_bench_name_of(const struct sh_bench_test *t);

/* bench_table.c, bench_json.c: on stdout. */
SHOAL_NODISCARD enum shoal_status sh_bench_show(const struct sh_bench_job *b,
                                                struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_bench_write_json(const struct sh_bench_job *b,
                                                      struct shoal_error *err);

#endif

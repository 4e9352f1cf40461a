/* host/bench.h - how fast a host's pipeline is, and how fast it could be.
 *
 * A test reads a prompt or writes a text of drawn tokens, behind so many tokens of context, several
 * times.  Of each time it is noted how long every stage computed, and how long frames of the same
 * sizes were on the way just before and after.  From these follows the bound: what it would have
 * taken if nothing else took time.
 *
 *      text      all stages' computing + a hop to the first stage, between stages, and back
 *      prompt    chunks through stages that are never idle but at the beginning and the end
 *
 * Repetitions are in turn: first all tests once, then all a second time.
 * Threads: one at a time; `stop` and `progress` are called from it.
 */
#ifndef HOST_BENCH_H
#define HOST_BENCH_H

#include "host/bench_sum.h"
#include "host/host.h"

struct sh_bench_test {
    int64_t n_prompt, n_text; /* tokens; one of them is 0 */
    int64_t n_depth;          /* tokens before */
    int64_t chunk;            /* of prompts: most rows of a step; 0: chosen */
    int n_seqs;               /* of texts: at once */
    int n_groups, in_flight;  /* of texts: steps for one token of each, and how many under way */
};

struct sh_bench_result {
    struct sh_bench_test test;
    int n;                    /* repetitions */
    struct sh_spread per_s;   /* tokens a second */
    struct sh_spread took_ms; /* of texts: one token of each sequence; of prompts: all of it */
    int64_t n_steps;          /* of the last repetition */
    bool has_bound;           /* every stage tells how long it computed, and every hop is known */
    struct sh_spread bound_ms;
    struct sh_spread of_bound;              /* the bound over what it took */
    double hops_ms;                         /* of a text: of one pass, median; in the bound */
    double compute_ms[SH_HOST_DEVICES_MAX]; /* per stage, medians: of a step, or of the prompt */
    double queue_ms[SH_HOST_DEVICES_MAX];   /* the same: rows were there, computing had not begun */
    double p50_ms, p99_ms, max_ms;          /* of texts: between one token and the next */
    double *values;                         /* [n] tokens a second, as they came; owned */
};

struct sh_bench_options {
    struct sh_host *host; /* opened for at least as many tokens, rows and sequences */
    const struct sh_bench_test *tests;
    int n_tests, n_repetitions;
    uint32_t seed;
    enum sh_rpc_format format;                                 /* as the host was told */
    void (*progress)(void *self, int64_t done, int64_t total); /* runs; may be NULL */
    bool (*stop)(void *self);                                  /* may be NULL */
    void *self;
};
/* `out` [n_tests] is zeroed and filled; release it in any case. */
SHOAL_NODISCARD enum shoal_status sh_bench_run(struct sh_bench_result *out,
                                               const struct sh_bench_options *opt,
                                               struct shoal_error *err);
void sh_bench_release(struct sh_bench_result *r, int n);

/* ---- the ways between machines --------------------------------------------------------------*/

struct sh_bench_way {
    int from, to; /* stages; -1: this machine */
    bool relayed; /* between stages: through this machine */
    uint32_t bytes;
    double one_way_us; /* half of the round trip */
    double round_trip_us;
    double bytes_per_s; /* one frame at a time */
};
#define SH_BENCH_WAYS_MAX 256
/* Every way that steps take or could take, with frames of a step, of a row, and of `n_rows` rows
 * (at most 1 MiB): `out` has room for SH_BENCH_WAYS_MAX. */
SHOAL_NODISCARD enum shoal_status sh_bench_ways(struct sh_bench_way *out, int *n,
                                                struct sh_host *host, enum sh_rpc_format format,
                                                int64_t n_rows, struct shoal_error *err);

#endif

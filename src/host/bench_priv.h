/* host/bench_priv.h - what the files of a benchmark share.
 *
 *     bench.c       tests in turn, and what they say
 *     bench_ways.c  how long frames are on the way
 *     bench_sum.c   medians and bounds
 */
#ifndef HOST_BENCH_PRIV_H
#define HOST_BENCH_PRIV_H

#include "host/bench.h"

/* Milliseconds of the hops of one step of `rows` rows (texts, one run each) over all stages;
 * negative: a stage that cannot be asked takes part. */
SHOAL_NODISCARD enum shoal_status sh_bench_hops(double *ms, struct sh_host *host,
                                                enum sh_rpc_format format, int rows,
                                                struct shoal_error *err);

#endif

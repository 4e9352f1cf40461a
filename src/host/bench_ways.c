/* host/bench_ways.c - see bench.h: how long frames are on the way, as half of a round trip of
 * frames of the same size. */
#include "host/bench_priv.h"
#include "rpc/messages.h"
#include "rpc/rows.h"

enum { PROBES = 16, PROBES_LARGE = 4, LARGE = 64 << 10 };

/* About what frames hold besides hidden rows; the time of small ones hardly depends on it. */
enum { STEP_HEAD = 72, STEP_ROW = 86, RESULT_HEAD = 60, RESULT_ROW = 24, HIDDEN_HEAD = 64 };

static uint32_t at_most(size_t bytes)
{
    return bytes < SH_RPC_CHUNK_MAX ? (uint32_t)bytes : SH_RPC_CHUNK_MAX;
}

static uint32_t step_bytes(int64_t rows)
{
    return at_most(STEP_HEAD + STEP_ROW * (size_t)rows);
}

static uint32_t result_bytes(int64_t rows)
{
    return at_most(RESULT_HEAD + RESULT_ROW * (size_t)rows);
}

static uint32_t hidden_bytes(const struct sh_host *h, enum sh_rpc_format format, int64_t rows)
{
    struct sh_model_info info;

    sh_host_model_info(h, &info);
    return at_most(HIDDEN_HEAD +
                   sh_rpc_row_bytes(sh_rpc_rows_format(format, info.width), info.width) *
                       (size_t)rows);
}

static int probes_of(uint32_t bytes)
{
    return bytes > LARGE ? PROBES_LARGE : PROBES;
}

/* Between this machine and stage i. */
static enum shoal_status measure_host(struct sh_host *h, int i, uint32_t bytes,
                                      struct sh_bench_way *out, struct shoal_error *err)
{
    struct sh_remote_probe p = {.least_us = 0};
    const enum shoal_status st =
        sh_remote_probe(sh_host_remote(h, i), bytes, probes_of(bytes), &p, err);

    *out = (struct sh_bench_way){.from = -1,
                                 .to = i,
                                 .bytes = bytes,
                                 .one_way_us = p.median_us / 2,
                                 .round_trip_us = p.median_us};
    return st;
}

/* From stage i to the next: by their link, or (relayed) through this machine. */
static enum shoal_status measure_next(struct sh_host *h, int i, bool relayed, uint32_t bytes,
                                      struct sh_bench_way *out, struct shoal_error *err)
{
    struct sh_remote_probe p = {.least_us = 0};
    struct sh_bench_way there, back;
    enum shoal_status st;

    *out = (struct sh_bench_way){.from = i, .to = i + 1, .relayed = relayed, .bytes = bytes};
    if (!relayed) {
        st = sh_host_link_probe(h, i, bytes, probes_of(bytes), &p, err);
        out->round_trip_us = p.median_us;
    } else {
        st = measure_host(h, i, bytes, &there, err);
        if (!st) st = measure_host(h, i + 1, bytes, &back, err);
        if (!st) out->round_trip_us = there.round_trip_us + back.round_trip_us;
    }
    out->one_way_us = out->round_trip_us / 2;
    return st;
}

/* ---- the hops of a step ---------------------------------------------------------------------*/

struct hops {
    struct sh_host *h;
    double us;
    struct shoal_error *err;
};

static enum shoal_status add_host(struct hops *s, int i, uint32_t bytes)
{
    struct sh_bench_way w;
    enum shoal_status st = SHOAL_OK;

    if (!sh_host_remote(s->h, i)) return SHOAL_OK; // on this machine
    st = measure_host(s->h, i, bytes, &w, s->err);
    s->us += w.one_way_us;
    return st;
}

static enum shoal_status add_next(struct hops *s, int i, uint32_t bytes)
{
    struct sh_remote_route route;
    struct sh_bench_way w;
    enum shoal_status st;

    if (sh_host_route(s->h, i, &route) && route.direct) {
        st = measure_next(s->h, i, false, bytes, &w, s->err);
        s->us += w.one_way_us;
        return st;
    }
    st = add_host(s, i, bytes);
    return st ? st : add_host(s, i + 1, bytes);
}

enum shoal_status sh_bench_hops(double *ms, struct sh_host *host, enum sh_rpc_format format,
                                int rows, struct shoal_error *err)
{
    const int n = sh_host_n_devices(host);
    struct hops s = {.h = host, .err = err};
    enum shoal_status st;

    *ms = -1;
    for (int i = 0; i < n; i++) {
        struct sh_host_device d;
        sh_host_device(host, i, &d);
        if (d.remote && !d.worker) return SHOAL_OK;
    }
    st = add_host(&s, 0, step_bytes(rows));
    for (int i = 0; i + 1 < n && !st; i++)
        st = add_next(&s, i, hidden_bytes(host, format, rows));
    if (!st) st = add_host(&s, n - 1, result_bytes(rows));
    if (!st) *ms = s.us / 1e3;
    return st;
}

/* ---- all of them ----------------------------------------------------------------------------*/

struct list {
    struct sh_bench_way *way;
    int n;
};

static void add_way(struct list *l, const struct sh_bench_way *w)
{
    if (l->n >= SH_BENCH_WAYS_MAX) return;
    l->way[l->n] = *w;
    if (w->one_way_us > 0) l->way[l->n].bytes_per_s = w->bytes * 1e6 / w->one_way_us;
    l->n++;
}

static enum shoal_status list_one(struct list *l, struct sh_host *h, int i, uint32_t bytes,
                                  struct shoal_error *err)
{
    struct sh_remote_route route;
    const bool has_route = sh_host_route(h, i, &route);
    struct sh_bench_way w;
    enum shoal_status st = measure_host(h, i, bytes, &w, err);

    if (st) return st;
    add_way(l, &w);
    if (!has_route) return SHOAL_OK;
    if (route.direct) {
        st = measure_next(h, i, false, bytes, &w, err);
        if (st) return st;
        add_way(l, &w);
    }
    st = measure_next(h, i, true, bytes, &w, err);
    if (!st) add_way(l, &w);
    return st;
}

enum shoal_status sh_bench_ways(struct sh_bench_way *out, int *n, struct sh_host *host,
                                enum sh_rpc_format format, int64_t n_rows, struct shoal_error *err)
{
    const uint32_t bytes[] = {step_bytes(1), hidden_bytes(host, format, 1),
                              hidden_bytes(host, format, n_rows)};
    struct list l = {.way = out};
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i < sh_host_n_devices(host) && !st; i++) {
        for (int k = 0; k < 3 && sh_host_remote(host, i) && !st; k++)
            st = list_one(&l, host, i, bytes[k], err);
    }
    *n = l.n;
    return st;
}

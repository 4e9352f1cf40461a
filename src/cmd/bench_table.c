/* cmd/bench_table.c - what `shoal bench` found, as tables on stdout. */
#include "cmd/bench_priv.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "cmd/table.h"

static void titles(struct sh_table *t, const char *const *title, int n)
{
    for (int i = 0; i < n; i++)
        sh_table_add(t, "%s", title[i]);
}

// Four digits that count, or so.
static int digits_of(double v)
{
    return v >= 1000 ? 0 : v >= 100 ? 1 : v >= 10 ? 2 : 3;
}

static void add_number(struct sh_table *t, double v)
{
    sh_table_add(t, "%.*f", digits_of(v), v);
}

/* ---- the plan -------------------------------------------------------------------------------*/

static enum shoal_status show_plan(const struct sh_bench_job *b, struct sh_buf *out)
{
    static const char *const title[] = {"stage", "device", "layers", "weights", "rows go on"};
    struct sh_table t = sh_table_begin("rllrl");

    titles(&t, title, 5);
    for (int i = 0; i < sh_host_n_devices(b->host); i++) {
        struct sh_host_device d;
        struct sh_remote_route route;
        sh_host_device(b->host, i, &d);
        sh_table_add(&t, "%d", i);
        sh_table_add(&t, "%s%s", d.device, d.encrypted ? " (TLS)" : "");
        sh_table_add(&t, "%lld-%lld", (long long)d.layer_first, (long long)d.layer_last);
        sh_table_add(&t, "%s", sh_show_bytes((double)d.weight_bytes).text);
        if (sh_host_route(b->host, i, &route)) {
            sh_table_add(&t, "%s", route.direct ? "directly" : "through this machine");
        } else {
            sh_table_add(&t, "%s", "");
        }
    }
    return sh_table_append(&t, 0, out);
}

/* ---- tests ----------------------------------------------------------------------------------*/

static void add_of_bound(struct sh_table *t, const struct sh_bench_result *r)
{
    const struct sh_spread *s = &r->of_bound;

    if (r->has_bound) {
        add_number(t, r->bound_ms.median);
        sh_table_add(t, "%.1f %% (%.1f-%.1f)", 100 * s->median, 100 * s->low, 100 * s->high);
    } else {
        sh_table_add(t, "%s", "-");
        sh_table_add(t, "%s", "-");
    }
}

static void add_compute(struct sh_table *t, const struct sh_bench_result *r, int n_stages)
{
    char text[96] = "";
    size_t len = 0;

    for (int i = 0; i < n_stages && len < sizeof text - 1; i++) {
        const double v = r->compute_ms[i];
        const int n =
            snprintf(text + len, sizeof text - len, "%s%.*f", i ? " + " : "", digits_of(v), v);
        len += n > 0 ? (size_t)n : 0;
    }
    sh_table_add(t, "%s", text);
}

static enum shoal_status show_tests(const struct sh_bench_job *b, struct sh_buf *out)
{
    static const char *const title[] = {"test", "steps",    "tokens/s",     "90 %",
                                        "ms",   "bound ms", "of the bound", "99 % within ms",
                                        "hops", "computing"};
    struct sh_table t = sh_table_begin("lrrlrrlrrl");

    titles(&t, title, 10);
    for (int k = 0; k < b->n_tests; k++) {
        const struct sh_bench_result *r = &b->result[k];
        const int digits = digits_of(r->per_s.median);
        sh_table_add(&t, "%s", sh_bench_name_of(&r->test).text);
        sh_table_add(&t, "%lld", (long long)r->n_steps);
        add_number(&t, r->per_s.median);
        sh_table_add(&t, "(%.*f-%.*f)", digits, r->per_s.low, digits, r->per_s.high);
        add_number(&t, r->took_ms.median);
        add_of_bound(&t, r);
        if (r->test.n_text) {
            add_number(&t, r->p99_ms);
        } else {
            sh_table_add(&t, "%s", "");
        }
        if (r->test.n_text && r->hops_ms > 0) {
            add_number(&t, r->hops_ms);
        } else {
            sh_table_add(&t, "%s", "");
        }
        add_compute(&t, r, sh_host_n_devices(b->host));
    }
    return sh_table_append(&t, 0, out);
}

/* ---- ways -----------------------------------------------------------------------------------*/

static void add_end(struct sh_table *t, int stage)
{
    if (stage < 0) {
        sh_table_add(t, "%s", "here");
    } else {
        sh_table_add(t, "stage %d", stage);
    }
}

static enum shoal_status show_ways(const struct sh_bench_job *b, struct sh_buf *out)
{
    static const char *const title[] = {"from",         "to",         "",    "frame",
                                        "one way (us)", "round trip", "MB/s"};
    struct sh_table t = sh_table_begin("lllrrrr");

    if (b->n_ways == 0) return SHOAL_OK;
    titles(&t, title, 7);
    for (int i = 0; i < b->n_ways; i++) {
        const struct sh_bench_way *w = &b->way[i];
        add_end(&t, w->from);
        add_end(&t, w->to);
        sh_table_add(&t, "%s", w->relayed ? "through here" : "direct");
        sh_table_add(&t, "%s", sh_show_bytes(w->bytes).text);
        sh_table_add(&t, "%.1f", w->one_way_us);
        sh_table_add(&t, "%.1f", w->round_trip_us);
        sh_table_add(&t, "%.*f", digits_of(w->bytes_per_s / 1e5), w->bytes_per_s / 1e6);
    }
    if (sh_buf_append(out, "\n", 1)) return SHOAL_ERR_NOMEM;
    return sh_table_append(&t, 0, out);
}

enum shoal_status sh_bench_show(const struct sh_bench_job *b, struct shoal_error *err)
{
    struct sh_buf out = SH_BUF_INIT;
    enum shoal_status st = show_plan(b, &out);

    if (!st) st = sh_buf_append(&out, "\n", 1);
    if (!st) st = show_tests(b, &out);
    if (!st) st = show_ways(b, &out);
    st = st ? sh_fail(err, st, "no memory for the tables")
            : sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){out.ptr, out.len}, err);
    sh_buf_release(&out);
    return st;
}

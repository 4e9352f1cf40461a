/* cmd/run_report.c - plan and timings of a run, for people, on stderr. */
#include "cmd/run_priv.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/table.h"
#include "host/pipeline.h"
#include "kernels/kernels.h"

void sh_traffic_take(struct sh_traffic *t, const struct sh_host *h)
{
    t->n = h ? sh_host_n_peers(h) : 0;
    for (int i = 0; i < t->n; i++)
        sh_host_network(h, i, &t->server[i]);
}

static double ms(int64_t ns)
{
    return (double)ns / (double)SH_MS;
}

/* ---- the plan ------------------------------------------------------------------------------- */

// "layers 0-14, embedding", what a device has of the model.
static struct sh_short show_part(const struct sh_host_device *d)
{
    struct sh_short s;

    (void)snprintf(s.text, sizeof s.text, "%lld-%lld", (long long)d->layer_first,
                   (long long)d->layer_last);
    return s;
}

void sh_run_show_plan(const struct sh_run *r)
{
    struct sh_table t = sh_table_begin("lllrrr");
    static const char *const titles[] = {"device", "layers", "and", "weights", "cache", "free"};

    for (int i = 0; i < 6; i++)
        sh_table_add(&t, "%s", titles[i]);
    for (int i = 0; i < sh_host_n_devices(r->host); i++) {
        struct sh_host_device d;
        sh_host_device(r->host, i, &d);
        sh_table_add(&t, "%s", d.device);
        sh_table_add(&t, "%s", show_part(&d).text);
        sh_table_add(&t, "%s%s%s", d.embed ? "embedding" : "", d.embed && d.head ? ", " : "",
                     d.head ? "head" : "");
        sh_table_add(&t, "%s", sh_show_bytes((double)d.weight_bytes).text);
        sh_table_add(&t, "%s", sh_show_bytes((double)d.kv_bytes).text);
        sh_table_add(&t, "%s", sh_show_bytes((double)d.memory_free).text);
    }
    sh_say("%s, context %lld, loaded in %.0f ms", r->o.model, (long long)r->n_ctx, ms(r->load_ns));
    sh_table_end(&t, 2);
    sh_run_show_workers(r);
}

/* ---- timings -------------------------------------------------------------------------------- */

static void add_timing(struct sh_table *t, const char *what, int64_t ns, int64_t n)
{
    sh_table_add(t, "%s", what);
    sh_table_add(t, "%.2f ms", ms(ns));
    if (n > 0 && ns > 0) {
        sh_table_add(t, "%lld tokens", (long long)n);
        sh_table_add(t, "%.2f ms per token", ms(ns) / (double)n);
        sh_table_add(t, "%.2f tokens per second", (double)n * 1e9 / (double)ns);
    } else {
        for (int i = 0; i < 3; i++)
            sh_table_add(t, "%s", "");
    }
}

static int64_t prompt_tokens(const struct sh_run *r)
{
    return r->has_perplexity ? r->n_chunks * r->chunk_tokens : (int64_t)r->prompt.len;
}

// Each protocol counts what costs it time: round trips and whole graphs of servers, frames of
// workers.  Only columns of what takes part are shown.
struct columns {
    bool servers, workers;
};

static struct columns columns_of(const struct sh_traffic *t)
{
    struct columns c = {.servers = false};

    for (int i = 0; i < t->n; i++) {
        c.workers = c.workers || t->server[i].worker;
        c.servers = c.servers || !t->server[i].worker;
    }
    return c;
}

static void add_counts(struct sh_table *t, bool shown, bool counts, const uint64_t n[2],
                       int64_t tokens)
{
    for (int i = 0; i < 2 && shown; i++) {
        if (!counts) {
            sh_table_add(t, "%s", "");
        } else if (tokens > 0) {
            sh_table_add(t, "%.2f", (double)n[i] / (double)tokens);
        } else {
            sh_table_add(t, "%llu", (unsigned long long)n[i]);
        }
    }
}

/* Rows of one phase: what crossed the network between two moments, over `n` tokens. */
static void add_traffic(struct sh_table *t, struct columns c, const char *phase,
                        const struct sh_traffic *from, const struct sh_traffic *to, int64_t n)
{
    for (int i = 0; i < to->n; i++) {
        const struct sh_host_network *b = &to->server[i];
        static const struct sh_host_network zero = {.bytes_sent = 0};
        const struct sh_host_network *a = from && i < from->n ? &from->server[i] : &zero;
        const double per = n > 0 ? (double)n : 1;
        const uint64_t trips[2] = {b->round_trips - a->round_trips,
                                   b->graphs_sent - a->graphs_sent};
        const uint64_t frames[2] = {b->frames_sent - a->frames_sent,
                                    b->frames_received - a->frames_received};
        sh_table_add(t, "%s", b->address);
        sh_table_add(t, "%s", phase);
        sh_table_add(t, "%s", sh_show_bytes((double)(b->bytes_sent - a->bytes_sent) / per).text);
        sh_table_add(t, "%s",
                     sh_show_bytes((double)(b->bytes_received - a->bytes_received) / per).text);
        add_counts(t, c.servers, !b->worker, trips, n);
        add_counts(t, c.workers, b->worker, frames, n);
    }
}

static void show_traffic(const struct sh_run *r)
{
    static const char *const titles[] = {"network", "", "sent", "received"};
    const struct columns c = columns_of(&r->ended);
    struct sh_table t = sh_table_begin(c.servers && c.workers ? "llrrrrrr" : "llrrrr");

    for (int i = 0; i < 4; i++)
        sh_table_add(&t, "%s", titles[i]);
    for (int i = 0; i < 2 && c.servers; i++)
        sh_table_add(&t, "%s", i == 0 ? "round trips" : "graphs");
    for (int i = 0; i < 2 && c.workers; i++)
        sh_table_add(&t, "%s", i == 0 ? "frames out" : "in");
    if (r->o.stats) add_traffic(&t, c, "loading", NULL, &r->loaded, 0);
    if (r->o.stats || r->done.n < 2) add_traffic(&t, c, "prompt", &r->loaded, &r->prompted, 0);
    if (r->done.n > 1) add_traffic(&t, c, "per token", &r->prompted, &r->ended, r->done.n - 1);
    if (r->o.stats) add_traffic(&t, c, "in all", NULL, &r->ended, 0);
    sh_table_end(&t, 2);
}

// Where the time of the steps went.
static void show_stages(const struct sh_run *r)
{
    struct sh_table t = sh_table_begin("llrrrrrrr");
    static const char *const titles[] = {"stage", "layers",   "steps", "compute", "wait",
                                         "wire",  "bytes in", "out",   "at once"};

    for (int i = 0; i < 9; i++)
        sh_table_add(&t, "%s", titles[i]);
    for (int i = 0; i < sh_host_n_devices(r->host); i++) {
        struct sh_pipeline_stats s;
        struct sh_host_device d;
        sh_host_device(r->host, i, &d);
        sh_pipeline_stats(sh_host_pipeline(r->host), i, &s);
        sh_table_add(&t, "%s", d.device);
        sh_table_add(&t, "%s", show_part(&d).text);
        sh_table_add(&t, "%llu", (unsigned long long)s.steps);
        sh_table_add(&t, "%.2f ms", ms(s.compute_ns));
        sh_table_add(&t, "%.2f ms", ms(s.queue_ns));
        sh_table_add(&t, "%.2f ms", ms(s.wire_ns));
        sh_table_add(&t, "%s", sh_show_bytes((double)s.bytes_in).text);
        sh_table_add(&t, "%s", sh_show_bytes((double)s.bytes_out).text);
        sh_table_add(&t, "%d", s.in_flight_max);
    }
    sh_table_end(&t, 2);
}

void sh_run_show_timings(const struct sh_run *r)
{
    struct sh_table t = sh_table_begin("lrrrr");

    add_timing(&t, "load time", r->load_ns, 0);
    add_timing(&t, "prompt eval time", r->done.prompt_ns, prompt_tokens(r));
    if (!r->has_perplexity) add_timing(&t, "eval time", r->done.predict_ns, r->done.n - 1);
    add_timing(&t, "total time", r->total_ns, 0);
    sh_say_text(SH_STR_LIT("\n"));
    sh_table_end(&t, 2);
    if (r->ended.n > 0) show_traffic(r);
    if (!r->has_perplexity && r->done.stop == SH_STOP_CONTEXT)
        sh_say("the context of %lld tokens is full (-c makes it larger)", (long long)r->n_ctx);
    if (!r->o.stats) return;
    show_stages(r);
    sh_say("kernels: %s; memory here: %s now, %s at most, besides the mapped file",
           sh_isa_name(sh_isa_allowed()), sh_show_bytes((double)sh_mem_live_bytes()).text,
           sh_show_bytes((double)sh_mem_peak_bytes()).text);
}

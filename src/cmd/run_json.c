/* cmd/run_json.c - a run as one JSON object on stdout.
 *
 * Jansson takes its memory from base/mem.h, so what it lacks is one NULL at the end: every
 * constructor passes NULL on, and json_object_set_new() then fails.
 */
#include "cmd/run_priv.h"

#include <jansson.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/log_line.h"
#include "host/pipeline.h"

// Objects are filled by these; `ok` remembers the first failure.
static void put(json_t *object, const char *key, json_t *value, bool *ok)
{
    if (json_object_set_new(object, key, value) < 0) *ok = false;
}

static void push(json_t *array, json_t *value, bool *ok)
{
    if (json_array_append_new(array, value) < 0) *ok = false;
}

static json_t *text_of(struct sh_str s)
{
    struct sh_buf clean = SH_BUF_INIT;
    json_t *value = NULL;

    // Names come from peers and files, and JSON holds UTF-8 only.
    if (!sh_append_harmless(&clean, s)) value = json_stringn(clean.ptr ? clean.ptr : "", clean.len);
    sh_buf_release(&clean);
    return value;
}

static json_t *count(uint64_t n)
{
    return json_integer((json_int_t)n);
}

static json_t *ids_of(const struct sh_ids *ids, bool *ok)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ids->len; i++)
        push(list, json_integer(ids->ptr[i]), ok);
    return list;
}

static double per_second(int64_t n, int64_t ns)
{
    return n > 0 && ns > 0 ? (double)n * 1e9 / (double)ns : 0;
}

static json_t *timings_of(const struct sh_run *r, bool *ok)
{
    const int64_t n = r->has_perplexity ? r->n_chunks * r->chunk_tokens : (int64_t)r->prompt.len;
    const struct sh_generated *d = &r->done;
    json_t *t = json_object();

    put(t, "load_ms", json_real((double)r->load_ns / SH_MS), ok);
    put(t, "prompt_n", json_integer(n), ok);
    put(t, "prompt_ms", json_real((double)d->prompt_ns / SH_MS), ok);
    put(t, "prompt_per_second", json_real(per_second(n, d->prompt_ns)), ok);
    put(t, "predicted_n", json_integer(d->n), ok);
    put(t, "predicted_ms", json_real((double)d->predict_ns / SH_MS), ok);
    put(t, "predicted_per_second", json_real(per_second(d->n - 1, d->predict_ns)), ok);
    return t;
}

// Of one of shoal's workers: where its weights came from, and where its hidden states go.
static void put_worker(json_t *row, const struct sh_run *r, int i, const struct sh_host_device *d,
                       bool *ok)
{
    struct sh_remote_route route;

    put(row, "found_bytes", count(d->bytes_found), ok);
    put(row, "sent_bytes", count(d->bytes_sent), ok);
    put(row, "encrypted", json_boolean(d->encrypted), ok);
    if (!sh_host_route(r->host, i, &route)) return;
    put(row, "direct", json_boolean(route.direct), ok);
    if (!route.direct) put(row, "why", text_of(sh_str_from(route.why)), ok);
}

static json_t *plan_of(const struct sh_run *r, bool *ok)
{
    json_t *list = json_array();

    for (int i = 0; i < sh_host_n_devices(r->host); i++) {
        struct sh_host_device d;
        json_t *row = json_object(), *layers = json_array();
        sh_host_device(r->host, i, &d);
        push(layers, json_integer(d.layer_first), ok);
        push(layers, json_integer(d.layer_last), ok);
        put(row, "device", text_of(sh_str_from(d.device)), ok);
        put(row, "layers", layers, ok);
        put(row, "weight_bytes", count(d.weight_bytes), ok);
        put(row, "kv_bytes", count(d.kv_bytes), ok);
        if (d.worker) put_worker(row, r, i, &d, ok);
        push(list, row, ok);
    }
    return list;
}

// Where the time of the steps went, stage by stage: all of it, but for what the engine takes.
static json_t *stages_of(const struct sh_run *r, bool *ok)
{
    json_t *list = json_array();

    for (int i = 0; i < sh_host_n_devices(r->host); i++) {
        struct sh_pipeline_stats s;
        struct sh_host_device d;
        json_t *row = json_object(), *layers = json_array();
        sh_host_device(r->host, i, &d);
        sh_pipeline_stats(sh_host_pipeline(r->host), i, &s);
        push(layers, json_integer(d.layer_first), ok);
        push(layers, json_integer(d.layer_last), ok);
        put(row, "device", text_of(sh_str_from(d.device)), ok);
        put(row, "layers", layers, ok);
        put(row, "compute_ms", json_real((double)s.compute_ns / SH_MS), ok);
        put(row, "wait_ms", json_real((double)s.queue_ns / SH_MS), ok);
        put(row, "wire_ms", json_real((double)s.wire_ns / SH_MS), ok);
        put(row, "bytes_in", count(s.bytes_in), ok);
        put(row, "bytes_out", count(s.bytes_out), ok);
        put(row, "steps", count(s.steps), ok);
        put(row, "in_flight_max", json_integer(s.in_flight_max), ok);
        push(list, row, ok);
    }
    return list;
}

static json_t *network_of(const struct sh_run *r, bool *ok)
{
    json_t *list = json_array();

    for (int i = 0; i < r->ended.n; i++) {
        const struct sh_host_network *n = &r->ended.server[i];
        json_t *row = json_object();
        put(row, "address", text_of(sh_str_from(n->address)), ok);
        put(row, "bytes_sent", count(n->bytes_sent), ok);
        put(row, "bytes_received", count(n->bytes_received), ok);
        if (!n->worker) put(row, "round_trips", count(n->round_trips), ok);
        if (n->worker) put(row, "frames_sent", count(n->frames_sent), ok);
        if (n->worker) put(row, "frames_received", count(n->frames_received), ok);
        push(list, row, ok);
    }
    return list;
}

static int append(const char *bytes, size_t size, void *buf)
{
    return sh_buf_append(buf, bytes, size) ? -1 : 0;
}

enum shoal_status sh_run_write_json(const struct sh_run *r, struct shoal_error *err)
{
    struct sh_buf out = SH_BUF_INIT;
    enum shoal_status st;
    bool ok = true;
    json_t *o;

    json_set_alloc_funcs(sh_malloc, sh_free);
    o = json_object();
    put(o, "text", json_stringn(r->text.ptr ? r->text.ptr : "", r->text.len), &ok);
    put(o, "prompt_ids", ids_of(&r->prompt, &ok), &ok);
    put(o, "ids", ids_of(&r->ids, &ok), &ok);
    put(o, "timings", timings_of(r, &ok), &ok);
    put(o, "plan", plan_of(r, &ok), &ok);
    put(o, "network", network_of(r, &ok), &ok);
    put(o, "stages", stages_of(r, &ok), &ok);
    if (r->has_perplexity) put(o, "perplexity", json_real(r->perplexity), &ok);
    ok = ok && json_dump_callback(o, append, &out, JSON_COMPACT | JSON_REAL_PRECISION(12)) == 0;
    ok = ok && !sh_buf_append(&out, "\n", 1);
    json_decref(o);
    st = ok ? sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){out.ptr, out.len}, err)
            : sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the JSON object");
    sh_buf_release(&out);
    return st;
}

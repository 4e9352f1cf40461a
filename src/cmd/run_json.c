/* cmd/run_json.c - a run as one JSON object on stdout. */
#include "cmd/run_priv.h"

#include "base/clock.h"
#include "cmd/json.h"
#include "host/pipeline.h"

static json_t *ids_of(const struct sh_ids *ids, bool *ok)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ids->len; i++)
        sh_json_push(list, json_integer(ids->ptr[i]), ok);
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

    sh_json_put(t, "load_ms", json_real((double)r->load_ns / SH_MS), ok);
    sh_json_put(t, "prompt_n", json_integer(n), ok);
    sh_json_put(t, "prompt_ms", json_real((double)d->prompt_ns / SH_MS), ok);
    sh_json_put(t, "prompt_per_second", json_real(per_second(n, d->prompt_ns)), ok);
    sh_json_put(t, "predicted_n", json_integer(d->n), ok);
    sh_json_put(t, "predicted_ms", json_real((double)d->predict_ns / SH_MS), ok);
    sh_json_put(t, "predicted_per_second", json_real(per_second(d->n - 1, d->predict_ns)), ok);
    return t;
}

// Of one of shoal's workers: where its weights came from, and where its hidden states go.
static void put_worker(json_t *row, const struct sh_run *r, int i, const struct sh_host_device *d,
                       bool *ok)
{
    struct sh_remote_route route;

    sh_json_put(row, "found_bytes", sh_json_count(d->bytes_found), ok);
    sh_json_put(row, "sent_bytes", sh_json_count(d->bytes_sent), ok);
    sh_json_put(row, "encrypted", json_boolean(d->encrypted), ok);
    if (!sh_host_route(r->host, i, &route)) return;
    sh_json_put(row, "direct", json_boolean(route.direct), ok);
    if (!route.direct) sh_json_put(row, "why", sh_json_text(sh_str_from(route.why)), ok);
}

static json_t *plan_of(const struct sh_run *r, bool *ok)
{
    json_t *list = json_array();

    for (int i = 0; i < sh_host_n_devices(r->host); i++) {
        struct sh_host_device d;
        json_t *row = json_object(), *layers = json_array();
        sh_host_device(r->host, i, &d);
        sh_json_push(layers, json_integer(d.layer_first), ok);
        sh_json_push(layers, json_integer(d.layer_last), ok);
        sh_json_put(row, "device", sh_json_text(sh_str_from(d.device)), ok);
        sh_json_put(row, "layers", layers, ok);
        sh_json_put(row, "weight_bytes", sh_json_count(d.weight_bytes), ok);
        sh_json_put(row, "kv_bytes", sh_json_count(d.kv_bytes), ok);
        if (d.worker) put_worker(row, r, i, &d, ok);
        sh_json_push(list, row, ok);
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
        sh_json_push(layers, json_integer(d.layer_first), ok);
        sh_json_push(layers, json_integer(d.layer_last), ok);
        sh_json_put(row, "device", sh_json_text(sh_str_from(d.device)), ok);
        sh_json_put(row, "layers", layers, ok);
        sh_json_put(row, "compute_ms", json_real((double)s.compute_ns / SH_MS), ok);
        sh_json_put(row, "wait_ms", json_real((double)s.queue_ns / SH_MS), ok);
        sh_json_put(row, "wire_ms", json_real((double)s.wire_ns / SH_MS), ok);
        sh_json_put(row, "bytes_in", sh_json_count(s.bytes_in), ok);
        sh_json_put(row, "bytes_out", sh_json_count(s.bytes_out), ok);
        sh_json_put(row, "steps", sh_json_count(s.steps), ok);
        sh_json_put(row, "in_flight_max", json_integer(s.in_flight_max), ok);
        sh_json_push(list, row, ok);
    }
    return list;
}

static json_t *network_of(const struct sh_run *r, bool *ok)
{
    json_t *list = json_array();

    for (int i = 0; i < r->ended.n; i++) {
        const struct sh_host_network *n = &r->ended.server[i];
        json_t *row = json_object();
        sh_json_put(row, "address", sh_json_text(sh_str_from(n->address)), ok);
        sh_json_put(row, "bytes_sent", sh_json_count(n->bytes_sent), ok);
        sh_json_put(row, "bytes_received", sh_json_count(n->bytes_received), ok);
        if (!n->worker) sh_json_put(row, "round_trips", sh_json_count(n->round_trips), ok);
        if (n->worker) sh_json_put(row, "frames_sent", sh_json_count(n->frames_sent), ok);
        if (n->worker) sh_json_put(row, "frames_received", sh_json_count(n->frames_received), ok);
        sh_json_push(list, row, ok);
    }
    return list;
}

enum shoal_status sh_run_write_json(const struct sh_run *r, struct shoal_error *err)
{
    json_t *o = sh_json_begin();
    bool ok = true;

    sh_json_put(o, "text", json_stringn(r->text.ptr ? r->text.ptr : "", r->text.len), &ok);
    sh_json_put(o, "prompt_ids", ids_of(&r->prompt, &ok), &ok);
    sh_json_put(o, "ids", ids_of(&r->ids, &ok), &ok);
    sh_json_put(o, "timings", timings_of(r, &ok), &ok);
    sh_json_put(o, "plan", plan_of(r, &ok), &ok);
    sh_json_put(o, "network", network_of(r, &ok), &ok);
    sh_json_put(o, "stages", stages_of(r, &ok), &ok);
    if (r->has_perplexity) sh_json_put(o, "perplexity", json_real(r->perplexity), &ok);
    return sh_json_write(o, ok, 12, err);
}

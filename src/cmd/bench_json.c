/* cmd/bench_json.c - what `shoal bench` found, as one JSON object on stdout. */
#include "cmd/bench_priv.h"

#include "base/clock.h"
#include "cmd/json.h"

static json_t *spread_of(const struct sh_spread *s, bool *ok)
{
    json_t *o = json_object();

    sh_json_put(o, "median", json_real(s->median), ok);
    sh_json_put(o, "low", json_real(s->low), ok);
    sh_json_put(o, "high", json_real(s->high), ok);
    return o;
}

static json_t *plan_of(const struct sh_bench_job *b, bool *ok)
{
    json_t *list = json_array();

    for (int i = 0; i < sh_host_n_devices(b->host); i++) {
        struct sh_host_device d;
        struct sh_remote_route route;
        json_t *row = json_object(), *layers = json_array();
        sh_host_device(b->host, i, &d);
        sh_json_push(layers, json_integer(d.layer_first), ok);
        sh_json_push(layers, json_integer(d.layer_last), ok);
        sh_json_put(row, "device", sh_json_text(sh_str_from(d.device)), ok);
        sh_json_put(row, "layers", layers, ok);
        sh_json_put(row, "weight_bytes", json_integer((json_int_t)d.weight_bytes), ok);
        sh_json_put(row, "found_bytes", json_integer((json_int_t)d.bytes_found), ok);
        sh_json_put(row, "sent_bytes", json_integer((json_int_t)d.bytes_sent), ok);
        sh_json_put(row, "encrypted", json_boolean(d.encrypted), ok);
        if (sh_host_route(b->host, i, &route))
            sh_json_put(row, "direct", json_boolean(route.direct), ok);
        sh_json_push(list, row, ok);
    }
    return list;
}

static void put_text(json_t *row, const struct sh_bench_result *r, bool *ok)
{
    sh_json_put(row, "n_seqs", json_integer(r->test.n_seqs), ok);
    sh_json_put(row, "n_groups", json_integer(r->test.n_groups), ok);
    sh_json_put(row, "in_flight", json_integer(r->test.in_flight), ok);
    sh_json_put(row, "p50_ms", json_real(r->p50_ms), ok);
    sh_json_put(row, "p99_ms", json_real(r->p99_ms), ok);
    sh_json_put(row, "max_ms", json_real(r->max_ms), ok);
    if (r->hops_ms >= 0) sh_json_put(row, "hops_ms", json_real(r->hops_ms), ok);
}

static json_t *test_of(const struct sh_bench_job *b, const struct sh_bench_result *r, bool *ok)
{
    json_t *row = json_object(), *compute = json_array(), *queue = json_array(),
           *values = json_array();

    for (int i = 0; i < sh_host_n_devices(b->host); i++) {
        sh_json_push(compute, json_real(r->compute_ms[i]), ok);
        sh_json_push(queue, json_real(r->queue_ms[i]), ok);
    }
    for (int i = 0; i < r->n; i++)
        sh_json_push(values, json_real(r->values[i]), ok);
    sh_json_put(row, "test", sh_json_text(sh_str_from(sh_bench_name_of(&r->test).text)), ok);
    sh_json_put(row, "n_prompt", json_integer(r->test.n_prompt), ok);
    sh_json_put(row, "n_gen", json_integer(r->test.n_text), ok);
    sh_json_put(row, "n_depth", json_integer(r->test.n_depth), ok);
    sh_json_put(row, "chunk", json_integer(r->test.chunk), ok);
    sh_json_put(row, "steps", json_integer(r->n_steps), ok);
    sh_json_put(row, "tokens_per_second", spread_of(&r->per_s, ok), ok);
    sh_json_put(row, "values", values, ok);
    sh_json_put(row, "took_ms", spread_of(&r->took_ms, ok), ok);
    sh_json_put(row, "compute_ms", compute, ok);
    sh_json_put(row, "queue_ms", queue, ok);
    if (r->test.n_text) put_text(row, r, ok);
    if (r->has_bound) sh_json_put(row, "bound_ms", spread_of(&r->bound_ms, ok), ok);
    if (r->has_bound) sh_json_put(row, "of_bound", spread_of(&r->of_bound, ok), ok);
    return row;
}

static json_t *ways_of(const struct sh_bench_job *b, bool *ok)
{
    json_t *list = json_array();

    for (int i = 0; i < b->n_ways; i++) {
        const struct sh_bench_way *w = &b->way[i];
        json_t *row = json_object();
        sh_json_put(row, "from", json_integer(w->from), ok);
        sh_json_put(row, "to", json_integer(w->to), ok);
        sh_json_put(row, "relayed", json_boolean(w->relayed), ok);
        sh_json_put(row, "bytes", json_integer(w->bytes), ok);
        sh_json_put(row, "one_way_us", json_real(w->one_way_us), ok);
        sh_json_put(row, "round_trip_us", json_real(w->round_trip_us), ok);
        sh_json_put(row, "bytes_per_second", json_real(w->bytes_per_s), ok);
        sh_json_push(list, row, ok);
    }
    return list;
}

enum shoal_status sh_bench_write_json(const struct sh_bench_job *b, struct shoal_error *err)
{
    json_t *o = sh_json_begin(), *tests = json_array();
    bool ok = true;

    for (int k = 0; k < b->n_tests; k++)
        sh_json_push(tests, test_of(b, &b->result[k], &ok), &ok);
    sh_json_put(o, "model", sh_json_text(sh_str_from(b->o.model)), &ok);
    sh_json_put(o, "load_ms", json_real((double)b->load_ns / SH_MS), &ok);
    sh_json_put(o, "repetitions", json_integer(b->o.repetitions), &ok);
    sh_json_put(o, "plan", plan_of(b, &ok), &ok);
    sh_json_put(o, "tests", tests, &ok);
    sh_json_put(o, "links", ways_of(b, &ok), &ok);
    return sh_json_write(o, ok, 9, err);
}

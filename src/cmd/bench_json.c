/* cmd/bench_json.c - what `shoal bench` found, as one JSON object on stdout.
 *
 * Jansson takes its memory from base/mem.h, so what it lacks is one NULL at the end: every
 * constructor passes NULL on, and json_object_set_new() then fails.
 */
#include "cmd/bench_priv.h"

#include <jansson.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/log_line.h"

static void put(json_t *object, const char *key, json_t *value, bool *ok)
{
    if (json_object_set_new(object, key, value) < 0) *ok = false;
}

static void push(json_t *array, json_t *value, bool *ok)
{
    if (json_array_append_new(array, value) < 0) *ok = false;
}

static json_t *text_of(const char *text)
{
    struct sh_buf clean = SH_BUF_INIT;
    json_t *value = NULL;

    // Names come from peers and files, and JSON holds UTF-8 only.
    if (!sh_append_harmless(&clean, sh_str_from(text)))
        value = json_stringn(clean.ptr ? clean.ptr : "", clean.len);
    sh_buf_release(&clean);
    return value;
}

static json_t *spread_of(const struct sh_spread *s, bool *ok)
{
    json_t *o = json_object();

    put(o, "median", json_real(s->median), ok);
    put(o, "low", json_real(s->low), ok);
    put(o, "high", json_real(s->high), ok);
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
        push(layers, json_integer(d.layer_first), ok);
        push(layers, json_integer(d.layer_last), ok);
        put(row, "device", text_of(d.device), ok);
        put(row, "layers", layers, ok);
        put(row, "weight_bytes", json_integer((json_int_t)d.weight_bytes), ok);
        put(row, "found_bytes", json_integer((json_int_t)d.bytes_found), ok);
        put(row, "sent_bytes", json_integer((json_int_t)d.bytes_sent), ok);
        put(row, "encrypted", json_boolean(d.encrypted), ok);
        if (sh_host_route(b->host, i, &route)) put(row, "direct", json_boolean(route.direct), ok);
        push(list, row, ok);
    }
    return list;
}

static void put_text(json_t *row, const struct sh_bench_result *r, bool *ok)
{
    put(row, "n_seqs", json_integer(r->test.n_seqs), ok);
    put(row, "n_groups", json_integer(r->test.n_groups), ok);
    put(row, "in_flight", json_integer(r->test.in_flight), ok);
    put(row, "p50_ms", json_real(r->p50_ms), ok);
    put(row, "p99_ms", json_real(r->p99_ms), ok);
    put(row, "max_ms", json_real(r->max_ms), ok);
    if (r->hops_ms >= 0) put(row, "hops_ms", json_real(r->hops_ms), ok);
}

static json_t *test_of(const struct sh_bench_job *b, const struct sh_bench_result *r, bool *ok)
{
    json_t *row = json_object(), *compute = json_array(), *queue = json_array(),
           *values = json_array();

    for (int i = 0; i < sh_host_n_devices(b->host); i++) {
        push(compute, json_real(r->compute_ms[i]), ok);
        push(queue, json_real(r->queue_ms[i]), ok);
    }
    for (int i = 0; i < r->n; i++)
        push(values, json_real(r->values[i]), ok);
    put(row, "test", text_of(sh_bench_name_of(&r->test).text), ok);
    put(row, "n_prompt", json_integer(r->test.n_prompt), ok);
    put(row, "n_gen", json_integer(r->test.n_text), ok);
    put(row, "n_depth", json_integer(r->test.n_depth), ok);
    put(row, "chunk", json_integer(r->test.chunk), ok);
    put(row, "steps", json_integer(r->n_steps), ok);
    put(row, "tokens_per_second", spread_of(&r->per_s, ok), ok);
    put(row, "values", values, ok);
    put(row, "took_ms", spread_of(&r->took_ms, ok), ok);
    put(row, "compute_ms", compute, ok);
    put(row, "queue_ms", queue, ok);
    if (r->test.n_text) put_text(row, r, ok);
    if (r->has_bound) put(row, "bound_ms", spread_of(&r->bound_ms, ok), ok);
    if (r->has_bound) put(row, "of_bound", spread_of(&r->of_bound, ok), ok);
    return row;
}

static json_t *ways_of(const struct sh_bench_job *b, bool *ok)
{
    json_t *list = json_array();

    for (int i = 0; i < b->n_ways; i++) {
        const struct sh_bench_way *w = &b->way[i];
        json_t *row = json_object();
        put(row, "from", json_integer(w->from), ok);
        put(row, "to", json_integer(w->to), ok);
        put(row, "relayed", json_boolean(w->relayed), ok);
        put(row, "bytes", json_integer(w->bytes), ok);
        put(row, "one_way_us", json_real(w->one_way_us), ok);
        put(row, "round_trip_us", json_real(w->round_trip_us), ok);
        put(row, "bytes_per_second", json_real(w->bytes_per_s), ok);
        push(list, row, ok);
    }
    return list;
}

static int append(const char *bytes, size_t size, void *buf)
{
    return sh_buf_append(buf, bytes, size) ? -1 : 0;
}

enum shoal_status sh_bench_write_json(const struct sh_bench_job *b, struct shoal_error *err)
{
    struct sh_buf out = SH_BUF_INIT;
    json_t *o, *tests;
    enum shoal_status st;
    bool ok = true;

    json_set_alloc_funcs(sh_malloc, sh_free);
    o = json_object();
    tests = json_array();
    for (int k = 0; k < b->n_tests; k++)
        push(tests, test_of(b, &b->result[k], &ok), &ok);
    put(o, "model", text_of(b->o.model), &ok);
    put(o, "load_ms", json_real((double)b->load_ns / SH_MS), &ok);
    put(o, "repetitions", json_integer(b->o.repetitions), &ok);
    put(o, "plan", plan_of(b, &ok), &ok);
    put(o, "tests", tests, &ok);
    put(o, "links", ways_of(b, &ok), &ok);
    ok = ok && json_dump_callback(o, append, &out, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;
    ok = ok && !sh_buf_append(&out, "\n", 1);
    json_decref(o);
    st = ok ? sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){out.ptr, out.len}, err)
            : sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the JSON object");
    sh_buf_release(&out);
    return st;
}

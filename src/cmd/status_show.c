/* cmd/status_show.c - workers and their occupants, for people and for programs. */
#include "cmd/status_priv.h"

#include <stdio.h>

#include "cmd/console.h"
#include "cmd/json.h"
#include "cmd/table.h"

static bool is_text(struct sh_rpc_text t, const char *c)
{
    return t.n == strlen(c) && memcmp(t.ptr, c, t.n) == 0;
}

uint64_t sh_status_figure(const struct sh_status_worker *w, const char *name)
{
    for (uint32_t i = 0; i < w->figures.n_stats; i++) {
        if (is_text(w->figures.stats[i].name, name)) return w->figures.stats[i].value;
    }
    return 0;
}

/* ---- for people -----------------------------------------------------------------------------*/

struct span {
    char text[24];
};
static struct span span_of(uint64_t seconds)
{
    struct span s;
    const unsigned long long n = seconds;

    if (n < 100) {
        (void)snprintf(s.text, sizeof s.text, "%llu s", n);
    } else if (n < 100 * 60) {
        (void)snprintf(s.text, sizeof s.text, "%llu min", n / 60);
    } else if (n < 100 * 3600) {
        (void)snprintf(s.text, sizeof s.text, "%llu h", n / 3600);
    } else {
        (void)snprintf(s.text, sizeof s.text, "%llu d", n / 86400);
    }
    return s;
}

static void add_text(struct sh_table *t, struct sh_rpc_text text, const char *without)
{
    if (text.n > 0) {
        sh_table_add(t, "%.*s", (int)text.n, text.ptr);
    } else {
        sh_table_add(t, "%s", without);
    }
}

static enum shoal_status add_occupants(struct sh_buf *out, const struct sh_status_worker *w)
{
    static const char *const titles[] = {"key", "model", "from", "memory", "steps", "age", "idle"};
    struct sh_table t = sh_table_begin("lllrrrr");

    for (int i = 0; i < 7; i++)
        sh_table_add(&t, "%s", titles[i]);
    for (uint32_t i = 0; i < w->figures.n_sessions; i++) {
        const struct sh_rpc_occupant *o = &w->figures.sessions[i];
        add_text(&t, o->key, "none");
        add_text(&t, o->name, "-");
        add_text(&t, o->peer, "(lost)");
        sh_table_add(&t, "%s", sh_show_bytes((double)o->memory).text);
        sh_table_add(&t, "%llu", (unsigned long long)o->steps);
        sh_table_add(&t, "%s", span_of(o->age_s).text);
        sh_table_add(&t, "%s", span_of(o->idle_ms / 1000).text);
    }
    return sh_table_append(&t, 2, out);
}

enum shoal_status sh_status_show(struct sh_buf *out, const struct sh_status_worker *w,
                                 struct shoal_error *err)
{
    const uint64_t total = sh_status_figure(w, "memory_total");
    const uint64_t left = sh_status_figure(w, "memory_free");
    const uint64_t own = sh_status_figure(w, "memory_sessions");
    const uint64_t used = left < total ? total - left : 0;
    enum shoal_status st =
        sh_buf_printf(out, "%s: %s, %s, %s; ", w->info.address,
                      w->info.n_devices > 0 ? w->info.device[0].info.description : "no device",
                      w->info.software, w->info.encrypted ? "encrypted" : "not encrypted");

    if (!st)
        st = sh_buf_printf(out, "%s of %s in use, %s free; up %s\n",
                           sh_show_bytes((double)used).text, sh_show_bytes((double)total).text,
                           sh_show_bytes((double)left).text,
                           span_of(sh_status_figure(w, "uptime_s")).text);
    if (!st && w->figures.n_sessions > 0) st = add_occupants(out, w);
    if (!st && used > own)
        st = sh_buf_printf(out, "  and clients of llama.cpp's protocol: %s\n",
                           sh_show_bytes((double)(used - own)).text);
    if (!st && used == 0 && w->figures.n_sessions == 0) st = sh_buf_printf(out, "  nobody\n");
    return st ? sh_fail(err, st, "no memory to show a worker") : SHOAL_OK;
}

/* ---- for programs ---------------------------------------------------------------------------*/

static json_t *text_of(struct sh_rpc_text t)
{
    return t.n > 0 ? json_stringn(t.ptr, t.n) : json_null();
}

static json_t *devices_of(const struct sh_remote_info *info, bool *ok)
{
    json_t *list = json_array();

    for (int i = 0; i < info->n_devices; i++) {
        const struct sh_remote_device *d = &info->device[i];
        json_t *o = json_object();
        sh_json_put(o, "name", json_string(d->info.name), ok);
        sh_json_put(o, "description", json_string(d->info.description), ok);
        sh_json_put(o, "threads", json_integer((json_int_t)d->n_threads), ok);
        sh_json_put(o, "memory_free", sh_json_count(d->info.memory_free), ok);
        sh_json_put(o, "memory_total", sh_json_count(d->info.memory_total), ok);
        sh_json_push(list, o, ok);
    }
    return list;
}

static json_t *sessions_of(const struct sh_rpc_stats_are *figures, bool *ok)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < figures->n_sessions; i++) {
        const struct sh_rpc_occupant *s = &figures->sessions[i];
        json_t *o = json_object();
        sh_json_put(o, "key", text_of(s->key), ok);
        sh_json_put(o, "model", text_of(s->name), ok);
        sh_json_put(o, "peer", text_of(s->peer), ok);
        sh_json_put(o, "memory", sh_json_count(s->memory), ok);
        sh_json_put(o, "steps", sh_json_count(s->steps), ok);
        sh_json_put(o, "age_s", sh_json_count(s->age_s), ok);
        sh_json_put(o, "idle_ms", sh_json_count(s->idle_ms), ok);
        sh_json_push(list, o, ok);
    }
    return list;
}

static json_t *figures_of(const struct sh_rpc_stats_are *figures, bool *ok)
{
    json_t *o = json_object();
    char name[100];

    for (uint32_t i = 0; i < figures->n_stats; i++) {
        const struct sh_rpc_stat *s = &figures->stats[i];
        (void)snprintf(name, sizeof name, "%.*s", (int)s->name.n, s->name.ptr);
        sh_json_put(o, name, sh_json_count(s->value), ok);
    }
    return o;
}

static json_t *worker_of(const struct sh_status_worker *w, bool *ok)
{
    json_t *o = json_object();

    sh_json_put(o, "address", json_string(w->address), ok);
    if (w->status) {
        sh_json_put(o, "status", json_string(shoal_status_name(w->status)), ok);
        sh_json_put(o, "message", json_string(w->error.message), ok);
        return o;
    }
    sh_json_put(o, "status", json_string("OK"), ok);
    sh_json_put(o, "software", json_string(w->info.software), ok);
    sh_json_put(o, "encrypted", json_boolean(w->info.encrypted), ok);
    sh_json_put(o, "devices", devices_of(&w->info, ok), ok);
    sh_json_put(o, "figures", figures_of(&w->figures, ok), ok);
    sh_json_put(o, "sessions", sessions_of(&w->figures, ok), ok);
    return o;
}

enum shoal_status sh_status_show_json(struct sh_buf *out, const struct sh_status_worker *w, int n,
                                      struct shoal_error *err)
{
    json_t *root = sh_json_begin(), *list = json_array();
    bool ok = true;

    for (int i = 0; i < n; i++)
        sh_json_push(list, worker_of(&w[i], &ok), &ok);
    sh_json_put(root, "workers", list, &ok);
    return sh_json_line(out, root, ok, 9, err);
}

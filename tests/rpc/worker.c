/* tests/rpc/worker.c - see worker.h. */
#include "rpc/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fnv.h"
#include "base/mem.h"
#include "blob/sha256.h"
#include "cpu/device.h"
#include "rpc/graph_wire.h"
#include "rpc/step_wire.h"

#define STREAM_BYTES (256u << 10)
#define VOCAB 96

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

/* ---- the worker -----------------------------------------------------------------------------*/

void worker_open(struct worker *w, const struct sh_rpc_server_options *opt)
{
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = WORKER_MEMORY};
    struct sh_rpc_server_options o = {.drain_ns = 50 * SH_MS};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device *inner;

    memset(w, 0, sizeof *w);
    if (opt) o = *opt;
    faults_init(&w->faults);
    must(sh_cpu_device_open(&inner, &cpu, &err), &err);
    w->device = fault_device_over(inner, &w->faults);
    assert_non_null(w->device);
    must(sh_ledger_create(&w->ledger, WORKER_MEMORY, &err), &err);
    must(sh_blobs_create(&w->blobs, NULL, &err), &err);
    o.devices = &w->device;
    o.n_devices = 1;
    o.ledger = w->ledger;
    o.blobs = w->blobs;
    must(sh_rpc_server_create(&w->server, &o, &err), &err);
}

void worker_close(struct worker *w)
{
    struct sh_rpc_server_stats f;
    struct sh_device_info info;
    struct shoal_error err = SHOAL_ERROR_INIT;

    sh_rpc_server_stop(w->server);
    sh_rpc_server_drain(w->server);
    sh_rpc_server_stats(w->server, &f);
    assert_int_equal(f.n_sessions + f.n_connections + f.n_detached, 0);
    assert_int_equal(f.memory_used, 0);
    assert_int_equal(sh_ledger_left(w->ledger), WORKER_MEMORY);
    must(sh_device_info(w->device, &info, &err), &err);
    assert_int_equal(info.memory_free, WORKER_MEMORY);
    sh_rpc_server_destroy(w->server);
    sh_blobs_destroy(w->blobs);
    sh_ledger_destroy(w->ledger);
    sh_device_close(w->device);
    faults_release(&w->faults);
}

static void await(struct worker *w, int n_sessions, int n_detached, int n_connections)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, SOON_NS);
    struct sh_rpc_server_stats f;

    for (;;) {
        struct sh_mutex m;
        struct sh_cond c;
        sh_rpc_server_stats(w->server, &f);
        if (f.n_sessions == n_sessions && f.n_detached == n_detached &&
            (n_connections < 0 || f.n_connections == n_connections)) {
            return;
        }
        if (sh_now_ns(&sh_clock_system) > end)
            fail_msg("%d sessions, %d detached, %d connections; expected %d, %d", f.n_sessions,
                     f.n_detached, f.n_connections, n_sessions, n_detached);
        sh_mutex_init(&m);
        sh_cond_init(&c);
        sh_mutex_lock(&m);
        (void)sh_cond_wait(&c, &m, 5 * SH_MS);
        sh_mutex_unlock(&m);
        sh_cond_release(&c);
        sh_mutex_release(&m);
    }
}

void worker_await(struct worker *w, int n_sessions, int n_detached)
{
    await(w, n_sessions, n_detached, -1);
}

void worker_await_idle(struct worker *w)
{
    await(w, 0, 0, 0);
    assert_int_equal(sh_ledger_left(w->ledger), WORKER_MEMORY);
}

/* ---- clients --------------------------------------------------------------------------------*/

static void *serve(void *arg)
{
    struct client *c = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;

    (void)sh_rpc_server_serve(c->w->server, c->theirs, &c->who, &err);
    return NULL;
}

static void append_floats(struct event *e, const void *bytes, size_t n_bytes)
{
    const size_t n = n_bytes / sizeof(float);
    float *grown = sh_realloc_array(e->floats, e->n_floats + n, sizeof *grown);

    SH_ASSERT(grown != NULL);
    memcpy(grown + e->n_floats, bytes, n * sizeof *grown);
    e->floats = grown;
    e->n_floats += n;
}

static void note_result(struct event *e, const struct sh_rpc_result *m)
{
    e->epoch = m->epoch;
    e->number = m->number;
    e->stage_slot = m->stage.slot;
    e->status = sh_rpc_status_get(m->status);
    e->n_outcomes = (int)m->n_outcomes;
    for (uint32_t i = 0; i < m->n_outcomes && i < 16; i++)
        e->tokens[i] = m->outcomes[i].token;
    sh_rpc_text_copy(e->message, sizeof e->message, m->message);
}

static void note_hidden(struct event *e, const struct sh_rpc_hidden *m)
{
    e->epoch = m->epoch;
    e->number = m->number;
    e->stage_slot = m->stage.slot;
    e->status = sh_rpc_status_get(m->status);
    e->first_row = m->first_row;
    e->n_rows = m->n_rows;
    append_floats(e, m->data.ptr, m->data.n);
}

static void note_error(struct event *e, const struct sh_rpc_error *m)
{
    e->status = sh_rpc_status_get(m->status);
    sh_rpc_text_copy(e->message, sizeof e->message, m->message);
}

/* Under the lock: LOGITS belong to the latest RESULT of their step. */
static void note_logits(struct client *c, const struct sh_rpc_logits *m)
{
    for (int i = c->n_events - 1; i >= 0; i--) {
        struct event *e = &c->event[i];
        if (e->type != SH_RPC_MSG_RESULT || e->number != m->number || e->epoch != m->epoch)
            continue;
        append_floats(e, m->data.ptr, m->data.n);
        return;
    }
}

static enum shoal_status on_message(void *self, struct sh_rpc_conn *conn,
                                    const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    struct client *c = self;
    struct event *e;

    (void)conn;
    (void)err;
    sh_mutex_lock(&c->lock);
    if (m->type == SH_RPC_MSG_LOGITS) {
        note_logits(c, m->msg);
    } else {
        SH_ASSERT(c->n_events < EVENTS_MAX);
        e = &c->event[c->n_events++];
        e->type = m->type;
        if (m->type == SH_RPC_MSG_RESULT) note_result(e, m->msg);
        if (m->type == SH_RPC_MSG_HIDDEN) note_hidden(e, m->msg);
        if (m->type == SH_RPC_MSG_ERROR) note_error(e, m->msg);
    }
    sh_cond_broadcast(&c->changed);
    sh_mutex_unlock(&c->lock);
    return SHOAL_OK;
}

static void *read_all(void *arg)
{
    struct client *c = arg;
    const struct sh_rpc_handler h = {.message = on_message, .self = c};
    struct shoal_error err = SHOAL_ERROR_INIT;
    const enum shoal_status st = sh_rpc_conn_run(c->c, &h, &err);

    sh_mutex_lock(&c->lock);
    c->over = true;
    c->status = st;
    c->error = err;
    sh_cond_broadcast(&c->changed);
    sh_mutex_unlock(&c->lock);
    return NULL;
}

enum shoal_status client_try_open(struct client *c, struct worker *w, enum sh_rpc_purpose purpose,
                                  const char *kid, uint64_t features, struct shoal_error *err)
{
    const struct sh_rpc_conn_options opt = {
        .features = features ? features : SH_RPC_FEATURES_ALL & ~(uint64_t)SH_RPC_DATA,
        .purpose = purpose};
    struct sh_stream *mine;
    enum shoal_status st;

    memset(c, 0, sizeof *c);
    c->w = w;
    c->hash = SH_FNV_START;
    c->who.loopback = true;
    (void)snprintf(c->who.kid, sizeof c->who.kid, "%s", kid);
    (void)snprintf(c->who.name, sizeof c->who.name, "%s", kid[0] ? "somebody" : "");
    sh_mutex_init(&c->lock);
    sh_cond_init(&c->changed);
    st = sh_stream_pair(&mine, &c->theirs, STREAM_BYTES, err);
    if (st) return st;
    if (w->peer) (void)snprintf(c->theirs->peer, sizeof c->theirs->peer, "%s", w->peer);
    must(sh_thread_start(&c->serving, "serve", serve, c, err), err);
    st = sh_rpc_conn_connect(&c->c, mine, &opt, err);
    if (st) {
        sh_thread_join(&c->serving);
        return st;
    }
    must(sh_thread_start(&c->reading, "client", read_all, c, err), err);
    return SHOAL_OK;
}

void client_open(struct client *c, struct worker *w, enum sh_rpc_purpose purpose, const char *kid,
                 uint64_t features)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    must(client_try_open(c, w, purpose, kid, features, &err), &err);
}

void client_forget(struct client *c)
{
    sh_mutex_lock(&c->lock);
    for (int i = 0; i < c->n_events; i++)
        sh_free(c->event[i].floats);
    memset(c->event, 0, sizeof c->event);
    c->n_events = 0;
    sh_mutex_unlock(&c->lock);
}

static void end_client(struct client *c)
{
    sh_thread_join(&c->reading);
    sh_rpc_conn_close(c->c, NULL);
    sh_thread_join(&c->serving);
    client_forget(c);
    sh_cond_release(&c->changed);
    sh_mutex_release(&c->lock);
}

void client_close(struct client *c)
{
    sh_rpc_conn_leave(c->c, "done");
    end_client(c);
}

void client_cut(struct client *c)
{
    sh_rpc_conn_cut(c->c);
    end_client(c);
}

void client_await_over(struct client *c)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, SOON_NS);

    sh_mutex_lock(&c->lock);
    while (!c->over) {
        if (!sh_cond_wait(&c->changed, &c->lock, end - sh_now_ns(&sh_clock_system))) break;
    }
    if (!c->over) fail_msg("the connection does not end");
    sh_mutex_unlock(&c->lock);
}

enum shoal_status client_ask(struct client *c, enum sh_rpc_type type, const void *msg, void *answer,
                             struct sh_arena *arena, struct shoal_error *err)
{
    struct sh_rpc_ask ask = {
        .type = type, .msg = msg, .answer = answer, .arena = arena, .timeout_ns = SOON_NS};

    return sh_rpc_conn_ask(c->c, &ask, err);
}

void client_send(struct client *c, enum sh_rpc_type type, const void *msg)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    must(sh_rpc_conn_send_wait(c->c, type, 0, msg, 0, SOON_NS, &err), &err);
}

void client_begin(struct client *c, struct question *q, enum sh_rpc_type type, const void *msg)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    *q = (struct question){.arena = SH_ARENA_INIT};
    q->ask = (struct sh_rpc_ask){
        .type = type, .msg = msg, .answer = &q->answer, .arena = &q->arena, .timeout_ns = SOON_NS};
    must(sh_rpc_conn_ask_begin(c->c, &q->ask, &q->asked, &err), &err);
}

enum shoal_status client_end(struct client *c, struct question *q, struct shoal_error *err)
{
    enum shoal_status st;

    if (!sh_rpc_conn_ask_wait(c->c, q->asked, SOON_NS)) fail_msg("no answer");
    st = sh_rpc_conn_ask_end(c->c, q->asked, err);
    sh_arena_release(&q->arena);
    return st;
}

/* Under the lock. */
static void await_change(struct client *c, int64_t end, const char *what)
{
    const int64_t left = end - sh_now_ns(&sh_clock_system);

    if (c->over) fail_msg("%s: the connection is over: %s", what, c->error.message);
    if (left <= 0) fail_msg("%s does not come", what);
    (void)sh_cond_wait(&c->changed, &c->lock, left);
}

struct event *client_event(struct client *c, int i)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, SOON_NS);
    char what[32];

    (void)snprintf(what, sizeof what, "event %d", i);
    sh_mutex_lock(&c->lock);
    while (c->n_events <= i)
        await_change(c, end, what);
    sh_mutex_unlock(&c->lock);
    return &c->event[i];
}

struct event *client_event_or_end(struct client *c, int i)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, SOON_NS);
    struct event *e = NULL;

    sh_mutex_lock(&c->lock);
    while (c->n_events <= i && !c->over) {
        if (!sh_cond_wait(&c->changed, &c->lock, end - sh_now_ns(&sh_clock_system))) break;
    }
    if (c->n_events > i) {
        e = &c->event[i];
    } else if (!c->over) {
        fail_msg("event %d does not come", i);
    }
    sh_mutex_unlock(&c->lock);
    return e;
}

void client_floats(struct client *c, struct event *e, size_t n)
{
    const int64_t end = sh_deadline_in(&sh_clock_system, SOON_NS);

    sh_mutex_lock(&c->lock);
    while (e->n_floats < n)
        await_change(c, end, "a row of logits");
    sh_mutex_unlock(&c->lock);
    assert_int_equal(e->n_floats, n);
}

/* ---- sessions -------------------------------------------------------------------------------*/

enum shoal_status client_session(struct client *c, uint64_t weights, uint64_t rest,
                                 struct shoal_error *err)
{
    const struct sh_rpc_claim claim = {.weights = weights, .cache = rest};
    const struct sh_rpc_open m = {
        .name = sh_rpc_text_from("a model"), .claims = &claim, .n_claims = 1};
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_opened opened;
    enum shoal_status st = client_ask(c, SH_RPC_MSG_OPEN, &m, &opened, &arena, err);

    if (!st) {
        c->session = opened.session;
        memcpy(c->secret, opened.secret, sizeof c->secret);
    }
    sh_arena_release(&arena);
    return st;
}

enum shoal_status client_resume(struct client *c, const struct client *old, uint64_t ack,
                                struct sh_rpc_resumed *out, struct sh_arena *arena,
                                struct shoal_error *err)
{
    struct sh_rpc_resume m = {.session = old->session, .epoch = old->epoch, .ack = ack};

    memcpy(m.secret, old->secret, sizeof m.secret);
    c->session = old->session;
    memcpy(c->secret, old->secret, sizeof c->secret);
    c->epoch = old->epoch;
    c->next = old->next;
    c->hash = old->hash;
    c->ack = ack;
    return client_ask(c, SH_RPC_MSG_RESUME, &m, out, arena, err);
}

enum shoal_status client_finish(struct client *c, uint64_t *freed, struct shoal_error *err)
{
    const struct sh_rpc_close m = {.unused = 0};
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_closed closed = {.freed = 0};
    enum shoal_status st = client_ask(c, SH_RPC_MSG_CLOSE, &m, &closed, &arena, err);

    *freed = closed.freed;
    sh_arena_release(&arena);
    return st;
}

/* ---- stages ---------------------------------------------------------------------------------*/

static uint8_t *graph_bytes(const struct sh_graph *g, size_t *n)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_writer w;
    uint8_t *bytes;

    must(sh_graph_wire_bytes(n, g, &err), &err);
    bytes = sh_malloc(*n);
    assert_non_null(bytes);
    w = sh_writer_over(bytes, *n);
    must(sh_graph_wire_put(&w, g, &err), &err);
    return bytes;
}

static void list_weights(struct stage_put *p, struct tm_model *m, const struct sh_graph *g)
{
    struct sh_rpc_weight *list = sh_arena_calloc(&p->arena, (size_t)g->n_leaves + 1, sizeof *list);
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_non_null(list);
    for (int32_t i = 0; i < g->n_tensors; i++) {
        const struct sh_tensor *t = &g->tensors[i];
        const struct sh_gguf_tensor *stored;
        struct sh_weight w;
        struct sh_sha256 hash;
        if (t->leaf < 0 || g->leaves[t->leaf].kind != SH_LEAF_WEIGHT) continue;
        stored = sh_gguf_find_tensor(m->file, sh_str_from(t->name));
        assert_non_null(stored);
        w = (struct sh_weight){
            .dtype = stored->dtype, .data = stored->data, .bytes = stored->data_bytes};
        memcpy(w.ne, stored->ne, sizeof w.ne);
        must(sh_sha256_of(&hash, stored->data, stored->data_bytes, &err), &err);
        w.sha256 = hash.bytes;
        sh_step_wire_weight_from(sh_arena_strndup(&p->arena, t->name, strlen(t->name)), &w,
                                 &list[p->m.n_weights++]);
        p->claim.weights += stored->data_bytes;
    }
    p->m.weights = list;
}

void stage_put_make(struct stage_put *p, struct tm_model *m, int index, int n)
{
    const struct rig_options o = {.n_stages = n, .n_slots = SLOTS, .n_seqs = 1};
    const int64_t layers = m->info.n_layers;
    const struct sh_part part = {.layer_begin = layers * index / n,
                                 .layer_end = layers * (index + 1) / n,
                                 .embed = index == 0,
                                 .head = index + 1 == n,
                                 .n_shards = 1};
    struct sh_kv_group groups[SH_GROUPS_MAX] = {0};
    struct sh_graph graph = {0}, rotate = {0};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_step_limits limits;
    struct sh_build_limits b;
    struct rig r;
    size_t n_bytes;

    memset(p, 0, sizeof *p);
    rig_plan(&r, m, &o);
    rig_limits(&r, &limits, groups);
    b = (struct sh_build_limits){.rows_max = limits.rows_max,
                                 .wanted_max = limits.wanted_max,
                                 .n_seqs = limits.n_seqs,
                                 .n_positions = limits.n_positions,
                                 .cache_type = SH_DTYPE_F16,
                                 .n_ctx = limits.n_positions};
    memcpy(b.pages, limits.pages, sizeof b.pages);
    must(sh_model_build(m->model, &part, &b, &graph, &err), &err);
    must(sh_model_build_rotate(m->model, &part, &b, &rotate, &err), &err);
    p->m = (struct sh_rpc_stage_put){.index = (uint32_t)index,
                                     .first = part.embed,
                                     .last = part.head,
                                     .n_slots = SLOTS,
                                     .n_shards = 1};
    must(sh_step_wire_limits_from(&limits, groups, limits.n_groups, &p->arena, &p->m, &err), &err);
    must(sh_rpc_claim_count(&p->claim,
                            &(struct sh_rpc_claim_of){.graph = &graph,
                                                      .rotate = &rotate,
                                                      .limits = &limits,
                                                      .n_slots = SLOTS,
                                                      .first = part.embed,
                                                      .last = part.head},
                            &err),
         &err);
    list_weights(p, m, &graph);
    p->width_in = sh_rpc_claim_width_in(&graph, part.embed);
    p->width_out = sh_rpc_claim_width_out(&graph);
    p->m.graph.ptr = p->graph = graph_bytes(&graph, &n_bytes);
    p->m.graph.n = (uint32_t)n_bytes;
    if (rotate.n_nodes > 0) {
        p->m.rotate.ptr = p->rotate = graph_bytes(&rotate, &n_bytes);
        p->m.rotate.n = (uint32_t)n_bytes;
    }
    p->file = m->file;
    sh_graph_release(&graph);
    sh_graph_release(&rotate);
}

void stage_put_release(struct stage_put *p)
{
    sh_free(p->graph);
    sh_free(p->rotate);
    sh_arena_release(&p->arena);
}

static void put_weight(struct client *c, const struct stage_put *p, const struct sh_rpc_weight *w,
                       uint64_t held)
{
    char name[160];
    struct sh_rpc_put_end end = {{0}};
    struct sh_rpc_put_done done;
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_gguf_tensor *t;

    sh_rpc_text_copy(name, sizeof name, w->name);
    t = sh_gguf_find_tensor(p->file, sh_str_from(name));
    for (uint64_t at = held; at < w->bytes;) {
        struct sh_rpc_put m = {.offset = at};
        memcpy(m.sha256, w->sha256, sizeof m.sha256);
        m.data.ptr = (const uint8_t *)t->data + at;
        m.data.n = w->bytes - at < 65536 ? (uint32_t)(w->bytes - at) : 65536;
        client_send(c, SH_RPC_MSG_PUT, &m);
        at += m.data.n;
    }
    memcpy(end.sha256, w->sha256, sizeof end.sha256);
    must(client_ask(c, SH_RPC_MSG_PUT_END, &end, &done, &arena, &err), &err);
    sh_arena_release(&arena);
}

void client_weights(struct client *c, const struct stage_put *p)
{
    const struct sh_rpc_want want = {.weights = p->m.weights, .n_weights = p->m.n_weights};
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_missing missing;

    must(client_ask(c, SH_RPC_MSG_WANT, &want, &missing, &arena, &err), &err);
    for (uint32_t i = 0; i < missing.n_misses; i++) {
        for (uint32_t k = 0; k < p->m.n_weights; k++) {
            const struct sh_rpc_weight *w = &p->m.weights[k];
            if (memcmp(w->sha256, missing.misses[i].sha256, sizeof w->sha256) != 0) continue;
            put_weight(c, p, w, missing.misses[i].held);
            break;
        }
    }
    sh_arena_release(&arena);
}

enum shoal_status client_put(struct client *c, const struct stage_put *p, struct sh_rpc_handle *out,
                             struct shoal_error *err)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_stage_ready ready = {.weights = 0};
    enum shoal_status st = client_ask(c, SH_RPC_MSG_STAGE_PUT, &p->m, &ready, &arena, err);

    *out = ready.stage;
    sh_arena_release(&arena);
    return st;
}

/* ---- steps ----------------------------------------------------------------------------------*/

void step_make(struct step_make *s, const int32_t *ids, int32_t n, int32_t pos, uint8_t want,
               int n_groups)
{
    uint32_t n_edits = 0;

    assert_true(n <= 256);
    memset(s, 0, sizeof *s);
    for (int32_t i = 0; i < n; i++) {
        s->rows[i] = (struct sh_rpc_row){
            .token = ids[i], .pos = pos + i, .last = pos + i, .want = want, .top_k = 4};
        if ((pos + i) % SH_PAGE) continue;
        for (int g = 0; g < n_groups; g++) {
            assert_true(n_edits < 16);
            s->edits[n_edits++] = (struct sh_rpc_edit){
                .group = g, .index = (pos + i) / SH_PAGE, .page = (pos + i) / SH_PAGE};
        }
    }
    s->seqs[0] = (struct sh_rpc_seq){.n_rows = n, .state_read = -1, .state_write = -1};
    s->m.edits = s->edits;
    s->m.n_edits = n_edits;
    s->m.rows = s->rows;
    s->m.n_rows = (uint32_t)n;
    s->m.seqs = s->seqs;
    s->m.n_seqs = n > 0;
}

void client_stamp(struct client *c, struct step_make *s)
{
    const size_t n = sh_rpc_frame_bytes(SH_RPC_MSG_STEP, &s->m, SH_RPC_REVISION);
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t *bytes = sh_malloc(n);
    struct sh_writer w;

    assert_non_null(bytes);
    s->m.epoch = c->epoch;
    s->m.number = c->next;
    s->m.ack = c->ack;
    w = sh_writer_over(bytes, n);
    must(sh_rpc_encode(&w, SH_RPC_MSG_STEP, 0, &s->m, SH_RPC_REVISION, false, &err), &err);
    s->m.hash = sh_rpc_step_hash(c->hash, bytes + SH_RPC_HEAD_BYTES, n - SH_RPC_HEAD_BYTES);
    sh_free(bytes);
}

void client_step(struct client *c, struct step_make *s, const struct sh_rpc_handle *stages,
                 int n_stages)
{
    client_stamp(c, s);
    c->next++;
    c->hash = s->m.hash;
    for (int i = 0; i < n_stages; i++) {
        s->m.stage = stages[i];
        client_send(c, SH_RPC_MSG_STEP, &s->m);
    }
}

/* ---- whole models ---------------------------------------------------------------------------*/

void client_model(struct client *c, struct tm_model *m, int n_stages, struct sh_rpc_handle *stages)
{
    struct stage_put put[4];
    uint64_t weights = 0, rest = 0;
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_true(n_stages <= 4);
    for (int i = 0; i < n_stages; i++) {
        stage_put_make(&put[i], m, i, n_stages);
        weights += put[i].claim.weights;
        rest += put[i].claim.cache + put[i].claim.scratch + put[i].claim.places;
    }
    must(client_session(c, weights, rest, &err), &err);
    for (int i = 0; i < n_stages; i++) {
        client_weights(c, &put[i]);
        must(client_put(c, &put[i], &stages[i], &err), &err);
        stage_put_release(&put[i]);
    }
    for (int i = 0; i + 1 < n_stages; i++) {
        const struct sh_rpc_route r = {.stage = stages[i], .reader = stages[i + 1]};
        struct sh_arena arena = SH_ARENA_INIT;
        struct sh_rpc_routed routed;
        must(client_ask(c, SH_RPC_MSG_ROUTE, &r, &routed, &arena, &err), &err);
        sh_arena_release(&arena);
    }
}

void client_forward(struct client *c, const struct event *e, const struct sh_rpc_handle *stages)
{
    struct sh_rpc_hidden m = {.stage = stages[e->stage_slot],
                              .epoch = e->epoch,
                              .number = e->number,
                              .first_row = e->first_row,
                              .n_rows = e->n_rows,
                              .status = sh_rpc_status_put(e->status)};

    m.data.ptr = (const uint8_t *)e->floats;
    m.data.n = (uint32_t)(e->n_floats * sizeof(float));
    client_send(c, SH_RPC_MSG_HIDDEN, &m);
}

void client_check_model(struct client *c, struct tm_model *m, const struct sh_rpc_handle *stages,
                        int n_stages, int32_t chunk)
{
    enum { ROWS = 80 };
    float *want = rig_logits(ROWS), *have = rig_logits(ROWS);
    struct step_make *s = sh_malloc(sizeof *s);
    int event = c->n_events;
    int32_t ids[ROWS];

    assert_non_null(s);
    rig_ids(ids, ROWS, 5, VOCAB);
    rig_reference(m, ids, ROWS, want);
    for (int32_t at = 0; at < ROWS; at += chunk) {
        const int32_t n = ROWS - at < chunk ? ROWS - at : chunk;
        struct event *e;
        step_make(s, ids + at, n, at, SH_WANT_LOGITS, m->info.n_groups);
        client_step(c, s, stages, n_stages);
        while ((e = client_event(c, event++))->type == SH_RPC_MSG_HIDDEN)
            client_forward(c, e, stages);
        assert_int_equal(e->type, SH_RPC_MSG_RESULT);
        if (e->status) fail_msg("step %d: %s", (int)at, e->message);
        client_floats(c, e, (size_t)n * VOCAB);
        memcpy(have + (size_t)at * VOCAB, e->floats, (size_t)n * VOCAB * sizeof *have);
        c->ack = c->next;
    }
    rig_expect_equal("a worker's logits", have, want, ROWS, VOCAB);
    sh_free(s);
    sh_free(want);
    sh_free(have);
}

void worker_check(struct worker *w, struct tm_model *m)
{
    struct client *c = sh_calloc(1, sizeof *c);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_handle stage;
    uint64_t freed;

    assert_non_null(c);
    client_open(c, w, SH_RPC_FOR_CONTROL, "", 0);
    client_model(c, m, 1, &stage);
    client_check_model(c, m, &stage, 1, 16);
    must(client_finish(c, &freed, &err), &err);
    assert_true(freed > 0);
    client_close(c);
    sh_free(c);
}

/* ---- what the tests begin and end with ------------------------------------------------------*/

int worker_setup(void **state)
{
    struct worker_test *t = sh_calloc(1, sizeof *t);

    assert_non_null(t);
    tm_make(&t->m, TM_LLAMA, SH_DTYPE_Q8_0, 7);
    worker_open(&t->w, NULL);
    *state = t;
    return 0;
}

int worker_teardown(void **state)
{
    struct worker_test *t = *state;

    worker_check(&t->w, &t->m);
    worker_close(&t->w);
    tm_release(&t->m);
    sh_free(t);
    return 0;
}

struct client *worker_client(struct worker *w, const char *kid)
{
    struct client *c = sh_calloc(1, sizeof *c);

    assert_non_null(c);
    client_open(c, w, SH_RPC_FOR_CONTROL, kid, 0);
    return c;
}

void worker_client_close(struct client *c)
{
    client_close(c);
    sh_free(c);
}

void worker_client_cut(struct client *c)
{
    client_cut(c);
    sh_free(c);
}

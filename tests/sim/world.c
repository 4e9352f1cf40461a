/* tests/sim/world.c - see world.h. */
#include "sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "host/host.h"
#include "sim/fate.h"
#include "sim/net.h"
#include "sim/sched.h"
#include "sim/world_cast.h"

enum { N_CTX = 96, HONEST_NODE = 20, STRANGER_NODE = 22 };
#define REVOKED_NS (3 * SH_SECOND) /* keys are looked after once a second */
#define HONEST_NS (20 * SH_SECOND) /* more than any link is slow */
/* Folders cannot be made below this: hashes are remembered nowhere. */
#define NOWHERE "/dev/null/hashes"

static const int PROMPT_LENGTH[WORLD_PROMPTS] = {1, 9, 33};

/* ---- hosts ---------------------------------------------------------------------------------- */

static bool asked_to_stop(void *self)
{
    return ((const struct cast_host *)self)->stop;
}

struct lists { /* that options borrow */
    struct sh_host_worker workers[CAST_SERVERS_MAX];
    const char *servers[CAST_SERVERS_MAX];
};

static int key_of(const struct cast_host *h)
{
    return h == &h->world->honest ? CAST_KEY_HONEST : h->index;
}

static struct sh_host_options options_of(struct cast_host *h, const char *model, struct lists *l)
{
    struct cast *c = h->world;
    struct sh_host_options o = {.model_path = model,
                                .n_workers = h->n_own,
                                .workers = l->workers,
                                .insecure = !c->fate.with_keys,
                                .relay = h->relay,
                                .features = h->features,
                                .hashes = NOWHERE,
                                .n_servers = h->n_servers - h->n_own,
                                .servers = l->servers,
                                .with_local = h->with_local,
                                .n_layers_given = h->n_servers + (h->with_local ? 1 : 0),
                                .layers = h->layers,
                                .n_threads = 1,
                                .n_ctx = N_CTX,
                                .rows_max = h->rows_max,
                                .step_timeout_ms = h->step_ns / SH_MS,
                                .stop = asked_to_stop,
                                .self = h};

    if (c->fate.with_cache) {
        o.cache = SH_GGMLRPC_CACHE_ON;
        o.ask_above = 1000;
    }
    if (h->n_servers == 0) o.n_layers_given = 0;
    for (int i = 0; i < h->n_own; i++) {
        l->workers[i] = (struct sh_host_worker){.address = h->server[i]};
        if (c->fate.with_keys) l->workers[i].key = &c->key[h->worker[i]][key_of(h)];
    }
    for (int i = h->n_own; i < h->n_servers; i++)
        l->servers[i - h->n_own] = h->server[i];
    return o;
}

/* Feed what is not yet in the sequence; a token comes after it. */
static enum shoal_status next_token(struct cast_host *h, int32_t *token)
{
    const int64_t at = sh_engine_length(h->engine);
    const struct sh_feed f = {.ids = h->ids + at, .n = h->n_ids - at, .sample = true};

    h->err = (struct shoal_error)SHOAL_ERROR_INIT;
    return sh_engine_feed(h->engine, &f, token, &h->err);
}

/* After a cancel, and where memory was short, the same is asked for once more. */
static bool may_go_on(struct cast_host *h, enum shoal_status st)
{
    if (st == SHOAL_ERR_CANCELLED) return h->n_cancels-- > 0;
    return st == SHOAL_ERR_NOMEM && h->n_retries++ < 3;
}

static enum shoal_status generate(struct cast_host *h)
{
    const struct sh_sampler_params greedy = {.temp = 0};
    enum shoal_status st = SHOAL_OK;

    sh_engine_set_sampler(h->engine, &greedy, 1);
    while (!st && h->n_tokens < WORLD_TOKENS) {
        int32_t token = -1;
        st = next_token(h, &token);
        if (may_go_on(h, st)) {
            sim_note("goes on", h->index, st);
            st = SHOAL_OK;
            continue;
        }
        if (st) break;
        sim_note("token", h->index, token);
        h->tokens[h->n_tokens++] = token;
        h->ids[h->n_ids++] = token;
        if (h->pause_ns > 0) sim_sleep(h->pause_ns);
    }
    return st;
}

/* A pipeline that lost a worker says so again, at once.  A worker of shoal may have failed that
 * step only: then the next one is right. */
static void ask_again(struct cast_host *h)
{
    const struct shoal_error first = h->err;
    const int64_t began = sim_now();
    int32_t token = -1;
    const enum shoal_status st = next_token(h, &token);

    h->err = first;
    // Memory may be there the next time.
    if (h->world->fate.scarce || h->status == SHOAL_ERR_NOMEM) return;
    if (fate_corrupts(h->world, h)) return; // then anything may be computed
    if (!st && h->n_own > 0 && h->status == SHOAL_ERR_TIMEOUT) {
        h->tokens[h->n_tokens++] = token;
        return;
    }
    if (!st) sim_fail("host %d: a step succeeds after \"%s\"", h->index, first.message);
    if (sim_now() - began > SH_SECOND) {
        sim_fail("host %d: the second failure took %.1f s", h->index,
                 (double)(sim_now() - began) / 1e9);
    }
}

static void *host_main(void *arg)
{
    struct cast_host *h = arg;
    struct lists lists;
    const struct sh_host_options o = options_of(h, h->world->model->path, &lists);
    struct sh_host *host = NULL;

    if (h->wait_ns > 0) sim_sleep(h->wait_ns);
    h->began_ns = sim_now();
    h->status = sh_host_open(&host, &o, &h->err);
    sim_note("opened", h->index, h->status);
    h->opened = !h->status;
    if (!h->status)
        h->status = sh_engine_create(&h->engine, sh_host_pipeline(host), N_CTX, &h->err);
    if (!h->status) {
        h->status = generate(h);
        if (h->status) ask_again(h);
    }
    h->answered_ns = sim_now();
    struct sh_engine *engine = h->engine;
    h->engine = NULL; // nobody cancels it any more
    sh_engine_destroy(engine);
    sh_host_close(host);
    h->ended_ns = sim_now();
    sim_note("host ends", h->index, h->status);
    return NULL;
}

static void begin_host(struct cast *c, struct cast_host *h, int index, int node)
{
    h->world = c;
    h->index = index;
    h->node = node;
    h->proc = c->n_procs++;
    h->n_ids = PROMPT_LENGTH[h->prompt];
    for (int i = 0; i < h->n_ids; i++)
        h->ids[i] = (7 * i + 3 * h->prompt + 5) % 96;
    for (int i = 0; i < h->n_servers; i++)
        net_node_text(CAST_WORKER_NODE + h->worker[i], CAST_PORT, h->server[i]);
    net_place(h->proc, h->node);
    h->thread = sim_spawn(h->proc, "host", host_main, h);
}

static bool tokens_are_right(const struct cast_host *h)
{
    return h->n_tokens == WORLD_TOKENS &&
           memcmp(h->tokens, h->world->model->want[h->prompt], sizeof h->tokens) == 0;
}

static void check_tokens(const struct cast_host *h)
{
    for (int i = 0; i < h->n_tokens; i++) {
        const int32_t want = h->world->model->want[h->prompt][i];
        if (h->tokens[i] == want) continue;
        sim_fail("host %d: token %d is %d, undisturbed it is %d", h->index, i, h->tokens[i], want);
    }
}

/* ---- judging -------------------------------------------------------------------------------- */

static bool names_a_culprit(const struct cast *c, const struct cast_host *h)
{
    for (int i = 0; i < h->n_servers; i++) {
        if (!fate_concerns(c, h, h->worker[i])) continue;
        if (strstr(h->err.message, h->server[i])) return true;
    }
    return false;
}

static bool uses_layers(const struct cast_host *h, int worker)
{
    for (int i = 0; i < h->n_servers; i++)
        if (h->worker[i] == worker && h->layers[i] > 0) return true;
    return false;
}

static bool lacks_memory(const struct cast *c, const struct cast_host *h)
{
    return c->fate.memory_max > 0 && (h->status == SHOAL_ERR_NOMEM || h->status == SHOAL_ERR_LIMIT);
}

static bool is_of_network(const struct cast *c, const struct cast_host *h)
{
    if (h->status == SHOAL_ERR_PEER || h->status == SHOAL_ERR_TIMEOUT) return true;
    if (lacks_memory(c, h) || fate_changes(c, h)) return true;
    return h->status == SHOAL_ERR_STATE && fate_ends(c, h); // "is about to end"
}

/* A key that is revoked ends what it opened. */
static void check_revoked(const struct cast *c, const struct cast_host *h)
{
    const struct fault *f = fate_find(c, FATE_REVOKE);

    if (!f || f->host != h->index || !uses_layers(h, f->worker) || fate_holds_up(c, f->worker))
        return;
    if (h->answered_ns - f->struck_ns > REVOKED_NS) {
        sim_fail("host %d works on for %.1f s after its key was revoked", h->index,
                 (double)(h->answered_ns - f->struck_ns) / 1e9);
    }
}

static void judge(const struct cast *c, const struct cast_host *h)
{
    const int64_t took = h->ended_ns - h->began_ns, allowed = fate_allowance(c, h);

    sim_say("host %d: %s after %.3f s (%.3f s are allowed): %s", h->index,
            shoal_status_name(h->status), (double)took / 1e9, (double)allowed / 1e9,
            h->err.message);
    if (took > allowed) {
        sim_fail("host %d took %.3f s, %.3f s are allowed: %s", h->index, (double)took / 1e9,
                 (double)allowed / 1e9, h->err.message);
    }
    if (!fate_corrupts(c, h)) check_tokens(h);
    if (!h->status) {
        check_revoked(c, h);
        return;
    }
    if (h->err.message[0] == '\0') sim_fail("host %d fails without a word", h->index);
    if (h->n_own == h->n_servers && strstr(h->err.message, "--rpc"))
        sim_fail("host %d is told to use another protocol: %s", h->index, h->err.message);
    if (c->fate.scarce || fate_corrupts(c, h)) return;
    if (h->status == SHOAL_ERR_CANCELLED && h->stop && !h->opened) return;
    if (fate_harmless(c, h)) {
        sim_fail("host %d fails though nothing happened that should hurt it: %s", h->index,
                 h->err.message);
    }
    if (!is_of_network(c, h)) {
        sim_fail("host %d: a fault of the network is called %s: %s", h->index,
                 shoal_status_name(h->status), h->err.message);
    }
    if (!names_a_culprit(c, h)) {
        sim_fail("host %d: the message names no worker that had a fault: %s", h->index,
                 h->err.message);
    }
}

/* ---- the end of the story ------------------------------------------------------------------- */

static void check_honest(struct cast *c)
{
    struct cast_host *h = &c->honest;

    *h = (struct cast_host){
        .n_servers = c->fate.n_workers, .step_ns = 10 * SH_SECOND, .rows_max = 16, .prompt = 1};
    if (c->fate.own && !(c->fate.mixed && sim_chance(300))) h->n_own = h->n_servers;
    for (int i = 0; i < h->n_servers; i++) {
        h->worker[i] = i;
        h->layers[i] = WORLD_LAYERS / h->n_servers + (i < WORLD_LAYERS % h->n_servers);
    }
    begin_host(c, h, 9, HONEST_NODE);
    sim_join(h->thread);
    if (lacks_memory(c, h) && strstr(h->err.message, cast_worker(c, c->fate.tight)->address))
        return;
    if (h->status) sim_fail("an honest host is refused: %s", h->err.message);
    check_tokens(h);
    if (!tokens_are_right(h)) sim_fail("an honest host got %d tokens", h->n_tokens);
    if (h->ended_ns - h->began_ns > HONEST_NS) {
        sim_fail("an honest host was served in %.1f s", (double)(h->ended_ns - h->began_ns) / 1e9);
    }
}

static void print_log(void *user, const struct sh_log_record *r)
{
    (void)user;
    sim_say("%s: %s", r->part, r->message);
    for (int i = 0; i < r->n_fields; i++) {
        const struct sh_log_field *f = &r->fields[i];
        if (f->kind == SH_LOG_TEXT) sim_say("    %s: %s", f->name, f->value.text);
        if (f->kind == SH_LOG_COUNT || f->kind == SH_LOG_BYTES)
            sim_say("    %s: %llu", f->name, (unsigned long long)f->value.count);
    }
}

/* Whose key was revoked gets nothing more. */
static void check_stranger(struct cast *c)
{
    const struct fault *f = fate_find(c, FATE_REVOKE);
    struct cast_host *h = &c->stranger;

    if (!f) return;
    *h = (struct cast_host){.n_servers = 1,
                            .n_own = 1,
                            .worker = {f->worker},
                            .layers = {WORLD_LAYERS},
                            .step_ns = 10 * SH_SECOND,
                            .rows_max = 16};
    begin_host(c, h, f->host, STRANGER_NODE);
    sim_join(h->thread);
    if (h->status != SHOAL_ERR_PEER) {
        sim_fail("with a revoked key: %s: %s", shoal_status_name(h->status), h->err.message);
    }
    if (!strstr(h->err.message, "key"))
        sim_fail("a host with a revoked key is not told so: %s", h->err.message);
}

/* A host that vanished leaves nothing behind for longer than it should. */
static void check_lease(struct cast *c)
{
    const struct fault *f = fate_find(c, FATE_LEAVE);

    if (f && c->fate.own && !c->fate.mixed && c->fate.n_faults == 1 && c->fate.n_hosts == 1)
        cast_check_lease(c, f->struck_ns);
}

/* ---- stories -------------------------------------------------------------------------------- */

static void begin(struct cast *c, const struct world_model *m, const struct world_options *o)
{
    const struct sim_options so = {.seed = o->seed, .verbose = o->verbose, .repeat = o->repeat};

    memset(c, 0, sizeof *c);
    c->model = m;
    c->live_bytes = sh_mem_live_bytes();
    c->n_procs = 1;
    sh_log_set_sink(o->verbose ? print_log : NULL, NULL, SH_LOG_DEBUG);
    sim_begin(&so);
}

static uint64_t end(struct cast *c)
{
    net_end();
    if (sh_mem_live_bytes() != c->live_bytes) {
        sim_fail("%lld bytes of the heap are left",
                 (long long)sh_mem_live_bytes() - (long long)c->live_bytes);
    }
    return sim_end();
}

static void play(struct cast *c)
{
    const struct fate *f = &c->fate;

    net_begin(&f->shape);
    fate_build_walls(c);
    cast_make_folders(c);
    for (int i = 0; i < f->n_workers; i++)
        cast_start_worker(c, i);
    cast_await_workers(c);
    fate_begin(c);
    if (f->with_rude) cast_begin_rude(c);
    for (int i = 0; i < f->n_hosts; i++)
        begin_host(c, &c->host[i], i, CAST_HOST_NODE + i);
    for (int i = 0; i < f->n_hosts; i++)
        sim_join(c->host[i].thread);
    check_lease(c);
    if (f->with_rude) sim_join(c->rude_thread);
    fate_end(c);
    for (int i = 0; i < f->n_hosts; i++)
        judge(c, &c->host[i]);
    cast_await_workers(c);
    if (f->connections_max > 0) { // those of lost clients count, too, once they are accepted
        sim_sleep(SH_SECOND);
        cast_check_drained(c);
    }
    check_honest(c);
    check_stranger(c);
    cast_check_drained(c);
    cast_stop_workers(c);
    cast_remove_folders(c);
}

void world_run(const struct world_model *m, const struct world_options *o, struct world_result *r)
{
    struct cast c;

    begin(&c, m, o);
    fate_draw(&c);
    play(&c);
    *r = (struct world_result){.n_hosts = c.fate.n_hosts};
    for (int i = 0; i < c.fate.n_faults; i++)
        if (c.fate.fault[i].struck) r->n_struck[c.fate.fault[i].kind]++;
    for (int i = 0; i < c.fate.n_hosts; i++) {
        const struct cast_host *h = &c.host[i];
        const int64_t over = h->ended_ns - h->began_ns - fate_lasted(&c, h);
        r->n_good += h->status == SHOAL_OK;
        if (over > r->longest_ns) r->longest_ns = over;
    }
    r->hash = end(&c);
}

/* Undisturbed: tokens from the local device, traffic from two workers. */
static void prepare_tokens(struct world_model *m)
{
    const struct world_options o = {.seed = 1, .repeat = "(every seed)"};

    for (int prompt = 0; prompt < WORLD_PROMPTS; prompt++) {
        struct cast c;
        begin(&c, m, &o);
        fate_draw_nothing(&c, false);
        net_begin(&c.fate.shape);
        c.host[0] = (struct cast_host){.prompt = prompt, .rows_max = 64, .with_local = true};
        begin_host(&c, &c.host[0], 0, CAST_HOST_NODE);
        sim_join(c.host[0].thread);
        if (c.host[0].status) sim_fail("undisturbed: %s", c.host[0].err.message);
        memcpy(m->want[prompt], c.host[0].tokens, sizeof m->want[prompt]);
        (void)end(&c);
    }
}

static void prepare_traffic(struct world_model *m, bool own)
{
    const struct world_options o = {.seed = 2, .repeat = "(every seed)"};
    struct world_traffic *t = own ? &m->own : &m->foreign;
    struct cast c;

    begin(&c, m, &o);
    fate_draw_nothing(&c, own);
    play(&c);
    t->up = net_carried(CAST_HOST_NODE, CAST_WORKER_NODE, true);
    t->down = net_carried(CAST_HOST_NODE, CAST_WORKER_NODE, false);
    t->link_up = net_carried(CAST_WORKER_NODE, CAST_WORKER_NODE + 1, true);
    t->link_down = net_carried(CAST_WORKER_NODE, CAST_WORKER_NODE + 1, false);
    if (own && t->link_up == 0) sim_fail("undisturbed workers have no link");
    (void)end(&c);
}

void world_prepare(struct world_model *m, const char *folder, const char *path)
{
    *m = (struct world_model){.path = path, .folder = folder};
    prepare_tokens(m);
    prepare_traffic(m, false);
    prepare_traffic(m, true);
}

/* tests/sim/world.c - see world.h. */
#include "sim/world.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "cpu/device.h"
#include "engine/engine.h"
#include "ggmlrpc/server.h"
#include "ggmlrpc/wire.h"
#include "host/host.h"
#include "net/tcp.h"
#include "sim/fate.h"
#include "sim/net.h"
#include "sim/sched.h"
#include "sim/world_cast.h"

enum {
    N_CTX = 96,
    PORT = 50052,
    HONEST_NODE = 20,
    RUDE_NODE = 21,
    HOST_NODE = 10,
    WORKER_NODE = 1
};
#define DRAIN_NS                                                                                   \
    (75 * SH_SECOND) /* keep-alive finds lost clients within 35 s, limits of frames 10 */
#define DRAINED_NS (8 * SH_SECOND) /* 5 s for commands under way, then they are cut */
#define RUDE_NS (25 * SH_SECOND)   /* 5 s for a greeting, 10 s for a pause inside a frame */
#define HONEST_NS (20 * SH_SECOND) /* more than any link is slow */

static const int PROMPT_LENGTH[WORLD_PROMPTS] = {1, 9, 33};

/* ---- workers -------------------------------------------------------------------------------- */

static void check_empty(const struct cast_worker *w)
{
    struct sh_ggmlrpc_server_stats s;

    sh_ggmlrpc_server_stats(w->server, &s);
    if (s.n_connections != 0 || s.memory_used != 0) {
        sim_fail("worker %d ends with %d connections and %zu bytes of clients", w->index,
                 s.n_connections, s.memory_used);
    }
}

/* Told to end, it lets commands under way finish, but not for ever. */
static void check_ended_in_time(const struct cast_worker *w)
{
    const int64_t took = sim_now() - w->told_ns;

    if (!w->gone || fate_holds_up(w->world, w->index) || took < DRAINED_NS) return;
    sim_fail("worker %d ended %.1f s after it was told to", w->index, (double)took / 1e9);
}

static void *worker_main(void *arg)
{
    struct cast_worker *w = arg;
    const struct sh_cpu_options cpu = {.n_threads = w->n_threads, .memory_max = 64u << 20};
    struct sh_ggmlrpc_server_options opt = {.listen = w->address, .allow_remote = true};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_ggmlrpc_server *server = NULL;
    enum shoal_status st = sh_cpu_device_open(&w->device, &cpu, &err);

    opt.device = w->device;
    opt.graph_ns = w->graph_ns;
    if (w->world->fate.with_cache) {
        opt.cache_dir = w->world->cache_dir[w->index];
        opt.cache_bytes_max = 1u << 20;
    }
    if (w->index == w->world->fate.tight) {
        opt.memory_max = w->world->fate.memory_max;
        opt.connections_max = w->world->fate.connections_max;
    }
    if (!st) st = sh_ggmlrpc_server_create(&server, &opt, &err);
    if (!st) {
        w->server = server;
        w->up = true;
        if (w->gone) sh_ggmlrpc_server_stop(server);
        st = sh_ggmlrpc_server_run(server, &err);
        w->up = false;
        check_empty(w);
        check_ended_in_time(w);
        w->server = NULL;
        sh_ggmlrpc_server_destroy(server);
    }
    if (st) {
        sim_say("worker %d: %s", w->index, err.message);
        if (!w->world->fate.scarce)
            sim_fail("worker %d: %s: %s", w->index, shoal_status_name(st), err.message);
    }
    sh_device_close(w->device);
    w->ended = true;
    sim_wake(w);
    return NULL;
}

void cast_start_worker(struct cast *c, int index)
{
    struct cast_worker *w = &c->worker[c->n_started];

    if (c->n_started == CAST_WORKERS_MAX) sim_fail("too many workers have been started");
    *w = (struct cast_worker){.world = c,
                              .index = index,
                              .node = WORKER_NODE + index,
                              .proc = c->n_procs++,
                              .n_threads = c->fate.worker_threads,
                              .graph_ns = c->fate.graph_ns};
    net_node_text(w->node, PORT, w->address);
    net_place(w->proc, w->node);
    c->now[index] = c->n_started++;
    w->thread = sim_spawn(w->proc, "worker", worker_main, w);
}

static void await_workers(struct cast *c)
{
    for (int i = 0; i < c->fate.n_workers; i++) {
        struct cast_worker *w = cast_worker(c, i);
        while (!w->up && !w->ended)
            sim_sleep(SH_MS);
    }
}

/* ---- hosts ---------------------------------------------------------------------------------- */

static bool asked_to_stop(void *self)
{
    return ((const struct cast_host *)self)->stop;
}

static struct sh_host_options options_of(struct cast_host *h, const char *model,
                                         const char **servers)
{
    struct sh_host_options o = {.model_path = model,
                                .n_servers = h->n_servers,
                                .servers = servers,
                                .with_local = h->with_local,
                                .n_layers_given = h->n_servers + (h->with_local ? 1 : 0),
                                .layers = h->layers,
                                .n_threads = 1,
                                .n_ctx = N_CTX,
                                .rows_max = h->rows_max,
                                .step_timeout_ms = h->step_ns / SH_MS,
                                .stop = asked_to_stop,
                                .self = h};

    if (h->world->fate.with_cache) {
        o.cache = SH_GGMLRPC_CACHE_ON;
        o.ask_above = 1000;
    }
    if (h->n_servers == 0) o.n_layers_given = 0;
    for (int i = 0; i < h->n_servers; i++)
        servers[i] = h->server[i];
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
    }
    return st;
}

/* A pipeline that lost a worker says so again, at once. */
static void ask_again(struct cast_host *h)
{
    const struct shoal_error first = h->err;
    const int64_t began = sim_now();
    int32_t token;
    const enum shoal_status st = next_token(h, &token);

    h->err = first;
    // Memory may be there the next time.
    if (h->world->fate.scarce || h->status == SHOAL_ERR_NOMEM) return;
    if (!st) sim_fail("host %d: a step succeeds after \"%s\"", h->index, first.message);
    if (sim_now() - began > SH_SECOND) {
        sim_fail("host %d: the second failure took %.1f s", h->index,
                 (double)(sim_now() - began) / 1e9);
    }
}

static void *host_main(void *arg)
{
    struct cast_host *h = arg;
    const char *servers[CAST_SERVERS_MAX];
    const struct sh_host_options o = options_of(h, h->world->model->path, servers);
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
        net_node_text(WORKER_NODE + h->worker[i], PORT, h->server[i]);
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

/* ---- a rude client -------------------------------------------------------------------------- */

/* The beginning of a frame: of the greeting, or of one behind it. */
static size_t half_a_frame(uint8_t *bytes, size_t cap)
{
    const struct sh_wire_request rq = {.device = 0};
    struct sh_writer w = sh_writer_over(bytes, cap);
    size_t greeting;

    sh_wire_request_put(&w, SH_WIRE_HELLO, &rq, 0);
    greeting = w.pos;
    if (sim_chance(300)) return sim_random((uint32_t)greeting);
    sh_wire_request_put(&w, SH_WIRE_SET_TENSOR, &rq, 1000000);
    return greeting + 1 + sim_random((uint32_t)(w.pos - greeting));
}

/* It stops in the middle of a frame and stays.  The server ends that. */
static void *rude_main(void *arg)
{
    struct cast *c = arg;
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0};
    struct sh_pace pace = sh_pace_until(sim_now() + RUDE_NS);
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;
    struct sh_endpoint ep;
    uint8_t bytes[1024];
    size_t got = 1;

    st = sh_endpoint_parse(&ep, cast_worker(c, 0)->address, -1, &err);
    if (!st) st = sh_tcp_connect(&c->rude, &ep, SH_SECOND, &tcp, &err);
    if (st) return NULL; // its worker has a fault already
    st = sh_stream_write_full(c->rude, bytes, half_a_frame(bytes, sizeof bytes), &pace, &err);
    while (!st && got > 0)
        st = sh_stream_read_some(c->rude, bytes, sizeof bytes, &pace, &got, &err);
    sim_say("the rude client: %s %s", shoal_status_name(st), err.message);
    if (st == SHOAL_ERR_TIMEOUT && !fate_holds_up(c, 0)) sim_fail("a rude client is not sent away");
    sh_stream_close(c->rude);
    return NULL;
}

static void begin_rude(struct cast *c)
{
    const int proc = c->n_procs++;

    net_place(proc, RUDE_NODE);
    c->rude_thread = sim_spawn(proc, "rude", rude_main, c);
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

static bool lacks_memory(const struct cast *c, const struct cast_host *h)
{
    return c->fate.memory_max > 0 && (h->status == SHOAL_ERR_NOMEM || h->status == SHOAL_ERR_LIMIT);
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
    if (!fate_corrupts(c)) check_tokens(h);
    if (!h->status) return;
    if (h->err.message[0] == '\0') sim_fail("host %d fails without a word", h->index);
    if (c->fate.scarce || fate_corrupts(c)) return;
    if (h->status == SHOAL_ERR_CANCELLED && h->stop && !h->opened) return;
    if (fate_harmless(c, h)) {
        sim_fail("host %d fails though nothing happened that should hurt it: %s", h->index,
                 h->err.message);
    }
    if (h->status != SHOAL_ERR_PEER && h->status != SHOAL_ERR_TIMEOUT && !lacks_memory(c, h)) {
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

static void check_drained(struct cast *c)
{
    const int64_t end = sim_now() + DRAIN_NS;

    for (int i = 0; i < c->fate.n_workers; i++) {
        struct cast_worker *w = cast_worker(c, i);
        struct sh_ggmlrpc_server_stats s;
        for (;;) {
            sh_ggmlrpc_server_stats(w->server, &s);
            if (s.n_connections == 0 && s.memory_used == 0) break;
            if (sim_now() > end) {
                sim_fail("worker %d still has %d connections and %zu bytes of clients that left", i,
                         s.n_connections, s.memory_used);
            }
            sim_sleep(100 * SH_MS);
        }
    }
}

static void stop_workers(struct cast *c)
{
    for (int i = 0; i < c->n_started; i++) {
        if (c->worker[i].server) sh_ggmlrpc_server_stop(c->worker[i].server);
    }
    for (int i = 0; i < c->n_started; i++)
        sim_join(c->worker[i].thread);
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

/* ---- caches --------------------------------------------------------------------------------- */

/* In memory, where that can be: entries are synchronised with the disk. */
static void make_caches(struct cast *c)
{
    const char *top = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    for (int i = 0; i < c->fate.n_workers && c->fate.with_cache; i++) {
        (void)snprintf(c->cache_dir[i], sizeof c->cache_dir[i], "%s/shoal_sim_XXXXXX", top);
        if (!mkdtemp(c->cache_dir[i])) sim_fail("no folder for a cache in %s", top);
    }
}

static void remove_caches(struct cast *c)
{
    for (int i = 0; i < c->fate.n_workers && c->fate.with_cache; i++) {
        DIR *dir = opendir(c->cache_dir[i]);
        const struct dirent *e;
        char path[512];
        while (dir && (e = readdir(dir))) {
            (void)snprintf(path, sizeof path, "%s/%s", c->cache_dir[i], e->d_name);
            if (strstr(e->d_name, ".tmp")) sim_fail("%s is left", path);
            (void)unlink(path);
        }
        if (dir) (void)closedir(dir);
        if (rmdir(c->cache_dir[i]) != 0) sim_fail("%s cannot be removed", c->cache_dir[i]);
    }
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
    make_caches(c);
    for (int i = 0; i < f->n_workers; i++)
        cast_start_worker(c, i);
    await_workers(c);
    fate_begin(c);
    if (f->with_rude) begin_rude(c);
    for (int i = 0; i < f->n_hosts; i++)
        begin_host(c, &c->host[i], i, HOST_NODE + i);
    for (int i = 0; i < f->n_hosts; i++)
        sim_join(c->host[i].thread);
    if (f->with_rude) sim_join(c->rude_thread);
    fate_end(c);
    for (int i = 0; i < f->n_hosts; i++)
        judge(c, &c->host[i]);
    await_workers(c);
    if (f->connections_max > 0) { // those of lost clients count, too, once they are accepted
        sim_sleep(SH_SECOND);
        check_drained(c);
    }
    check_honest(c);
    check_drained(c);
    stop_workers(c);
    remove_caches(c);
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
        fate_draw_nothing(&c);
        net_begin(&c.fate.shape);
        c.host[0] = (struct cast_host){.prompt = prompt, .rows_max = 64, .with_local = true};
        begin_host(&c, &c.host[0], 0, HOST_NODE);
        sim_join(c.host[0].thread);
        if (c.host[0].status) sim_fail("undisturbed: %s", c.host[0].err.message);
        memcpy(m->want[prompt], c.host[0].tokens, sizeof m->want[prompt]);
        (void)end(&c);
    }
}

static void prepare_traffic(struct world_model *m)
{
    const struct world_options o = {.seed = 2, .repeat = "(every seed)"};
    struct cast c;

    begin(&c, m, &o);
    fate_draw_nothing(&c);
    play(&c);
    m->up_bytes = net_carried(HOST_NODE, WORKER_NODE, true);
    m->down_bytes = net_carried(HOST_NODE, WORKER_NODE, false);
    (void)end(&c);
}

void world_prepare(struct world_model *m, const char *path)
{
    *m = (struct world_model){.path = path};
    prepare_tokens(m);
    prepare_traffic(m);
}

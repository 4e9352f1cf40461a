/* tests/sim/fate.c - see fate.h. */
#include "sim/fate.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "rpc/conn.h"
#include "sim/sched.h"
#include "sim/world_cast.h"

#define OWN_NS (2 * SH_SECOND)         /* undisturbed, more connections and round trips */
#define OWN_NOTICE_NS (15 * SH_SECOND) /* 10 s to connect or of silence, 2 s to ask who it is */
#define WALL_NS (5 * SH_SECOND)        /* two ways for 2 s each, between two workers */

static const struct {
    const char *name, *text;
    bool of_link;
} KIND[FATE_KIND_COUNT] = {
#define X(name, link, text) {#name, text, link},
    FATE_KINDS(X)
#undef X
};

const char *fate_name(enum fate_kind kind)
{
    return KIND[kind].name;
}

/* ---- drawing -------------------------------------------------------------------------------- */

/* Between a and b, equally likely in every decade. */
static double draw_log(double a, double b)
{
    return a * pow(b / a, sim_random(1u << 20) / (double)(1 << 20));
}

static int64_t draw_ns(double a_ms, double b_ms)
{
    return (int64_t)(draw_log(a_ms, b_ms) * SH_MS);
}

static void draw_shape(struct net_shape *s)
{
    static const uint32_t partial[] = {0, 30, 300, 800};

    *s = (struct net_shape){.delay_ns = draw_ns(0.01, 30),
                            .bytes_per_ns = draw_log(0.01, 10), // 10 MB/s to 10 GB/s
                            .buffer_bytes = (size_t)draw_log(600, 200000),
                            .segment_max = (size_t)draw_log(200, 65536),
                            .partial = partial[sim_random(4)]};
    if (sim_chance(512)) s->jitter_ns = 1 + s->delay_ns / 2;
    // What fits into the buffer passes once per delay: 300 kB/s at least.
    const size_t least = (size_t)(s->delay_ns + s->jitter_ns) * 3 / 10000;
    if (s->buffer_bytes < least) s->buffer_bytes = least;
}

static void draw_layers(const struct cast *c, struct cast_host *h)
{
    const int n = h->n_servers + (h->with_local ? 1 : 0);

    if (c->fate.own && n <= WORLD_LAYERS && sim_chance(800)) { // links need neighbours
        for (int i = 0; i < WORLD_LAYERS; i++)
            h->layers[i % n]++;
        return;
    }
    for (int i = 0; i < WORLD_LAYERS; i++)
        h->layers[sim_random((uint32_t)n)]++;
}

static void draw_protocol(const struct cast *c, struct cast_host *h)
{
    static const uint64_t optional[] = {SH_RPC_RESUME, SH_RPC_LINKS,     SH_RPC_RELAY,
                                        SH_RPC_DATA,   SH_RPC_OWN_FILES, SH_RPC_CANCELS};

    h->n_own = h->n_servers;
    if (c->fate.mixed) h->n_own = (int)sim_random((uint32_t)h->n_servers + 1);
    h->relay = !c->fate.links_only && sim_chance(150);
    if (!c->fate.links_only && sim_chance(200))
        h->features = SH_RPC_FEATURES_ALL & ~optional[sim_random(6)];
}

static void draw_host(struct cast *c, struct cast_host *h)
{
    const int first = (int)sim_random((uint32_t)c->fate.n_workers);

    *h = (struct cast_host){.prompt = (int)sim_random(WORLD_PROMPTS),
                            .with_local = sim_chance(300),
                            .rows_max = 1 + (int64_t)sim_random(40),
                            .step_ns = draw_ns(800, 6000),
                            .wait_ns = sim_chance(512) ? draw_ns(0.1, 500) : 0};
    h->n_servers = 1 + (int)sim_random((uint32_t)c->fate.n_workers);
    if (c->fate.links_only || (c->fate.own && sim_chance(512))) h->n_servers = c->fate.n_workers;
    for (int i = 0; i < h->n_servers; i++)
        h->worker[i] = (first + i) % c->fate.n_workers;
    draw_layers(c, h);
    if (c->fate.own) draw_protocol(c, h);
}

/* Where in the traffic of a link something happens: in the greeting, while loading, in the steps.
 */
static uint64_t draw_byte(uint64_t all, uint64_t first)
{
    if (sim_chance(200)) return sim_random((uint32_t)first);
    if (sim_chance(512)) return all - sim_random((uint32_t)(all / 4));
    return sim_random((uint32_t)(all + all / 8));
}

static bool is_of_link(enum fate_kind k)
{
    return k >= FATE_LINK_PULL && k <= FATE_LINK_CORRUPT;
}

/* What can happen in this story at all. */
static bool has_place(const struct cast *c, const struct cast_host *h, enum fate_kind k)
{
    if (k == FATE_REVOKE) return c->fate.with_keys;
    return !is_of_link(k) || h->n_own > 1;
}

static enum fate_kind draw_kind(const struct cast *c, const struct cast_host *h)
{
    enum fate_kind k;

    // Between workers there is much to go wrong.
    if (h->n_own > 1 && (c->fate.links_only || sim_chance(450)))
        return FATE_LINK_PULL + sim_random(FATE_LINK_CORRUPT - FATE_LINK_PULL + 1);
    if (c->fate.with_keys && sim_chance(100)) return FATE_REVOKE;
    do {
        k = (enum fate_kind)sim_random(FATE_KIND_COUNT);
    } while (!has_place(c, h, k));
    return k;
}

static void draw_fault(struct cast *c, struct fault *f)
{
    const struct world_traffic *t = c->fate.own ? &c->model->own : &c->model->foreign;

    *f = (struct fault){.world = c,
                        .host = (int)sim_random((uint32_t)c->fate.n_hosts),
                        .at_byte = sim_chance(600),
                        .up = sim_chance(512),
                        .number = 1 + sim_random(8)};
    const struct cast_host *h = &c->host[f->host];

    f->kind = draw_kind(c, h);
    if (is_of_link(f->kind)) { // the writer of the rows dials first
        const int at = (int)sim_random((uint32_t)h->n_own - 1);
        f->worker = h->worker[at];
        f->peer = h->worker[at + 1];
        f->byte = draw_byte(f->up ? t->link_up : t->link_down, 900);
    } else {
        f->worker = h->worker[sim_random((uint32_t)h->n_servers)];
        f->byte = draw_byte(f->up ? t->up : t->down, f->up ? 300 : 100);
    }
    f->after_ns = sim_chance(200) ? 0 : draw_ns(0.1, 4000);
    f->lasts_ns = sim_chance(300) ? SIM_NEVER : draw_ns(1, 15000);
    // The director waits for hosts, so what stops a host or a device must end.
    if ((f->kind == FATE_SLOW || f->kind == FATE_SLEEP) && f->lasts_ns == SIM_NEVER)
        f->lasts_ns = 40 * SH_SECOND;
    if (f->kind == FATE_CRAWL || f->kind == FATE_LINK_CRAWL) {
        f->number = (uint32_t)draw_log(2000, 500000);
        if (f->lasts_ns == SIM_NEVER) f->lasts_ns = 20 * SH_SECOND;
    }
    if (f->kind == FATE_CORRUPT || f->kind == FATE_LINK_CORRUPT) // a byte, or a burst of noise
        f->number = sim_chance(300) ? 1 : 1 + sim_random(64);
    if (f->kind == FATE_LINK_CORRUPT) f->at_byte = true; // there is seldom one on its way
    if (f->kind == FATE_MEMORY) f->number = (uint32_t)draw_log(1, 3000);
    if (f->kind == FATE_THREAD || f->kind == FATE_MEMORY) c->fate.scarce = true;
    if (f->kind == FATE_CANCEL) c->host[f->host].n_cancels++;
    if (f->kind == FATE_REVOKE) c->host[f->host].pause_ns = draw_ns(50, 1000);
}

static void draw_own(struct fate *f)
{
    f->own = sim_chance(640);
    if (!f->own) return;
    f->with_keys = sim_chance(400);
    f->mixed = !f->with_keys && sim_chance(250);
    f->with_models = sim_chance(300);
    f->links_only = !f->mixed && sim_chance(250);
    f->walled = !f->links_only && sim_chance(150);
    f->lease_ns = draw_ns(1000, 5000);
}

void fate_draw(struct cast *c)
{
    static const int how_many[] = {0, 1, 1, 1, 1, 2, 2, 3};
    struct fate *f = &c->fate;

    *f = (struct fate){.n_workers = 1 + (int)sim_random(3),
                       .n_hosts = 1 + (int)sim_chance(300),
                       .worker_threads = sim_chance(150) ? 2 : 1,
                       .graph_ns = sim_chance(300) ? draw_ns(1000, 8000) : 0};
    draw_own(f);
    if (f->own && (f->links_only || sim_chance(512))) f->n_workers = 2 + (int)sim_random(2);
    f->with_rude = sim_chance(200);
    if (f->own && f->with_rude && sim_chance(512)) f->n_crowd = (int)sim_random(CAST_CROWD_MAX + 1);
    f->with_cache = sim_chance(250);
    f->tight = !f->mixed && sim_chance(100) ? (int)sim_random((uint32_t)f->n_workers) : -1;
    if (f->tight >= 0 && (f->own || sim_chance(512)))
        f->memory_max = (size_t)draw_log(30000, 1000000);
    if (f->tight >= 0 && f->memory_max == 0) f->connections_max = 1 + (int)sim_random(2);
    draw_shape(&f->shape);
    for (int i = 0; i < f->n_hosts; i++)
        draw_host(c, &c->host[i]);
    f->n_faults = how_many[sim_random(8)];
    for (int i = 0; i < f->n_faults; i++)
        draw_fault(c, &f->fault[i]);
}

void fate_draw_nothing(struct cast *c, bool own)
{
    c->fate = (struct fate){
        .own = own,
        .lease_ns = 5 * SH_SECOND,
        .tight = -1,
        .n_workers = 2,
        .n_hosts = 1,
        .worker_threads = 1,
        .shape = {
            .delay_ns = SH_MS, .bytes_per_ns = 1, .buffer_bytes = 100000, .segment_max = 65536}};
    c->host[0] = (struct cast_host){.n_servers = 2,
                                    .n_own = own ? 2 : 0,
                                    .worker = {0, 1},
                                    .layers = {2, 1},
                                    .rows_max = 16,
                                    .step_ns = 5 * SH_SECOND,
                                    .prompt = 1};
}

/* ---- striking ------------------------------------------------------------------------------- */

static void end_worker(struct cast_worker *w, bool kill)
{
    sim_freeze(w->proc, false);
    sim_freeze_named(w->proc, "shoal-cpu", false);
    if (kill) net_kill(w->proc);
    if (!w->gone) w->told_ns = sim_now();
    w->gone = true;
    cast_tell_to_end(w);
}

/* The fault passes; a worker that is gone comes back, once its port is free. */
static void pass(void *self, int64_t proc, int64_t unused)
{
    struct fault *f = self;
    struct cast *c = f->world;
    struct cast_worker *w = cast_worker(c, f->worker);

    (void)unused;
    if (c->over) return;
    sim_say("%s is over", KIND[f->kind].name);
    if (f->kind == FATE_PULL) net_mend(CAST_HOST_NODE + f->host, CAST_WORKER_NODE + f->worker);
    if (f->kind == FATE_CRAWL) net_crawl(CAST_HOST_NODE + f->host, CAST_WORKER_NODE + f->worker, 0);
    if (f->kind == FATE_LINK_PULL)
        net_mend(CAST_WORKER_NODE + f->worker, CAST_WORKER_NODE + f->peer);
    if (f->kind == FATE_LINK_CRAWL)
        net_crawl(CAST_WORKER_NODE + f->worker, CAST_WORKER_NODE + f->peer, 0);
    if (f->kind == FATE_SLEEP) sim_freeze(c->host[f->host].proc, false);
    if (f->kind == FATE_REFUSE) net_refuse(CAST_WORKER_NODE + f->worker, false);
    if (f->kind == FATE_IGNORE) net_ignore(CAST_WORKER_NODE + f->worker, false);
    if (f->kind == FATE_FILES) net_no_descriptors(CAST_WORKER_NODE + f->worker, false);
    if (w->proc != (int)proc) return;
    if (f->kind == FATE_STOP) sim_freeze(w->proc, false);
    if (f->kind == FATE_SLOW) sim_freeze_named(w->proc, "shoal-cpu", false);
    if (f->kind == FATE_KILL || (f->kind == FATE_TERM && w->ended)) cast_start_worker(c, f->worker);
}

static void cancel_host(struct cast_host *h)
{
    h->stop = true; // while loading
    if (h->engine) sh_engine_cancel(h->engine);
}

static void strike_link(const struct fault *f)
{
    const int a = CAST_WORKER_NODE + f->worker, b = CAST_WORKER_NODE + f->peer;

    if (f->kind == FATE_LINK_PULL) net_pull(a, b);
    if (f->kind == FATE_LINK_CRAWL) net_crawl(a, b, f->number);
    if (f->kind == FATE_LINK_RESET) net_reset(a, b);
    if (f->kind == FATE_LINK_CORRUPT) net_corrupt(a, b, f->up, (int)f->number);
}

static void strike(void *self, int64_t unused)
{
    struct fault *f = self;
    struct cast *c = f->world;
    struct cast_worker *w = cast_worker(c, f->worker);
    struct cast_host *h = &c->host[f->host];
    const int host = CAST_HOST_NODE + f->host, worker = CAST_WORKER_NODE + f->worker;

    (void)unused;
    if (c->over || f->struck) return;
    f->struck = true;
    f->struck_ns = sim_now();
    sim_note(KIND[f->kind].name, f->worker, f->host);
    sim_say("%s: %s (worker %d, host %d)", KIND[f->kind].name, KIND[f->kind].text, f->worker,
            f->host);
    if (f->kind == FATE_KILL || f->kind == FATE_TERM) end_worker(w, f->kind == FATE_KILL);
    if (f->kind == FATE_STOP && !w->gone) sim_freeze(w->proc, true);
    if (f->kind == FATE_SLOW && !w->gone) sim_freeze_named(w->proc, "shoal-cpu", true);
    if (f->kind == FATE_PULL) net_pull(host, worker);
    if (f->kind == FATE_CRAWL) net_crawl(host, worker, f->number);
    if (f->kind == FATE_RESET) net_reset(host, worker);
    if (f->kind == FATE_CORRUPT) net_corrupt(host, worker, f->up, (int)f->number);
    if (f->kind == FATE_REFUSE) net_refuse(worker, true);
    if (f->kind == FATE_IGNORE) net_ignore(worker, true);
    if (f->kind == FATE_FILES) net_no_descriptors(worker, true);
    if (f->kind == FATE_THREAD) sim_refuse_thread(f->up ? w->proc : h->proc, (int)f->number);
    if (f->kind == FATE_MEMORY) sh_mem_fail_after(f->number);
    if (f->kind == FATE_SLEEP) sim_freeze(h->proc, true);
    if (f->kind == FATE_LEAVE) net_kill(h->proc);
    if (f->kind == FATE_CANCEL) cancel_host(h);
    if (f->kind == FATE_REVOKE) cast_revoke(c, f->worker, f->host);
    strike_link(f);
    if (f->lasts_ns != SIM_NEVER) sim_at(sim_now() + f->lasts_ns, pass, f, w->proc, 0);
}

static void strike_in_time(void *self, int64_t a, int64_t b)
{
    (void)b;
    strike(self, a);
}

void fate_begin(struct cast *c)
{
    for (int i = 0; i < c->fate.n_faults; i++) {
        struct fault *f = &c->fate.fault[i];
        sim_say("to come: %s, worker %d, host %d, %s %lld", KIND[f->kind].name, f->worker, f->host,
                f->at_byte ? f->up ? "at byte up" : "at byte down" : "after us",
                f->at_byte ? (long long)f->byte : (long long)f->after_ns / 1000);
        if (f->at_byte && is_of_link(f->kind)) {
            net_trap(CAST_WORKER_NODE + f->worker, CAST_WORKER_NODE + f->peer, f->up, f->byte,
                     strike, f, 0);
        } else if (f->at_byte) {
            net_trap(CAST_HOST_NODE + f->host, CAST_WORKER_NODE + f->worker, f->up, f->byte, strike,
                     f, 0);
        } else {
            sim_at(sim_now() + f->after_ns, strike_in_time, f, 0, 0);
        }
    }
}

void fate_end(struct cast *c)
{
    c->over = true;
    sh_mem_fail_after(-1);
    for (int i = 0; i < c->n_procs; i++) {
        sim_freeze(i, false);
        sim_freeze_named(i, "shoal-cpu", false);
        sim_refuse_thread(i, 0);
    }
    for (int i = 0; i < c->fate.n_workers; i++) {
        struct cast_worker *w = cast_worker(c, i);
        for (int k = 0; k < c->fate.n_hosts; k++)
            net_crawl(CAST_HOST_NODE + k, CAST_WORKER_NODE + i, 0);
        net_refuse(CAST_WORKER_NODE + i, false);
        net_ignore(CAST_WORKER_NODE + i, false);
        net_no_descriptors(CAST_WORKER_NODE + i, false);
        // A cable may stay out for good: then keep-alive must find out.
        for (int k = 0; k < i; k++) {
            net_crawl(CAST_WORKER_NODE + k, CAST_WORKER_NODE + i, 0);
            net_mend(CAST_WORKER_NODE + k, CAST_WORKER_NODE + i);
        }
        for (int k = 0; k < c->fate.n_hosts; k++)
            if (sim_chance(512)) net_mend(CAST_HOST_NODE + k, CAST_WORKER_NODE + i);
        if (!w->gone && !w->ended) continue;
        while (!w->ended)
            sim_sleep(10 * SH_MS);
        cast_start_worker(c, i);
    }
}

void fate_build_walls(const struct cast *c)
{
    for (int i = 0; i < c->fate.n_workers && c->fate.walled; i++) {
        for (int k = 0; k < i; k++)
            net_wall(CAST_WORKER_NODE + k, CAST_WORKER_NODE + i, sim_chance(512));
    }
}

/* ---- excuses -------------------------------------------------------------------------------- */

static bool uses(const struct cast_host *h, int worker)
{
    for (int i = 0; i < h->n_servers; i++)
        if (h->worker[i] == worker) return true;
    return false;
}

/* In shoal's own protocol. */
static bool is_own(const struct cast_host *h, int worker)
{
    for (int i = 0; i < h->n_own; i++)
        if (h->worker[i] == worker) return true;
    return false;
}

static bool is_of_host(enum fate_kind k)
{
    return k == FATE_SLEEP || k == FATE_LEAVE || k == FATE_CANCEL;
}

static bool strikes(const struct fault *f, const struct cast_host *h)
{
    if (is_of_link(f->kind)) return f->struck && is_own(h, f->worker) && is_own(h, f->peer);
    return f->struck && uses(h, f->worker) && (!KIND[f->kind].of_link || f->host == h->index);
}

bool fate_concerns(const struct cast *c, const struct cast_host *h, int worker)
{
    if (worker == c->fate.tight) return true;
    for (int i = 0; i < c->fate.n_faults; i++) {
        const struct fault *f = &c->fate.fault[i];
        if (!strikes(f, h) || f->kind == FATE_CANCEL || is_of_link(f->kind)) continue;
        if (f->worker == worker || is_of_host(f->kind)) return true;
    }
    return false;
}

bool fate_holds_up(const struct cast *c, int worker)
{
    for (int i = 0; i < c->fate.n_faults; i++) {
        const struct fault *f = &c->fate.fault[i];
        if (!f->struck || f->worker != worker) continue;
        if (f->kind == FATE_STOP || f->kind == FATE_SLOW || f->kind == FATE_FILES) return true;
    }
    return c->fate.scarce;
}

const struct fault *fate_find(const struct cast *c, enum fate_kind kind)
{
    for (int i = 0; i < c->fate.n_faults; i++) {
        const struct fault *f = &c->fate.fault[i];
        if (f->kind == kind && f->struck) return f;
    }
    return NULL;
}

bool fate_ends(const struct cast *c, const struct cast_host *h)
{
    for (int i = 0; i < c->fate.n_faults; i++) {
        const struct fault *f = &c->fate.fault[i];
        if (f->kind == FATE_TERM && strikes(f, h)) return true;
    }
    return false;
}

bool fate_changes(const struct cast *c, const struct cast_host *h)
{
    for (int i = 0; i < c->fate.n_faults; i++) {
        const struct fault *f = &c->fate.fault[i];
        if (f->kind == FATE_CORRUPT && strikes(f, h)) return true;
    }
    return false;
}

bool fate_corrupts(const struct cast *c, const struct cast_host *h)
{
    for (int i = 0; i < c->fate.n_faults; i++) {
        const struct fault *f = &c->fate.fault[i];
        if (f->kind == FATE_CORRUPT && strikes(f, h) && !is_own(h, f->worker)) return true;
    }
    return false;
}

static int64_t lasted(const struct cast *c, const struct cast_host *h, bool links)
{
    int64_t sum = 0;

    for (int i = 0; i < c->fate.n_faults; i++) {
        const struct fault *f = &c->fate.fault[i];
        if (!strikes(f, h) || f->lasts_ns == SIM_NEVER) continue;
        if (is_of_link(f->kind) && !links) continue;
        sum += f->lasts_ns;
        if (f->kind == FATE_CRAWL ||
            f->kind == FATE_LINK_CRAWL) // what is in the buffers stays slow
            sum += 2 * (int64_t)c->fate.shape.buffer_bytes * SH_SECOND / f->number;
    }
    return sum;
}

int64_t fate_lasted(const struct cast *c, const struct cast_host *h)
{
    return lasted(c, h, true);
}

bool fate_harmless(const struct cast *c, const struct cast_host *h)
{
    int64_t patience = h->step_ns < 4 * SH_SECOND ? h->step_ns : 4 * SH_SECOND;

    if (uses(h, c->fate.tight)) return false;
    if (c->fate.graph_ns > 0 && c->fate.graph_ns < patience) patience = c->fate.graph_ns;
    for (int i = 0; i < c->fate.n_faults; i++) {
        const struct fault *f = &c->fate.fault[i];
        if (!strikes(f, h) || f->kind == FATE_CANCEL || is_of_link(f->kind)) continue;
        if (f->kind == FATE_FILES && is_own(h, f->worker)) return false; // who greets gives way
        if (f->kind != FATE_STOP && f->kind != FATE_SLOW && f->kind != FATE_PULL &&
            f->kind != FATE_IGNORE && f->kind != FATE_FILES && f->kind != FATE_SLEEP) {
            return false;
        }
        if (f->lasts_ns == SIM_NEVER) return false;
    }
    return lasted(c, h, false) < patience / 3;
}

int64_t fate_allowance(const struct cast *c, const struct cast_host *h)
{
    const int64_t step = h->step_ns > 5 * SH_SECOND ? h->step_ns : 5 * SH_SECOND;
    int64_t sum = 8 * SH_SECOND + fate_lasted(c, h); // undisturbed, on the slowest links

    sum += WORLD_TOKENS * h->pause_ns;
    if (h->n_own > 0) sum += OWN_NS;
    if (c->fate.walled && h->n_own > 1) sum += (h->n_own - 1) * WALL_NS;
    for (int i = 0; i < c->fate.n_faults; i++) {
        const struct fault *f = &c->fate.fault[i];
        if (strikes(f, h)) sum += step + 3 * SH_SECOND / 2; // noticing, and closing
        if (strikes(f, h) && is_own(h, f->worker)) sum += OWN_NOTICE_NS;
    }
    return sum;
}

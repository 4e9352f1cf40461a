/* tests/sim/workers.c - workers of a story: what they serve, their folders, what must be left of
 * clients that went: nothing. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/device.h"
#include "rpc/key.h"
#include "sim/sched.h"
#include "sim/world_cast.h"

#define MEMORY_BYTES ((size_t)64 << 20)
#define DRAIN_NS                                                                                   \
    (75 * SH_SECOND) /* keep-alive finds lost clients within 35 s, limits of frames 10 */
#define OWN_DRAIN_NS (12 * SH_SECOND) /* silence ends a connection after 10 s; and the lease */
#define LEASE_MARGIN_NS (2 * SH_SECOND)
#define DRAINED_NS (8 * SH_SECOND) /* 5 s for commands under way, then they are cut */

/* ---- what is left of clients ---------------------------------------------------------------- */

struct load {
    int n_connections, n_sessions;
    size_t memory_used;
};

static struct load load_of(const struct cast_worker *w)
{
    struct sh_ggmlrpc_server_stats s = {.n_connections = 0};
    struct sh_worker_stats own;

    if (w->server) sh_ggmlrpc_server_stats(w->server, &s);
    if (!w->own) return (struct load){s.n_connections, 0, s.memory_used};
    sh_worker_stats(w->own, &own);
    return (struct load){own.rpc.n_connections + own.foreign.n_connections, own.rpc.n_sessions,
                         own.memory_used};
}

static bool is_empty(const struct load *l)
{
    return l->n_connections == 0 && l->n_sessions == 0 && l->memory_used == 0;
}

static void check_empty(const struct cast_worker *w)
{
    const struct load l = load_of(w);

    if (is_empty(&l)) return;
    sim_fail("worker %d ends with %d connections, %d sessions and %zu bytes of clients", w->index,
             l.n_connections, l.n_sessions, l.memory_used);
}

void cast_check_drained(struct cast *c)
{
    // One in llama.cpp's protocol, where that is served, may be found lost by keep-alive only.
    const bool foreign = !c->fate.own || c->fate.mixed;
    const int64_t end = sim_now() + (foreign ? DRAIN_NS : OWN_DRAIN_NS + c->fate.lease_ns);

    for (int i = 0; i < c->fate.n_workers; i++) {
        const struct cast_worker *w = cast_worker(c, i);
        for (;;) {
            const struct load l = load_of(w);
            if (is_empty(&l)) break;
            if (sim_now() > end) {
                sim_fail("worker %d still has %d connections, %d sessions and %zu bytes of clients "
                         "that left",
                         i, l.n_connections, l.n_sessions, l.memory_used);
            }
            sim_sleep(100 * SH_MS);
        }
    }
}

void cast_check_lease(struct cast *c, int64_t left_ns)
{
    const int64_t end = left_ns + c->fate.lease_ns + LEASE_MARGIN_NS;

    if (sim_now() < end) sim_sleep(end - sim_now());
    for (int i = 0; i < c->fate.n_workers; i++) {
        const struct load l = load_of(cast_worker(c, i));
        if (l.n_sessions == 0 && l.memory_used == 0) continue;
        sim_fail("worker %d keeps %d sessions and %zu bytes beyond their lease of %.3f s", i,
                 l.n_sessions, l.memory_used, (double)c->fate.lease_ns / 1e9);
    }
}

/* Told to end, it lets commands under way finish, but not for ever. */
static void check_ended_in_time(const struct cast_worker *w)
{
    const int64_t took = sim_now() - w->told_ns;

    if (!w->gone || fate_holds_up(w->world, w->index) || took < DRAINED_NS) return;
    sim_fail("worker %d ended %.1f s after it was told to", w->index, (double)took / 1e9);
}

/* ---- serving -------------------------------------------------------------------------------- */

void cast_tell_to_end(struct cast_worker *w)
{
    if (w->server) sh_ggmlrpc_server_stop(w->server);
    if (w->own) sh_worker_stop(w->own);
}

static enum shoal_status serve_foreign(struct cast_worker *w, struct shoal_error *err)
{
    const struct fate *f = &w->world->fate;
    const struct sh_cpu_options cpu = {.n_threads = w->n_threads, .memory_max = MEMORY_BYTES};
    struct sh_ggmlrpc_server_options opt = {.listen = w->address, .allow_remote = true};
    struct sh_ggmlrpc_server *server = NULL;
    struct sh_device *device = NULL;
    enum shoal_status st = sh_cpu_device_open(&device, &cpu, err);

    opt.device = device;
    opt.graph_ns = w->graph_ns;
    if (f->with_cache) {
        opt.cache_dir = w->world->cache_dir[w->index];
        opt.cache_bytes_max = 1u << 20;
    }
    if (w->index == f->tight) {
        opt.memory_max = f->memory_max;
        opt.connections_max = f->connections_max;
    }
    if (!st) st = sh_ggmlrpc_server_create(&server, &opt, err);
    if (!st) {
        w->server = server;
        w->up = true;
        if (w->gone) sh_ggmlrpc_server_stop(server);
        st = sh_ggmlrpc_server_run(server, err);
        w->up = false;
        check_empty(w);
        check_ended_in_time(w);
        w->server = NULL;
        sh_ggmlrpc_server_destroy(server);
    }
    sh_device_close(device);
    return st;
}

static enum shoal_status serve_own(struct cast_worker *w, struct shoal_error *err)
{
    const struct cast *c = w->world;
    const struct fate *f = &c->fate;
    struct sh_worker_options opt = {.listen = w->address,
                                    .keys = f->with_keys ? c->key_dir[w->index] : NULL,
                                    .insecure = !f->with_keys,
                                    .models = f->with_models ? c->model->folder : NULL,
                                    .n_threads = w->n_threads,
                                    .memory = MEMORY_BYTES,
                                    .lease_ns = f->lease_ns};
    struct sh_worker *own = NULL;
    enum shoal_status st;

    if (w->index == f->tight) opt.memory = f->memory_max;
    if (f->with_cache && !f->with_keys) {
        opt.cache = c->cache_dir[w->index];
        opt.cache_bytes = 1u << 20;
    }
    st = sh_worker_open(&own, &opt, err);
    if (st) return st;
    w->own = own;
    w->up = true;
    if (w->gone) sh_worker_stop(own);
    st = sh_worker_run(own, err);
    w->up = false;
    check_empty(w);
    check_ended_in_time(w);
    w->own = NULL;
    sh_worker_close(own);
    return st;
}

static void *worker_main(void *arg)
{
    struct cast_worker *w = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;
    const enum shoal_status st = w->world->fate.own ? serve_own(w, &err) : serve_foreign(w, &err);

    if (st) {
        sim_say("worker %d: %s", w->index, err.message);
        if (!w->world->fate.scarce)
            sim_fail("worker %d: %s: %s", w->index, shoal_status_name(st), err.message);
    }
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
                              .node = CAST_WORKER_NODE + index,
                              .proc = c->n_procs++,
                              .n_threads = c->fate.worker_threads,
                              .graph_ns = c->fate.graph_ns};
    net_node_text(w->node, CAST_PORT, w->address);
    net_place(w->proc, w->node);
    c->now[index] = c->n_started++;
    w->thread = sim_spawn(w->proc, "worker", worker_main, w);
}

void cast_await_workers(struct cast *c)
{
    for (int i = 0; i < c->fate.n_workers; i++) {
        const struct cast_worker *w = cast_worker(c, i);
        while (!w->up && !w->ended)
            sim_sleep(SH_MS);
    }
}

void cast_stop_workers(struct cast *c)
{
    for (int i = 0; i < c->n_started; i++)
        cast_tell_to_end(&c->worker[i]);
    for (int i = 0; i < c->n_started; i++)
        sim_join(c->worker[i].thread);
}

/* ---- folders -------------------------------------------------------------------------------- */

/* Stamps of the disk's own clock would tell two stories of one seed apart. */
static void set_stamp(const char *folder, time_t at)
{
    const struct timespec stamp[2] = {{.tv_sec = at}, {.tv_sec = at}};

    if (utimensat(AT_FDCWD, folder, stamp, 0) != 0) sim_fail("no stamp for %s", folder);
}

static void make_keys(struct cast *c, int worker)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_key_entry e;
    char name[16];

    for (int k = 0; k < CAST_KEYS; k++) {
        (void)snprintf(name, sizeof name, "host%d", k);
        if (sh_key_store_make(c->key_dir[worker], name, &e, &err))
            sim_fail("no key: %s", err.message);
        c->key[worker][k] = e.key;
    }
    set_stamp(c->key_dir[worker], 1000000000);
}

void cast_revoke(struct cast *c, int worker, int host)
{
    char path[160];

    (void)snprintf(path, sizeof path, "%s/host%d", c->key_dir[worker], host);
    (void)unlink(path);
    set_stamp(c->key_dir[worker], 1000000001 + host);
}

static void make_folder(char path[128])
{
    // In memory, where that can be: files are synchronised with the disk.
    const char *top = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    (void)snprintf(path, 128, "%s/shoal_sim_XXXXXX", top);
    if (!mkdtemp(path)) sim_fail("no folder in %s", top);
}

void cast_make_folders(struct cast *c)
{
    for (int i = 0; i < c->fate.n_workers; i++) {
        if (c->fate.with_cache) make_folder(c->cache_dir[i]);
        if (!c->fate.with_keys) continue;
        make_folder(c->key_dir[i]);
        make_keys(c, i);
    }
}

static void remove_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *e;
    char path[512];

    while (dir && (e = readdir(dir))) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (strstr(e->d_name, ".tmp")) sim_fail("%s is left", path);
        (void)unlink(path);
    }
    if (dir) (void)closedir(dir);
    if (rmdir(folder) != 0) sim_fail("%s cannot be removed", folder);
}

void cast_remove_folders(struct cast *c)
{
    for (int i = 0; i < c->fate.n_workers; i++) {
        if (c->cache_dir[i][0]) remove_folder(c->cache_dir[i]);
        if (c->key_dir[i][0]) remove_folder(c->key_dir[i]);
    }
}

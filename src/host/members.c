/* host/members.c - who takes part: shoal's workers, llama.cpp's servers, this machine's processor.
 *
 * Workers are opened all at once, a thread each, for one that is far away or off takes its time.
 * The first failure in their order counts.
 */
#include <stdio.h>

#include "cpu/device.h"
#include "ggmlrpc/device.h"
#include "host/host_priv.h"

struct opening { /* one worker */
    struct sh_remote_options options;
    struct sh_thread thread;
    struct sh_remote *worker;
    enum shoal_status status;
    struct shoal_error error;
};

static void *open_one(void *arg)
{
    struct opening *w = arg;

    w->status = sh_remote_open(&w->worker, &w->options, &w->error);
    return NULL;
}

static void add_worker(struct sh_host *h, struct sh_remote *worker)
{
    struct sh_host_member *m = &h->member[h->n_members++];
    struct sh_remote_info info;

    sh_remote_info(worker, &info);
    m->worker = worker;
    m->info = info.device[0].info;
    snprintf(m->name, sizeof m->name, "worker %s", info.address);
}

static enum shoal_status open_workers(struct sh_host *h, const struct sh_host_options *o,
                                      struct shoal_error *err)
{
    struct opening list[SH_HOST_DEVICES_MAX];
    enum shoal_status st = SHOAL_OK;
    int n = 0;

    for (; n < o->n_workers && !st; n++) {
        list[n] = (struct opening){.options = {.address = o->workers[n].address,
                                               .key = o->workers[n].key,
                                               .features = o->features,
                                               .insecure = o->insecure},
                                   .thread = SH_THREAD_INIT};
        st = sh_thread_start(&list[n].thread, "open", open_one, &list[n], err);
    }
    for (int i = 0; i < n; i++) {
        sh_thread_join(&list[i].thread);
        if (list[i].worker) add_worker(h, list[i].worker);
        if (list[i].status && !st) {
            st = list[i].status;
            if (err) *err = list[i].error;
        }
    }
    return st;
}

static enum shoal_status open_server(struct sh_host *h, const char *address,
                                     const struct sh_host_options *o, struct shoal_error *err)
{
    const struct sh_ggmlrpc_options opt = {
        .exact = true,
        .cache = o->cache,
        .ask_above = o->ask_above,
        .step_ns = o->step_timeout_ms > 0 ? o->step_timeout_ms * SH_MS : 0};
    struct sh_host_member *m = &h->member[h->n_members];
    enum shoal_status st;

    st = sh_ggmlrpc_device_open(&m->device, address, &opt, err);
    if (st) return st;
    h->n_members++;
    m->server = true;
    snprintf(m->name, sizeof m->name, "%s", address);
    return sh_device_info(m->device, &m->info, err);
}

static enum shoal_status open_local(struct sh_host *h, const struct sh_host_options *o,
                                    struct shoal_error *err)
{
    const int n = o->n_threads > 0 ? o->n_threads : sh_cpu_count();
    const struct sh_cpu_options opt = {.n_threads = n};
    struct sh_host_member *m = &h->member[h->n_members];
    enum shoal_status st;

    st = sh_cpu_device_open(&m->device, &opt, err);
    if (st) return st;
    h->n_members++;
    snprintf(m->name, sizeof m->name, "CPU (%d thread%s)", n, n == 1 ? "" : "s");
    return sh_device_info(m->device, &m->info, err);
}

enum shoal_status sh_host_members_open(struct sh_host *h, const struct sh_host_options *o,
                                       struct shoal_error *err)
{
    const bool others = o->n_workers > 0 || o->n_servers > 0;
    enum shoal_status st;

    if (o->n_workers < 0 || o->n_servers < 0 || o->n_workers >= SH_HOST_DEVICES_MAX ||
        o->n_workers + o->n_servers >= SH_HOST_DEVICES_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "%d workers and servers are given, at most %d are "
                       "possible",
                       o->n_workers + o->n_servers, SH_HOST_DEVICES_MAX - 1);
    }
    st = open_workers(h, o, err);
    for (int i = 0; i < o->n_servers && !st; i++)
        st = open_server(h, o->servers[i], o, err);
    // The local device comes last: logits then never cross the network.
    if (!st && (!others || o->with_local)) st = open_local(h, o, err);
    return st;
}

void sh_host_members_close(struct sh_host *h)
{
    for (int i = 0; i < h->n_members; i++) {
        sh_remote_close(h->member[i].worker);
        sh_device_close(h->member[i].device);
    }
    h->n_members = 0;
}

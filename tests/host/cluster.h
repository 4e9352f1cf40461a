/* tests/host/cluster.h - workers in this process, behind real listeners on loopback, and hosts that
 * use them.
 *
 * A folder holds the model file and the remembered hashes; it goes with the cluster.  Logits of a
 * host over the workers are compared with those of one that uses nobody.
 */
#ifndef TESTS_HOST_CLUSTER_H
#define TESTS_HOST_CLUSTER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/thread.h"
#include "host/host.h"
#include "host/serve.h"
#include "support/rig.h"

enum { CLUSTER_WORKERS = 4, CLUSTER_IDS = 120 };

struct cluster_worker {
    struct sh_worker *worker;
    struct sh_thread thread;
    enum shoal_status status; /* of run() */
};

struct cluster {
    char folder[64], model[96];
    int n;
    struct cluster_worker w[CLUSTER_WORKERS];
    struct sh_host_worker list[CLUSTER_WORKERS]; /* for a host's options */
    const char *servers[CLUSTER_WORKERS];        /* the same addresses for llama.cpp's protocol */
};

/* The folder, and n workers of one thread each.  `opt` (may be NULL): all but listen, n_threads. */
void cluster_open(struct cluster *c, int n, const struct sh_worker_options *opt);
/* Every session must have ended and nothing be set aside, soon. */
void cluster_close(struct cluster *c);
void cluster_start(struct cluster *c, int i, const struct sh_worker_options *opt);
void cluster_stop(struct cluster *c, int i); /* one of them, now; accepts one that is not there */
/* Wait until no session is left on any worker. */
void cluster_await_idle(struct cluster *c);

/* The model file of this cluster. */
void cluster_model(struct cluster *c, enum tm_kind kind, enum sh_dtype type, int n_layers);
void cluster_use(struct cluster *c, const char *path); /* one that is there */

/* Options of a host with n of the workers; the local device takes no part. */
struct sh_host_options cluster_options(const struct cluster *c, int n_workers);
struct sh_host *cluster_host(const struct sh_host_options *o);

/* Logits [n][n_vocab] of ids fed in chunks.  The status of feeding, message in *err. */
enum shoal_status cluster_try(struct sh_host *h, const int32_t *ids, int64_t n, int64_t chunk,
                              float *logits, struct shoal_error *err);
/* A host with these options gives the logits of one without workers, bit for bit. */
void cluster_check(const struct cluster *c, const struct sh_host_options *o, int64_t chunk,
                   const char *what);

#endif

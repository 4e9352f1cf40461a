/* cpu/exec.c - running the steps of a prepared graph, resumably.
 *
 * A run is a position in the list of steps and nothing else: everything that it has computed lies
 * in its slot.  So it can stop at any node border and go on later, while another run has the
 * executor.  Only the work memory is common to all runs of a graph; `work_intact` says since when
 * this run has had it for itself, so that leavings of earlier steps are not trusted too long.
 *
 * Threads: the executor's only.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cpu/ops_priv.h"
#include "cpu/sum_priv.h"

#define SLICE_NS (100 * SH_MS)

static bool is_empty(const struct sh_cpu_tensor *t)
{
    for (int d = 0; d < SH_MAX_DIMS; d++) {
        if (t->ne[d] == 0) return true;
    }
    return false;
}

static void bind(const struct sh_cpu_run *r, int32_t number, struct sh_cpu_tensor *out)
{
    const struct sh_tensor *t = sh_graph_tensor(r->x->g, number);
    const struct sh_cpu_place *p = &r->x->places[number];

    out->data = p->data ? p->data : r->x->slots[r->slot] + p->offset;
    out->dtype = t->dtype;
    memcpy(out->ne, t->ne, sizeof out->ne);
    memcpy(out->nb, t->nb, sizeof out->nb);
    if (t->extent != SH_EXTENT_NONE)
        out->ne[t->extent_dim] = sh_extents_get(&r->extents, t->extent, t->ne[t->extent_dim]);
}

static void bind_call(struct sh_cpu_run *r, const struct sh_cpu_step *s, struct sh_cpu_call *c)
{
    const struct sh_tensor *t = sh_graph_tensor(r->x->g, s->node);

    c->t = t;
    c->run = r;
    bind(r, s->node, &c->dst);
    for (int i = 0; i < SH_MAX_SRC; i++) {
        if (t->src[i] >= 0) {
            bind(r, t->src[i], &c->src[i]);
        } else {
            c->src[i].data = NULL;
        }
    }
    c->work = r->x->work + r->x->transient_offset;
    c->shared = r->x->work + s->shared_offset;
    c->shared_ready = s->shared_from < r->at && s->shared_from >= r->work_intact;
}

/* Put "CPU: tensor 12 (GET_ROWS)" in front of what an op said. */
static void name_node(const struct sh_tensor *t, int32_t node, struct shoal_error *err)
{
    struct shoal_error said;

    if (!err) return;
    said = *err;
    (void)sh_cpu_name_node(err, said.code, t, node, said.message);
}

static enum shoal_status run_step(struct sh_cpu_run *r, const struct sh_cpu_step *s,
                                  struct sh_cpu_call *c, struct shoal_error *err)
{
    enum shoal_status st;

    bind_call(r, s, c);
    if (is_empty(&c->dst) && !(sh_op_info(c->t->op)->flags & SH_OPF_STATE)) return SHOAL_OK;
    st = s->op->run(c, err);
    if (st) name_node(c->t, s->node, err);
    return st;
}

/* A SHARD_SUM: start, then poll until the others' vectors are there. */
static enum sh_cpu_progress run_sum(struct sh_cpu_run *r, const struct sh_cpu_step *s,
                                    struct sh_cpu_call *c, enum shoal_status *st,
                                    struct shoal_error *err)
{
    struct sh_collective *col = r->collective;
    bool done = false;

    bind_call(r, s, c);
    if (is_empty(&c->dst)) return SH_CPU_DONE;
    if (!r->in_sum) {
        *st = sh_cpu_sum_start(c, s->sum, err);
        r->in_sum = !*st;
    }
    if (!*st) *st = col->ops->poll(col, s->sum, &done, err);
    if (!*st && !done) return SH_CPU_WAITS;
    if (!*st) {
        *st = sh_cpu_sum_finish(c, s->sum, err);
        col->ops->finish(col, s->sum);
    }
    r->in_sum = false;
    if (*st) name_node(c->t, s->node, err);
    return *st ? SH_CPU_FAILED : SH_CPU_DONE;
}

static enum shoal_status check_imports(const struct sh_cpu_exec *x, struct shoal_error *err)
{
    for (int i = 0; i < x->n_imports; i++) {
        const struct sh_map *map = x->imports[i]->map;
        if (map && sh_map_faulted(map)) {
            return sh_fail(err, SHOAL_ERR_IO,
                           "CPU: a mapped file of %zu bytes shrank while it was in use", map->size);
        }
    }
    return SHOAL_OK;
}

static bool is_cancelled(const struct sh_cpu_run *r)
{
    return atomic_load_explicit(r->cancel, memory_order_relaxed);
}

enum sh_cpu_progress sh_cpu_run_advance(struct sh_cpu_run *r, struct sh_pool *pool,
                                        const struct sh_kernels *k, sh_cpu_wanted_fn *wanted,
                                        void *arg, enum shoal_status *st, struct shoal_error *err)
{
    struct sh_cpu_exec *x = r->x;
    struct sh_cpu_call c = {.k = k, .pool = pool, .n_threads = sh_pool_threads(pool)};
    const int64_t until = sh_deadline_in(&sh_clock_system, SLICE_NS);

    *st = SHOAL_OK;
    if (x->work_owner != r->id) {
        x->work_owner = r->id;
        r->work_intact = r->at;
    }
    sh_pool_set_stop(pool, r->cancel);
    for (; !*st && r->at < x->n_steps; r->at++) {
        const struct sh_cpu_step *s = &x->steps[r->at];
        if (is_cancelled(r)) break;
        if (s->sum >= 0 && r->collective) {
            if (run_sum(r, s, &c, st, err) == SH_CPU_WAITS) return SH_CPU_WAITS;
        } else {
            *st = run_step(r, s, &c, err);
        }
        if (!*st && wanted(arg) && sh_now_ns(&sh_clock_system) > until) {
            r->at++;
            return SH_CPU_YIELDS;
        }
    }
    sh_pool_set_stop(pool, NULL);
    if (!*st && is_cancelled(r)) *st = sh_fail(err, SHOAL_ERR_CANCELLED, "the run was cancelled");
    if (!*st) *st = check_imports(x, err);
    return *st ? SH_CPU_FAILED : SH_CPU_DONE;
}

void sh_cpu_run_abandon(struct sh_cpu_run *r, enum shoal_status st, const char *message)
{
    struct sh_collective *col = r->collective;

    if (col) col->ops->abandon(col, st, message);
}

/* cpu/queue.c - queues, and the one thread that serves them.
 *
 * A queue is a list of commands; the executor carries out the first one and takes it off the list
 * when it is complete.  It looks at the queues in turn: at those whose first command can go on,
 * and if there is none, at those that wait for a sum.  A queue's results are its newest complete
 * ticket, its first failure, and the last tickets that were cancelled.
 *
 * Threads: the device's lock guards lists and results.  The first command of a list belongs to
 * the executor, but for its `cancel` flag.  `done` may be read without the lock: whoever sees a
 * ticket there sees its effects.
 */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/spin.h"
#include "cpu/device_priv.h"

#define INLINE_BYTES_MAX ((size_t)64 * 1024) // what an idle queue's caller copies itself
#define CANCELLED_KEPT 64                    // tickets that wait() can still tell apart
#define SUM_SLEEP_NS (SH_MS / 5)             // another queue's new command may have to wait as long
#define PAGES_SHARE 16                       // 1/16 of the time of runs may go into large pages

enum command_kind { COMMAND_COPY, COMMAND_FILL, COMMAND_RUN };

struct command {
    struct command *next;
    enum command_kind kind;
    sh_ticket ticket;
    uint8_t *dst; // COPY, FILL
    const uint8_t *src;
    size_t bytes;
    uint8_t value;
    struct sh_cpu_run run; // RUN
    bool begun;
    bool waits; // for a sum, when last looked at
    atomic_bool cancel;
};

struct sh_cpu_queue {
    struct sh_queue_head head;
    struct sh_cpu_queue *next;
    struct command *first, *last;
    struct command *spare;
    struct sh_cond completed;
    int n_waiting;                // threads inside wait()
    sh_ticket issued;             // owned by the queue's user
    atomic_uint_least64_t done;   // newest complete ticket
    atomic_int_least64_t busy_ns; // spent on runs; the executor's
    sh_ticket failed_from;        // first ticket that failed; 0: none
    struct shoal_error failure;
    sh_ticket cancelled[CANCELLED_KEPT];
    size_t n_cancelled; // ever
};

static struct sh_cpu_queue *queue_of(struct sh_queue *q)
{
    return (struct sh_cpu_queue *)(void *)q;
}

static struct sh_cpu_device *device_of(const struct sh_cpu_queue *q)
{
    return sh_cpu_device_of(q->head.device);
}

/* ---- the executor ---------------------------------------------------------------------------*/

/* The next queue to look at, under the lock: one that can go on, else one that waits for a sum. */
static struct sh_cpu_queue *choose_queue(struct sh_cpu_device *d)
{
    struct sh_cpu_queue *waiting = NULL;
    struct sh_cpu_queue *q = d->turn ? d->turn : d->queues;

    for (const struct sh_cpu_queue *start = q; q;) {
        if (q->first && !q->first->waits) break;
        if (q->first && !waiting) waiting = q;
        q = q->next ? q->next : d->queues;
        if (q == start) q = NULL;
    }
    if (!q) q = waiting;
    if (q) d->turn = q->next;
    return q;
}

static void sleep_until_work(struct sh_cpu_device *d)
{
    struct sh_spin spin = SH_SPIN_INIT;

    while (d->spins && atomic_load_explicit(&d->n_busy, memory_order_relaxed) == 0 &&
           sh_spin_again(&spin)) {
    }
    sh_mutex_lock(&d->lock);
    d->executor_asleep = true;
    while (atomic_load(&d->n_busy) == 0 && !d->closing) {
        (void)sh_cond_wait(&d->work, &d->lock, INT64_MAX);
    }
    d->executor_asleep = false;
    sh_mutex_unlock(&d->lock);
}

/* Take the first command off the list and publish its result. */
static void complete(struct sh_cpu_queue *q, enum shoal_status st, const struct shoal_error *err)
{
    struct sh_cpu_device *d = device_of(q);
    struct command *c;

    sh_mutex_lock(&d->lock);
    c = q->first;
    q->first = c->next;
    if (!q->first) {
        q->last = NULL;
        atomic_fetch_sub(&d->n_busy, 1);
    }
    if (st == SHOAL_ERR_CANCELLED) {
        q->cancelled[q->n_cancelled++ % CANCELLED_KEPT] = c->ticket;
    } else if (st && !q->failed_from) {
        q->failed_from = c->ticket;
        q->failure = *err;
        q->failure.code = st;
    }
    atomic_store(&q->done, c->ticket);
    c->next = q->spare;
    q->spare = c;
    if (q->n_waiting) sh_cond_broadcast(&q->completed);
    sh_mutex_unlock(&d->lock);
}

static void move_bytes(const struct command *c)
{
    if (c->bytes == 0) return;
    if (c->kind == COMMAND_FILL) {
        memset(c->dst, c->value, c->bytes);
    } else {
        memmove(c->dst, c->src, c->bytes);
    }
}

/* Is some other queue ready?  Asked between the nodes of a run; the lock is not held. */
static bool somebody_ready(void *arg)
{
    struct sh_cpu_queue *mine = arg;
    struct sh_cpu_device *d = device_of(mine);
    bool ready = false;

    if (atomic_load_explicit(&d->n_busy, memory_order_relaxed) < 2) return false;
    sh_mutex_lock(&d->lock);
    for (const struct sh_cpu_queue *q = d->queues; q && !ready; q = q->next)
        ready = q != mine && q->first != NULL;
    sh_mutex_unlock(&d->lock);
    return ready;
}

/* Work was done, so sums that others wait for may be ready by now: look at them in their turn. */
static void look_again(struct sh_cpu_device *d)
{
    if (atomic_load_explicit(&d->n_busy, memory_order_relaxed) < 1) return;
    sh_mutex_lock(&d->lock);
    for (struct sh_cpu_queue *q = d->queues; q; q = q->next) {
        if (q->first && q != d->served) q->first->waits = false;
    }
    sh_mutex_unlock(&d->lock);
}

/* After a run and before its result is known: until then nobody frees the buffers. */
static void join_pages(const struct sh_cpu_exec *x, int64_t run_ns)
{
    for (int i = 0; i < x->n_caches; i++)
        sh_cpu_pages_join(&x->caches[i]->pages, run_ns / PAGES_SHARE / x->n_caches);
}

/* Go on with a run; true while it is not complete. */
static bool advance(struct sh_cpu_queue *q, struct command *c, bool *worked, enum shoal_status *st,
                    struct shoal_error *err)
{
    struct sh_cpu_device *d = device_of(q);
    const int32_t at = c->run.at;
    const bool in_sum = c->run.in_sum;
    const int64_t began_ns = sh_now_ns(&sh_clock_system);
    enum sh_cpu_progress progress;
    int64_t spent_ns;

    if (!c->begun) c->run.id = ++d->n_runs;
    c->begun = true;
    progress = sh_cpu_run_advance(&c->run, d->pool, d->kernels, somebody_ready, q, st, err);
    c->waits = progress == SH_CPU_WAITS;
    *worked = !c->waits || c->run.at != at || c->run.in_sum != in_sum;
    spent_ns = sh_now_ns(&sh_clock_system) - began_ns;
    if (*worked) atomic_fetch_add_explicit(&q->busy_ns, spent_ns, memory_order_relaxed);
    if (progress == SH_CPU_DONE) join_pages(c->run.x, spent_ns);
    if (progress == SH_CPU_FAILED) sh_cpu_run_abandon(&c->run, *st, err->message);
    return progress == SH_CPU_WAITS || progress == SH_CPU_YIELDS;
}

/* Go on with a queue's first command; false if its sum was not ready yet. */
static bool serve(struct sh_cpu_queue *q)
{
    struct sh_cpu_device *d = device_of(q);
    struct command *c = q->first;
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;
    bool worked = true, more = false;

    if (q->failed_from) {
        st = SHOAL_ERR_POISONED;
        if (c->kind == COMMAND_RUN)
            sh_cpu_run_abandon(&c->run, q->failure.code, q->failure.message);
    } else if (c->kind == COMMAND_RUN) {
        more = advance(q, c, &worked, &st, &err);
    } else {
        move_bytes(c);
    }
    d->served = q;
    if (worked) look_again(d);
    if (!more) complete(q, st, &err);
    return worked;
}

/* All that there is to do waits for sums, and `q` is one of those queues. */
static void wait_for_sum(struct sh_cpu_queue *q, struct sh_spin *spin)
{
    struct sh_collective *c = q->first->run.collective;

    if (sh_spin_again(spin)) return;
    c->ops->sleep(c, SUM_SLEEP_NS);
}

static void *executor_main(void *arg)
{
    struct sh_cpu_device *d = arg;
    struct sh_spin spin = SH_SPIN_INIT;

    for (;;) {
        struct sh_cpu_queue *q;
        bool closing, all_wait;

        sh_mutex_lock(&d->lock);
        q = choose_queue(d);
        all_wait = q && q->first->waits;
        closing = d->closing;
        sh_mutex_unlock(&d->lock);
        if (!q && closing) break;
        if (!q) {
            sleep_until_work(d);
        } else if (serve(q)) {
            spin = (struct sh_spin)SH_SPIN_INIT;
        } else if (all_wait) {
            wait_for_sum(q, &spin);
        }
    }
    return NULL;
}

enum shoal_status sh_cpu_executor_start(struct sh_cpu_device *d, struct shoal_error *err)
{
    return sh_thread_start(&d->executor, "shoal-cpu", executor_main, d, err);
}

void sh_cpu_executor_stop(struct sh_cpu_device *d)
{
    sh_mutex_lock(&d->lock);
    d->closing = true;
    sh_cond_signal(&d->work);
    sh_mutex_unlock(&d->lock);
    sh_thread_join(&d->executor);
}

/* ---- commands -------------------------------------------------------------------------------*/

static bool queue_idle(const struct sh_cpu_queue *q)
{
    return atomic_load(&q->done) == q->issued;
}

/* A copy of `want` at the end of the list. */
static enum shoal_status enqueue(struct sh_cpu_queue *q, const struct command *want, sh_ticket *t,
                                 struct shoal_error *err)
{
    struct sh_cpu_device *d = device_of(q);
    struct command *c;

    sh_mutex_lock(&d->lock);
    c = q->spare;
    if (c) q->spare = c->next;
    sh_mutex_unlock(&d->lock);
    if (!c) c = sh_malloc(sizeof *c);
    if (!c) return sh_fail(err, SHOAL_ERR_NOMEM, "CPU: no memory for a command");

    c->next = NULL;
    c->kind = want->kind;
    c->ticket = ++q->issued;
    c->dst = want->dst;
    c->src = want->src;
    c->bytes = want->bytes;
    c->value = want->value;
    c->run = want->run;
    c->run.cancel = &c->cancel;
    c->begun = false;
    c->waits = false;
    atomic_init(&c->cancel, false);
    if (t) *t = c->ticket;

    sh_mutex_lock(&d->lock);
    if (q->last) {
        q->last->next = c;
    } else {
        q->first = c;
        atomic_fetch_add(&d->n_busy, 1);
    }
    q->last = c;
    if (d->executor_asleep) sh_cond_signal(&d->work);
    sh_mutex_unlock(&d->lock);
    return SHOAL_OK;
}

/* Copy or fill: at once where nothing is before it and it is short. */
static enum shoal_status move(struct sh_cpu_queue *q, const struct command *c, sh_ticket *t,
                              struct shoal_error *err)
{
    if (c->bytes > INLINE_BYTES_MAX || !queue_idle(q)) return enqueue(q, c, t, err);
    if (!q->failed_from) move_bytes(c); // idle: nobody else changes failed_from
    q->issued++;
    if (t) *t = q->issued;
    atomic_store(&q->done, q->issued);
    return SHOAL_OK;
}

static enum shoal_status refuse_import(const struct sh_cpu_buffer *b, const char *what,
                                       struct shoal_error *err)
{
    if (!b->imported) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_ARG, "CPU: %s an imported buffer, which is read-only", what);
}

enum shoal_status sh_cpu_queue_write(struct sh_queue *queue, struct sh_buffer *b, size_t offset,
                                     const void *src, size_t bytes, sh_ticket *t,
                                     struct shoal_error *err)
{
    struct command c = {.kind = COMMAND_COPY, .src = src, .bytes = bytes};
    enum shoal_status st = refuse_import(sh_cpu_buffer_of(b), "write to", err);

    if (st) return st;
    c.dst = sh_cpu_buffer_of(b)->data + offset;
    return move(queue_of(queue), &c, t, err);
}

enum shoal_status sh_cpu_queue_read(struct sh_queue *queue, struct sh_buffer *b, size_t offset,
                                    void *dst, size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    const struct command c = {.kind = COMMAND_COPY,
                              .dst = dst,
                              .src = sh_cpu_buffer_of(b)->data + offset,
                              .bytes = bytes};

    return move(queue_of(queue), &c, t, err);
}

enum shoal_status sh_cpu_queue_fill(struct sh_queue *queue, struct sh_buffer *b, size_t offset,
                                    uint8_t value, size_t bytes, sh_ticket *t,
                                    struct shoal_error *err)
{
    struct command c = {.kind = COMMAND_FILL, .value = value, .bytes = bytes};
    enum shoal_status st = refuse_import(sh_cpu_buffer_of(b), "fill", err);

    if (st) return st;
    c.dst = sh_cpu_buffer_of(b)->data + offset;
    return move(queue_of(queue), &c, t, err);
}

enum shoal_status sh_cpu_queue_copy(struct sh_queue *queue, struct sh_buffer *dst,
                                    size_t dst_offset, struct sh_buffer *src, size_t src_offset,
                                    size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    struct command c = {
        .kind = COMMAND_COPY, .src = sh_cpu_buffer_of(src)->data + src_offset, .bytes = bytes};
    enum shoal_status st = refuse_import(sh_cpu_buffer_of(dst), "copy to", err);

    if (st) return st;
    c.dst = sh_cpu_buffer_of(dst)->data + dst_offset;
    return move(queue_of(queue), &c, t, err);
}

/* First byte of [offset, offset + bytes) of a tensor that lies in the scratch of a slot. */
static enum shoal_status find_in_slot(const struct sh_cpu_exec *x, int slot, int32_t tensor,
                                      size_t offset, size_t bytes, uint8_t **out,
                                      struct shoal_error *err)
{
    size_t size = 0;

    if (slot < 0 || slot >= x->n_slots)
        return sh_fail(err, SHOAL_ERR_ARG, "CPU: slot %d of %d", slot, x->n_slots);
    if (tensor < 0 || tensor >= x->g->n_tensors || x->places[tensor].data ||
        x->places[tensor].offset == SIZE_MAX ||
        !sh_tensor_bytes(sh_graph_tensor(x->g, tensor), &size)) {
        return sh_fail(err, SHOAL_ERR_ARG, "CPU: tensor %d does not lie in a slot", tensor);
    }
    if (!sh_range_ok(offset, bytes, size)) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "CPU: %zu bytes at %zu do not fit into tensor %d of %zu bytes", bytes,
                       offset, tensor, size);
    }
    *out = x->slots[slot] + x->places[tensor].offset + offset;
    return SHOAL_OK;
}

enum shoal_status sh_cpu_queue_write_tensor(struct sh_queue *queue, struct sh_exec *x, int slot,
                                            int32_t tensor, size_t offset, const void *src,
                                            size_t bytes, sh_ticket *t, struct shoal_error *err)
{
    struct command c = {.kind = COMMAND_COPY, .src = src, .bytes = bytes};
    enum shoal_status st;

    st = find_in_slot(sh_cpu_exec_of(x), slot, tensor, offset, bytes, &c.dst, err);
    if (st) return st;
    return move(queue_of(queue), &c, t, err);
}

enum shoal_status sh_cpu_queue_read_tensor(struct sh_queue *queue, struct sh_exec *x, int slot,
                                           int32_t tensor, size_t offset, void *dst, size_t bytes,
                                           sh_ticket *t, struct shoal_error *err)
{
    struct command c = {.kind = COMMAND_COPY, .dst = dst, .bytes = bytes};
    enum shoal_status st;
    uint8_t *src;

    st = find_in_slot(sh_cpu_exec_of(x), slot, tensor, offset, bytes, &src, err);
    if (st) return st;
    c.src = src;
    return move(queue_of(queue), &c, t, err);
}

static enum shoal_status check_submit(const struct sh_cpu_exec *x, int slot,
                                      const struct sh_extents *e, const struct sh_collective *c,
                                      struct shoal_error *err)
{
    const struct sh_extents *max = &x->g->max;

    if (slot < 0 || slot >= x->n_slots)
        return sh_fail(err, SHOAL_ERR_ARG, "CPU: slot %d of %d", slot, x->n_slots);
    if (e->t < 0 || e->t > max->t || e->o < 0 || e->o > max->o || e->r < 0 || e->r > max->r) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "CPU: extents T %lld, O %lld, R %lld; at most %lld, %lld, %lld",
                       (long long)e->t, (long long)e->o, (long long)e->r, (long long)max->t,
                       (long long)max->o, (long long)max->r);
    }
    if (x->n_shards > 1 && (!c || c->n_shards != x->n_shards)) {
        return sh_fail(err, SHOAL_ERR_ARG, "CPU: the graph's sums want %d shards, there are %d",
                       x->n_shards, c ? c->n_shards : 1);
    }
    return SHOAL_OK;
}

enum shoal_status sh_cpu_queue_submit(struct sh_queue *queue, struct sh_exec *x, int slot,
                                      const struct sh_extents *extents, struct sh_collective *c,
                                      sh_ticket *t, struct shoal_error *err)
{
    struct sh_cpu_exec *exec = sh_cpu_exec_of(x);
    struct command run = {.kind = COMMAND_RUN};
    enum shoal_status st = check_submit(exec, slot, extents, c, err);

    if (st) return st;
    run.run = (struct sh_cpu_run){
        .x = exec, .slot = slot, .extents = *extents, .collective = exec->n_shards > 1 ? c : NULL};
    return enqueue(queue_of(queue), &run, t, err);
}

/* ---- waiting --------------------------------------------------------------------------------*/

/* What became of a complete ticket; under the lock. */
static enum shoal_status result_of(const struct sh_cpu_queue *q, sh_ticket t,
                                   struct shoal_error *err)
{
    if (q->failed_from && t >= q->failed_from) {
        if (err) *err = q->failure;
        return q->failure.code;
    }
    for (size_t i = 0; t && i < CANCELLED_KEPT; i++) {
        if (q->cancelled[i] == t)
            return sh_fail(err, SHOAL_ERR_CANCELLED, "CPU: the run was cancelled");
    }
    return SHOAL_OK;
}

enum shoal_status sh_cpu_queue_wait(struct sh_queue *queue, sh_ticket t, int64_t timeout_ns,
                                    struct shoal_error *err)
{
    struct sh_cpu_queue *q = queue_of(queue);
    struct sh_cpu_device *d = device_of(q);
    const int64_t deadline = sh_deadline_in(&sh_clock_system, timeout_ns);
    struct sh_spin spin = SH_SPIN_INIT;
    enum shoal_status st = SHOAL_OK;

    if (t > q->issued)
        return sh_fail(err, SHOAL_ERR_ARG, "CPU: ticket %llu was never issued",
                       (unsigned long long)t);
    while (d->spins && atomic_load(&q->done) < t && sh_spin_again(&spin)) {
    }
    sh_mutex_lock(&d->lock);
    q->n_waiting++;
    while (!st && atomic_load(&q->done) < t) {
        int64_t left = INT64_MAX;
        if (deadline != SH_NO_DEADLINE) left = deadline - sh_now_ns(&sh_clock_system);
        if (left <= 0) {
            st = sh_fail(err, SHOAL_ERR_TIMEOUT, "CPU: a command was not complete in time");
        } else {
            (void)sh_cond_wait(&q->completed, &d->lock, left);
        }
    }
    q->n_waiting--;
    if (!st) st = result_of(q, t, err);
    sh_mutex_unlock(&d->lock);
    return st;
}

static void wait_until_idle(struct sh_cpu_queue *q)
{
    struct sh_cpu_device *d = device_of(q);

    sh_mutex_lock(&d->lock);
    q->n_waiting++;
    while (q->first) {
        (void)sh_cond_wait(&q->completed, &d->lock, INT64_MAX);
    }
    q->n_waiting--;
    sh_mutex_unlock(&d->lock);
}

void sh_cpu_queue_cancel(struct sh_queue *queue, sh_ticket t)
{
    struct sh_cpu_queue *q = queue_of(queue);
    struct sh_cpu_device *d = device_of(q);

    sh_mutex_lock(&d->lock);
    for (struct command *c = q->first; c; c = c->next) {
        if (c->ticket == t && c->kind == COMMAND_RUN) atomic_store(&c->cancel, true);
    }
    sh_mutex_unlock(&d->lock);
}

void sh_cpu_queue_reset(struct sh_queue *queue)
{
    struct sh_cpu_queue *q = queue_of(queue);
    struct sh_cpu_device *d = device_of(q);

    wait_until_idle(q);
    sh_mutex_lock(&d->lock);
    q->failed_from = 0;
    sh_mutex_unlock(&d->lock);
}

void sh_cpu_queue_quiesce(struct sh_queue *queue)
{
    wait_until_idle(queue_of(queue));
}

int64_t sh_cpu_queue_busy_ns(struct sh_queue *queue)
{
    return atomic_load_explicit(&queue_of(queue)->busy_ns, memory_order_relaxed);
}

enum shoal_status sh_cpu_queue_create(struct sh_device *dev, struct sh_queue **out,
                                      struct shoal_error *err)
{
    struct sh_cpu_device *d = sh_cpu_device_of(dev);
    struct sh_cpu_queue *q = sh_calloc(1, sizeof *q);
    struct sh_cpu_queue **end;

    if (!q) return sh_fail(err, SHOAL_ERR_NOMEM, "CPU: no memory for a queue");
    q->head.device = dev;
    atomic_init(&q->done, 0);
    atomic_init(&q->busy_ns, 0);
    sh_cond_init(&q->completed);
    sh_mutex_lock(&d->lock);
    for (end = &d->queues; *end; end = &(*end)->next) {
    }
    *end = q;
    sh_mutex_unlock(&d->lock);
    *out = (struct sh_queue *)(void *)q;
    return SHOAL_OK;
}

static void cancel_all(struct sh_cpu_queue *q)
{
    struct sh_cpu_device *d = device_of(q);

    sh_mutex_lock(&d->lock);
    for (struct command *c = q->first; c; c = c->next)
        atomic_store(&c->cancel, true);
    sh_mutex_unlock(&d->lock);
}

void sh_cpu_queue_destroy(struct sh_queue *queue)
{
    struct sh_cpu_queue *q = queue_of(queue);
    struct sh_cpu_device *d = device_of(q);

    cancel_all(q);
    wait_until_idle(q);
    sh_mutex_lock(&d->lock);
    for (struct sh_cpu_queue **at = &d->queues; *at; at = &(*at)->next) {
        if (*at != q) continue;
        *at = q->next;
        break;
    }
    if (d->turn == q) d->turn = q->next;
    sh_mutex_unlock(&d->lock);
    while (q->spare) {
        struct command *c = q->spare;
        q->spare = c->next;
        sh_free(c);
    }
    sh_cond_release(&q->completed);
    sh_free(q);
}

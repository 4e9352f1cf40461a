/* cpu/pool.c - chunks from one counter, and a gate that workers pass into a loop.
 *
 * The gate is one word:   epoch << 17 | open << 16 | workers inside
 * A worker may enter while the gate is open; it counts itself in, takes chunks until none is left
 * and counts itself out.  The caller closes the gate when the counter is used up and waits until
 * nobody is inside.  From then on no worker looks at the loop's fields, so the next loop may
 * overwrite them, and a worker that comes late finds the gate shut or a new epoch.
 */
#include "cpu/pool.h"

#include "base/mem.h"
#include "base/spin.h"
#include "base/thread.h"

#define GATE_OPEN (UINT64_C(1) << 16)
#define GATE_INSIDE (GATE_OPEN - 1)
#define GATE_EPOCH (GATE_OPEN << 1)

struct loop {
    int64_t n, chunk;
    sh_pool_fn *fn;
    void *arg;
    const atomic_bool *stop;
};

struct worker {
    struct sh_pool *pool;
    struct sh_thread thread;
    int number;
};

struct sh_pool {
    // Lines that all threads write are kept apart.
    _Alignas(64) atomic_uint_least64_t gate;
    _Alignas(64) atomic_int_least64_t next; // first item that nobody took
    _Alignas(64) struct loop loop;          // constant while the gate is open
    const atomic_bool *stop;
    atomic_int n_asleep; // workers; raised under the lock
    atomic_bool caller_asleep;
    atomic_bool closing;
    struct sh_mutex lock;  // for sleeping only: guards no fields
    struct sh_cond wake;   // workers: a loop has begun
    struct sh_cond joined; // caller: nobody is inside
    int n_threads;
    int n_workers; // started
    struct worker *workers;
};

static bool loop_stopped(const struct loop *l)
{
    return l->stop && atomic_load_explicit(l->stop, memory_order_relaxed);
}

static void take_chunks(struct sh_pool *p, int thread)
{
    const struct loop l = p->loop;

    while (!loop_stopped(&l)) {
        const int64_t begin = atomic_fetch_add_explicit(&p->next, l.chunk, memory_order_relaxed);
        if (begin >= l.n) return;
        l.fn(l.arg, begin, l.n - begin < l.chunk ? l.n : begin + l.chunk, thread);
    }
}

static void leave_gate(struct sh_pool *p)
{
    const uint64_t after = atomic_fetch_sub(&p->gate, 1) - 1;

    if ((after & (GATE_OPEN | GATE_INSIDE)) != 0) return;
    if (!atomic_load(&p->caller_asleep)) return;
    sh_mutex_lock(&p->lock);
    sh_cond_signal(&p->joined);
    sh_mutex_unlock(&p->lock);
}

/* Is there a loop that a worker who has seen epoch `seen` should join? */
static bool gate_invites(uint64_t gate, uint64_t seen)
{
    return (gate & GATE_OPEN) && gate / GATE_EPOCH != seen;
}

static void wait_for_loop(struct sh_pool *p, uint64_t seen)
{
    struct sh_spin spin = SH_SPIN_INIT;

    while (!atomic_load_explicit(&p->closing, memory_order_relaxed)) {
        if (gate_invites(atomic_load_explicit(&p->gate, memory_order_relaxed), seen)) return;
        if (!sh_spin_again(&spin)) break;
    }
    sh_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_asleep, 1); // before the last look: whoever opens sees one of the two
    while (!atomic_load(&p->closing) && !gate_invites(atomic_load(&p->gate), seen)) {
        (void)sh_cond_wait(&p->wake, &p->lock, INT64_MAX);
    }
    atomic_fetch_sub(&p->n_asleep, 1);
    sh_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct sh_pool *p = w->pool;
    uint64_t seen = 0;

    while (!atomic_load(&p->closing)) {
        uint64_t gate = atomic_load(&p->gate);
        if (!gate_invites(gate, seen)) {
            wait_for_loop(p, seen);
            continue;
        }
        if (!atomic_compare_exchange_weak(&p->gate, &gate, gate + 1)) continue;
        seen = gate / GATE_EPOCH;
        take_chunks(p, w->number);
        leave_gate(p);
    }
    return NULL;
}

static void wait_until_left(struct sh_pool *p)
{
    struct sh_spin spin = SH_SPIN_INIT;

    while (atomic_load(&p->gate) & GATE_INSIDE) {
        if (!sh_spin_again(&spin)) break;
    }
    if (!(atomic_load(&p->gate) & GATE_INSIDE)) return;
    sh_mutex_lock(&p->lock);
    atomic_store(&p->caller_asleep, true);
    while (atomic_load(&p->gate) & GATE_INSIDE) {
        (void)sh_cond_wait(&p->joined, &p->lock, INT64_MAX);
    }
    atomic_store(&p->caller_asleep, false);
    sh_mutex_unlock(&p->lock);
}

static void wake_workers(struct sh_pool *p, int64_t n_wanted)
{
    const int n_asleep = atomic_load(&p->n_asleep);

    if (n_asleep == 0) return;
    sh_mutex_lock(&p->lock);
    for (int i = 0; i < n_asleep && i < n_wanted; i++) {
        sh_cond_signal(&p->wake);
    }
    sh_mutex_unlock(&p->lock);
}

static void run_alone(struct sh_pool *p, int64_t n, int64_t chunk, sh_pool_fn *fn, void *arg)
{
    for (int64_t begin = 0; begin < n; begin += chunk) {
        if (p->stop && atomic_load_explicit(p->stop, memory_order_relaxed)) return;
        fn(arg, begin, n - begin < chunk ? n : begin + chunk, 0);
        if (n - begin <= chunk) return;
    }
}

void sh_pool_for(struct sh_pool *p, int64_t n, int64_t chunk, sh_pool_fn *fn, void *arg)
{
    uint64_t gate;

    SH_ASSERT(chunk > 0 && chunk < INT64_MAX / SH_POOL_THREADS_MAX / 2);
    if (p->n_workers == 0 || n <= chunk) {
        run_alone(p, n, chunk, fn, arg);
        return;
    }
    p->loop = (struct loop){.n = n, .chunk = chunk, .fn = fn, .arg = arg, .stop = p->stop};
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    gate = atomic_load_explicit(&p->gate, memory_order_relaxed); // shut and empty
    atomic_store(&p->gate, (gate + GATE_EPOCH) | GATE_OPEN);
    wake_workers(p, (n + chunk - 1) / chunk - 1);
    take_chunks(p, 0);
    atomic_fetch_and(&p->gate, ~GATE_OPEN);
    wait_until_left(p);
}

void sh_pool_set_stop(struct sh_pool *p, const atomic_bool *stop)
{
    p->stop = stop;
}

int sh_pool_threads(const struct sh_pool *p)
{
    return p->n_threads;
}

static enum shoal_status start_workers(struct sh_pool *p, struct shoal_error *err)
{
    for (int i = 0; i + 1 < p->n_threads; i++) {
        struct worker *w = &p->workers[i];
        enum shoal_status st;

        *w = (struct worker){.pool = p, .thread = SH_THREAD_INIT, .number = i + 1};
        st = sh_thread_start(&w->thread, "shoal-cpu", worker_main, w, err);
        if (st) return st;
        p->n_workers++;
    }
    return SHOAL_OK;
}

enum shoal_status sh_pool_create(struct sh_pool **out, int n_threads, struct shoal_error *err)
{
    struct sh_pool *p = NULL;
    enum shoal_status st = SHOAL_OK;

    *out = NULL;
    if (n_threads < 1 || n_threads > SH_POOL_THREADS_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "a pool of %d threads is not possible (1 to %d)",
                       n_threads, SH_POOL_THREADS_MAX);
    }
    p = sh_calloc(1, sizeof *p);
    if (!p) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a pool of %d threads", n_threads);
    atomic_init(&p->gate, 0);
    atomic_init(&p->next, 0);
    atomic_init(&p->n_asleep, 0);
    atomic_init(&p->caller_asleep, false);
    atomic_init(&p->closing, false);
    sh_mutex_init(&p->lock);
    sh_cond_init(&p->wake);
    sh_cond_init(&p->joined);
    p->n_threads = n_threads;
    p->workers = sh_calloc((size_t)n_threads, sizeof *p->workers);
    if (!p->workers) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a pool of %d threads", n_threads);
        goto done;
    }
    st = start_workers(p, err);
    if (st) goto done;
    *out = p;
    p = NULL;

done:
    sh_pool_destroy(p);
    return st;
}

void sh_pool_destroy(struct sh_pool *p)
{
    if (!p) return;
    sh_mutex_lock(&p->lock);
    atomic_store(&p->closing, true);
    sh_cond_broadcast(&p->wake);
    sh_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_workers; i++) {
        sh_thread_join(&p->workers[i].thread);
    }
    sh_cond_release(&p->joined);
    sh_cond_release(&p->wake);
    sh_mutex_release(&p->lock);
    sh_free(p->workers);
    sh_free(p);
}

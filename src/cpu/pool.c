/* cpu/pool.c - chunks from one counter, and a gate that workers pass into a loop.
 *
 * The gate is one word:   epoch << 32 | open << 31 | workers that came << 16 | workers inside
 * A worker may enter while the gate is open; it counts itself in, takes chunks until none is left
 * and counts itself out.  The caller closes the gate when the counter is used up and waits until
 * nobody is inside.  From then on no worker looks at the loop's fields, so the next loop may
 * overwrite them, and a worker that comes late finds the gate shut or a new epoch.
 *
 * Where the CPUs are taken by others, a woken worker often gets the caller's own CPU, and the two
 * do by turns what one would have done alone.  It shows: no worker comes, or one that has found no
 * more chunks sees the caller not even close the gate.  After such a wake-up the next loops wake
 * nobody (twice as many after each further one), unless they turn out to be long.
 */
#include "cpu/pool.h"

#include "base/futex.h"
#include "base/mem.h"
#include "base/spin.h"
#include "base/thread.h"

#define GATE_ENTER UINT64_C(0x10001) // counts a worker as come and as inside
#define GATE_INSIDE UINT64_C(0xffff)
#define GATE_CAME UINT64_C(0x7fff0000)
#define GATE_OPEN UINT64_C(0x80000000)
#define GATE_EPOCH UINT64_C(0x100000000)

#define MISSES_MAX 6       // at most 2^6 loops without a wake-up
#define PATIENCE 8         // loops in which a wake-up must show an effect
#define LONG_LOOP_NS 50000 // a loop of this length is worth a wake-up whatever was before

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
    // Sleeping: who means to sleep says so and then looks once more, who has news looks at who
    // sleeps after publishing them; so one of the two sees the other.
    _Alignas(64) atomic_int n_asleep; // workers
    atomic_uint wake;                 // changes when sleeping workers should look again
    atomic_bool caller_asleep;
    atomic_uint joined; // changes when the last worker has left
    atomic_bool closing;
    atomic_bool contended; // a worker has seen that the caller does not run
    // The caller's own:
    _Alignas(64) const atomic_bool *stop;
    int n_patience; // loops until a wake-up must have shown an effect; 0: judged
    int misses;     // wake-ups in a row that were no good
    int n_silent;   // loops to come that wake nobody
    int n_threads;
    int n_workers; // started
    struct worker *workers;
};

static bool take_chunk(struct sh_pool *p, const struct loop *l, int thread)
{
    int64_t begin;

    if (l->stop && atomic_load_explicit(l->stop, memory_order_relaxed)) return false;
    begin = atomic_fetch_add_explicit(&p->next, l->chunk, memory_order_relaxed);
    if (begin >= l->n) return false;
    l->fn(l->arg, begin, l->n - begin < l->chunk ? l->n : begin + l->chunk, thread);
    return true;
}

static void help(struct sh_pool *p, int thread)
{
    const struct loop l = p->loop;

    while (take_chunk(p, &l, thread)) {
    }
}

static void leave_gate(struct sh_pool *p)
{
    const uint64_t after = atomic_fetch_sub(&p->gate, 1) - 1;

    if ((after & (GATE_OPEN | GATE_INSIDE)) != 0) return;
    if (!atomic_load(&p->caller_asleep)) return;
    atomic_fetch_add(&p->joined, 1);
    sh_futex_wake(&p->joined, 1);
}

/* Is there a loop that a worker who has seen epoch `seen` should join? */
static bool gate_invites(uint64_t gate, uint64_t seen)
{
    return (gate & GATE_OPEN) && gate / GATE_EPOCH != seen;
}

/* Is loop `seen`, which has no chunks left, still open? */
static bool gate_waits(uint64_t gate, uint64_t seen)
{
    return (gate & GATE_OPEN) && gate / GATE_EPOCH == seen;
}

static void wait_for_loop(struct sh_pool *p, uint64_t seen)
{
    struct sh_spin spin = SH_SPIN_INIT;

    while (!atomic_load_explicit(&p->closing, memory_order_relaxed)) {
        if (gate_invites(atomic_load_explicit(&p->gate, memory_order_relaxed), seen)) return;
        if (!sh_spin_again(&spin)) break;
    }
    if (gate_waits(atomic_load_explicit(&p->gate, memory_order_relaxed), seen))
        atomic_store_explicit(&p->contended, true, memory_order_relaxed);
    atomic_fetch_add(&p->n_asleep, 1);
    for (;;) {
        const unsigned word = atomic_load(&p->wake);
        if (atomic_load(&p->closing) || gate_invites(atomic_load(&p->gate), seen)) break;
        sh_futex_wait(&p->wake, word);
    }
    atomic_fetch_sub(&p->n_asleep, 1);
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
        if (!atomic_compare_exchange_weak(&p->gate, &gate, gate + GATE_ENTER)) continue;
        seen = gate / GATE_EPOCH;
        help(p, w->number);
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
    atomic_store(&p->caller_asleep, true);
    for (;;) {
        const unsigned word = atomic_load(&p->joined);
        if (!(atomic_load(&p->gate) & GATE_INSIDE)) break;
        sh_futex_wait(&p->joined, word);
    }
    atomic_store(&p->caller_asleep, false);
}

static void wake_workers(struct sh_pool *p, int64_t n_wanted)
{
    const int n_asleep = atomic_load(&p->n_asleep);

    if (n_asleep == 0) return;
    p->n_patience = PATIENCE;
    atomic_store(&p->contended, false);
    atomic_fetch_add(&p->wake, 1);
    sh_futex_wake(&p->wake, n_asleep < n_wanted ? n_asleep : (int)n_wanted);
}

static void run_alone(struct sh_pool *p, int64_t n, int64_t chunk, sh_pool_fn *fn, void *arg)
{
    for (int64_t begin = 0; begin < n; begin += chunk) {
        if (p->stop && atomic_load_explicit(p->stop, memory_order_relaxed)) return;
        fn(arg, begin, n - begin < chunk ? n : begin + chunk, 0);
        if (n - begin <= chunk) return;
    }
}

/* Before a loop: was the last wake-up any good?  Sets how many loops wake nobody.  A worker may
 * take a few short loops to come. */
static void judge_wake_up(struct sh_pool *p, uint64_t gate)
{
    bool contended;

    if (p->n_patience == 0) return;
    p->n_patience--;
    contended = atomic_exchange(&p->contended, false);
    if (!contended && ((gate & GATE_CAME) || atomic_load(&p->n_asleep) < p->n_workers)) {
        p->n_patience = 0;
        p->misses = 0;
    } else if (contended || p->n_patience == 0) {
        p->n_patience = 0;
        if (p->misses < MISSES_MAX) p->misses++;
        p->n_silent = (1 << p->misses) - 2;
    }
}

/* The caller's chunks, and the wake-up of workers that sleep. */
static void work(struct sh_pool *p, int64_t n_chunks)
{
    const struct loop l = p->loop;
    int64_t begun = 0;

    if (atomic_load(&p->n_asleep) > 0) {
        if (p->n_silent == 0 && p->n_patience == 0) {
            wake_workers(p, n_chunks - 1);
        } else {
            if (p->n_silent > 0) p->n_silent--;
            begun = sh_now_ns(&sh_clock_system);
        }
    }
    while (take_chunk(p, &l, 0)) {
        if (!begun || sh_now_ns(&sh_clock_system) - begun < LONG_LOOP_NS) continue;
        wake_workers(p, n_chunks - 1);
        begun = 0;
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
    judge_wake_up(p, gate);
    atomic_store(&p->gate, (gate / GATE_EPOCH + 1) * GATE_EPOCH | GATE_OPEN);
    work(p, (n + chunk - 1) / chunk);
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
    atomic_init(&p->wake, 0);
    atomic_init(&p->joined, 0);
    atomic_init(&p->contended, false);
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
    atomic_store(&p->closing, true);
    atomic_fetch_add(&p->wake, 1);
    sh_futex_wake(&p->wake, p->n_workers);
    for (int i = 0; i < p->n_workers; i++) {
        sh_thread_join(&p->workers[i].thread);
    }
    sh_free(p->workers);
    sh_free(p);
}

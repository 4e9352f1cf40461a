/* tests/sim/system.c - base's threads, locks, clock and machine on the scheduler of sched.h.
 *
 * These definitions are found by the linker before those of the library (base/thread.c,
 * base/futex.c, base/clock.c, base/system.c), so the program's code runs unchanged.  What a lock
 * or a condition needs is kept in the bytes of the system's own record.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/futex.h"
#include "base/thread.h"
#include "sim/sched.h"

#define MUTEX_LIVE 0x6d757465u
#define COND_LIVE 0x636f6e64u

/* ---- locks ---------------------------------------------------------------------------------- */

struct lock_state {
    uint32_t live;
    int32_t taken;
    int32_t n_waiting;
};
_Static_assert(sizeof(struct lock_state) <= sizeof(pthread_mutex_t), "fits into a mutex");
_Static_assert(sizeof(struct lock_state) <= sizeof(pthread_cond_t), "fits into a condition");

static struct lock_state load(const void *record, uint32_t live)
{
    struct lock_state s;

    memcpy(&s, record, sizeof s);
    if (s.live != live) sim_fail("a lock or condition is used outside its life");
    return s;
}

static void store(void *record, const struct lock_state *s)
{
    memcpy(record, s, sizeof *s);
}

static void begin_life(void *record, uint32_t live)
{
    const struct lock_state s = {.live = live};

    store(record, &s);
}

static void end_life(void *record, uint32_t live)
{
    struct lock_state s = load(record, live);

    if (s.taken || s.n_waiting) sim_fail("a lock or condition in use is released");
    s.live = 0;
    store(record, &s);
}

void sh_mutex_init(struct sh_mutex *m)
{
    begin_life(m, MUTEX_LIVE);
}

void sh_mutex_release(struct sh_mutex *m)
{
    end_life(m, MUTEX_LIVE);
}

static void take(struct sh_mutex *m)
{
    struct lock_state s = load(m, MUTEX_LIVE);

    while (s.taken) {
        s.n_waiting++;
        store(m, &s);
        (void)sim_block(m, SIM_NEVER, "a lock");
        s = load(m, MUTEX_LIVE);
        s.n_waiting--;
        store(m, &s);
    }
    s.taken = 1;
    store(m, &s);
}

static void give(struct sh_mutex *m)
{
    struct lock_state s = load(m, MUTEX_LIVE);

    if (!s.taken) sim_fail("a lock is released that nobody holds");
    s.taken = 0;
    store(m, &s);
    if (s.n_waiting) sim_wake(m);
}

void sh_mutex_lock(struct sh_mutex *m)
{
    sim_yield();
    take(m);
}

void sh_mutex_unlock(struct sh_mutex *m)
{
    give(m);
    sim_yield();
}

void sh_cond_init(struct sh_cond *c)
{
    begin_life(c, COND_LIVE);
}

void sh_cond_release(struct sh_cond *c)
{
    end_life(c, COND_LIVE);
}

static int64_t moment_in(int64_t ns)
{
    if (ns < 0) ns = 0;
    return ns > SIM_NEVER - sim_now() ? SIM_NEVER : sim_now() + ns;
}

static void count_waiting(struct sh_cond *c, int by)
{
    struct lock_state s = load(c, COND_LIVE);

    s.n_waiting += by;
    store(c, &s);
}

bool sh_cond_wait(struct sh_cond *c, struct sh_mutex *m, int64_t ns)
{
    const bool spurious = sim_chance(8);
    bool woken = true;

    count_waiting(c, 1);
    give(m);
    if (spurious) {
        sim_yield();
    } else {
        woken = sim_block(c, moment_in(ns), "a condition");
    }
    count_waiting(c, -1);
    take(m);
    return woken;
}

void sh_cond_signal(struct sh_cond *c)
{
    if (load(c, COND_LIVE).n_waiting) (void)sim_wake_one(c);
    sim_yield();
}

void sh_cond_broadcast(struct sh_cond *c)
{
    if (load(c, COND_LIVE).n_waiting) sim_wake(c);
    sim_yield();
}

void sh_futex_wait(atomic_uint *word, unsigned seen)
{
    sim_yield();
    if (atomic_load(word) == seen) (void)sim_block(word, SIM_NEVER, "a word");
}

void sh_futex_wake(atomic_uint *word, int n)
{
    for (int i = 0; i < n && sim_wake_one(word); i++) {
    }
    sim_yield();
}

/* ---- threads -------------------------------------------------------------------------------- */

enum shoal_status sh_thread_start(struct sh_thread *t, const char *name, void *(*run)(void *),
                                  void *arg, struct shoal_error *err)
{
    const uintptr_t none = 0;
    int id;

    memcpy(&t->t, &none, sizeof none);
    t->running = false;
    if (sim_thread_refused()) {
        sim_note("no thread", sim_self_proc(), 0);
        return sh_fail(err, SHOAL_ERR_NOMEM, "cannot start the thread \"%s\": refused", name);
    }
    id = sim_spawn(sim_self_proc(), name, run, arg);
    memcpy(&t->t, &id, sizeof id); // the system's name of a thread has room for ours
    t->running = true;
    sim_yield();
    return SHOAL_OK;
}

void sh_thread_join(struct sh_thread *t)
{
    int id;

    if (!t->running) return;
    memcpy(&id, &t->t, sizeof id);
    sim_join(id);
    t->running = false;
}

/* ---- clock ---------------------------------------------------------------------------------- */

static int64_t now_ns(void *self)
{
    (void)self;
    return sim_read_clock();
}

const struct sh_clock sh_clock_system = {.now_ns = now_ns, .self = NULL};

int64_t sh_deadline_in(const struct sh_clock *c, int64_t ns)
{
    int64_t now;

    if (ns < 0 || ns == SH_NO_DEADLINE) return SH_NO_DEADLINE;
    now = sh_now_ns(c);
    return now > INT64_MAX - ns ? SH_NO_DEADLINE : now + ns;
}

/* ---- the machine ---------------------------------------------------------------------------- */

int sh_cpu_count(void)
{
    return 1;
}

size_t sh_memory_available(void)
{
    return (size_t)1 << 30;
}

size_t sh_memory_total(void)
{
    return (size_t)2 << 30;
}

/* The program's draws that no seed of its own decides. */
ssize_t getrandom(void *out, size_t n, unsigned flags)
{
    uint8_t *p = out;

    (void)flags;
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)sim_random(256);
    return (ssize_t)n;
}

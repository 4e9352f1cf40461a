/* tests/sim/sched.c - see sched.h.
 *
 * Each thread has a semaphore; posting it hands the baton over.  All state below is touched by the
 * holder of the baton only, so it needs no lock.
 */
#include "sim/sched.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS_MAX = 256, PROCS_MAX = 64, EVENTS_MAX = 1 << 16 };
#define START_NS INT64_C(1000000000000) /* the clock of a machine that has been up for a while */
#define LAST_NS (START_NS + INT64_C(1200000000000)) /* more time than any run needs */
#define STEPS_MAX UINT64_C(20000000)                /* and more switches */

struct thread {
    int id, proc;
    char name[16];
    pthread_t real;
    sem_t baton;
    void *(*run)(void *);
    void *arg;
    bool finished, blocked, timed_out, held;
    const void *on; /* what it waits for */
    const char *why;
    int64_t until;
    uint32_t priority;
};

struct event {
    int64_t when;
    uint64_t seq;
    sim_event_fn *fn;
    void *self;
    int64_t a, b;
};

static struct {
    struct sim_options o;
    struct thread *thread[THREADS_MAX]; // those that are not joined, in the order they began
    int n_threads, n_started;
    int64_t now;
    uint64_t random, hash, n_steps, n_notes;
    uint32_t preempt;  // of 1024, at each yield
    uint32_t sluggish; // of 32768, at each yield: runs again only after a while
    bool by_priority;  // the highest runs, instead of any
    bool frozen[PROCS_MAX];
    int refuse[PROCS_MAX];
    struct event *heap;
    size_t n_events;
    uint64_t seq;
} g;
static _Thread_local struct thread *g_self;

/* ---- failing -------------------------------------------------------------------------------- */

static void print_threads(void)
{
    for (int i = 0; i < g.n_threads; i++) {
        const struct thread *t = g.thread[i];
        fprintf(stderr, "  thread %d \"%s\" of process %d%s%s: ", t->id, t->name, t->proc,
                g.frozen[t->proc] ? " (frozen)" : "", t->held ? " (held)" : "");
        if (t->finished) {
            fprintf(stderr, "ended, not joined\n");
        } else if (t->blocked && t->until != SIM_NEVER) {
            fprintf(stderr, "waits for %s, %.6f s more\n", t->why,
                    (double)(t->until - g.now) / 1e9);
        } else {
            fprintf(stderr, "%s%s\n", t->blocked ? "waits for " : "can run",
                    t->blocked ? t->why : "");
        }
    }
}

void sim_fail(const char *fmt, ...)
{
    va_list args;

    fflush(stdout);
    fprintf(stderr, "\nFAILED after %.6f s of virtual time: ", (double)(g.now - START_NS) / 1e9);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\n");
    print_threads();
    fprintf(stderr, "again, with its trace: %s\n", g.o.repeat);
    fflush(stderr);
    _exit(1); // threads of the program are anywhere
}

/* ---- trace and chance ----------------------------------------------------------------------- */

static void mix(uint64_t v)
{
    g.hash = (g.hash ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    g.hash ^= g.hash >> 29;
}

void sim_note(const char *what, int64_t a, int64_t b)
{
    for (const char *s = what; *s; s++)
        mix((uint64_t)*s);
    mix((uint64_t)a);
    mix((uint64_t)b);
    mix((uint64_t)g.now);
    g.n_notes++;
    if (g.o.verbose) {
        printf("%12.6f %3d %-10.10s %s %lld %lld\n", (double)(g.now - START_NS) / 1e9,
               g_self ? g_self->id : -1, g_self ? g_self->name : "", what, (long long)a,
               (long long)b);
    }
}

void sim_say(const char *fmt, ...)
{
    va_list args;

    if (!g.o.verbose) return;
    printf("%12.6f     ", (double)(g.now - START_NS) / 1e9);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
}

uint32_t sim_random(uint32_t n)
{
    g.random ^= g.random << 13; // xorshift: any state but zero
    g.random ^= g.random >> 7;
    g.random ^= g.random << 17;
    return (uint32_t)(((g.random >> 32) * n) >> 32);
}

bool sim_chance(uint32_t of_1024)
{
    return of_1024 > 0 && sim_random(1024) < of_1024;
}

/* ---- events --------------------------------------------------------------------------------- */

static bool earlier(const struct event *a, const struct event *b)
{
    return a->when != b->when ? a->when < b->when : a->seq < b->seq;
}

void sim_at(int64_t when, sim_event_fn *fn, void *self, int64_t a, int64_t b)
{
    const struct event e = {when, g.seq++, fn, self, a, b};
    size_t i = g.n_events++;

    if (i >= EVENTS_MAX) sim_fail("more than %d events are pending", EVENTS_MAX);
    for (; i > 0 && earlier(&e, &g.heap[(i - 1) / 2]); i = (i - 1) / 2)
        g.heap[i] = g.heap[(i - 1) / 2];
    g.heap[i] = e;
}

static struct event take_event(void)
{
    const struct event first = g.heap[0], last = g.heap[--g.n_events];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= g.n_events) break;
        if (child + 1 < g.n_events && earlier(&g.heap[child + 1], &g.heap[child])) child++;
        if (!earlier(&g.heap[child], &last)) break;
        g.heap[i] = g.heap[child];
        i = child;
    }
    g.heap[i] = last;
    return first;
}

/* ---- choosing ------------------------------------------------------------------------------- */

static bool stands_still(const struct thread *t)
{
    return g.frozen[t->proc] || t->held;
}

/* Everything that is due by now. */
static void pump(void)
{
    while (g.n_events > 0 && g.heap[0].when <= g.now) {
        const struct event e = take_event();
        e.fn(e.self, e.a, e.b);
    }
    for (int i = 0; i < g.n_threads; i++) {
        struct thread *t = g.thread[i];
        if (!t->blocked || t->until > g.now || stands_still(t)) continue;
        t->blocked = false;
        t->timed_out = true;
    }
}

static int64_t next_moment(void)
{
    int64_t when = g.n_events > 0 ? g.heap[0].when : SIM_NEVER;

    for (int i = 0; i < g.n_threads; i++) {
        const struct thread *t = g.thread[i];
        if (t->blocked && t->until < when && !stands_still(t)) when = t->until;
    }
    return when;
}

static struct thread *choose_now(void)
{
    struct thread *can[THREADS_MAX], *best = NULL;
    int n = 0;

    for (int i = 0; i < g.n_threads; i++) {
        struct thread *t = g.thread[i];
        if (t->blocked || t->finished || stands_still(t)) continue;
        can[n++] = t;
        if (!best || t->priority > best->priority) best = t;
    }
    if (n < 2 || g.by_priority) return best;
    return can[sim_random((uint32_t)n)];
}

/* Who runs next; the clock goes on until somebody can. */
static struct thread *choose(void)
{
    for (;;) {
        struct thread *t;
        pump();
        t = choose_now();
        if (t) return t;
        if (next_moment() == SIM_NEVER) sim_fail("nobody can ever go on");
        g.now = next_moment();
        if (g.now > LAST_NS) sim_fail("no end in sight");
    }
}

static void give_baton(struct thread *to)
{
    if (++g.n_steps > STEPS_MAX) sim_fail("no end in sight after %d switches", (int)STEPS_MAX);
    mix((uint64_t)to->id);
    if (sem_post(&to->baton) != 0) sim_fail("sem_post: errno %d", errno);
}

static void await_baton(struct thread *me)
{
    while (sem_wait(&me->baton) != 0) {
        if (errno != EINTR) sim_fail("sem_wait: errno %d", errno);
    }
}

static void switch_away(void)
{
    struct thread *me = g_self, *to = choose();

    if (to == me) return;
    give_baton(to);
    await_baton(me);
}

/* A busy machine: a thread that could run does not, while time and the network go on. */
static void dawdle(void)
{
    const int64_t longest_ns = INT64_C(1000) << sim_random(14); // 1 us to 8 ms

    sim_sleep(1 + sim_random((uint32_t)longest_ns));
}

void sim_yield(void)
{
    pump();
    if (g.sluggish > 0 && sim_random(32768) < g.sluggish) dawdle();
    if (!sim_chance(g.preempt)) {
        if (stands_still(g_self)) switch_away();
        return;
    }
    g_self->priority = sim_random(UINT32_MAX);
    switch_away();
}

/* ---- waiting -------------------------------------------------------------------------------- */

bool sim_block(const void *on, int64_t until, const char *why)
{
    struct thread *me = g_self;

    me->blocked = true;
    me->timed_out = false;
    me->on = on;
    me->why = why;
    me->until = until;
    switch_away();
    me->on = NULL;
    return !me->timed_out;
}

void sim_wake(const void *on)
{
    for (int i = 0; i < g.n_threads; i++) {
        if (g.thread[i]->blocked && g.thread[i]->on == on) g.thread[i]->blocked = false;
    }
}

bool sim_wake_one(const void *on)
{
    struct thread *found[THREADS_MAX];
    int n = 0;

    for (int i = 0; i < g.n_threads; i++) {
        if (g.thread[i]->blocked && g.thread[i]->on == on) found[n++] = g.thread[i];
    }
    if (n == 0) return false;
    found[n > 1 ? sim_random((uint32_t)n) : 0]->blocked = false;
    return true;
}

void sim_sleep(int64_t ns)
{
    (void)sim_block(&g_self, g.now + ns, "its time");
}

int64_t sim_now(void)
{
    return g.now;
}

int64_t sim_read_clock(void)
{
    g.now += 1 + sim_random(4000); // so that whoever spins on the clock comes to an end
    sim_yield();
    return g.now;
}

/* ---- threads -------------------------------------------------------------------------------- */

static void *thread_main(void *arg)
{
    struct thread *me = arg;

    g_self = me;
    await_baton(me);
    (void)me->run(me->arg);
    me->finished = true;
    sim_wake(me);
    give_baton(choose());
    return NULL;
}

static struct thread *add_thread(int proc, const char *name)
{
    struct thread *t = calloc(1, sizeof *t);

    if (!t || g.n_threads == THREADS_MAX || proc < 0 || proc >= PROCS_MAX) {
        sim_fail("too many threads or processes");
    }
    t->id = g.n_started++;
    t->proc = proc;
    t->priority = sim_random(UINT32_MAX);
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    if (sem_init(&t->baton, 0, 0) != 0) sim_fail("sem_init: errno %d", errno);
    g.thread[g.n_threads++] = t;
    return t;
}

int sim_spawn(int proc, const char *name, void *(*run)(void *), void *arg)
{
    struct thread *t = add_thread(proc, name);
    int rc;

    t->run = run;
    t->arg = arg;
    sim_note("start", t->id, proc);
    rc = pthread_create(&t->real, NULL, thread_main, t);
    if (rc != 0) sim_fail("pthread_create: errno %d", rc);
    return t->id;
}

void sim_join(int id)
{
    struct thread *t = NULL;
    int i = 0;

    for (; i < g.n_threads && !t; i++)
        t = g.thread[i]->id == id ? g.thread[i] : NULL;
    if (!t) sim_fail("thread %d is joined twice", id);
    while (!t->finished)
        (void)sim_block(t, SIM_NEVER, "the end of a thread");
    (void)pthread_join(t->real, NULL); // it has given the baton away and only returns
    for (i = 0; g.thread[i] != t; i++) {
    }
    memmove(g.thread + i, g.thread + i + 1, (size_t)(g.n_threads - i - 1) * sizeof *g.thread);
    g.n_threads--;
    (void)sem_destroy(&t->baton);
    free(t);
}

int sim_self_proc(void)
{
    return g_self->proc;
}

int sim_n_threads(void)
{
    return g.n_threads;
}

void sim_freeze(int proc, bool frozen)
{
    g.frozen[proc] = frozen;
}

void sim_freeze_named(int proc, const char *name, bool frozen)
{
    for (int i = 0; i < g.n_threads; i++) {
        struct thread *t = g.thread[i];
        if (t->proc == proc && strcmp(t->name, name) == 0) t->held = frozen;
    }
}

void sim_refuse_thread(int proc, int n)
{
    g.refuse[proc] = n;
}

bool sim_thread_refused(void)
{
    int *left = &g.refuse[g_self->proc];

    return *left > 0 && --*left == 0;
}

/* ---- life ----------------------------------------------------------------------------------- */

void sim_begin(const struct sim_options *o)
{
    static const uint32_t preempt[] = {0, 4, 32, 128, 400}, sluggish[] = {0, 0, 8, 64, 400};

    memset(&g, 0, sizeof g);
    g.o = *o;
    g.now = START_NS;
    g.random = o->seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (int i = 0; i < 8; i++)
        (void)sim_random(2);
    g.preempt = preempt[sim_random(5)];
    g.sluggish = sluggish[sim_random(5)];
    g.by_priority = sim_chance(300);
    g.heap = calloc(EVENTS_MAX, sizeof *g.heap);
    if (!g.heap) sim_fail("no memory for events");
    g_self = add_thread(0, "director");
}

uint64_t sim_end(void)
{
    if (g.n_threads != 1) sim_fail("%d threads are left", g.n_threads - 1);
    sim_say("%llu switches, %llu notes", (unsigned long long)g.n_steps,
            (unsigned long long)g.n_notes);
    mix(g.n_steps);
    (void)sem_destroy(&g_self->baton);
    free(g_self);
    g_self = NULL;
    free(g.heap);
    g.heap = NULL;
    g.n_threads = 0;
    return g.hash;
}

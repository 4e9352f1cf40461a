/* tests/sim/sched.h - many threads on one virtual clock, one at a time, in an order drawn from a
 * seed.
 *
 * The program's own threads, locks and clock run on this instead of the system's (sim/system.c
 * puts it under base/thread.h, base/futex.h and base/clock.h).  Every thread is a real one, but
 * only the holder of the baton runs; whoever must wait hands it on.  Where several can run, the
 * seed says who does; where none can, the clock jumps to the next event.  So a run has no races
 * and needs no time, and the same seed gives the same run, step by step: the trace's hash says so.
 *
 * Threads belong to processes, which can be frozen.  What the program gets wrong, and a state in
 * which nobody can ever go on, ends the real process with a table of threads and the command that
 * repeats the run.
 */
#ifndef TESTS_SIM_SCHED_H
#define TESTS_SIM_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_NEVER INT64_MAX

struct sim_options {
    uint64_t seed;
    bool verbose;       /* print the trace */
    const char *repeat; /* the command that repeats this run */
};

/* The calling thread becomes thread 0 of process 0. */
void sim_begin(const struct sim_options *o);
/* All other threads must be gone.  The hash of the trace. */
uint64_t sim_end(void);

_Noreturn void sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- time and chance ------------------------------------------------------------------------ */

int64_t sim_now(void);           /* nanoseconds; looking costs none */
int64_t sim_read_clock(void);    /* what the program sees: costs a moment, others may run */
uint32_t sim_random(uint32_t n); /* in [0, n) */
bool sim_chance(uint32_t of_1024);
/* One step of the trace: hashed, and printed where wished. */
void sim_note(const char *what, int64_t a, int64_t b);
/* A line for the reader of a printed trace only. */
void sim_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- threads -------------------------------------------------------------------------------- */

/* -1 where the real system has none left. */
int sim_spawn(int proc, const char *name, void *(*run)(void *), void *arg);
void sim_join(int thread);
int sim_self_proc(void);
int sim_n_threads(void);

/* Others may run now, if the seed says so. */
void sim_yield(void);
/* Wait until somebody wakes `on`, or the clock shows `until`: then false. */
bool sim_block(const void *on, int64_t until, const char *why);
void sim_wake(const void *on); /* all */
bool sim_wake_one(const void *on);
void sim_sleep(int64_t ns);

/* ---- processes ------------------------------------------------------------------------------ */

/* No thread of the process runs, and no time passes for it. */
void sim_freeze(int proc, bool frozen);
/* The same for its threads of one name: a device that computes for long. */
void sim_freeze_named(int proc, const char *name, bool frozen);
/* The n-th thread that the process starts from now on (1 = the next) cannot be started. */
void sim_refuse_thread(int proc, int n);
bool sim_thread_refused(void); /* asked once per thread that the program starts */

/* ---- events --------------------------------------------------------------------------------- */

typedef void sim_event_fn(void *self, int64_t a, int64_t b);
/* Called at that time, by whatever thread; must not block. */
void sim_at(int64_t when, sim_event_fn *fn, void *self, int64_t a, int64_t b);

#endif

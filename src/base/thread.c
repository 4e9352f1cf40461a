/* base/thread.c - pthreads with checked results. */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define NS_PER_SECOND INT64_C(1000000000)

static void must(int rc)
{
    SH_ASSERT(rc == 0);
}

void sh_mutex_init(struct sh_mutex *m)
{
    must(pthread_mutex_init(&m->m, NULL));
}

void sh_mutex_release(struct sh_mutex *m)
{
    must(pthread_mutex_destroy(&m->m));
}

void sh_mutex_lock(struct sh_mutex *m)
{
    must(pthread_mutex_lock(&m->m));
}

void sh_mutex_unlock(struct sh_mutex *m)
{
    must(pthread_mutex_unlock(&m->m));
}

void sh_cond_init(struct sh_cond *c)
{
    pthread_condattr_t attr;

    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    must(pthread_cond_init(&c->c, &attr));
    must(pthread_condattr_destroy(&attr));
}

void sh_cond_release(struct sh_cond *c)
{
    must(pthread_cond_destroy(&c->c));
}

bool sh_cond_wait(struct sh_cond *c, struct sh_mutex *m, int64_t ns)
{
    struct timespec ts;
    int64_t now;
    int rc;

    if (ns < 0) ns = 0;
    must(clock_gettime(CLOCK_MONOTONIC, &ts));
    now = (int64_t)ts.tv_sec * NS_PER_SECOND + ts.tv_nsec;
    if (ns > INT64_MAX - now) {
        must(pthread_cond_wait(&c->c, &m->m));
        return true;
    }
    ts.tv_sec = (time_t)((now + ns) / NS_PER_SECOND);
    ts.tv_nsec = (long)((now + ns) % NS_PER_SECOND);
    rc = pthread_cond_timedwait(&c->c, &m->m, &ts);
    SH_ASSERT(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

void sh_cond_signal(struct sh_cond *c)
{
    must(pthread_cond_signal(&c->c));
}

void sh_cond_broadcast(struct sh_cond *c)
{
    must(pthread_cond_broadcast(&c->c));
}

/* All signals but those that the faulting thread itself must take: with SIGBUS blocked the
 * mapping guard could not run, and the kernel would end the process. */
static void block_signals(sigset_t *before)
{
    sigset_t set;

    (void)sigfillset(&set);
    (void)sigdelset(&set, SIGBUS);
    (void)sigdelset(&set, SIGSEGV);
    (void)sigdelset(&set, SIGFPE);
    (void)sigdelset(&set, SIGILL);
    (void)sigdelset(&set, SIGTRAP);
    (void)sigdelset(&set, SIGABRT);
    must(pthread_sigmask(SIG_SETMASK, &set, before));
}

enum shoal_status sh_thread_start(struct sh_thread *t, const char *name, void *(*run)(void *),
                                  void *arg, struct shoal_error *err)
{
    sigset_t before;
    char short_name[16]; // the kernel's limit
    int rc;

    t->running = false;
    block_signals(&before);
    rc = pthread_create(&t->t, NULL, run, arg);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    if (rc != 0) {
        return sh_fail_errno(err, SHOAL_ERR_NOMEM, rc, "cannot start the thread \"%s\"", name);
    }
    t->running = true;
    (void)snprintf(short_name, sizeof short_name, "%s", name);
    (void)pthread_setname_np(t->t, short_name); // for debuggers only
    return SHOAL_OK;
}

void sh_thread_join(struct sh_thread *t)
{
    if (!t->running) return;
    must(pthread_join(t->t, NULL));
    t->running = false;
}

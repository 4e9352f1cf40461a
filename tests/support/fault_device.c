/* tests/support/fault_device.c - see fault_device.h. */
#include "support/fault_device.h"

#include "base/error.h"

static enum shoal_status fail(const struct faults *f, struct shoal_error *err)
{
    const enum shoal_status st = sh_fail(err, f->status, "fault: %s", f->lost ? "gone" : "once");

    if (f->lost) sh_error_set_peer(err, "10.0.0.7:50052");
    return st;
}

static enum shoal_status before(void *self, enum wrap_op op, struct shoal_error *err)
{
    struct faults *f = self;
    enum shoal_status st = SHOAL_OK;

    sh_mutex_lock(&f->lock);
    f->at_gate[op]++;
    sh_cond_broadcast(&f->changed);
    while (f->closed[op])
        (void)sh_cond_wait(&f->changed, &f->lock, INT64_MAX);
    f->at_gate[op]--;
    if (f->armed && op == f->op && f->left-- == 0) {
        f->armed = false;
        f->lost = f->status == SHOAL_ERR_PEER;
        st = fail(f, err);
    } else if (f->lost) {
        st = fail(f, err);
    }
    if (op == WRAP_SUBMIT && !st) {
        f->n_submits++;
        sh_cond_broadcast(&f->changed);
    }
    sh_mutex_unlock(&f->lock);
    return st;
}

static void cancelled(void *self)
{
    struct faults *f = self;

    sh_mutex_lock(&f->lock);
    f->n_cancels++;
    f->closed[WRAP_WAIT] = false;
    sh_cond_broadcast(&f->changed);
    sh_mutex_unlock(&f->lock);
}

void faults_init(struct faults *f)
{
    *f = (struct faults){.armed = false};
    sh_mutex_init(&f->lock);
    sh_cond_init(&f->changed);
}

void faults_release(struct faults *f)
{
    sh_cond_release(&f->changed);
    sh_mutex_release(&f->lock);
}

struct sh_device *fault_device_over(struct sh_device *inner, struct faults *f)
{
    const struct wrap_hooks hooks = {.before = before, .cancelled = cancelled, .self = f};

    return wrap_device_over(inner, &hooks);
}

void faults_fail(struct faults *f, enum wrap_op op, int after, enum shoal_status status)
{
    sh_mutex_lock(&f->lock);
    f->armed = true;
    f->op = op;
    f->left = after;
    f->status = status;
    sh_mutex_unlock(&f->lock);
}

static void set_gate(struct faults *f, enum wrap_op op, bool closed)
{
    sh_mutex_lock(&f->lock);
    f->closed[op] = closed;
    sh_cond_broadcast(&f->changed);
    sh_mutex_unlock(&f->lock);
}

void faults_close_gate(struct faults *f, enum wrap_op op)
{
    set_gate(f, op, true);
}

void faults_open_gate(struct faults *f, enum wrap_op op)
{
    set_gate(f, op, false);
}

void faults_await_submits(struct faults *f, int n)
{
    sh_mutex_lock(&f->lock);
    while (f->n_submits < n)
        (void)sh_cond_wait(&f->changed, &f->lock, INT64_MAX);
    sh_mutex_unlock(&f->lock);
}

void faults_await_gate(struct faults *f, enum wrap_op op)
{
    sh_mutex_lock(&f->lock);
    while (f->at_gate[op] == 0)
        (void)sh_cond_wait(&f->changed, &f->lock, INT64_MAX);
    sh_mutex_unlock(&f->lock);
}

int faults_submits(struct faults *f)
{
    sh_mutex_lock(&f->lock);
    const int n = f->n_submits;
    sh_mutex_unlock(&f->lock);
    return n;
}

int faults_cancels(struct faults *f)
{
    sh_mutex_lock(&f->lock);
    const int n = f->n_cancels;
    sh_mutex_unlock(&f->lock);
    return n;
}

/* tests/support/fault_device.h - a device that can be stopped, made to fail, and lost.
 *
 * It computes as the device inside does.  A gate holds every operation of one kind until it is
 * opened: before WAIT, steps stay in flight for as long as a test wants.  Cancelling a run opens
 * that one.
 * Threads: all functions from any.
 */
#ifndef TESTS_SUPPORT_FAULT_DEVICE_H
#define TESTS_SUPPORT_FAULT_DEVICE_H

#include "base/thread.h"
#include "support/wrap_device.h"

struct faults {           /* of one device; outlives it */
    struct sh_mutex lock; /* all below */
    struct sh_cond changed;
    bool armed;
    enum wrap_op op; /* what fails */
    int left;        /* so many of them work before */
    enum shoal_status status;
    bool lost; /* a PEER failure: everything after it fails, too */
    bool closed[WRAP_OPS];
    int at_gate[WRAP_OPS];
    int n_submits, n_cancels;
};

void faults_init(struct faults *f);
void faults_release(struct faults *f);
/* Takes `inner` over.  NULL without memory. */
struct sh_device *fault_device_over(struct sh_device *inner, struct faults *f);

/* From now on the `after + 1`th operation of this kind fails with `status`; PEER loses the device.
 */
void faults_fail(struct faults *f, enum wrap_op op, int after, enum shoal_status status);
void faults_close_gate(struct faults *f, enum wrap_op op);
void faults_open_gate(struct faults *f, enum wrap_op op);
/* Wait until the device was given `n` runs in all, until somebody waits at the gate. */
void faults_await_submits(struct faults *f, int n);
void faults_await_gate(struct faults *f, enum wrap_op op);
int faults_submits(struct faults *f);
int faults_cancels(struct faults *f);

#endif

/* tests/ggmlrpc/fake_device.h - a device whose runs end when the test says so.
 *
 * Data is moved at once.  A run computes nothing; its ticket completes when the gate is open, or
 * when it is cancelled.  Everything alive is counted.
 * Threads: any.
 */
#ifndef TESTS_GGMLRPC_FAKE_DEVICE_H
#define TESTS_GGMLRPC_FAKE_DEVICE_H

#include "base/thread.h"
#include "device/device.h"

struct fake_device {
    struct sh_device_head head;
    struct sh_mutex lock; /* guards the rest */
    struct sh_cond changed;
    bool gate_open;
    bool fail_runs; /* runs complete with ERR_FORMAT */
    int n_buffers, n_queues, n_execs;
    int n_runs, n_cancelled, n_prepared;
};

void fake_device_init(struct fake_device *d);
void fake_device_release(struct fake_device *d);
struct sh_device *fake_device_of(struct fake_device *d);
void fake_device_set_gate(struct fake_device *d, bool open);
/* Wait until *counter (a member of d) is at least n. */
void fake_device_await(struct fake_device *d, const int *counter, int n);

#endif

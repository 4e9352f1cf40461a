/* tests/support/plain_device.h - a device that has no shoal ops: the CPU behind a mask.
 *
 * Stages must lower their graphs for it.  It computes with the CPU's kernels, refuses any graph
 * with an op of shoal's, and hides that it shares our memory, as a foreign server would.
 */
#ifndef TESTS_SUPPORT_PLAIN_DEVICE_H
#define TESTS_SUPPORT_PLAIN_DEVICE_H

#include "device/device.h"

/* Takes `inner` over. */
struct sh_device *plain_device_over(struct sh_device *inner);
/* Graphs prepared so far, over all plain devices. */
int plain_device_prepared(void);

#endif

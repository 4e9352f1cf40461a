/* cpu/device.h - this machine's processor as a device.
 *
 * One executor thread serves all queues of a device in turn, one command of a queue at a time; it
 * is thread 0 of the pool that node loops run on.  A run gives way at node borders: to any other
 * queue while its own SHARD_SUM waits for other shards, and after 100 ms.  Results never depend
 * on threads, batch or chunking, and equal those of the scalar kernels in every bit.
 *
 * Commands on small ranges of an idle queue are carried out by the caller at once.
 * Threads: as device/device.h says.
 */
#ifndef CPU_DEVICE_H
#define CPU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "device/device.h"

struct sh_cpu_options {
    int n_threads;     /* 0: as many as this process may use */
    bool set_isa;      /* use `isa` (kernels/kernels.h) instead of what is detected and allowed */
    unsigned isa;      /* masked by what this CPU has */
    size_t memory_max; /* bytes that buffers and scratch may take; 0: what is available now */
};

/* `opt` may be NULL: all defaults.  Close with sh_device_close(). */
SHOAL_NODISCARD enum shoal_status sh_cpu_device_open(struct sh_device **out,
                                                     const struct sh_cpu_options *opt,
                                                     struct shoal_error *err);

#endif

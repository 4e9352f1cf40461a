/* cluster/split.h - how many consecutive layers each device gets.
 *
 * Pure: sizes in, a plan out, no I/O.  Devices keep their order; shares follow free memory, and a
 * device never gets more than fits into it.
 */
#ifndef CLUSTER_SPLIT_H
#define CLUSTER_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SH_SPLIT_DEVICES_MAX 64

struct sh_split_device {
    const char *name; /* for messages */
    size_t free_bytes;
};

struct sh_split_model {
    int64_t n_layers;
    size_t layer_bytes;  /* weights and KV of one layer */
    size_t first_bytes;  /* embedding, on the device of layer 0 */
    size_t last_bytes;   /* head, on the device of the last layer */
    size_t device_bytes; /* scratch and inputs, on every device that takes part */
};

/* Fill n_layers[n_devices] (a device may get 0).  ERR_NOMEM with need and free when nothing fits.
 */
SHOAL_NODISCARD enum shoal_status sh_split_by_memory(int64_t *n_layers,
                                                     const struct sh_split_device *devices,
                                                     int n_devices, const struct sh_split_model *m,
                                                     struct shoal_error *err);

#endif

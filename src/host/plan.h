/* host/plan.h - which device takes which layers: measured memory and the model's sizes in, parts
 * out.
 *
 * The arithmetic is cluster/split.h's; this file asks the model for sizes and turns counts into
 * parts.  Threads: pure but for the model's const queries.
 */
#ifndef HOST_PLAN_H
#define HOST_PLAN_H

#include "cluster/split.h"
#include "model/model.h"

struct sh_placed { /* one device that takes part */
    int device;    /* index into the devices given */
    struct sh_part part;
    size_t weight_bytes, cache_bytes;
};

struct sh_plan {
    struct sh_placed placed[SH_SPLIT_DEVICES_MAX];
    int n;
};

/* `given` (n_given > 0): layers per device, which must add up to the model's. */
SHOAL_NODISCARD enum shoal_status sh_plan_make(struct sh_plan *plan, const struct sh_model *m,
                                               const struct sh_build_limits *limits,
                                               const struct sh_split_device *devices, int n_devices,
                                               const int64_t *given, int n_given,
                                               struct shoal_error *err);

#endif

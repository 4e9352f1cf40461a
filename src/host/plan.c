/* host/plan.c - see host/plan.h. */
#include "host/plan.h"

#include "base/error.h"

enum { SCRATCH_BYTES = 64 << 20 }; /* set aside per device for a step's values */

static enum shoal_status part_size(const struct sh_model *m, const struct sh_build_limits *limits,
                                   int64_t begin, int64_t end, bool embed, bool head, size_t *out,
                                   struct shoal_error *err)
{
    const struct sh_part part = {
        .layer_begin = begin, .layer_end = end, .embed = embed, .head = head, .n_shards = 1};
    size_t weights, cache;
    enum shoal_status st = sh_model_part_bytes(m, &part, limits, &weights, &cache, err);

    *out = weights + cache;
    return st;
}

// Sizes for the split: the largest layer stands for all, so that what is planned fits.
static enum shoal_status measure(const struct sh_model *m, const struct sh_build_limits *limits,
                                 struct sh_split_model *s, struct shoal_error *err)
{
    struct sh_model_info info;
    enum shoal_status st;

    sh_model_info(m, &info);
    *s = (struct sh_split_model){.n_layers = info.n_layers, .device_bytes = SCRATCH_BYTES};
    st = part_size(m, limits, 0, 0, true, false, &s->first_bytes, err);
    if (!st) {
        st = part_size(m, limits, info.n_layers, info.n_layers, false, true, &s->last_bytes, err);
    }
    for (int64_t il = 0; il < info.n_layers && !st; il++) {
        size_t bytes;
        st = part_size(m, limits, il, il + 1, false, false, &bytes, err);
        if (bytes > s->layer_bytes) s->layer_bytes = bytes;
    }
    return st;
}

static enum shoal_status check_given(const int64_t *given, int n_given, int n_devices,
                                     int64_t n_layers, struct shoal_error *err)
{
    int64_t sum = 0;

    if (n_given != n_devices) {
        return sh_fail(err, SHOAL_ERR_ARG, "plan: layers are given for %d devices, there are %d",
                       n_given, n_devices);
    }
    for (int i = 0; i < n_given; i++) {
        if (given[i] < 0 || given[i] > n_layers)
            return sh_fail(err, SHOAL_ERR_ARG, "plan: %lld layers for device %d",
                           (long long)given[i], i);
        sum += given[i];
    }
    if (sum != n_layers) {
        return sh_fail(err, SHOAL_ERR_ARG, "plan: %lld layers are given, the model has %lld",
                       (long long)sum, (long long)n_layers);
    }
    return SHOAL_OK;
}

enum shoal_status sh_plan_make(struct sh_plan *plan, const struct sh_model *m,
                               const struct sh_build_limits *limits,
                               const struct sh_split_device *devices, int n_devices,
                               const int64_t *given, int n_given, struct shoal_error *err)
{
    int64_t counts[SH_SPLIT_DEVICES_MAX] = {0}, at = 0;
    struct sh_split_model s;
    enum shoal_status st;

    *plan = (struct sh_plan){0};
    st = measure(m, limits, &s, err);
    if (st) return st;
    if (n_given > 0) {
        st = check_given(given, n_given, n_devices, s.n_layers, err);
        for (int i = 0; i < n_devices && !st; i++)
            counts[i] = given[i];
    } else {
        st = sh_split_by_memory(counts, devices, n_devices, &s, err);
    }
    for (int i = 0; i < n_devices && !st; i++) {
        struct sh_placed *p = &plan->placed[plan->n];
        if (counts[i] == 0) continue;
        p->device = i;
        p->part = (struct sh_part){.layer_begin = at,
                                   .layer_end = at + counts[i],
                                   .embed = at == 0,
                                   .head = at + counts[i] == s.n_layers,
                                   .n_shards = 1};
        at += counts[i];
        plan->n++;
        st = sh_model_part_bytes(m, &p->part, limits, &p->weight_bytes, &p->cache_bytes, err);
    }
    return st;
}

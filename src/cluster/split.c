/* cluster/split.c - see cluster/split.h. */
#include "cluster/split.h"

#include <stdbool.h>

// The most layers that a device can hold, given where it stands.
static int64_t capacity(const struct sh_split_device *d, const struct sh_split_model *m, bool first,
                        bool last)
{
    size_t fixed = m->device_bytes;

    if (first) fixed += m->first_bytes;
    if (last) fixed += m->last_bytes;
    if (d->free_bytes <= fixed || m->layer_bytes == 0) return 0;
    return (int64_t)((d->free_bytes - fixed) / m->layer_bytes);
}

static enum shoal_status does_not_fit(const struct sh_split_device *d, int n,
                                      const struct sh_split_model *m, struct shoal_error *err)
{
    const double mib = 1024.0 * 1024.0;
    double free_bytes = 0, need;

    for (int i = 0; i < n; i++)
        free_bytes += (double)d[i].free_bytes;
    need = (double)m->layer_bytes * (double)m->n_layers + (double)m->first_bytes +
           (double)m->last_bytes + (double)m->device_bytes * n;
    return sh_fail(err, SHOAL_ERR_NOMEM,
                   "plan: the model needs %.0f MiB over %d device%s, %.0f MiB are free (the first, "
                   "%s, has %.0f MiB)",
                   need / mib, n, n == 1 ? "" : "s", free_bytes / mib, d[0].name,
                   (double)d[0].free_bytes / mib);
}

enum shoal_status sh_split_by_memory(int64_t *n_layers, const struct sh_split_device *devices,
                                     int n_devices, const struct sh_split_model *m,
                                     struct shoal_error *err)
{
    int64_t cap[SH_SPLIT_DEVICES_MAX], left = m->n_layers;
    double rest[SH_SPLIT_DEVICES_MAX], free_sum = 0;

    if (n_devices < 1 || n_devices > SH_SPLIT_DEVICES_MAX) {
        return sh_fail(err, SHOAL_ERR_ARG, "plan: %d devices, between 1 and %d are possible",
                       n_devices, SH_SPLIT_DEVICES_MAX);
    }
    for (int i = 0; i < n_devices; i++) {
        cap[i] = capacity(&devices[i], m, i == 0, i == n_devices - 1);
        free_sum += (double)devices[i].free_bytes;
    }
    for (int i = 0; i < n_devices; i++) {
        const double share = free_sum > 0 ? (double)devices[i].free_bytes / free_sum : 0;
        const double want = share * (double)m->n_layers;
        n_layers[i] = (int64_t)want < cap[i] ? (int64_t)want : cap[i];
        rest[i] = want - (double)n_layers[i];
        left -= n_layers[i];
    }
    // What is left goes where the rounding took most, as long as there is room.
    while (left > 0) {
        int best = -1;
        for (int i = 0; i < n_devices; i++) {
            if (n_layers[i] < cap[i] && (best < 0 || rest[i] > rest[best])) best = i;
        }
        if (best < 0) return does_not_fit(devices, n_devices, m, err);
        n_layers[best]++;
        rest[best] -= 1;
        left--;
    }
    return SHOAL_OK;
}

/* cmd/run_workers.c - what is told of shoal's workers: their weights, and how rows reach the next.
 */
#include "cmd/run_priv.h"
#include "rpc/rows.h"

static void say_weights(const struct sh_host_device *d)
{
    if (d->bytes_sent == 0) {
        sh_say("%s has all of its weights already", d->device);
    } else {
        sh_say("%s had %s of its weights and was sent %s", d->device,
               sh_show_bytes((double)d->bytes_found).text,
               sh_show_bytes((double)d->bytes_sent).text);
    }
}

/* What rows of this model's width go as. */
static const char *format_of(const struct sh_run *r)
{
    struct sh_model_info info;

    sh_host_model_info(r->host, &info);
    return sh_rpc_format_name(sh_rpc_rows_format((enum sh_rpc_format)r->o.wire, info.width));
}

void sh_run_show_workers(const struct sh_run *r)
{
    for (int i = 0; i < sh_host_n_devices(r->host); i++) {
        struct sh_host_device d, next;
        struct sh_remote_route route;
        sh_host_device(r->host, i, &d);
        if (d.worker) say_weights(&d);
        if (!sh_host_route(r->host, i, &route)) continue;
        sh_host_device(r->host, i + 1, &next);
        if (!route.direct) {
            sh_say("hidden states from %s to %s pass through this machine: %s", d.device,
                   next.device, route.why);
        } else if (r->o.stats) {
            sh_say("hidden states go from %s straight to %s in %s: %s, round trip %.2f ms",
                   d.device, next.device, format_of(r), route.address,
                   (double)route.round_trip_us / 1e3);
        }
    }
}

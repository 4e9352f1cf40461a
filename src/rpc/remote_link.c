/* rpc/remote_link.c - links between two stations, as the host asks for them.
 *
 * No links are opened yet: rows come home, and the caller passes them on.
 */
#include <stdio.h>

#include "rpc/remote_priv.h"

enum shoal_status sh_remote_join(struct sh_station *from, struct sh_station *to,
                                 enum sh_rpc_format format, struct sh_remote_route *out,
                                 struct shoal_error *err)
{
    *out = (struct sh_remote_route){.direct = false};
    if (!sh_remote_station_of(from) || !sh_remote_station_of(to))
        return sh_fail(err, SHOAL_ERR_ARG, "only stages of two workers can be joined");
    (void)snprintf(out->why, sizeof out->why, "links are not opened");
    return sh_remote_format(from, format, err);
}

enum shoal_status sh_remote_link_probe(struct sh_station *from, uint32_t bytes, int count,
                                       struct sh_remote_probe *out, struct shoal_error *err)
{
    (void)from;
    *out = (struct sh_remote_probe){.least_us = 0};
    return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "no link to measure with %d times %u bytes", count,
                   (unsigned)bytes);
}

void sh_remote_link_down(struct sh_remote *r, const struct sh_rpc_link_down *m)
{
    (void)r;
    (void)m;
}

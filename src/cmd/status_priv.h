/* cmd/status_priv.h - between `shoal status` and what it shows. */
#ifndef CMD_STATUS_PRIV_H
#define CMD_STATUS_PRIV_H

#include "base/arena.h"
#include "base/str.h"
#include "rpc/remote.h"

/* A worker as it answered, or why it did not. */
struct sh_status_worker {
    const char *address;
    enum shoal_status status;
    struct shoal_error error;
    struct sh_remote_info info;
    struct sh_rpc_stats_are figures; /* lists borrowed */
};

/* The figure of that name, 0 where the worker does not tell it. */
uint64_t sh_status_figure(const struct sh_status_worker *w, const char *name);

/* For people, one worker after the other, and for programs all in one object; appended. */
SHOAL_NODISCARD enum shoal_status
sh_status_show(struct sh_buf *out, const struct sh_status_worker *w, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_status_show_json(struct sh_buf *out,
                                                      const struct sh_status_worker *w, int n,
                                                      struct shoal_error *err);

#endif

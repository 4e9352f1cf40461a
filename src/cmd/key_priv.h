/* cmd/key_priv.h - between `shoal key` and what it shows. */
#ifndef CMD_KEY_PRIV_H
#define CMD_KEY_PRIV_H

#include "rpc/key.h"

/* All that a list shows. */
struct sh_key_view {
    const char *folder, *cluster; /* the paths */
    struct sh_key_list keys;
    struct sh_cluster workers;
};

/* A list as tables or as one JSON object, appended. */
SHOAL_NODISCARD enum shoal_status sh_key_show_list(struct sh_buf *out, const struct sh_key_view *v,
                                                   bool json, struct shoal_error *err);
/* A worker's key with its secret: what to paste at the host. */
SHOAL_NODISCARD enum shoal_status sh_key_show_one(struct sh_buf *out, const struct sh_key_entry *e,
                                                  bool json, struct shoal_error *err);
/* A worker that the host knows from now on. */
SHOAL_NODISCARD enum shoal_status sh_key_show_added(struct sh_buf *out, const char *address,
                                                    const char *name, const struct sh_key *key,
                                                    bool replaced, bool json,
                                                    struct shoal_error *err);

#endif

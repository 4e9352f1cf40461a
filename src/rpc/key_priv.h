/* rpc/key_priv.h - files with secrets in them, and the list of words.
 *
 * Folders are used by descriptor, so that what was checked is what is used.
 */
#ifndef RPC_KEY_PRIV_H
#define RPC_KEY_PRIV_H

#include <sys/types.h>

#include "rpc/key.h"

extern const char *const sh_key_word_list[256];

#define SH_SECRET_CLOSED 077 /* what others may not do: anything */
#define SH_SECRET_KEPT 022   /* or change it */

/* The folder itself, checked: the user's own, no symbolic link, no mode bit that is forbidden.
 * `make` makes it and those above it.  *fd is -1 where there is none and none is made. */
SHOAL_NODISCARD enum shoal_status sh_secret_folder(int *fd, const char *path, mode_t forbidden,
                                                   bool make, struct shoal_error *err);

/* A whole file of the folder, checked alike; `shown` is its path for messages.  ERR_NOT_FOUND. */
SHOAL_NODISCARD enum shoal_status sh_secret_read(struct sh_buf *out, int64_t *written_s, int folder,
                                                 const char *name, const char *shown,
                                                 size_t max_bytes, struct shoal_error *err);
/* Write a file whole, mode 0600.  With `replace` an older one gives way, else ERR_STATE. */
SHOAL_NODISCARD enum shoal_status sh_secret_write(int folder, const char *name, const char *shown,
                                                  struct sh_str text, bool replace,
                                                  struct shoal_error *err);
/* Overwritten before it is given back. */
void sh_secret_release(struct sh_buf *b);

/* "<folder>/<name>" in full, for messages. */
struct sh_secret_path {
    char text[512];
};
struct sh_secret_path sh_secret_path(const char *folder, const char *name);

#endif

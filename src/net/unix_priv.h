/* net/unix_priv.h - Unix-domain sockets as addresses: "unix:/run/user/1000/shoal.sock".
 *
 * A socket's file has mode 0600: who may open it is this user.  One that a process has left behind
 * is replaced, one on which somebody listens is not; two processes that want the same name at the
 * same time are ordered by a lock on the folder.
 */
#ifndef NET_UNIX_PRIV_H
#define NET_UNIX_PRIV_H

#include <sys/stat.h>

#include "net/address.h"

#define SH_UNIX_PREFIX "unix:"
/* Of a path: so that the address with its prefix fits a peer's text. */
#define SH_UNIX_PATH_MAX (SH_ADDRESS_TEXT_MAX - sizeof SH_UNIX_PREFIX)

bool sh_unix_is(const char *text);
/* The path behind the prefix, checked: absolute and short enough. */
SHOAL_NODISCARD enum shoal_status sh_unix_check(const char *text, struct shoal_error *err);
void sh_unix_address(struct sh_address *out, const char *text);
/* "unix:/path"; "local" for a client, which has no name. */
void sh_unix_format(const struct sh_address *a, char *out, size_t n);

/* A socket that listens there, or -1 with errno (EADDRINUSE: somebody else does). */
int sh_unix_listen(const struct sh_address *a, int backlog);
/* Remove the file, if it is still that of this listening socket. */
void sh_unix_remove(const struct sh_address *a, const struct stat *own);
/* The file of a listening socket. */
bool sh_unix_stat(const struct sh_address *a, struct stat *out);

#endif

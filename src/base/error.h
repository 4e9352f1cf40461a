/* base/error.h - filling in error records, and assertions about our own bugs.
 *
 * Functions that can fail return enum shoal_status and describe the failure through sh_fail(),
 * so that a failing path is one statement: return sh_fail(err, SHOAL_ERR_FORMAT, "...", ...).
 * Threads: a record is the caller's; nothing here is shared.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <shoal/status.h>

/* Write code and message into `err` (may be NULL) and return `code`.  Clears errno and peer. */
enum shoal_status sh_fail(struct shoal_error *err, enum shoal_status code, const char *fmt, ...)
    SHOAL_PRINTF(3, 4);

/* The same for a failed system call: appends ": <strerror(sys_errno)>" and keeps the errno. */
enum shoal_status sh_fail_errno(struct shoal_error *err, enum shoal_status code, int sys_errno,
                                const char *fmt, ...) SHOAL_PRINTF(4, 5);

/* Name the peer of an error that is already filled in.  `err` may be NULL. */
void sh_error_set_peer(struct shoal_error *err, const char *peer);

/* For bugs of ours only, never for input.  Prints file, line and expression, then aborts. */
#define SH_ASSERT(expr) ((expr) ? (void)0 : sh_assert_failed(__FILE__, __LINE__, #expr))
_Noreturn void sh_assert_failed(const char *file, int line, const char *expr);

#endif

/* ggmlrpc/staging.h - memory between a socket and a queue.
 *
 * A ring of bytes.  Pieces are handed out in order, filled by the caller, given to a queue as the
 * source of a write, and taken back in order once their tickets are complete: so a socket is read
 * ahead while earlier commands still run, up to the size of the ring.
 *
 *      | done, taken back |  in the queue  | being filled |  free  |
 *                         ^ first          ^ last         ^ end
 *
 * Threads: one at a time.
 */
#ifndef GGMLRPC_STAGING_H
#define GGMLRPC_STAGING_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "device/device.h"

#define SH_STAGING_BYTES ((size_t)4 << 20)
#define SH_STAGING_PIECE_BYTES ((size_t)1 << 20) /* largest piece */
#define SH_STAGING_PIECES 256

struct sh_staging {
    uint8_t *ring; /* allocated with the first piece */
    size_t end;    /* where the next piece may begin */
    struct {
        sh_ticket ticket;
        size_t begin;
    } piece[SH_STAGING_PIECES];
    unsigned first, n; /* pieces in the queue */
};

/* Room for `bytes` (1 .. SH_STAGING_PIECE_BYTES), or *out = NULL when the oldest piece must be
 * waited for first: sh_staging_oldest() says which ticket. */
SHOAL_NODISCARD enum shoal_status sh_staging_room(struct sh_staging *s, size_t bytes, uint8_t **out,
                                                  struct shoal_error *err);
/* The piece last handed out is the source of this ticket. */
void sh_staging_commit(struct sh_staging *s, uint8_t *piece, size_t bytes, sh_ticket ticket);
sh_ticket sh_staging_oldest(const struct sh_staging *s); /* 0: none in the queue */
void sh_staging_retire(struct sh_staging *s);            /* the oldest is complete */
void sh_staging_release(struct sh_staging *s);           /* none may be in the queue any more */

#endif

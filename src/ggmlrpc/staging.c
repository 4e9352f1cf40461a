/* ggmlrpc/staging.c - the ring of pieces. */
#include "ggmlrpc/staging.h"

#include "base/mem.h"

enum shoal_status sh_staging_room(struct sh_staging *s, size_t bytes, uint8_t **out,
                                  struct shoal_error *err)
{
    size_t first;

    SH_ASSERT(bytes > 0 && bytes <= SH_STAGING_PIECE_BYTES);
    *out = NULL;
    if (!s->ring) {
        s->ring = sh_malloc(SH_STAGING_BYTES);
        if (!s->ring) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to receive data");
    }
    if (s->n == 0) {
        s->end = 0; // empty: start over, so that small users stay in the same cache lines
        *out = s->ring;
        return SHOAL_OK;
    }
    if (s->n == SH_STAGING_PIECES) return SHOAL_OK;
    first = s->piece[s->first].begin;
    if (s->end > first) {
        // free: [end, size) and [0, first)
        if (bytes <= SH_STAGING_BYTES - s->end) {
            *out = s->ring + s->end;
        } else if (bytes < first) {
            *out = s->ring;
        }
    } else if (bytes < first - s->end) {
        *out = s->ring + s->end; // never up to `first`: end == first means full
    }
    return SHOAL_OK;
}

void sh_staging_commit(struct sh_staging *s, uint8_t *piece, size_t bytes, sh_ticket ticket)
{
    const unsigned at = (s->first + s->n) % SH_STAGING_PIECES;

    s->piece[at].ticket = ticket;
    s->piece[at].begin = (size_t)(piece - s->ring);
    s->end = s->piece[at].begin + bytes;
    s->n++;
}

sh_ticket sh_staging_oldest(const struct sh_staging *s)
{
    return s->n ? s->piece[s->first].ticket : 0;
}

void sh_staging_retire(struct sh_staging *s)
{
    s->first = (s->first + 1) % SH_STAGING_PIECES;
    s->n--;
}

void sh_staging_release(struct sh_staging *s)
{
    sh_free(s->ring);
    *s = (struct sh_staging){.ring = NULL};
}

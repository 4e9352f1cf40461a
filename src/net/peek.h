/* net/peek.h - a stream whose first bytes can be looked at before anybody reads them.
 *
 * A listener that speaks several protocols tells them apart by their first bytes and then hands the
 * stream, with nothing taken from it, to whoever speaks the one.
 * Threads: as a stream; peek from its reader.
 */
#ifndef NET_PEEK_H
#define NET_PEEK_H

#include "net/stream.h"

#define SH_PEEK_MAX 64 /* bytes that can be looked at */

/* Take over `below` (closed on failure too). */
SHOAL_NODISCARD enum shoal_status sh_peek_open(struct sh_stream **out, struct sh_stream *below,
                                               struct shoal_error *err);
/* Wait for the first n bytes (at most SH_PEEK_MAX) of what is still unread and copy them to dst;
 * whoever reads next gets them again.  ERR_PEER where the stream ends before. */
SHOAL_NODISCARD enum shoal_status sh_peek(struct sh_stream *s, void *dst, size_t n,
                                          struct sh_pace *pace, struct shoal_error *err);

#endif

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

/* Take over `below` (closed on failure too).  `closing` (may be NULL) is called by whoever closes
 * the stream, just before: from then on nobody else may cut it. */
SHOAL_NODISCARD enum shoal_status sh_peek_open(struct sh_stream **out, struct sh_stream *below,
                                               void (*closing)(void *self), void *self,
                                               struct shoal_error *err);
/* Wait for the first n bytes (at most SH_PEEK_MAX) of what is still unread and copy them to dst;
 * whoever reads next gets them again.  ERR_PEER where the stream ends before. */
SHOAL_NODISCARD enum shoal_status sh_peek(struct sh_stream *s, void *dst, size_t n,
                                          struct sh_pace *pace, struct shoal_error *err);
/* Has the peer sent anything yet, read or not?  From any thread that may cut the stream. */
bool sh_peek_heard(struct sh_stream *s);

#endif

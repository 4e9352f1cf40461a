/* net/stream.h - a reliable byte stream between two ends, and moving bytes with time limits.
 *
 * An implementation offers calls that never block (read, writev), one that waits, and one that
 * cuts the stream from another thread; everything that blocks is built on these here.  So a
 * protocol runs alike over TCP, over memory in tests, and later over TLS.
 *
 * Ends: sh_stream_read_some() says 0 bytes when the peer ended the stream in order.  A loss is
 * ERR_PEER, a passed limit ERR_TIMEOUT, a stream cut from this side ERR_CANCELLED; each names the
 * peer.
 *
 * Threads: one reader and one writer at a time; sh_stream_cut() and the counters from any.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/error.h"
#include "net/address.h"
#include "net/pace.h"

struct sh_stream;

enum sh_stream_event { SH_STREAM_READABLE, SH_STREAM_WRITABLE };

struct sh_stream_ops {
    void (*close)(struct sh_stream *s);
    /* Bytes into dst (n >= 1): *got = 0 means none yet, *end that none will come. */
    enum shoal_status (*read)(struct sh_stream *s, void *dst, size_t n, size_t *got, bool *end,
                              struct shoal_error *err);
    /* Bytes from the pieces, in order; *put = 0 means no room yet. */
    enum shoal_status (*writev)(struct sh_stream *s, const struct iovec *v, int n, size_t *put,
                                struct shoal_error *err);
    /* Until the event may have happened: OK, ERR_TIMEOUT, ERR_CANCELLED. */
    enum shoal_status (*wait)(struct sh_stream *s, enum sh_stream_event event, int64_t timeout_ns,
                              struct shoal_error *err);
    /* Has the peer ended or lost the stream?  Never blocks; unread bytes may remain. */
    bool (*hung_up)(struct sh_stream *s);
    /* Wake and fail every call of now and later.  Idempotent. */
    void (*cut)(struct sh_stream *s);
};

struct sh_stream {
    const struct sh_stream_ops *ops;
    const struct sh_clock *clock;
    char peer[SH_ADDRESS_TEXT_MAX];
    _Atomic uint64_t bytes_read, bytes_written;
};

void sh_stream_close(struct sh_stream *s); /* accepts NULL */
void sh_stream_cut(struct sh_stream *s);
bool sh_stream_hung_up(struct sh_stream *s);

/* At least one byte, waiting as `pace` allows; *got = 0 with OK: the peer ended the stream. */
SHOAL_NODISCARD enum shoal_status sh_stream_read_some(struct sh_stream *s, void *dst, size_t n,
                                                      struct sh_pace *pace, size_t *got,
                                                      struct shoal_error *err);
/* Exactly n bytes; an end before that is ERR_PEER. */
SHOAL_NODISCARD enum shoal_status sh_stream_read_full(struct sh_stream *s, void *dst, size_t n,
                                                      struct sh_pace *pace,
                                                      struct shoal_error *err);
/* All bytes of all pieces; the list is used up. */
SHOAL_NODISCARD enum shoal_status sh_stream_writev_full(struct sh_stream *s, struct iovec *v, int n,
                                                        struct sh_pace *pace,
                                                        struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_stream_write_full(struct sh_stream *s, const void *src,
                                                       size_t n, struct sh_pace *pace,
                                                       struct shoal_error *err);

/* ---- in memory ------------------------------------------------------------------------------
 * Two ends of one stream, `capacity` bytes under way per direction. */
SHOAL_NODISCARD enum shoal_status sh_stream_pair(struct sh_stream **a, struct sh_stream **b,
                                                 size_t capacity, struct shoal_error *err);

#endif

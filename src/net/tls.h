/* net/tls.h - TLS 1.3 over any stream, with a pre-shared key and nothing else.
 *
 * No certificates, no clock, no authority: who has the key of the pair is the pair.  TLS 1.3 only,
 * TLS_AES_128_GCM_SHA256 and TLS_CHACHA20_POLY1305_SHA256, X25519, no tickets, no early data.  The
 * identity that a client offers is that of net/key.h (or "v1|link|..." between workers), so a
 * listener learns no names.  A client with an unknown identity and one with a wrong key get the
 * same alert after the same work; what speaks no TLS gets no answer.
 *
 * The record layer runs over memory: bytes come from the stream below and go to it, so it works
 * over TCP and in tests over memory alike, with that stream's clock.  What one call writes, up to
 * SH_TLS_RECORD_BYTES, is one record and one write below; more goes down in batches of records.
 * An end without close_notify is ERR_PEER ("cut off"), never an orderly end.  Every failure of
 * the record layer is final: later calls fail with the same sentence.
 *
 * A write that has run out of time is taken up again with the same bytes, as
 * sh_stream_writev_full() does within its time; after it has failed, only cut or close the stream.
 *
 * Limits before a peer is known: the handshake has a deadline and at most 16 KiB of input.
 * Memory: OpenSSL's own is less than 64 KiB per stream; ours is 8 KiB, and grows to at most
 * 160 KiB where more than small frames move.
 *
 * Threads: as a stream: one reader and one writer at a time, cut from any.  (One SSL object is not
 * for two threads: a lock inside orders reader and writer; neither calls the stream below under
 * it.)
 */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "net/key.h"
#include "net/stream.h"

#define SH_TLS_IDENTITY_MAX 128 /* with the NUL */
#define SH_TLS_RECORD_BYTES 16384
#define SH_TLS_HANDSHAKE_BYTES_MAX 16384
#define SH_TLS_FIRST_BYTE 22 /* of every client: tells TLS from other protocols */

/* The server's way to keys: fill `out` for an identity, false if there is none.  Called during
 * the handshake, from its thread. */
struct sh_tls_keys {
    bool (*find)(void *self, const char *identity, struct sh_key *out);
    void *self;
};

/* Both take over `below` (closed on failure too) and return after the handshake.  ERR_PEER and
 * ERR_TIMEOUT name the peer and say what to do ("the worker at X does not accept this key; ...").
 * The server's `identity` gets the one that the client proved. */
SHOAL_NODISCARD enum shoal_status sh_tls_connect(struct sh_stream **out, struct sh_stream *below,
                                                 const char *identity, const struct sh_key *key,
                                                 int64_t handshake_ns, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status
sh_tls_accept(struct sh_stream **out, struct sh_stream *below, const struct sh_tls_keys *keys,
              int64_t handshake_ns, char identity[SH_TLS_IDENTITY_MAX], struct shoal_error *err);
/* The orderly end: close_notify, from the writer's thread.  Before sh_stream_close(), where the
 * peer should know; the other direction stays open.  Silent when it cannot be sent in time, and
 * nothing for a stream of another kind. */
void sh_tls_shutdown(struct sh_stream *s, int64_t timeout_ns);

#endif

/* net/tls_priv.h - one TLS stream, between its record layer and its handshake.
 *
 *     below --fill--> in --SSL--> the reader        (whoever set `reading`)
 *     below <--push-- out <--SSL-- the writer       (whoever set `sending`)
 *
 * OpenSSL sees a BIO whose two ends are the buffers.  `in` belongs to the thread that set
 * `reading`.  `out` is appended to under the lock; the thread that set `sending` hands its bytes
 * down without the lock, and until it is done nobody moves them.
 */
#ifndef NET_TLS_PRIV_H
#define NET_TLS_PRIV_H

#include <openssl/ssl.h>

#include "base/thread.h"
#include "net/tls.h"

/* A record is its plain bytes and at most this. */
#define SH_TLS_RECORD_EXTRA 64
/* Room that stays for an alert or the answer to a key update. */
#define SH_TLS_SLACK 1024
#define SH_TLS_BATCH_RECORDS 4
#define SH_TLS_SMALL_BYTES 4096 /* buffers during the handshake */
#define SH_TLS_UPDATE_RECORDS ((uint64_t)1 << 22)

struct sh_tls_buffer { /* bytes [start, end) of cap are held */
    uint8_t *ptr;
    size_t cap, start, end;
};

struct sh_tls {
    struct sh_stream head;
    struct sh_stream *below;
    BIO_METHOD *method;
    _Atomic bool read_wants_room; /* the reader waits until `out` can be sent */

    struct sh_mutex lock; /* guards everything below */
    SSL *ssl;
    bool reading, sending;
    bool may_read;           /* OpenSSL may take from `in` now */
    bool ended;              /* close_notify has come */
    struct sh_tls_buffer in; /* see above */
    bool in_came_full;       /* goes with it */
    struct sh_tls_buffer out;
    struct sh_tls_buffer gather; /* the writer's: small pieces on the way into one record */
    size_t owed;                 /* plain bytes in `out` that the writer has not been told of */
    struct shoal_error failure;  /* code 0: none */
    uint64_t n_records, update_every, n_updates;

    /* of the handshake */
    const struct sh_tls_keys *keys; /* a server's */
    const struct sh_key *key;       /* a client's */
    char identity[SH_TLS_IDENTITY_MAX];
    bool has_identity; /* a client has offered one */
};

extern const struct sh_stream_ops sh_tls_ops;

/* At least `bytes` of capacity; what is held stays.  Not while somebody else uses it. */
SHOAL_NODISCARD enum shoal_status sh_tls_buffer_reserve(struct sh_tls_buffer *b, size_t bytes,
                                                        struct shoal_error *err);

/* The next bytes from below into the empty `in`, at most `max`; by whoever set `reading`. */
SHOAL_NODISCARD enum shoal_status sh_tls_fill(struct sh_tls *t, size_t max, bool *end,
                                              struct shoal_error *err);
/* Hand `out` down; *done: nothing is left.  With the lock held, which is given up meanwhile. */
SHOAL_NODISCARD enum shoal_status sh_tls_push(struct sh_tls *t, bool *done,
                                              struct shoal_error *err);

/* Give OpenSSL the buffers of `t` as its two ends. */
SHOAL_NODISCARD enum shoal_status sh_tls_attach(struct sh_tls *t, struct shoal_error *err);

/* Record a failure from OpenSSL's queue of errors, of an open stream. */
enum shoal_status sh_tls_fail_record(struct sh_tls *t, struct shoal_error *err);

#endif

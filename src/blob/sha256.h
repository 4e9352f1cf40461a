/* blob/sha256.h - SHA-256, over libcrypto.
 *
 * The name of every blob is the SHA-256 of its bytes.  One call for bytes that lie together, a
 * chain for those that come piece by piece.  Threads: a chain by one at a time; the rest from any.
 */
#ifndef BLOB_SHA256_H
#define BLOB_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"

#define SH_SHA256_BYTES 32
#define SH_SHA256_TEXT_BYTES 65 /* hex digits and a NUL */

struct sh_sha256 {
    uint8_t bytes[SH_SHA256_BYTES];
};

static inline bool sh_sha256_equal(const struct sh_sha256 *a, const struct sh_sha256 *b)
{
    return memcmp(a->bytes, b->bytes, SH_SHA256_BYTES) == 0;
}

/* The hash of n bytes.  ERR_NOMEM, or ERR_UNSUPPORTED where libcrypto has no SHA-256. */
SHOAL_NODISCARD enum shoal_status sh_sha256_of(struct sh_sha256 *out, const void *data, size_t n,
                                               struct shoal_error *err);

/* Lower-case digits. */
void sh_sha256_text(const struct sh_sha256 *h, char out[SH_SHA256_TEXT_BYTES]);
/* Exactly 64 hex digits, of either case; false for anything else, and *out is unset. */
bool sh_sha256_parse(struct sh_sha256 *out, const char *text);

struct sh_sha256_chain {
    void *state; /* libcrypto's; NULL while empty */
};
#define SH_SHA256_CHAIN_INIT                                                                       \
    {                                                                                              \
        .state = NULL                                                                              \
    }

/* Begin, or begin anew; errors as above.  A chain that was used may be used again. */
SHOAL_NODISCARD enum shoal_status sh_sha256_begin(struct sh_sha256_chain *c,
                                                  struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_sha256_add(struct sh_sha256_chain *c, const void *data,
                                                size_t n, struct shoal_error *err);
/* The hash of all that was added; begin anew after it. */
SHOAL_NODISCARD enum shoal_status sh_sha256_end(struct sh_sha256_chain *c, struct sh_sha256 *out,
                                                struct shoal_error *err);
void sh_sha256_release(struct sh_sha256_chain *c);

#endif

/* net/key.h - pre-shared keys: 32 random bytes per pair of host and worker.
 *
 *     id          first 8 bytes of HKDF(key, "id"), in hex: names a key without giving it away
 *     identity    "v1|<id>|c2w", what a client offers in TLS; the role in it makes a reflected
 *                 one useless
 *     HKDF        RFC 5869 with SHA-256, no salt, 32 bytes
 *
 * Threads: pure functions.
 */
#ifndef NET_KEY_H
#define NET_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SH_KEY_BYTES 32
#define SH_KEY_INFO_MAX 160     /* characters of what a derived key is for */
#define SH_KID_TEXT 17          /* 16 hex digits and a NUL */
#define SH_KEY_IDENTITY_TEXT 24 /* with the NUL */

struct sh_key {
    uint8_t bytes[SH_KEY_BYTES];
};

/* 32 bytes from the system's generator. */
SHOAL_NODISCARD enum shoal_status sh_key_make(struct sh_key *out, struct shoal_error *err);
void sh_wipe(void *p, size_t n); /* not optimised away */
void sh_key_wipe(struct sh_key *k);
bool sh_key_equal(const struct sh_key *a, const struct sh_key *b); /* in constant time */

/* A key for another purpose: HKDF(key, info).  `out` may be `from`. */
SHOAL_NODISCARD enum shoal_status sh_key_derive(struct sh_key *out, const struct sh_key *from,
                                                const char *info, struct shoal_error *err);
SHOAL_NODISCARD enum shoal_status sh_key_id(char out[SH_KID_TEXT], const struct sh_key *k,
                                            struct shoal_error *err);
/* The first bits of SHA-256(key), 1 to 32 of them: finds errors of copying. */
SHOAL_NODISCARD enum shoal_status sh_key_checksum(uint32_t *out, const struct sh_key *k, int n_bits,
                                                  struct shoal_error *err);

/* The identity of a client, and the id in it; false if it is not of that form. */
void sh_key_identity(char out[SH_KEY_IDENTITY_TEXT], const char kid[SH_KID_TEXT]);
bool sh_key_identity_kid(char kid[SH_KID_TEXT], const char *identity);

#endif

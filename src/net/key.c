/* net/key.c - keys by the system's generator and by HKDF (RFC 5869) from HMAC-SHA-256. */
#include "net/key.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define KID_BYTES 8

enum shoal_status sh_key_make(struct sh_key *out, struct shoal_error *err)
{
    size_t n = 0;

    while (n < sizeof out->bytes) {
        const ssize_t got = getrandom(out->bytes + n, sizeof out->bytes - n, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            return sh_fail_errno(err, SHOAL_ERR_IO, errno,
                                 "the system gives no random bytes for a key");
        }
        n += (size_t)got;
    }
    return SHOAL_OK;
}

void sh_wipe(void *p, size_t n)
{
    OPENSSL_cleanse(p, n);
}

void sh_key_wipe(struct sh_key *k)
{
    sh_wipe(k, sizeof *k);
}

bool sh_key_equal(const struct sh_key *a, const struct sh_key *b)
{
    return CRYPTO_memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

// HMAC-SHA-256; false when the library has no memory.
static bool mac(uint8_t out[SH_KEY_BYTES], const uint8_t key[SH_KEY_BYTES], const uint8_t *text,
                size_t n)
{
    unsigned len = 0;

    return HMAC(EVP_sha256(), key, SH_KEY_BYTES, text, n, out, &len) && len == SH_KEY_BYTES;
}

enum shoal_status sh_key_derive(struct sh_key *out, const struct sh_key *from, const char *info,
                                struct shoal_error *err)
{
    static const uint8_t no_salt[SH_KEY_BYTES];
    uint8_t pseudorandom[SH_KEY_BYTES], text[SH_KEY_INFO_MAX + 1];
    const size_t n = strlen(info);
    bool ok;

    if (n > SH_KEY_INFO_MAX) {
        return sh_fail(err, SHOAL_ERR_LIMIT,
                       "the purpose of a derived key has %zu characters, at most %d are allowed", n,
                       SH_KEY_INFO_MAX);
    }
    memcpy(text, info, n);
    text[n] = 1; // the first and only block of the expansion
    ok = mac(pseudorandom, no_salt, from->bytes, sizeof from->bytes) &&
         mac(out->bytes, pseudorandom, text, n + 1);
    OPENSSL_cleanse(pseudorandom, sizeof pseudorandom);
    return ok ? SHOAL_OK : sh_fail(err, SHOAL_ERR_NOMEM, "no memory to derive a key");
}

enum shoal_status sh_key_id(char out[SH_KID_TEXT], const struct sh_key *k, struct shoal_error *err)
{
    struct sh_key id;
    enum shoal_status st = sh_key_derive(&id, k, "id", err);

    out[0] = '\0';
    if (st) return st;
    for (size_t i = 0; i < KID_BYTES; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", id.bytes[i]);
    return SHOAL_OK;
}

enum shoal_status sh_key_checksum(uint32_t *out, const struct sh_key *k, int n_bits,
                                  struct shoal_error *err)
{
    uint8_t sum[SH_KEY_BYTES];
    uint32_t v = 0;

    SH_ASSERT(n_bits >= 1 && n_bits <= 32);
    *out = 0;
    if (EVP_Digest(k->bytes, sizeof k->bytes, sum, NULL, EVP_sha256(), NULL) != 1)
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the checksum of a key");
    for (int i = 0; i < 4; i++)
        v = v << 8 | sum[i];
    *out = v >> (32 - n_bits);
    return SHOAL_OK;
}

void sh_key_identity(char out[SH_KEY_IDENTITY_TEXT], const char kid[SH_KID_TEXT])
{
    (void)snprintf(out, SH_KEY_IDENTITY_TEXT, "v1|%.16s|c2w", kid);
}

bool sh_key_identity_kid(char kid[SH_KID_TEXT], const char *identity)
{
    char again[SH_KEY_IDENTITY_TEXT];

    kid[0] = '\0';
    if (strncmp(identity, "v1|", 3) != 0) return false;
    if (strspn(identity + 3, "0123456789abcdef") != SH_KID_TEXT - 1) return false;
    memcpy(kid, identity + 3, SH_KID_TEXT - 1);
    kid[SH_KID_TEXT - 1] = '\0';
    sh_key_identity(again, kid);
    return strcmp(again, identity) == 0;
}

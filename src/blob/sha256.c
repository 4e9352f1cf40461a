/* blob/sha256.c - libcrypto's digests, which use the processor's SHA instructions where it can. */
#include "blob/sha256.h"

#include <openssl/evp.h>

static enum shoal_status refuse(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_UNSUPPORTED, "sha256: libcrypto does not compute it here");
}

enum shoal_status sh_sha256_begin(struct sh_sha256_chain *c, struct shoal_error *err)
{
    if (!c->state) c->state = EVP_MD_CTX_new();
    if (!c->state) return sh_fail(err, SHOAL_ERR_NOMEM, "sha256: no memory for its state");
    return EVP_DigestInit_ex(c->state, EVP_sha256(), NULL) == 1 ? SHOAL_OK : refuse(err);
}

enum shoal_status sh_sha256_add(struct sh_sha256_chain *c, const void *data, size_t n,
                                struct shoal_error *err)
{
    return EVP_DigestUpdate(c->state, data, n) == 1 ? SHOAL_OK : refuse(err);
}

enum shoal_status sh_sha256_end(struct sh_sha256_chain *c, struct sh_sha256 *out,
                                struct shoal_error *err)
{
    unsigned n = 0;

    if (EVP_DigestFinal_ex(c->state, out->bytes, &n) != 1 || n != SH_SHA256_BYTES) {
        return refuse(err);
    }
    return SHOAL_OK;
}

void sh_sha256_release(struct sh_sha256_chain *c)
{
    EVP_MD_CTX_free(c->state);
    c->state = NULL;
}

enum shoal_status sh_sha256_of(struct sh_sha256 *out, const void *data, size_t n,
                               struct shoal_error *err)
{
    struct sh_sha256_chain c = SH_SHA256_CHAIN_INIT;
    enum shoal_status st = sh_sha256_begin(&c, err);

    if (!st) st = sh_sha256_add(&c, data, n, err);
    if (!st) st = sh_sha256_end(&c, out, err);
    sh_sha256_release(&c);
    return st;
}

void sh_sha256_text(const struct sh_sha256 *h, char out[SH_SHA256_TEXT_BYTES])
{
    static const char DIGITS[] = "0123456789abcdef";

    for (size_t i = 0; i < SH_SHA256_BYTES; i++) {
        out[2 * i] = DIGITS[h->bytes[i] >> 4];
        out[2 * i + 1] = DIGITS[h->bytes[i] & 15];
    }
    out[SH_SHA256_TEXT_BYTES - 1] = '\0';
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool sh_sha256_parse(struct sh_sha256 *out, const char *text)
{
    struct sh_sha256 h;

    if (strlen(text) != SH_SHA256_TEXT_BYTES - 1) return false;
    for (size_t i = 0; i < SH_SHA256_BYTES; i++) {
        const int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        h.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *out = h;
    return true;
}

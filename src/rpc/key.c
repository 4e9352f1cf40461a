/* rpc/key.c - keys as text, fingerprints, names, and where the files are. */
#include "rpc/key.h"

#include <stdio.h>
#include <stdlib.h>

#include "rpc/key_priv.h"

#define PREFIX "SHOAL1-"
#define PREFIX_LEN 7
#define KEY_CHARS 52 /* 260 bits: the last four are zero */
#define CHECK_CHARS 4
#define CHECK_BITS 20
#define TEXT_LEN (PREFIX_LEN + KEY_CHARS + 1 + CHECK_CHARS)

static const char g_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"; // RFC 4648

/* ---- text ----------------------------------------------------------------------------------- */

enum shoal_status sh_key_format(char out[SH_KEY_TEXT], const struct sh_key *k,
                                struct shoal_error *err)
{
    uint32_t bits = 0, check;
    int n_bits = 0;
    size_t at = PREFIX_LEN;
    enum shoal_status st = sh_key_checksum(&check, k, CHECK_BITS, err);

    out[0] = '\0';
    if (st) return st;
    memcpy(out, PREFIX, PREFIX_LEN);
    for (size_t i = 0; i < SH_KEY_BYTES; i++) {
        bits = (bits << 8 | k->bytes[i]) & 0xfff;
        n_bits += 8;
        for (; n_bits >= 5; n_bits -= 5)
            out[at++] = g_digits[bits >> (n_bits - 5) & 31];
    }
    out[at++] = g_digits[bits << (5 - n_bits) & 31];
    out[at++] = '-';
    for (int shift = CHECK_BITS - 5; shift >= 0; shift -= 5)
        out[at++] = g_digits[check >> shift & 31];
    out[at] = '\0';
    SH_ASSERT(at == TEXT_LEN);
    return SHOAL_OK;
}

// The value of a character; -1: it is none.
static int digit_of(char c)
{
    if (c >= 'a' && c <= 'z') return c - 'a';
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= '2' && c <= '7') return c - '2' + 26;
    return -1;
}

static bool has_prefix(const char *text)
{
    for (int i = 0; i < PREFIX_LEN; i++) {
        const char c = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 'a' + 'A') : text[i];
        if (c != PREFIX[i]) return false;
    }
    return true;
}

// The first character that can be in no key; -1: none.
static int foreign_character(const char *text)
{
    for (int i = PREFIX_LEN; i < TEXT_LEN; i++) {
        if (i == PREFIX_LEN + KEY_CHARS ? text[i] != '-' : digit_of(text[i]) < 0) return i;
    }
    return -1;
}

enum shoal_status sh_key_parse(struct sh_key *out, const char *text, struct shoal_error *err)
{
    uint32_t bits = 0, check = 0, want;
    int n_bits = 0, foreign;
    size_t at = 0;
    enum shoal_status st;

    memset(out, 0, sizeof *out);
    if (!has_prefix(text)) {
        return sh_fail(err, SHOAL_ERR_ARG, "this is no key: a key begins with %s", PREFIX);
    }
    if (strlen(text) != TEXT_LEN) {
        return sh_fail(err, SHOAL_ERR_ARG, "the key has %zu characters, not %d: copy it whole",
                       strlen(text), TEXT_LEN);
    }
    foreign = foreign_character(text);
    if (foreign >= 0) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "character %d of the key cannot be in one: there are A to Z and 2 to 7",
                       foreign + 1);
    }
    for (int i = 0; i < KEY_CHARS; i++) {
        bits = (bits << 5 | (uint32_t)digit_of(text[PREFIX_LEN + i])) & 0xfff;
        n_bits += 5;
        if (n_bits < 8) continue;
        n_bits -= 8;
        out->bytes[at++] = (uint8_t)(bits >> n_bits & 0xff);
    }
    for (int i = 0; i < CHECK_CHARS; i++)
        check = check << 5 | (uint32_t)digit_of(text[TEXT_LEN - CHECK_CHARS + i]);
    st = sh_key_checksum(&want, out, CHECK_BITS, err);
    if (!st && (check != want || (bits & 0xf) != 0)) {
        st = sh_fail(err, SHOAL_ERR_ARG,
                     "the key was copied wrongly: its checksum does not fit; copy it again");
    }
    if (st) sh_key_wipe(out);
    return st;
}

enum shoal_status sh_key_fingerprint(char out[SH_KEY_WORDS_TEXT], const struct sh_key *k,
                                     struct shoal_error *err)
{
    struct sh_key words;
    enum shoal_status st = sh_key_derive(&words, k, "words", err);
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < SH_KEY_WORDS && !st; i++) {
        const char *word = sh_key_word_list[words.bytes[i]];
        const size_t n = strlen(word);
        SH_ASSERT(at + n + 2 <= SH_KEY_WORDS_TEXT);
        if (i > 0) out[at++] = ' ';
        memcpy(out + at, word, n + 1);
        at += n;
    }
    return st;
}

enum shoal_status sh_key_name_check(const char *name, struct shoal_error *err)
{
    const size_t n = strlen(name);

    if (n == 0 || n >= SH_KEY_NAME_TEXT ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != n || strchr("._-", name[0])) {
        return sh_fail(err, SHOAL_ERR_ARG,
                       "\"%.40s\" is no name for a key: 1 to %d of a-z, 0-9, '.', '_' and '-', the "
                       "first a letter or digit",
                       name, SH_KEY_NAME_TEXT - 1);
    }
    return SHOAL_OK;
}

/* ---- places --------------------------------------------------------------------------------- */

static enum shoal_status place(struct sh_buf *out, const char *what, struct shoal_error *err)
{
    const char *base = getenv("XDG_CONFIG_HOME"), *below = "/shoal/";

    if (!base || base[0] != '/') {
        base = getenv("HOME");
        below = "/.config/shoal/";
    }
    if (!base || base[0] != '/') {
        return sh_fail(err, SHOAL_ERR_NOT_FOUND,
                       "neither XDG_CONFIG_HOME nor HOME names a folder to keep keys in");
    }
    sh_buf_clear(out);
    if (sh_buf_printf(out, "%s%s%s", base, below, what))
        return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the name of a folder");
    return SHOAL_OK;
}

enum shoal_status sh_key_folder(struct sh_buf *out, struct shoal_error *err)
{
    return place(out, "keys", err);
}

enum shoal_status sh_cluster_path(struct sh_buf *out, struct shoal_error *err)
{
    return place(out, "cluster", err);
}

/* Fuzz target: any bytes as a text under vocabularies of ours, as a vocabulary, or as a model file
 * with one.
 *
 * The first byte says which.  Whatever a text is split into must come back: as the same bytes from
 * byte-level BPE if the text is UTF-8, and as UTF-8 from any vocabulary, whatever ids it is fed.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/mem.h"
#include "engine/vocab_file.h"
#include "text/detok.h"
#include "text/tokenize.h"
#include "text/unicode.h"

#define TOKENS_MAX 700
#define MERGES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- what must hold -------------------------------------------------------------------------*/

static bool is_utf8(const char *p, size_t n)
{
    size_t at = 0;

    while (at < n) {
        const unsigned char c = (unsigned char)p[at];
        const size_t len = c < 0x80   ? 1
                           : c < 0xc2 ? 0
                           : c < 0xe0 ? 2
                           : c < 0xf0 ? 3
                           : c < 0xf5 ? 4
                                      : 0;
        if (len == 0 || len > n - at) return false;
        for (size_t i = 1; i < len; i++) {
            if (((unsigned char)p[at + i] & 0xc0) != 0x80) return false;
        }
        if (c == 0xe0 && (unsigned char)p[at + 1] < 0xa0) return false;
        if (c == 0xed && (unsigned char)p[at + 1] > 0x9f) return false;
        if (c == 0xf0 && (unsigned char)p[at + 1] < 0x90) return false;
        if (c == 0xf4 && (unsigned char)p[at + 1] > 0x8f) return false;
        at += len;
    }
    return true;
}

/* Ids to text: always UTF-8. */
static void detokenize(const struct sh_vocab *v, const int32_t *ids, size_t n, bool special,
                       struct sh_buf *out)
{
    const struct sh_detok_options opt = {.special = special};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_detok d;

    sh_detok_init(&d, v, &opt);
    for (size_t i = 0; i < n; i++) {
        if (sh_detok_feed(&d, ids[i], out, &err) && err.message[0] == '\0') abort();
    }
    if (sh_detok_finish(&d, out, &err)) abort();
    if (!is_utf8(out->ptr, out->len)) abort();
}

static void check_text(const struct sh_vocab *v, struct sh_str text, bool exact)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    for (int how = 0; how < 4; how++) {
        struct sh_ids ids = SH_IDS_INIT;
        struct sh_buf back = SH_BUF_INIT;
        if (sh_tokenize(v, text, how & 1, how & 2, &ids, &err)) {
            if (ids.len != 0 || err.message[0] == '\0') abort();
        } else {
            for (size_t i = 0; i < ids.len; i++) {
                if (ids.ptr[i] < 0 || ids.ptr[i] >= sh_vocab_n_tokens(v)) abort();
            }
            detokenize(v, ids.ptr, ids.len, how & 1, &back);
            if (exact && how == 0 && is_utf8(text.ptr, text.len) &&
                (back.len != text.len || (text.len && memcmp(back.ptr, text.ptr, text.len)))) {
                abort();
            }
        }
        sh_buf_release(&back);
        sh_ids_release(&ids);
    }
}

/* Everything that may be asked about ids, right and wrong ones. */
static void check_vocab(const struct sh_vocab *v)
{
    struct sh_buf out = SH_BUF_INIT;
    const int32_t n = sh_vocab_n_tokens(v);

    for (int32_t id = -2; id < n + 2; id++) {
        (void)sh_vocab_type(v, id);
        (void)sh_vocab_is_eog(v, id);
        if (sh_vocab_find(v, sh_vocab_text(v, id)) >= n) abort();
        detokenize(v, &id, 1, true, &out);
        sh_buf_clear(&out);
    }
    for (int r = 0; r < SH_ROLE_COUNT; r++) {
        if (sh_vocab_role(v, (enum sh_vocab_role)r) >= n) abort();
    }
    sh_buf_release(&out);
}

/* ---- vocabularies of ours -------------------------------------------------------------------*/

/* A name for each group of patterns; behind the first N_EXACT a text does not come back whole. */
static const char *const PRES[] = {
    "default",     "llama3",       "qwen2",
    "qwen35",      "gpt-4o",       "tekken",
    "deepseek-v3", "mpt",          "starcoder",
    "kimi-k2",     "deepseek-llm", "deepseek-coder",
    "falcon",      "poro-chat",    "viking",
    "youtu",       "tiny_aya",     "granite-embed-multi-97m",
    "exaone-moe",  "seed-coder",   "ufakzeka",
    "bailingmoe",  "minicpm5",     "jais-2",
    "superbpe",    "afmoe",        "laguna",
    "spark2_5",    "chameleon",    "gemma4",
    "whitespace",
};
#define N_PRES (sizeof PRES / sizeof PRES[0])
#define N_EXACT (N_PRES - 2)

struct tiny {
    struct sh_vocab_desc desc;
    struct sh_str tokens[TOKENS_MAX], merges[MERGES_MAX];
    int32_t types[TOKENS_MAX];
    float scores[TOKENS_MAX];
    char bytes[256][8]; // texts of byte tokens
};

static void add(struct tiny *t, struct sh_str text, int type, float score)
{
    const size_t i = t->desc.n_tokens;

    if (i == TOKENS_MAX) return;
    t->tokens[i] = text;
    t->types[i] = type;
    t->scores[i] = score;
    t->desc.n_tokens++;
}

static void begin(struct tiny *t, const char *model, const char *pre)
{
    sh_vocab_desc_init(&t->desc);
    t->desc.model = sh_str_from(model);
    t->desc.pre = sh_str_from(pre);
    t->desc.tokens = t->tokens;
    t->desc.merges = t->merges;
    t->desc.types = t->types;
    t->desc.scores = t->scores;
}

static void add_alphabet(struct tiny *t)
{
    uint32_t other = 0x100;

    for (uint32_t b = 0; b < 256; b++) {
        const bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        t->bytes[b][sh_utf8_encode(t->bytes[b], itself ? b : other++)] = '\0';
        add(t, sh_str_from(t->bytes[b]), SH_TOKEN_NORMAL, 0);
    }
}

static void add_byte_tokens(struct tiny *t)
{
    for (unsigned b = 0; b < 256; b++) {
        (void)snprintf(t->bytes[b], sizeof t->bytes[b], "<0x%02X>", b);
        add(t, sh_str_from(t->bytes[b]), SH_TOKEN_BYTE, 0);
    }
}

static void add_words(struct tiny *t, bool spm)
{
    static const char *const WORDS[] = {"he", "ll",  "hell", "hello", "in", "ing",  "1",    "12",
                                        "th", "the", "an",   "and",   "  ", "    ", "\n\n", "é"};
    static const char *const MERGES[] = {"h e", "l l",  "he ll", "hell o", "i n", "in g",
                                         "t h", "th e", "a n",   "an d",   "1 2"};

    for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++)
        add(t, sh_str_from(WORDS[i]), SH_TOKEN_NORMAL, -(float)i);
    if (spm) add(t, sh_str_from("\xe2\x96\x81"), SH_TOKEN_NORMAL, -20);
    add(t, sh_str_from("<s>"), SH_TOKEN_CONTROL, 0);
    add(t, sh_str_from("<|end|>"), SH_TOKEN_CONTROL, 0);
    add(t, sh_str_from("<tool>"), SH_TOKEN_USER_DEFINED, 0);
    t->desc.roles[SH_ROLE_BOS] = (int64_t)t->desc.n_tokens - 3;
    t->desc.roles[SH_ROLE_EOS] = (int64_t)t->desc.n_tokens - 2;
    for (size_t i = 0; i < sizeof MERGES / sizeof MERGES[0] && !spm; i++)
        t->merges[t->desc.n_merges++] = sh_str_from(MERGES[i]);
}

/* One per pre-tokeniser, then SentencePiece with and without its space, then raw BPE. */
#define N_OURS (N_PRES + 3)

static const struct sh_vocab *our_vocab(unsigned i)
{
    static struct sh_vocab *made[N_OURS];
    static struct tiny t;

    if (made[i]) return made[i];
    memset(&t, 0, sizeof t);
    begin(&t, i < N_PRES ? "gpt2" : i < N_PRES + 2 ? "llama" : "gemma4", i < N_PRES ? PRES[i] : "");
    if (i < N_PRES) {
        add_alphabet(&t);
    } else {
        add_byte_tokens(&t);
    }
    if (i == N_PRES) t.desc.add_space_prefix = 0;
    add_words(&t, i >= N_PRES);
    if (i == N_PRES + 2) t.merges[t.desc.n_merges++] = SH_STR_LIT("h e");
    if (sh_vocab_create(&made[i], &t.desc, NULL)) {
        fprintf(stderr, "vocabulary %u (%s) is refused\n", i, i < N_PRES ? PRES[i] : "");
        abort();
    }
    return made[i];
}

/* ---- vocabularies of the fuzzer -------------------------------------------------------------*/

static struct sh_str short_string(struct sh_reader *r)
{
    const size_t n = sh_read_u8(r) % 12;
    const uint8_t *p = sh_read_bytes(r, n);

    return p ? (struct sh_str){(const char *)p, n} : SH_STR_EMPTY;
}

static void fuzz_vocab(struct sh_reader *r)
{
    static const char *const MODELS[] = {"gpt2", "llama", "gemma4", "none", "bert"};
    static struct tiny t;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_vocab *v;
    unsigned n;

    memset(&t, 0, sizeof t);
    begin(&t, MODELS[sh_read_u8(r) % 5], PRES[sh_read_u8(r) % N_PRES]);
    switch (sh_read_u8(r) % 3) {
    case 0:
        add_alphabet(&t);
        break;
    case 1:
        add_byte_tokens(&t);
        break;
    default:
        break;
    }
    for (n = sh_read_u8(r) % 64; n > 0; n--) {
        const int32_t type = sh_read_u8(r) % 8;
        const float score = (float)(int8_t)sh_read_u8(r);
        add(&t, short_string(r), type, score == -1 ? NAN : score);
    }
    for (n = sh_read_u8(r) % MERGES_MAX; n > 0; n--)
        t.merges[t.desc.n_merges++] = short_string(r);
    for (n = sh_read_u8(r) % 8; n > 0; n--)
        t.desc.roles[sh_read_u8(r) % SH_ROLE_COUNT] = (int64_t)(int16_t)sh_read_u16(r);
    n = sh_read_u8(r);
    if (n & 1) t.desc.types = NULL;
    if (n & 2) t.desc.scores = NULL;
    t.desc.add_bos = (int)(n >> 2 & 3) - 1;
    t.desc.add_space_prefix = (int)(n >> 4 & 3) - 1;
    if (sh_vocab_create(&v, &t.desc, &err)) {
        if (v || err.message[0] == '\0') abort();
        return;
    }
    check_vocab(v);
    check_text(v, (struct sh_str){(const char *)r->ptr + r->pos, sh_reader_left(r)}, false);
    sh_vocab_destroy(v);
}

/* A model file; the text is its own bytes. */
static void fuzz_file(const uint8_t *data, size_t size)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g;
    struct sh_vocab *v = NULL;

    if (sh_gguf_open_memory(&g, data, size, "fuzz", &err)) return;
    if (sh_vocab_from_file(&v, g, 100, &err)) {
        if (v || err.message[0] == '\0') abort();
    } else {
        check_vocab(v);
        check_text(v, (struct sh_str){(const char *)data, size}, false);
    }
    sh_vocab_destroy(v);
    sh_gguf_close(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sh_reader r = sh_reader_over(data, size);
    const unsigned which = sh_read_u8(&r);

    if (size > 4 && memcmp(data, "GGUF", 4) == 0) {
        fuzz_file(data, size);
    } else if (which < N_OURS) {
        const struct sh_str text = {(const char *)data + r.pos, sh_reader_left(&r)};
        check_text(our_vocab(which), text, which < N_EXACT);
    } else if (size > 0) {
        fuzz_vocab(&r);
    }
    return 0;
}

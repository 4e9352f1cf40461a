/* tiny_test.h - vocabularies of a few tokens, for the tests of this folder. */
#ifndef TEXT_TINY_TEST_H
#define TEXT_TINY_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "text/tokenize.h"
#include "text/unicode.h"
#include "text/vocab.h"

#define TINY_MAX 700

struct tiny_token {
    const char *text;
    int type;
    float score;
};

struct tiny {
    struct sh_vocab_desc desc;
    struct sh_str tokens[TINY_MAX], merges[TINY_MAX];
    int32_t types[TINY_MAX];
    float scores[TINY_MAX];
    char bytes[256][8]; /* texts of byte tokens */
};

static inline void tiny_add(struct tiny *t, const char *text, int type, float score)
{
    const size_t i = t->desc.n_tokens++;

    assert_true(i < TINY_MAX);
    t->tokens[i] = sh_str_from(text);
    t->types[i] = type;
    t->scores[i] = score;
}

static inline void tiny_merge(struct tiny *t, const char *merge)
{
    t->merges[t->desc.n_merges++] = sh_str_from(merge);
}

static inline void tiny_init(struct tiny *t, const char *model, const char *pre)
{
    memset(t, 0, sizeof *t);
    sh_vocab_desc_init(&t->desc);
    t->desc.model = sh_str_from(model);
    t->desc.pre = sh_str_from(pre);
    t->desc.tokens = t->tokens;
    t->desc.merges = t->merges;
    t->desc.types = t->types;
    t->desc.scores = t->scores;
}

/* The 256 characters of the byte alphabet: token b stands for byte b. */
static inline void tiny_add_alphabet(struct tiny *t)
{
    uint32_t other = 0x100;

    for (uint32_t b = 0; b < 256; b++) {
        const bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        t->bytes[b][sh_utf8_encode(t->bytes[b], itself ? b : other++)] = '\0';
        tiny_add(t, t->bytes[b], SH_TOKEN_NORMAL, 0);
    }
}

/* <0x00> ... <0xFF>. */
static inline void tiny_add_byte_tokens(struct tiny *t)
{
    for (unsigned b = 0; b < 256; b++) {
        (void)snprintf(t->bytes[b], sizeof t->bytes[b], "<0x%02X>", b);
        tiny_add(t, t->bytes[b], SH_TOKEN_BYTE, 0);
    }
}

static inline struct sh_vocab *tiny_create(const struct tiny *t)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_vocab *v = NULL;

    if (sh_vocab_create(&v, &t->desc, &err)) fail_msg("%s", err.message);
    return v;
}

/* The ids of `text` must be want[0..n). */
static inline void tiny_expect(const struct sh_vocab *v, struct sh_str text, bool add, bool parse,
                               const int32_t *want, size_t n)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_ids ids = SH_IDS_INIT;
    bool equal;

    if (sh_tokenize(v, text, add, parse, &ids, &err)) fail_msg("%s", err.message);
    equal = ids.len == n && (n == 0 || memcmp(ids.ptr, want, n * sizeof *want) == 0);
    if (!equal) {
        print_error("'%.*s' gave", (int)text.len, text.ptr);
        for (size_t i = 0; i < ids.len; i++)
            print_error(" %d", ids.ptr[i]);
        print_error(", expected");
        for (size_t i = 0; i < n; i++)
            print_error(" %d", want[i]);
        print_error("\n");
    }
    sh_ids_release(&ids);
    assert_true(equal);
}
#define TINY_EXPECT(v, text, add, parse, ...)                                                      \
    do {                                                                                           \
        const int32_t want_[] = {__VA_ARGS__};                                                     \
        tiny_expect(v, SH_STR_LIT(text), add, parse, want_, sizeof want_ / sizeof want_[0]);       \
    } while (0)

/* A repeatable random number below n. */
static inline uint32_t tiny_random(uint64_t *state, uint32_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*state >> 33) % n);
}

#endif

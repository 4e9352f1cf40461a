/* Special tokens in text: against the obvious search, on texts full of overlaps. */
#include "text/special_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/mem.h"
#include "text/tiny_test.h"

#define N_TOKENS 24

/* Longest token that starts at text[at], or -1. */
static int32_t longest_at(const struct sh_special_token *t, size_t n, struct sh_str text, size_t at,
                          bool all)
{
    int32_t best = -1;
    size_t best_len = 0;

    for (size_t i = 0; i < n; i++) {
        const size_t len = t[i].text.len;
        if (!all && !t[i].always) continue;
        if (len > text.len - at || memcmp(text.ptr + at, t[i].text.ptr, len) != 0) continue;
        if (len > best_len) {
            best_len = len;
            best = t[i].id;
        }
    }
    return best;
}

static void check_scan(const struct sh_special *s, const struct sh_special_token *t, size_t n,
                       struct sh_str text, bool all, size_t *n_hits)
{
    struct sh_special_hits hits = SH_SPECIAL_HITS_INIT;
    size_t k;

    assert_int_equal(sh_special_scan(s, text, all, &hits), SHOAL_OK);
    k = hits.len;
    *n_hits += k;
    for (size_t at = 0; at < text.len; at++) {
        const int32_t want = longest_at(t, n, text, at, all);
        if (want < 0) continue;
        assert_true(k > 0);
        k--;
        if (hits.ptr[k].pos != at || hits.ptr[k].id != want)
            fail_msg("'%.*s' at %zu: token %d at %zu, expected %d", (int)text.len, text.ptr, at,
                     hits.ptr[k].id, hits.ptr[k].pos, want);
    }
    assert_int_equal(k, 0);
    sh_special_hits_release(&hits);
}

static void special__equals_the_obvious_search(void **state)
{
    uint64_t seed = 3;
    size_t n_hits = 0;

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct sh_special_token tokens[N_TOKENS];
        char bytes[N_TOKENS][8], text[200];
        struct sh_special s;
        size_t n = 0;
        for (int i = 0; i < N_TOKENS; i++) {
            const size_t len = 1 + tiny_random(&seed, 6);
            bool twice = false;
            for (size_t k = 0; k < len; k++)
                bytes[n][k] = (char)('a' + tiny_random(&seed, 2));
            for (size_t k = 0; k < n; k++)
                twice |= sh_str_equal(tokens[k].text, (struct sh_str){bytes[n], len});
            if (twice) continue;
            tokens[n] = (struct sh_special_token){
                .text = {bytes[n], len}, .id = (int32_t)(100 + n), .always = tiny_random(&seed, 2)};
            n++;
        }
        assert_int_equal(sh_special_build(&s, tokens, n, NULL), SHOAL_OK);
        for (int k = 0; k < 10; k++) {
            const size_t len = tiny_random(&seed, sizeof text);
            for (size_t i = 0; i < len; i++)
                text[i] = (char)('a' + tiny_random(&seed, 3));
            check_scan(&s, tokens, n, (struct sh_str){text, len}, true, &n_hits);
            check_scan(&s, tokens, n, (struct sh_str){text, len}, false, &n_hits);
        }
        sh_special_release(&s);
    }
    assert_true(n_hits > 10000);
}

static void special__overlaps_cost_linear_time(void **state)
{
    // A token of 20,000 bytes that a text of 2,000,000 nearly contains at every place.
    const size_t n_token = 20000, n_text = 2000000;
    char *token = sh_malloc(n_token), *text = sh_malloc(n_text);
    struct sh_special_hits hits = SH_SPECIAL_HITS_INIT;
    struct sh_special s;

    (void)state;
    memset(token, 'a', n_token);
    memset(text, 'a', n_text);
    token[0] = 'b';
    const struct sh_special_token tokens[] = {{{token, n_token}, 1, true}, {{"aa", 2}, 2, true}};
    assert_int_equal(sh_special_build(&s, tokens, 2, NULL), SHOAL_OK);
    assert_int_equal(sh_special_scan(&s, (struct sh_str){text, n_text}, true, &hits), SHOAL_OK);
    assert_int_equal(hits.len, n_text - 1);
    sh_special_hits_release(&hits);
    sh_special_release(&s);
    sh_free(token);
    sh_free(text);
}

static void special__none(void **state)
{
    struct sh_special_hits hits = SH_SPECIAL_HITS_INIT;
    struct sh_special s;

    (void)state;
    assert_int_equal(sh_special_build(&s, NULL, 0, NULL), SHOAL_OK);
    assert_int_equal(sh_special_scan(&s, SH_STR_LIT("text"), true, &hits), SHOAL_OK);
    assert_int_equal(hits.len, 0);
    sh_special_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(special__equals_the_obvious_search),
        cmocka_unit_test(special__overlaps_cost_linear_time),
        cmocka_unit_test(special__none),
    };
    return cmocka_run_group_tests_name("special", tests, NULL, NULL);
}

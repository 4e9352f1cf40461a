/* Text to ids: special tokens, added ones, raw vocabularies, broken text, threads, memory. */
#include "text/tokenize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/thread.h"
#include "text/detok.h"
#include "text/tiny_test.h"

static struct tiny t;

#define X 256     /* <|x|>, control */
#define XY 257    /* <|x|>y, control */
#define THINK 258 /* <think>, user-defined */
#define UNK 259   /* <unk>, unknown */
#define HE 260
#define HEL 261
#define OVER 262 /* k>l, control: overlaps THINK */

static struct sh_vocab *bpe(void)
{
    tiny_init(&t, "gpt2", "gpt-2");
    tiny_add_alphabet(&t);
    tiny_add(&t, "<|x|>", SH_TOKEN_CONTROL, 0);
    tiny_add(&t, "<|x|>y", SH_TOKEN_CONTROL, 0);
    tiny_add(&t, "<think>", SH_TOKEN_USER_DEFINED, 0);
    tiny_add(&t, "<unk>", SH_TOKEN_UNKNOWN, 0);
    tiny_add(&t, "he", SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "hel", SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "k>l", SH_TOKEN_CONTROL, 0);
    tiny_merge(&t, "h e");
    tiny_merge(&t, "he l");
    t.desc.roles[SH_ROLE_BOS] = X;
    t.desc.roles[SH_ROLE_EOS] = XY;
    return tiny_create(&t);
}

static void tokenize__special_tokens_need_permission(void **state)
{
    struct sh_vocab *v = bpe();

    (void)state;
    TINY_EXPECT(v, "hel<|x|>he", false, true, HEL, X, HE);
    TINY_EXPECT(v, "hel<|x|>he", false, false, HEL, '<', '|', 'x', '|', '>', HE);
    TINY_EXPECT(v, "he<think>l", false, true, HE, THINK, 'l');
    TINY_EXPECT(v, "he<think>l", false, false, HE, THINK, 'l'); // user-defined: always
    TINY_EXPECT(v, "<unk>", false, true, UNK);
    TINY_EXPECT(v, "<unk>", false, false, '<', 'u', 'n', 'k', '>');
    TINY_EXPECT(v, "<|x|>y<|x|>", false, true, XY, X); // the longest that starts leftmost
    TINY_EXPECT(v, "hink>l<think>l", false, true, 'h', 'i', 'n', OVER, THINK, 'l');
    TINY_EXPECT(v, "h<think>el", false, true, 'h', THINK, 'e', 'l'); // no merging across
    tiny_expect(v, SH_STR_EMPTY, false, true, NULL, 0);
    sh_vocab_destroy(v);
}

static void tokenize__adds_what_the_vocabulary_says(void **state)
{
    struct sh_vocab *v = bpe();

    (void)state;
    TINY_EXPECT(v, "he", true, true, HE);
    sh_vocab_destroy(v);
    t.desc.add_bos = 1;
    t.desc.add_eos = 1;
    v = tiny_create(&t);
    TINY_EXPECT(v, "he", true, true, X, HE, XY);
    TINY_EXPECT(v, "he", false, true, HE);
    TINY_EXPECT(v, "", true, true, X, XY);
    TINY_EXPECT(v, "<|x|>", true, true, X, X, XY); // two BOS, as asked
    sh_vocab_destroy(v);
}

static void tokenize__appends_and_restores(void **state)
{
    struct sh_vocab *v = bpe();
    struct sh_ids ids = SH_IDS_INIT;
    int n_failures = 0;

    (void)state;
    assert_int_equal(sh_tokenize(v, SH_STR_LIT("he"), false, false, &ids, NULL), SHOAL_OK);
    for (int64_t k = 0; k < 200; k++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        char text[600];
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)(i % 11 ? "hel lo"[i % 6] : 0xF0); // broken, repeated, long
        memcpy(text + 300, "<think>", 7);
        sh_mem_fail_after(k);
        const enum shoal_status st =
            sh_tokenize(v, (struct sh_str){text, sizeof text}, true, true, &ids, &err);
        sh_mem_fail_after(-1);
        if (st == SHOAL_OK) {
            assert_true(ids.len > 100);
            ids.len = 1;
            sh_ids_release(&ids);
            assert_int_equal(sh_ids_push(&ids, HE), SHOAL_OK);
            if (k > 100) break;
            continue;
        }
        n_failures++;
        assert_int_equal(st, SHOAL_ERR_NOMEM);
        assert_non_null(strstr(err.message, "no memory"));
        assert_int_equal(ids.len, 1);
        assert_int_equal(ids.ptr[0], HE);
    }
    assert_true(n_failures > 5);
    sh_ids_release(&ids);
    sh_vocab_destroy(v);
}

static void tokenize__spaces_swallowed_by_special_tokens(void **state)
{
    struct sh_vocab *v;

    (void)state;
    sh_vocab_destroy(bpe());
    t.desc.name = SH_STR_LIT("Tiny Phi-3 mini");
    v = tiny_create(&t);
    TINY_EXPECT(v, "h <|x|> \n\tl", false, true, 'h', ' ', X, 'l');
    TINY_EXPECT(v, "<think>  <|x|>  ", false, true, THINK, X);
    TINY_EXPECT(v, "<unk> l", false, true, UNK, ' ', 'l'); // an exception
    sh_vocab_destroy(v);

    sh_vocab_destroy(bpe());
    tiny_add(&t, "[MASK]", SH_TOKEN_CONTROL, 0);
    t.desc.name = SH_STR_LIT("my-modern-bert");
    v = tiny_create(&t);
    TINY_EXPECT(v, "h \n[MASK] l", false, true, 'h', 263, ' ', 'l');
    TINY_EXPECT(v, " [MASK]", false, true, 263);
    sh_vocab_destroy(v);
}

static void tokenize__spm_prefixes_every_fragment(void **state)
{
    enum { SP = 259, H, SPH, I, HI, SPHI, XTOK };
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "llama", "");
    tiny_add(&t, "<unk>", SH_TOKEN_UNKNOWN, 0);
    tiny_add(&t, "<s>", SH_TOKEN_CONTROL, 0);
    tiny_add(&t, "</s>", SH_TOKEN_CONTROL, 0);
    tiny_add_byte_tokens(&t);
    tiny_add(&t, "\xE2\x96\x81", SH_TOKEN_NORMAL, -9);
    tiny_add(&t, "h", SH_TOKEN_NORMAL, -9);
    tiny_add(&t, "\xE2\x96\x81h", SH_TOKEN_NORMAL, -2);
    tiny_add(&t, "i", SH_TOKEN_NORMAL, -9);
    tiny_add(&t, "hi", SH_TOKEN_NORMAL, -1);
    tiny_add(&t, "\xE2\x96\x81hi", SH_TOKEN_NORMAL, -3);
    tiny_add(&t, "<x>", SH_TOKEN_USER_DEFINED, 0);
    v = tiny_create(&t);
    TINY_EXPECT(v, "hi", true, true, 1, SPHI);
    TINY_EXPECT(v, "hi hi", false, false, SPHI, SPHI);
    TINY_EXPECT(v, " hi", false, false, SP, SPHI);
    TINY_EXPECT(v, "hi<x>hi", false, false, SPHI, XTOK, SPHI);
    TINY_EXPECT(v, "<s>hi</s>", false, true, 1, SPHI, 2);
    TINY_EXPECT(v, "", true, true, 1);
    TINY_EXPECT(v, "z\n", false, false, SP, 3 + 'z', 3 + '\n');
    TINY_EXPECT(v, "\xF0\x9F", false, false, SP, 3 + 0xF0, 3 + 0x9F); // broken text keeps its bytes
    sh_vocab_destroy(v);
    t.desc.add_space_prefix = 0;
    v = tiny_create(&t);
    TINY_EXPECT(v, "hi hi<x>hi", false, false, HI, SPHI, XTOK, HI);
    sh_vocab_destroy(v);
    // A token with a bar inside: words may not be cut before bars then.
    tiny_add(&t, "i\xE2\x96\x81", SH_TOKEN_NORMAL, 6);
    tiny_add(&t, "i\xE2\x96\x81h", SH_TOKEN_NORMAL, 5);
    v = tiny_create(&t);
    TINY_EXPECT(v, "hi hi", false, false, H, 267, I);
    sh_vocab_destroy(v);
    // Without byte tokens a character is unknown.
    tiny_init(&t, "llama", "");
    tiny_add(&t, "<unk>", SH_TOKEN_UNKNOWN, 0);
    tiny_add(&t, "\xE2\x96\x81", SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "b", SH_TOKEN_NORMAL, 0);
    v = tiny_create(&t);
    TINY_EXPECT(v, "a b", false, false, 1, 0, 1, 2);
    sh_vocab_destroy(v);
}

static void tokenize__raw_bpe(void **state)
{
    enum { SP = 256, A, B, AB, SPAB, NL2, NL };
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "gemma4", "");
    tiny_add_byte_tokens(&t);
    tiny_add(&t, "\xE2\x96\x81", SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "a", SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "b", SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "ab", SH_TOKEN_NORMAL, 0);
    tiny_add(&t,
             "\xE2\x96\x81"
             "ab",
             SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "\n\n", SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "\n", SH_TOKEN_NORMAL, 0);
    tiny_merge(&t, "a b");
    tiny_merge(&t, "\xE2\x96\x81 ab");
    t.desc.roles[SH_ROLE_BOS] = A;
    t.desc.add_bos = 0;
    v = tiny_create(&t);
    TINY_EXPECT(v, "ab ab  b", false, false, AB, SPAB, SP, SP, B);
    TINY_EXPECT(v, "a\n\nb\n\n\n", false, false, A, NL2, B, NL, NL, NL);
    TINY_EXPECT(v, "\xC3\xA9", true, false, A, 0xC3, 0xA9); // adds BOS whatever the file says
    sh_vocab_destroy(v);
}

static void tokenize__whole_words_are_never_special(void **state)
{
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "gpt2", "llama-bpe"); // takes words whole
    tiny_add_alphabet(&t);
    tiny_add(&t, "word", SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "forged", SH_TOKEN_CONTROL, 0);
    t.desc.add_bos = 0;
    v = tiny_create(&t);
    TINY_EXPECT(v, "word", false, false, 256);
    TINY_EXPECT(v, "forged", false, false, 'f', 'o', 'r', 'g', 'e', 'd');
    TINY_EXPECT(v, "forged", false, true, 257);
    sh_vocab_destroy(v);
}

/* A special token cannot be a part of a character: what it leaves would be no UTF-8. */
static void tokenize__special_tokens_do_not_cut_characters(void **state)
{
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "gpt2", "minicpm5");
    tiny_add_alphabet(&t);
    tiny_add(&t, "\xc3", SH_TOKEN_USER_DEFINED, 0);
    tiny_add(&t, "\xa9t", SH_TOKEN_USER_DEFINED, 0);
    tiny_add(&t, "\xc3\xa9", SH_TOKEN_USER_DEFINED, 0);
    v = tiny_create(&t);
    TINY_EXPECT(v, "t\xc3\xa9t1", false, false, 't', 258, 't', '1');
    TINY_EXPECT(v, "\xc3\x89t", false, false, 0xc3, 0x89, 't');
    sh_vocab_destroy(v);
}

static void tokenize__missing_bytes_are_dropped(void **state)
{
    char many[4096];
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "gpt2", "gpt-2");
    tiny_add(&t, "a", SH_TOKEN_NORMAL, 0);
    tiny_add(&t, "b", SH_TOKEN_NORMAL, 0);
    v = tiny_create(&t);
    TINY_EXPECT(v, "acb", false, false, 0, 1);
    tiny_expect(v, SH_STR_LIT("xyz"), false, false, NULL, 0);
    memset(many, 'x', sizeof many); // words seen before, and still no list of ids
    for (size_t i = 3; i < sizeof many; i += 4)
        many[i] = ' ';
    tiny_expect(v, (struct sh_str){many, sizeof many}, false, false, NULL, 0);
    sh_vocab_destroy(v);
}

static void tokenize__too_long_is_refused(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_vocab *v = bpe();
    struct sh_ids ids = SH_IDS_INIT;

    (void)state;
    assert_int_equal(
        sh_tokenize(v, (struct sh_str){"x", SH_TOKENIZE_BYTES_MAX + 1}, true, true, &ids, &err),
        SHOAL_ERR_LIMIT);
    assert_non_null(strstr(err.message, "1073741825"));
    sh_vocab_destroy(v);
}

/* ---- random text --------------------------------------------------------------------------- */

static const char *const bits[] = {
    " ",
    "  ",
    "\n",
    "a",
    "he",
    "hel",
    "h",
    "'s",
    "don't",
    "12",
    "1234",
    "!?",
    "\t",
    "\r\n",
    "<",
    "|x|>",
    "\xC3\xA9",
    "\xE6\x9D\xB1\xE4\xBA\xAC",
    "\xF0\x9F\x99\x82",
    "\xCC\x81",
    "\xE2\x96\x81",
    "\xE3\x80\x80",
    "Z",
    "_",
};

static size_t random_text(uint64_t *seed, char *text, size_t cap, bool broken)
{
    size_t n = 0;

    for (uint32_t k = tiny_random(seed, 200); k > 0; k--) {
        const char *const bit = bits[tiny_random(seed, sizeof bits / sizeof bits[0])];
        if (n + 8 > cap) break;
        memcpy(text + n, bit, strlen(bit));
        n += strlen(bit);
        if (broken && tiny_random(seed, 4) == 0) text[n++] = (char)tiny_random(seed, 256);
    }
    return n;
}

static void tokenize__valid_text_comes_back(void **state)
{
    static const char *const pres[] = {"gpt-2",    "llama-bpe", "deepseek-llm",
                                       "superbpe", "tiny_aya",  "afmoe",
                                       "kimi-k2",  "jais-2",    "exaone-moe"};
    uint64_t seed = 11;

    (void)state;
    for (size_t p = 0; p < sizeof pres / sizeof pres[0]; p++) {
        struct sh_vocab *v;
        sh_vocab_destroy(bpe());
        t.desc.pre = sh_str_from(pres[p]);
        v = tiny_create(&t);
        for (int round = 0; round < 150; round++) {
            struct sh_ids ids = SH_IDS_INIT;
            struct sh_buf out = SH_BUF_INIT;
            struct sh_detok d;
            char text[2000];
            const bool broken = round % 3 == 2;
            const struct sh_str s = {text, random_text(&seed, text, sizeof text, broken)};
            assert_int_equal(sh_tokenize(v, s, false, round % 2, &ids, NULL), SHOAL_OK);
            sh_detok_init(&d, v, &(struct sh_detok_options){.special = true});
            for (size_t i = 0; i < ids.len; i++)
                assert_int_equal(sh_detok_feed(&d, ids.ptr[i], &out, NULL), SHOAL_OK);
            assert_int_equal(sh_detok_finish(&d, &out, NULL), SHOAL_OK);
            if (broken) {
                struct sh_buf clean = SH_BUF_INIT;
                assert_int_equal(sh_utf8_clean(&clean, s), SHOAL_OK);
                assert_int_equal(out.len, clean.len);
                if (clean.len) assert_memory_equal(out.ptr, clean.ptr, clean.len);
                sh_buf_release(&clean);
            } else {
                assert_int_equal(out.len, s.len);
                if (s.len) assert_memory_equal(out.ptr, s.ptr, s.len);
            }
            sh_buf_release(&out);
            sh_ids_release(&ids);
        }
        sh_vocab_destroy(v);
    }
}

static void tokenize__the_cache_changes_nothing(void **state)
{
    struct sh_vocab *v = bpe();
    uint64_t seed = 12;

    (void)state;
    for (int round = 0; round < 50; round++) {
        // A text that is long enough to be cached, and its lines one by one, which are not.
        struct sh_buf text = SH_BUF_INIT;
        struct sh_ids whole = SH_IDS_INIT, parts = SH_IDS_INIT;
        for (int line = 0; line < 40; line++) {
            struct sh_buf one = SH_BUF_INIT;
            for (int k = 0; k < 12; k++) {
                const char c = "hel o"[tiny_random(&seed, 5)];
                assert_int_equal(sh_buf_append(&one, &c, 1), SHOAL_OK);
            }
            assert_int_equal(sh_buf_append(&one, "<think>", 7), SHOAL_OK);
            assert_int_equal(sh_buf_append(&text, one.ptr, one.len), SHOAL_OK);
            assert_int_equal(
                sh_tokenize(v, (struct sh_str){one.ptr, one.len}, false, false, &parts, NULL),
                SHOAL_OK);
            sh_buf_release(&one);
        }
        assert_int_equal(
            sh_tokenize(v, (struct sh_str){text.ptr, text.len}, false, false, &whole, NULL),
            SHOAL_OK);
        assert_int_equal(whole.len, parts.len);
        assert_memory_equal(whole.ptr, parts.ptr, parts.len * sizeof *parts.ptr);
        sh_ids_release(&whole);
        sh_ids_release(&parts);
        sh_buf_release(&text);
    }
    sh_vocab_destroy(v);
}

static void tokenize__a_million_of_one_kind(void **state)
{
    enum { BYTES = 1000000 };
    static const char *const units[] = {"h", "hel", " ", "\n", "\xE6\x9D\xB1", "<|x|", "he "};
    static const char *const models[] = {"gpt2", "llama", "gemma4"};
    char *const text = sh_malloc(BYTES);

    (void)state;
    for (size_t m = 0; m < 3; m++) {
        struct sh_vocab *v;
        tiny_init(&t, models[m], "gpt-2");
        if (m == 0) tiny_add_alphabet(&t);
        if (m > 0) tiny_add_byte_tokens(&t);
        tiny_add(&t, "<|x|>", SH_TOKEN_USER_DEFINED, 0);
        for (const char *const *s =
                 (const char *const[]){"h", "hh", "hhhh", "he", "l", "hel", NULL};
             *s; s++)
            tiny_add(&t, *s, SH_TOKEN_NORMAL, (float)strlen(*s));
        tiny_merge(&t, "h h");
        tiny_merge(&t, "hh hh");
        tiny_merge(&t, "h e");
        tiny_merge(&t, "he l");
        v = tiny_create(&t);
        for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
            struct sh_ids ids = SH_IDS_INIT;
            const size_t unit = strlen(units[u]), n = BYTES / unit * unit;
            for (size_t i = 0; i < n; i += unit)
                memcpy(text + i, units[u], unit);
            const int64_t start = sh_now_ns(&sh_clock_system);
            assert_int_equal(sh_tokenize(v, (struct sh_str){text, n}, false, true, &ids, NULL), 0);
            const int64_t ns = sh_now_ns(&sh_clock_system) - start;
            // About a second in the slowest build; quadratic would be hours.
            if (ns > 20 * SH_SECOND)
                fail_msg("%s, '%s' repeated: %.1f s", models[m], units[u], (double)ns / 1e9);
            assert_true(ids.len >= n / 4);
            sh_ids_release(&ids);
        }
        sh_vocab_destroy(v);
    }
    sh_free(text);
}

/* ---- threads ------------------------------------------------------------------------------- */

struct job {
    const struct sh_vocab *v;
    struct sh_thread thread;
    bool equal;
};

static void *work(void *arg)
{
    struct job *job = arg;
    uint64_t seed = 20;

    job->equal = true;
    for (int round = 0; round < 40; round++) {
        struct sh_ids one = SH_IDS_INIT, two = SH_IDS_INIT;
        char text[2000];
        const struct sh_str s = {text, random_text(&seed, text, sizeof text, false)};
        job->equal = job->equal && !sh_tokenize(job->v, s, true, true, &one, NULL) &&
                     !sh_tokenize(job->v, s, true, true, &two, NULL) && one.len == two.len &&
                     (one.len == 0 || memcmp(one.ptr, two.ptr, one.len * sizeof *one.ptr) == 0);
        sh_ids_release(&one);
        sh_ids_release(&two);
    }
    return NULL;
}

static void tokenize__threads_share_a_vocabulary(void **state)
{
    struct sh_vocab *v = bpe();
    struct job jobs[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        jobs[i] = (struct job){.v = v, .thread = SH_THREAD_INIT};
        assert_int_equal(sh_thread_start(&jobs[i].thread, "test", work, &jobs[i], NULL), SHOAL_OK);
    }
    for (int i = 0; i < 4; i++) {
        sh_thread_join(&jobs[i].thread);
        assert_true(jobs[i].equal);
    }
    sh_vocab_destroy(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokenize__special_tokens_need_permission),
        cmocka_unit_test(tokenize__adds_what_the_vocabulary_says),
        cmocka_unit_test(tokenize__appends_and_restores),
        cmocka_unit_test(tokenize__spaces_swallowed_by_special_tokens),
        cmocka_unit_test(tokenize__spm_prefixes_every_fragment),
        cmocka_unit_test(tokenize__raw_bpe),
        cmocka_unit_test(tokenize__whole_words_are_never_special),
        cmocka_unit_test(tokenize__special_tokens_do_not_cut_characters),
        cmocka_unit_test(tokenize__missing_bytes_are_dropped),
        cmocka_unit_test(tokenize__too_long_is_refused),
        cmocka_unit_test(tokenize__valid_text_comes_back),
        cmocka_unit_test(tokenize__the_cache_changes_nothing),
        cmocka_unit_test(tokenize__a_million_of_one_kind),
        cmocka_unit_test(tokenize__threads_share_a_vocabulary),
    };
    return cmocka_run_group_tests_name("tokenize", tests, NULL, NULL);
}

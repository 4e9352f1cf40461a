/* Vocabularies: roles, ends of generation, types, pieces, hostile data. */
#include "text/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <math.h>
#include <cmocka.h>

#include "base/mem.h"
#include "text/tiny_test.h"

static struct tiny t; // large

static int32_t find(const struct sh_vocab *v, const char *text)
{
    return sh_vocab_find(v, sh_str_from(text));
}

static void expect_piece(const struct sh_vocab *v, int32_t id, bool special, struct sh_str want)
{
    const struct sh_str got = sh_token_piece(v, id, special);
    if (!sh_str_equal(got, want))
        fail_msg("piece of %d is '%.*s', expected '%.*s'", id, (int)got.len, got.ptr, (int)want.len,
                 want.ptr);
}

static enum shoal_status refuse(const char *part_of_message)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_vocab *v = NULL;
    const enum shoal_status st = sh_vocab_create(&v, &t.desc, &err);

    assert_null(v);
    assert_int_equal(err.code, st);
    if (!strstr(err.message, part_of_message))
        fail_msg("'%s' does not say '%s'", err.message, part_of_message);
    return st;
}

static void vocab__byte_level_pieces(void **state)
{
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "gpt2", "gpt-2");
    tiny_add_alphabet(&t);                                // 0 .. 255
    tiny_add(&t, "\xC4\xA0hello", SH_TOKEN_NORMAL, 0);    // 256: " hello"
    tiny_add(&t, "<|x|>", SH_TOKEN_CONTROL, 0);           // 257
    tiny_add(&t, "  ", SH_TOKEN_USER_DEFINED, 0);         // 258: plain text
    tiny_add(&t, "odd \xE6\x9D\xB1", SH_TOKEN_NORMAL, 0); // 259: not in the alphabet
    tiny_add(&t, "gone", SH_TOKEN_UNUSED, 0);             // 260
    tiny_add(&t, "", SH_TOKEN_NORMAL, 0);                 // 261
    tiny_add(&t, "what", 77, 0);                          // 262
    tiny_add(&t, "<0xE6>", SH_TOKEN_BYTE, 0);             // 263
    tiny_add(&t, "bad byte", SH_TOKEN_BYTE, 0);           // 264
    tiny_add(&t, "<unk>", SH_TOKEN_UNKNOWN, 0);           // 265
    v = tiny_create(&t);
    assert_int_equal(sh_vocab_kind(v), SH_VOCAB_BPE);
    assert_int_equal(sh_vocab_n_tokens(v), 266);
    for (int b = 0; b < 256; b++) {
        const char byte = (char)b;
        expect_piece(v, b, false, (struct sh_str){&byte, 1});
    }
    expect_piece(v, 256, false, SH_STR_LIT(" hello"));
    expect_piece(v, 257, false, SH_STR_EMPTY);
    expect_piece(v, 257, true, SH_STR_LIT("<|x|>"));
    expect_piece(v, 258, false, SH_STR_LIT("  "));
    expect_piece(v, 259, false, SH_STR_LIT("odd \xE6\x9D\xB1"));
    expect_piece(v, 260, true, SH_STR_EMPTY);
    expect_piece(v, 261, false, SH_STR_LIT("[EMPTY_261]"));
    expect_piece(v, 262, true, SH_STR_EMPTY);
    assert_int_equal(sh_vocab_type(v, 262), SH_TOKEN_UNDEFINED);
    expect_piece(v, 263, false, SH_STR_LIT("\xE6"));
    expect_piece(v, 264, false,
                 SH_STR_LIT("bad"
                            " byte"));
    expect_piece(v, 265, false, SH_STR_EMPTY);
    expect_piece(v, 265, true, SH_STR_LIT("<unk>"));
    // No id at all.
    expect_piece(v, -1, true, SH_STR_EMPTY);
    expect_piece(v, 266, true, SH_STR_EMPTY);
    expect_piece(v, INT32_MIN, true, SH_STR_EMPTY);
    assert_int_equal(sh_vocab_type(v, 266), SH_TOKEN_UNDEFINED);
    assert_false(sh_vocab_is_eog(v, -1));
    assert_int_equal(sh_vocab_text(v, 266).len, 0);
    assert_int_equal(find(v, "\xC4\xA0hello"), 256);
    assert_true(sh_str_is(sh_vocab_text(v, 256), "\xC4\xA0hello"));
    assert_int_equal(find(v, "[EMPTY_261]"), 261);
    assert_int_equal(find(v, "no such token"), -1);
    assert_int_equal(sh_vocab_newline(v), '\n');
    sh_vocab_destroy(v);
}

static void vocab__spm_pieces_and_defaults(void **state)
{
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "llama", "");
    tiny_add(&t, "<unk>", SH_TOKEN_UNKNOWN, 0);
    tiny_add(&t, "<s>", SH_TOKEN_CONTROL, 0);
    tiny_add(&t, "</s>", SH_TOKEN_CONTROL, 0);
    tiny_add_byte_tokens(&t); // 3 .. 258
    tiny_add(&t, "\xE2\x96\x81hi\xE2\x96\x81", SH_TOKEN_NORMAL, -1);
    tiny_add(&t, "\xE2\x96\x81user", SH_TOKEN_USER_DEFINED, -1);
    v = tiny_create(&t);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_UNK), 0);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_BOS), 1);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_EOS), 2);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_EOT), -1);
    assert_true(sh_vocab_adds_bos(v));
    assert_false(sh_vocab_adds_eos(v));
    assert_true(sh_vocab_adds_space(v));
    assert_false(sh_vocab_cleans_spaces(v));
    assert_int_equal(sh_vocab_newline(v), 3 + '\n');
    expect_piece(v, 3 + 0xC3, false, SH_STR_LIT("\xC3"));
    expect_piece(v, 259, false, SH_STR_LIT(" hi "));
    expect_piece(v, 260, false, SH_STR_LIT("\xE2\x96\x81user"));
    assert_true(sh_vocab_is_eog(v, 2));
    assert_true(sh_vocab_is_control(v, 1));
    sh_vocab_destroy(v);
}

static void vocab__roles_by_key_text_and_default(void **state)
{
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "gpt2", "gpt-2");
    tiny_add_alphabet(&t);
    v = tiny_create(&t);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_BOS), 11); // the defaults of this kind
    assert_int_equal(sh_vocab_role(v, SH_ROLE_EOS), 11);
    assert_false(sh_vocab_adds_bos(v));
    assert_true(sh_vocab_cleans_spaces(v));
    sh_vocab_destroy(v);

    tiny_add(&t, "<|im_end|>", SH_TOKEN_NORMAL, 0);   // 256
    tiny_add(&t, "<|eot_id|>", SH_TOKEN_NORMAL, 0);   // 257: before 256 in the list of texts
    tiny_add(&t, "<fim_prefix>", SH_TOKEN_NORMAL, 0); // 258
    tiny_add(&t, "<|eom_id|>", SH_TOKEN_CONTROL, 0);  // 259
    tiny_add(&t, "<|file_sep|>", SH_TOKEN_NORMAL, 0); // 260
    t.desc.roles[SH_ROLE_EOS] = 5;
    t.desc.roles[SH_ROLE_BOS] = 4096; // outside: ignored, so the default stays
    t.desc.roles[SH_ROLE_PAD] = INT64_MAX;
    t.desc.add_bos = 1;
    t.desc.add_eos = 1;
    v = tiny_create(&t);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_EOS), 5);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_BOS), 11);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_PAD), -1);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_EOT), 257);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_EOM), 259);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_FIM_PRE), 258);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_FIM_SUF), -1);
    assert_true(sh_vocab_is_control(v, 257)); // found by text: control
    assert_true(sh_vocab_is_control(v, 258));
    assert_true(sh_vocab_adds_bos(v) && sh_vocab_adds_eos(v));
    for (int32_t i = 0; i < 261; i++)
        if (sh_vocab_is_eog(v, i) != (i == 5 || i == 256 || i == 257 || i == 259 || i == 260))
            fail_msg("token %d: end of generation is %d", i, sh_vocab_is_eog(v, i));
    sh_vocab_destroy(v);

    t.desc.roles[SH_ROLE_EOT] = 256; // named: not searched, still an end
    v = tiny_create(&t);
    assert_int_equal(sh_vocab_role(v, SH_ROLE_EOT), 256);
    assert_true(sh_vocab_is_eog(v, 257));
    sh_vocab_destroy(v);
}

static void vocab__names_of_pretokenisers_carry_flags(void **state)
{
    static const struct {
        const char *pre;
        bool bos, clean;
        int32_t bos_id;
    } cases[] = {
        {"llama-bpe", true, true, 11}, {"tekken", true, false, 11},
        {"gpt-2", false, true, 11},    {"smollm", false, false, 11},
        {"glm4", false, true, -1},     {"chatglm-bpe", false, true, -1},
        {"dbrx", false, true, 11},     {"chameleon", true, false, 11},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sh_vocab *v;
        tiny_init(&t, "gpt2", cases[i].pre);
        tiny_add_alphabet(&t);
        v = tiny_create(&t);
        if (sh_vocab_adds_bos(v) != cases[i].bos || sh_vocab_cleans_spaces(v) != cases[i].clean ||
            sh_vocab_role(v, SH_ROLE_BOS) != cases[i].bos_id)
            fail_msg("%s: adds BOS %d, cleans %d, BOS %d", cases[i].pre, sh_vocab_adds_bos(v),
                     sh_vocab_cleans_spaces(v), sh_vocab_role(v, SH_ROLE_BOS));
        sh_vocab_destroy(v);
    }
    tiny_init(&t, "gpt2", "llama-bpe");
    tiny_add_alphabet(&t);
    t.desc.add_bos = 0; // the file's word counts
    struct sh_vocab *v = tiny_create(&t);
    assert_false(sh_vocab_adds_bos(v));
    sh_vocab_destroy(v);
}

static void vocab__channel_formats_end_with_return(void **state)
{
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "gpt2", "gpt-4o");
    tiny_add_alphabet(&t);
    tiny_add(&t, "<|end|>", SH_TOKEN_CONTROL, 0);     // 256
    tiny_add(&t, "<|call|>", SH_TOKEN_CONTROL, 0);    // 257
    tiny_add(&t, "<|channel|>", SH_TOKEN_CONTROL, 0); // 258
    v = tiny_create(&t);
    assert_true(sh_vocab_is_eog(v, 256)); // without <|return|> it ends
    assert_int_equal(sh_vocab_type(v, 258), SH_TOKEN_USER_DEFINED);
    sh_vocab_destroy(v);
    tiny_add(&t, "<|return|>", SH_TOKEN_CONTROL, 0); // 259
    v = tiny_create(&t);
    assert_false(sh_vocab_is_eog(v, 256));
    assert_int_equal(sh_vocab_type(v, 256), SH_TOKEN_USER_DEFINED);
    assert_true(sh_vocab_is_eog(v, 257) && sh_vocab_is_eog(v, 259));
    sh_vocab_destroy(v);

    tiny_init(&t, "gpt2", "gpt-2");
    tiny_add_alphabet(&t);
    tiny_add(&t, "</s>", SH_TOKEN_CONTROL, 0);
    tiny_add(&t, "<|tool_response>", SH_TOKEN_CONTROL, 0);
    v = tiny_create(&t);
    assert_false(sh_vocab_is_eog(v, 256));
    assert_int_equal(sh_vocab_type(v, 256), SH_TOKEN_NORMAL);
    assert_true(sh_vocab_is_eog(v, 257));
    sh_vocab_destroy(v);
}

static void vocab__refusals_name_the_fault(void **state)
{
    (void)state;
    tiny_init(&t, "bert", "");
    tiny_add_alphabet(&t);
    assert_int_equal(refuse("'bert'"), SHOAL_ERR_UNSUPPORTED);
    t.desc.model = SH_STR_EMPTY;
    assert_int_equal(refuse("''"), SHOAL_ERR_UNSUPPORTED);
    t.desc.model = SH_STR_LIT("gpt2");
    t.desc.pre = SH_STR_LIT("klingon");
    assert_int_equal(refuse("'klingon'"), SHOAL_ERR_UNSUPPORTED);
    t.desc.pre = SH_STR_LIT("gpt-2");
    tiny_merge(&t, "a b");
    tiny_merge(&t, "ab");
    assert_int_equal(refuse("merge 1 'ab'"), SHOAL_ERR_FORMAT);
    t.merges[1] = SH_STR_LIT("ab ");
    assert_int_equal(refuse("merge 1"), SHOAL_ERR_FORMAT);
    t.merges[1] = (struct sh_str){NULL, 0};
    assert_int_equal(refuse("merge 1 ''"), SHOAL_ERR_FORMAT);
    t.desc.n_merges = 0;
    t.desc.n_tokens = 0;
    assert_int_equal(refuse("no tokens"), SHOAL_ERR_FORMAT);
    t.desc.n_tokens = SIZE_MAX / 2;
    assert_int_equal(refuse("at most"), SHOAL_ERR_LIMIT);
    t.desc.n_tokens = 256;
    t.desc.n_merges = SIZE_MAX / 2;
    assert_int_equal(refuse("at most"), SHOAL_ERR_LIMIT);
}

static void vocab__oddities_are_tolerated(void **state)
{
    struct sh_vocab *v;

    (void)state;
    // Equal texts: the last is found.  Scores that are no numbers come last.
    tiny_init(&t, "llama", "");
    tiny_add(&t, "<unk>", SH_TOKEN_UNKNOWN, NAN);
    tiny_add(&t, "a", SH_TOKEN_NORMAL, INFINITY);
    tiny_add(&t, "a", SH_TOKEN_NORMAL, -INFINITY);
    tiny_add(&t, "b", SH_TOKEN_NORMAL, NAN);
    tiny_add(&t, "ab", SH_TOKEN_NORMAL, NAN);
    tiny_add(&t, "bb", SH_TOKEN_NORMAL, -5);
    t.desc.add_space_prefix = 0;
    t.desc.add_bos = 0;
    v = tiny_create(&t);
    assert_int_equal(find(v, "a"), 2);
    TINY_EXPECT(v, "abba", false, false, 2, 5, 2);
    sh_vocab_destroy(v);
    // No types, no scores, no merges; merges of strings that are no tokens.
    tiny_init(&t, "gpt2", "gpt-2");
    tiny_add_alphabet(&t);
    t.desc.types = NULL;
    t.desc.scores = NULL;
    t.desc.merges = NULL;
    v = tiny_create(&t);
    TINY_EXPECT(v, "ab", false, false, 'a', 'b');
    sh_vocab_destroy(v);
    t.desc.merges = t.merges;
    tiny_add(&t, "abcd", SH_TOKEN_NORMAL, 0);
    tiny_merge(&t, "a b");            // "ab" is no token
    tiny_merge(&t, "c d");            // nor is "cd"
    tiny_merge(&t, "ab cd");          // but this is
    tiny_merge(&t, "c d");            // again: the first counts
    tiny_merge(&t, "\xE6\x9D\xB1 x"); // outside the alphabet
    v = tiny_create(&t);
    TINY_EXPECT(v, "abcdabc", false, false, 256, 'a', 'b', 'c');
    sh_vocab_destroy(v);
}

static void vocab__without_text(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_ids ids = SH_IDS_INIT;
    struct sh_vocab *v;

    (void)state;
    tiny_init(&t, "none", "");
    t.desc.n_tokens = 100;
    t.desc.tokens = NULL;
    t.desc.roles[SH_ROLE_EOS] = 7;
    v = tiny_create(&t);
    assert_int_equal(sh_vocab_n_tokens(v), 100);
    assert_true(sh_vocab_is_eog(v, 7));
    assert_int_equal(sh_vocab_newline(v), -1);
    expect_piece(v, 7, true, SH_STR_EMPTY);
    assert_int_equal(sh_tokenize(v, SH_STR_LIT("x"), true, true, &ids, &err),
                     SHOAL_ERR_UNSUPPORTED);
    sh_vocab_destroy(v);
    sh_vocab_destroy(NULL);
}

static void vocab__lack_of_memory_is_a_status(void **state)
{
    const char *const models[] = {"gpt2", "llama", "gemma4"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const size_t before = sh_mem_live_bytes();
        int n_failures = 0;
        tiny_init(&t, models[i], "deepseek-v3");
        if (i == 0) tiny_add_alphabet(&t);
        if (i > 0) tiny_add_byte_tokens(&t);
        tiny_add(&t, "<|x|>", SH_TOKEN_CONTROL, 0);
        tiny_add(&t, "", SH_TOKEN_NORMAL, 0);
        tiny_merge(&t, "a b");
        tiny_merge(&t, "ab ab");
        for (int64_t k = 0; k < 1000; k++) {
            struct shoal_error err = SHOAL_ERROR_INIT;
            struct sh_vocab *v = NULL;
            sh_mem_fail_after(k);
            const enum shoal_status st = sh_vocab_create(&v, &t.desc, &err);
            sh_mem_fail_after(-1);
            sh_vocab_destroy(v);
            assert_int_equal(sh_mem_live_bytes(), before);
            // Without memory for machine code a pattern is interpreted, so a create may succeed.
            if (st) assert_int_equal(st, SHOAL_ERR_NOMEM);
            if (st) assert_non_null(strstr(err.message, "no memory"));
            n_failures += st != SHOAL_OK;
        }
        assert_in_range(n_failures, 5, 900);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocab__byte_level_pieces),
        cmocka_unit_test(vocab__spm_pieces_and_defaults),
        cmocka_unit_test(vocab__roles_by_key_text_and_default),
        cmocka_unit_test(vocab__names_of_pretokenisers_carry_flags),
        cmocka_unit_test(vocab__channel_formats_end_with_return),
        cmocka_unit_test(vocab__refusals_name_the_fault),
        cmocka_unit_test(vocab__oddities_are_tolerated),
        cmocka_unit_test(vocab__without_text),
        cmocka_unit_test(vocab__lack_of_memory_is_a_status),
    };
    return cmocka_run_group_tests_name("vocab", tests, NULL, NULL);
}

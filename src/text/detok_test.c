/* Streaming detokeniser: whole characters only, broken bytes, leading space, control tokens. */
#include "text/detok.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/mem.h"
#include "text/tiny_test.h"

static struct tiny t;

/* SPM: 0 <unk>, 1 <s>, 2 </s>, 3+b bytes, 259 "▁hi", 260 "hi". */
static struct sh_vocab *spm(void)
{
    tiny_init(&t, "llama", "");
    tiny_add(&t, "<unk>", SH_TOKEN_UNKNOWN, 0);
    tiny_add(&t, "<s>", SH_TOKEN_CONTROL, 0);
    tiny_add(&t, "</s>", SH_TOKEN_CONTROL, 0);
    tiny_add_byte_tokens(&t);
    tiny_add(&t, "\xE2\x96\x81hi", SH_TOKEN_NORMAL, -1);
    tiny_add(&t, "hi", SH_TOKEN_NORMAL, -2);
    return tiny_create(&t);
}

#define FEED(v, options, want, ...)                                                                \
    do {                                                                                           \
        const int32_t ids_[] = {__VA_ARGS__};                                                      \
        feed(v, options, want, ids_, sizeof ids_ / sizeof ids_[0]);                                \
    } while (0)

static void feed(const struct sh_vocab *v, const struct sh_detok_options *options, const char *want,
                 const int32_t *ids, size_t n)
{
    struct sh_buf out = SH_BUF_INIT;
    struct sh_detok d;

    sh_detok_init(&d, v, options);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(sh_detok_feed(&d, ids[i], &out, NULL), SHOAL_OK);
        assert_int_equal(sh_utf8_valid_len(out.ptr, out.len), out.len); // at every moment
    }
    assert_int_equal(sh_detok_finish(&d, &out, NULL), SHOAL_OK);
    if (!sh_str_equal((struct sh_str){out.ptr, out.len}, sh_str_from(want)))
        fail_msg("got '%.*s', expected '%s'", (int)out.len, out.ptr, want);
    sh_buf_release(&out);
}

static void detok__first_space_is_taken_once(void **state)
{
    const struct sh_detok_options more = {.continuation = true};
    struct sh_vocab *v = spm();

    (void)state;
    FEED(v, NULL, "hi hi", 259, 259);
    FEED(v, NULL, "hi hi", 260, 259);
    FEED(v, NULL, " hi", 1, 259); // a BOS stood before it
    FEED(v, &more, " hi hi", 259, 259);
    sh_vocab_destroy(v);
    t.desc.add_space_prefix = 0;
    v = tiny_create(&t);
    FEED(v, NULL, " hi", 259);
    sh_vocab_destroy(v);
}

static void detok__control_tokens_show_when_asked(void **state)
{
    const struct sh_detok_options special = {.special = true};
    struct sh_vocab *v = spm();

    (void)state;
    FEED(v, NULL, "hi", 1, 260, 2, 0);
    FEED(v, &special, "<s>hi</s><unk>", 1, 260, 2, 0);
    sh_vocab_destroy(v);
}

static void detok__characters_arrive_whole(void **state)
{
    const struct sh_detok_options more = {.continuation = true};
    struct sh_vocab *v = spm();
    struct sh_buf out = SH_BUF_INIT;
    struct sh_detok d;

#define B(x) (3 + (x))
    (void)state;
    sh_detok_init(&d, v, NULL);
    assert_int_equal(sh_detok_feed(&d, B(0xF0), &out, NULL), SHOAL_OK);
    assert_int_equal(sh_detok_feed(&d, B(0x9F), &out, NULL), SHOAL_OK);
    assert_int_equal(sh_detok_feed(&d, B(0x99), &out, NULL), SHOAL_OK);
    assert_int_equal(out.len, 0);
    assert_int_equal(sh_detok_feed(&d, B(0x82), &out, NULL), SHOAL_OK);
    assert_int_equal(out.len, 4);
    sh_buf_release(&out);

    FEED(v, &more, "\xEF\xBF\xBD", B(0xF0), B(0x9F), B(0x99));         // ends too early
    FEED(v, &more, "\xEF\xBF\xBD hi", B(0xF0), B(0x9F), 259);          // broken off by a space
    FEED(v, &more, "\xEF\xBF\xBD\xC3\xA9", B(0xE2), B(0xC3), B(0xA9)); // and by another lead
    FEED(v, &more, "\xEF\xBF\xBD\xEF\xBF\xBD", B(0x80), B(0xFF));
    FEED(v, &more, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", B(0xED), B(0xA0), B(0x80));
#undef B
    sh_vocab_destroy(v);
}

static void detok__strange_ids_and_no_memory(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_vocab *v = spm();
    struct sh_buf out = SH_BUF_INIT;
    struct sh_detok d;

    (void)state;
    sh_detok_init(&d, v, NULL);
    assert_int_equal(sh_detok_feed(&d, -1, &out, &err), SHOAL_ERR_ARG);
    assert_non_null(strstr(err.message, "-1"));
    assert_int_equal(sh_detok_feed(&d, 261, &out, &err), SHOAL_ERR_ARG);
    sh_mem_fail_after(0);
    assert_int_equal(sh_detok_feed(&d, 260, &out, &err), SHOAL_ERR_NOMEM);
    sh_mem_fail_after(-1);
    sh_buf_release(&out);
    sh_vocab_destroy(v);
}

/* Any bytes in any portions come out as the same text as all of them at once. */
static void detok__random_bytes_do_not_depend_on_portions(void **state)
{
    struct sh_vocab *v = spm();
    uint64_t seed = 5;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct sh_buf out = SH_BUF_INIT, want = SH_BUF_INIT;
        struct sh_detok d;
        char bytes[40];
        const size_t n = tiny_random(&seed, sizeof bytes);
        sh_detok_init(&d, v, &(struct sh_detok_options){.continuation = true});
        for (size_t i = 0; i < n; i++) {
            static const uint8_t leads[] = {'a', 0x80, 0x9F, 0xBF, 0xC3, 0xE2, 0xED, 0xF0, 0xF4};
            const uint8_t b = tiny_random(&seed, 4) ? leads[tiny_random(&seed, sizeof leads)]
                                                    : (uint8_t)tiny_random(&seed, 256);
            bytes[i] = (char)b;
            assert_int_equal(sh_detok_feed(&d, 3 + b, &out, NULL), SHOAL_OK);
            assert_int_equal(sh_utf8_valid_len(out.ptr, out.len), out.len);
        }
        assert_int_equal(sh_detok_finish(&d, &out, NULL), SHOAL_OK);
        for (size_t i = 0; i < n;) {
            const struct sh_utf8_unit u = sh_utf8_next(bytes + i, n - i);
            char cp[4];
            assert_int_equal(sh_buf_append(&want, cp, sh_utf8_encode(cp, u.cp)), SHOAL_OK);
            i += u.n_bytes;
        }
        assert_int_equal(out.len, want.len);
        if (want.len) assert_memory_equal(out.ptr, want.ptr, want.len);
        sh_buf_release(&out);
        sh_buf_release(&want);
    }
    sh_vocab_destroy(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detok__first_space_is_taken_once),
        cmocka_unit_test(detok__control_tokens_show_when_asked),
        cmocka_unit_test(detok__characters_arrive_whole),
        cmocka_unit_test(detok__strange_ids_and_no_memory),
        cmocka_unit_test(detok__random_bytes_do_not_depend_on_portions),
    };
    return cmocka_run_group_tests_name("detok", tests, NULL, NULL);
}

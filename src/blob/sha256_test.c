/* SHA-256 against the examples of FIPS 180-4, whole and in pieces, and its text. */
#include "blob/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static const struct {
    const char *text, *hash;
} KNOWN[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void sha256__known_answers(void **state)
{
    struct sh_sha256_chain c = SH_SHA256_CHAIN_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0]; i++) {
        const size_t n = strlen(KNOWN[i].text);
        struct sh_sha256 h, again;
        char text[SH_SHA256_TEXT_BYTES];
        assert_int_equal(sh_sha256_of(&h, KNOWN[i].text, n, NULL), SHOAL_OK);
        sh_sha256_text(&h, text);
        assert_string_equal(text, KNOWN[i].hash);
        assert_int_equal(sh_sha256_begin(&c, NULL), SHOAL_OK);
        for (size_t at = 0; at < n; at++)
            assert_int_equal(sh_sha256_add(&c, KNOWN[i].text + at, 1, NULL), SHOAL_OK);
        assert_int_equal(sh_sha256_end(&c, &again, NULL), SHOAL_OK);
        assert_true(sh_sha256_equal(&h, &again));
    }
    sh_sha256_release(&c);
    sh_sha256_release(&c);
}

static void sha256__text_is_exact(void **state)
{
    char text[SH_SHA256_TEXT_BYTES + 1];
    struct sh_sha256 h, again;

    (void)state;
    assert_int_equal(sh_sha256_of(&h, "abc", 3, NULL), SHOAL_OK);
    sh_sha256_text(&h, text);
    assert_true(sh_sha256_parse(&again, text));
    assert_true(sh_sha256_equal(&h, &again));
    text[0] = 'B';
    assert_true(sh_sha256_parse(&again, text));
    assert_true(sh_sha256_equal(&h, &again));
    text[63] = 'g';
    assert_false(sh_sha256_parse(&again, text));
    text[63] = '\0';
    assert_false(sh_sha256_parse(&again, text));
    text[63] = '0';
    text[64] = '0';
    text[65] = '\0';
    assert_false(sh_sha256_parse(&again, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256__known_answers),
        cmocka_unit_test(sha256__text_is_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

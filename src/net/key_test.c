/* Keys: derivation as the RFC has it, and that keys are random and can be wiped. */
#include "net/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void key__hkdf_equals_the_rfc(void **state)
{
    // RFC 5869 with this key as input, by another implementation.
    static const char *const want =
        "c335bcf62fed812d3bd8ff118f49bfa3322da0eccf66df752c6b0a14d454f466";
    struct sh_key key, out;
    char hex[2 * SH_KEY_BYTES + 1], kid[SH_KID_TEXT], again[SH_KID_TEXT], text[200];
    uint32_t sum;

    (void)state;
    for (int i = 0; i < SH_KEY_BYTES; i++)
        key.bytes[i] = (uint8_t)i;
    assert_int_equal(sh_key_derive(&out, &key, "words", NULL), SHOAL_OK);
    for (int i = 0; i < SH_KEY_BYTES; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", out.bytes[i]);
    assert_string_equal(hex, want);
    assert_int_equal(sh_key_id(kid, &key, NULL), SHOAL_OK);
    assert_string_equal(kid, "7bdf26e324a3251d");
    assert_int_equal(sh_key_checksum(&sum, &key, 20, NULL), SHOAL_OK);
    assert_int_equal(sum, 0x630dc);

    memset(text, 'x', sizeof text);
    text[SH_KEY_INFO_MAX + 1] = '\0';
    assert_int_equal(sh_key_derive(&out, &key, text, NULL), SHOAL_ERR_LIMIT);
    text[SH_KEY_INFO_MAX] = '\0';
    assert_int_equal(sh_key_derive(&out, &key, text, NULL), SHOAL_OK);

    sh_key_identity(text, kid);
    assert_true(sh_key_identity_kid(again, text));
    assert_string_equal(again, kid);
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcdef|w2c"));
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcde|c2w"));
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcdef0|c2w"));
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcdef|c2w "));
    assert_false(sh_key_identity_kid(again, "v1|0123456789abcdef"));
    assert_false(sh_key_identity_kid(again, ""));
}

static void key__made_ones_differ_and_are_wiped(void **state)
{
    static const struct sh_key zero;
    struct sh_key a, b;

    (void)state;
    assert_int_equal(sh_key_make(&a, NULL), SHOAL_OK);
    assert_int_equal(sh_key_make(&b, NULL), SHOAL_OK);
    assert_false(sh_key_equal(&a, &b));
    assert_true(sh_key_equal(&a, &a));
    sh_key_wipe(&a);
    assert_true(sh_key_equal(&a, &zero));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key__hkdf_equals_the_rfc),
        cmocka_unit_test(key__made_ones_differ_and_are_wiped),
    };

    return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}

/* What a host knows of workers: given keys, kept keys, none. */
#include "host/known.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"

static char g_folder[] = "/tmp/shoal-known-XXXXXX";
static char g_path[64];

static int open_folder(void **state)
{
    (void)state;
    (void)snprintf(g_folder + strlen(g_folder) - 6, 7, "XXXXXX");
    if (!mkdtemp(g_folder)) return -1;
    (void)snprintf(g_path, sizeof g_path, "%s/cluster", g_folder);
    return 0;
}

static int close_folder(void **state)
{
    (void)state;
    (void)unlink(g_path);
    return rmdir(g_folder);
}

static struct sh_key some_key(uint8_t byte, char text[SH_KEY_TEXT])
{
    struct sh_key k;

    memset(k.bytes, byte, sizeof k.bytes);
    assert_int_equal(sh_key_format(text, &k, NULL), SHOAL_OK);
    return k;
}

static void known__a_given_key_is_kept_once_it_has_worked(void **state)
{
    char text[2][SH_KEY_TEXT];
    const struct sh_key first = some_key(1, text[0]), second = some_key(2, text[1]);
    struct sh_known k;
    struct stat sb;
    bool replaced;

    (void)state;
    assert_int_equal(sh_known_find(&k, g_path, "Box", text[0], NULL), SHOAL_OK);
    assert_string_equal(k.address, "box:50052");
    assert_true(k.has_key);
    assert_true(k.is_new);
    assert_true(sh_key_equal(&k.key, &first));
    assert_int_equal(stat(g_path, &sb), -1); // not before it has worked
    assert_int_equal(sh_known_keep(&k, g_path, &replaced, NULL), SHOAL_OK);
    assert_false(replaced);
    assert_int_equal(stat(g_path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);

    assert_int_equal(sh_known_find(&k, g_path, "box:50052", NULL, NULL), SHOAL_OK);
    assert_true(k.has_key);
    assert_false(k.is_new);
    assert_true(sh_key_equal(&k.key, &first));
    assert_int_equal(sh_known_find(&k, g_path, "box", text[0], NULL), SHOAL_OK);
    assert_false(k.is_new); // the same as is kept

    assert_int_equal(sh_known_find(&k, g_path, "box", text[1], NULL), SHOAL_OK);
    assert_true(k.is_new);
    assert_true(sh_key_equal(&k.key, &second));
    assert_int_equal(sh_known_keep(&k, g_path, &replaced, NULL), SHOAL_OK);
    assert_true(replaced);
    assert_int_equal(sh_known_find(&k, g_path, "box", NULL, NULL), SHOAL_OK);
    assert_true(sh_key_equal(&k.key, &second));
    sh_known_wipe(&k);
}

static void known__without_a_key_there_is_none(void **state)
{
    static const char *const texts[][2] = {{"127.0.0.1", "127.0.0.1:50052"},
                                           {":7", "localhost:7"},
                                           {"::1", "[::1]:50052"},
                                           {"[FE80::1]:9", "[fe80::1]:9"},
                                           {"unix:/run/S", "unix:/run/S"}};
    struct sh_known k;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(sh_known_find(&k, g_path, texts[i][0], NULL, NULL), SHOAL_OK);
        assert_string_equal(k.address, texts[i][1]);
        assert_false(k.has_key);
        assert_false(k.is_new);
    }
}

static void known__mistakes_are_sentences_without_the_key(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    char text[SH_KEY_TEXT];
    struct sh_known k;
    FILE *f;

    (void)state;
    (void)some_key(3, text);
    text[20] = text[20] == 'A' ? 'B' : 'A';
    assert_int_equal(sh_known_find(&k, g_path, "box", text, &err), SHOAL_ERR_ARG);
    assert_null(strstr(err.message, text));
    assert_int_equal(sh_known_find(&k, g_path, "box:x", NULL, &err), SHOAL_ERR_ARG);
    assert_non_null(strstr(err.message, "box:x"));
    f = fopen(g_path, "w");
    assert_non_null(f);
    assert_true(fputs("box:50052\n", f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(g_path, 0600), 0);
    assert_int_equal(sh_known_find(&k, g_path, "box", NULL, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, g_path));
    assert_false(k.has_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(known__a_given_key_is_kept_once_it_has_worked, open_folder,
                                        close_folder),
        cmocka_unit_test_setup_teardown(known__without_a_key_there_is_none, open_folder,
                                        close_folder),
        cmocka_unit_test_setup_teardown(known__mistakes_are_sentences_without_the_key, open_folder,
                                        close_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

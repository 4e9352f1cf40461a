/* Keys as text, the folder of a worker, the cluster file of a host. */
#include "rpc/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/thread.h"

static const char g_text[] = "SHOAL1-AAAQEAYEAUDAOCAJBIFQYDIOB4IBCEQTCQKRMFYYDENBWHA5DYPQ-MMG4";
static const char g_words[] = "pirate canoe parrot waffle bugle trumpet indigo bubble";

/* The key of that text: bytes 0 to 31. */
static struct sh_key counting_key(void)
{
    struct sh_key k;

    for (int i = 0; i < SH_KEY_BYTES; i++)
        k.bytes[i] = (uint8_t)i;
    return k;
}

/* ---- text -----------------------------------------------------------------------------------*/

static void key__text_and_words_are_those_written_down(void **state)
{
    const struct sh_key want = counting_key();
    char text[SH_KEY_TEXT], words[SH_KEY_WORDS_TEXT], small[SH_KEY_TEXT];
    struct sh_key got;

    (void)state;
    assert_int_equal(sh_key_format(text, &want, NULL), SHOAL_OK);
    assert_string_equal(text, g_text);
    assert_int_equal(sh_key_parse(&got, text, NULL), SHOAL_OK);
    assert_true(sh_key_equal(&got, &want));
    for (size_t i = 0; i < sizeof small; i++)
        small[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];
    assert_int_equal(sh_key_parse(&got, small, NULL), SHOAL_OK);
    assert_true(sh_key_equal(&got, &want));
    assert_int_equal(sh_key_fingerprint(words, &want, NULL), SHOAL_OK);
    assert_string_equal(words, g_words);
}

static void key__any_key_survives_being_text(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++) {
        char text[SH_KEY_TEXT], words[SH_KEY_WORDS_TEXT];
        struct sh_key k, got;
        assert_int_equal(sh_key_make(&k, NULL), SHOAL_OK);
        if (i < 2) memset(&k, i ? 0xff : 0, sizeof k);
        assert_int_equal(sh_key_format(text, &k, NULL), SHOAL_OK);
        assert_int_equal(strlen(text), SH_KEY_TEXT - 1);
        assert_int_equal(sh_key_parse(&got, text, NULL), SHOAL_OK);
        assert_true(sh_key_equal(&got, &k));
        assert_int_equal(sh_key_fingerprint(words, &k, NULL), SHOAL_OK);
        int spaces = 0;
        for (const char *c = words; *c; c++)
            spaces += *c == ' ';
        assert_int_equal(spaces, SH_KEY_WORDS - 1);
    }
}

static void key__every_wrong_character_of_a_text_is_found(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    char text[SH_KEY_TEXT];
    struct sh_key got;
    int n = 0;

    (void)state;
    memcpy(text, g_text, sizeof text);
    for (size_t i = 7; i < SH_KEY_TEXT - 1; i++) {
        for (const char *c = digits; g_text[i] != '-' && *c; c++) {
            struct shoal_error err = SHOAL_ERROR_INIT;
            if (*c == g_text[i]) continue;
            text[i] = *c;
            assert_int_equal(sh_key_parse(&got, text, &err), SHOAL_ERR_ARG);
            assert_non_null(strstr(err.message, "copied wrongly"));
            n++;
        }
        text[i] = g_text[i];
        if (i == 7 || g_text[i] == '-' || g_text[i - 1] == '-' || g_text[i] == g_text[i - 1])
            continue;
        text[i] = g_text[i - 1]; // and two that changed places
        text[i - 1] = g_text[i];
        assert_int_equal(sh_key_parse(&got, text, NULL), SHOAL_ERR_ARG);
        memcpy(text, g_text, sizeof text);
    }
    assert_int_equal(n, 56 * 31);
}

static void key__what_is_no_key_is_told_without_showing_it(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "no key"},
        {"hello", "no key"},
        {"SHOAL2-AAAA", "no key"},
        {"SHOAL1-", "copy it whole"},
        {"SHOAL1-SECRETSECRET", "copy it whole"},
        {"SHOAL1-SECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRET0000-AAAA", "character 56"},
        {"SHOAL1-SECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECR-AAA1", "character 64"},
        {"SHOAL1-SECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECR+AAAA", "character 60"},
        {"SHOAL1-SECRETSECRETSECRETSECRETSECRETSECRETSECRETSECRETSECR-AAAA", "checksum"},
    };
    static const struct sh_key zero;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_key got;
        assert_int_equal(sh_key_parse(&got, rows[i].text, &err), SHOAL_ERR_ARG);
        assert_non_null(strstr(err.message, rows[i].why));
        assert_null(strstr(err.message, "SECRET"));
        assert_true(sh_key_equal(&got, &zero));
    }
}

static void key__names_are_small_words(void **state)
{
    static const char *const good[] = {"a", "laptop", "9", "my.host_2-x",
                                       "abcdefghijklmnopqrstuvwxyz012345"};
    static const char *const bad[] = {"",
                                      ".",
                                      "..",
                                      ".x",
                                      "-x",
                                      "_x",
                                      "A",
                                      "a b",
                                      "a/b",
                                      "a\n",
                                      "abcdefghijklmnopqrstuvwxyz0123456",
                                      "caf\xc3\xa9"};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(sh_key_name_check(good[i], NULL), SHOAL_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(sh_key_name_check(bad[i], NULL), SHOAL_ERR_ARG);
}

/* ---- files ----------------------------------------------------------------------------------*/

struct place {
    char root[64], keys[128], cluster[128];
};

static int make_place(void **state)
{
    struct place *p = sh_calloc(1, sizeof *p);

    assert_non_null(p);
    (void)snprintf(p->root, sizeof p->root, "/tmp/shoal-key-XXXXXX");
    assert_non_null(mkdtemp(p->root));
    (void)snprintf(p->keys, sizeof p->keys, "%s/a/b/keys", p->root);
    (void)snprintf(p->cluster, sizeof p->cluster, "%s/c/cluster", p->root);
    *state = p;
    return 0;
}

/* Everything below, by a list of the names that tests use. */
static int remove_place(void **state)
{
    static const char *const below[] = {
        "a/b/keys/laptop",
        "a/b/keys/tower",
        "a/b/keys/phone",
        "a/b/keys/.draft-0",
        "a/b/keys/README",
        "a/b/keys/linked",
        "a/b/keys",
        "a/b/real",
        "a/b",
        "a",
        "c/cluster",
        "c/real",
        "c",
        "",
    };
    struct place *p = *state;
    char path[256];

    for (size_t i = 0; i < sizeof below / sizeof below[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", p->root, below[i]);
        (void)remove(path);
    }
    assert_int_equal(access(p->root, F_OK), -1); // nothing else was left behind
    sh_free(p);
    return 0;
}

static const char *in(const struct place *p, const char *name)
{
    static char path[4][256];
    static int next;
    char *out = path[next++ % 4];

    (void)snprintf(out, sizeof path[0], "%s/%s", p->root, name);
    return out;
}

static void put_file(const char *path, const char *text, size_t n, mode_t mode)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static unsigned mode_of(const char *path)
{
    struct stat s;

    assert_int_equal(lstat(path, &s), 0);
    return (unsigned)s.st_mode & 07777;
}

static void store__makes_shows_lists_and_revokes(void **state)
{
    struct place *p = *state;
    struct sh_key_list list = SH_KEY_LIST_INIT;
    struct sh_key_entry tower, laptop, got;
    struct shoal_error err = SHOAL_ERROR_INIT;
    const mode_t mask = umask(0); // modes do not come from it

    assert_int_equal(sh_key_store_load(p->keys, &list, NULL), SHOAL_OK);
    assert_int_equal(list.n, 0);
    assert_int_equal(sh_key_store_get(p->keys, "tower", &got, &err), SHOAL_ERR_NOT_FOUND);
    assert_int_equal(sh_key_store_revoke(p->keys, "tower", &err), SHOAL_ERR_NOT_FOUND);
    assert_int_equal(access(in(p, "a"), F_OK), -1); // asking makes nothing
    assert_int_equal(sh_key_store_make(p->keys, "tower", &tower, NULL), SHOAL_OK);
    umask(0777);
    assert_int_equal(sh_key_store_make(p->keys, "laptop", &laptop, NULL), SHOAL_OK);
    umask(mask);
    assert_int_equal(mode_of(p->keys), 0700);
    assert_int_equal(mode_of(in(p, "a/b/keys/tower")), 0600);
    assert_int_equal(mode_of(in(p, "a/b/keys/laptop")), 0600);
    assert_false(sh_key_equal(&tower.key, &laptop.key));

    assert_int_equal(sh_key_store_make(p->keys, "tower", &got, &err), SHOAL_ERR_STATE);
    assert_non_null(strstr(err.message, "shoal key revoke tower"));
    assert_int_equal(sh_key_store_get(p->keys, "tower", &got, NULL), SHOAL_OK);
    assert_true(sh_key_equal(&got.key, &tower.key));
    assert_string_equal(got.kid, tower.kid);
    assert_true(got.made_s > 0);

    put_file(in(p, "a/b/keys/.draft-0"), "x", 1, 0644); // of a crash
    put_file(in(p, "a/b/keys/README"), "x", 1, 0644);   // no name of a key
    assert_int_equal(sh_key_store_load(p->keys, &list, NULL), SHOAL_OK);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.entry[0].name, "laptop");
    assert_string_equal(list.entry[1].name, "tower");
    assert_ptr_equal(sh_key_list_find(&list, laptop.kid), &list.entry[0]);
    assert_null(sh_key_list_find(&list, "0000000000000000"));

    assert_int_equal(sh_key_store_revoke(p->keys, "tower", NULL), SHOAL_OK);
    assert_int_equal(sh_key_store_get(p->keys, "tower", &got, &err), SHOAL_ERR_NOT_FOUND);
    assert_int_equal(sh_key_store_make(p->keys, "../x", &got, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_key_store_get(p->keys, "../x", &got, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_key_store_revoke(p->keys, "../x", &err), SHOAL_ERR_ARG);
    sh_key_list_release(&list);
}

static void store__changes_are_seen_without_reading_all(void **state)
{
    struct place *p = *state;
    struct sh_key_list list = SH_KEY_LIST_INIT;
    struct sh_key_entry e;
    bool changed;

    assert_int_equal(sh_key_store_load(p->keys, &list, NULL), SHOAL_OK);
    assert_int_equal(sh_key_store_refresh(p->keys, &list, &changed, NULL), SHOAL_OK);
    assert_false(changed);
    assert_int_equal(sh_key_store_make(p->keys, "tower", &e, NULL), SHOAL_OK);
    assert_int_equal(sh_key_store_refresh(p->keys, &list, &changed, NULL), SHOAL_OK);
    assert_true(changed);
    assert_int_equal(list.n, 1);
    // A change in the same tick of the clock is not missed.
    assert_int_equal(sh_key_store_revoke(p->keys, "tower", NULL), SHOAL_OK);
    assert_int_equal(sh_key_store_refresh(p->keys, &list, &changed, NULL), SHOAL_OK);
    assert_true(changed);
    assert_int_equal(list.n, 0);
    // When the folder has been left alone for long, it is not read again.
    const struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, p->keys, old, 0), 0);
    assert_int_equal(sh_key_store_refresh(p->keys, &list, &changed, NULL), SHOAL_OK);
    assert_true(list.is_settled);
    assert_int_equal(sh_key_store_refresh(p->keys, &list, &changed, NULL), SHOAL_OK);
    assert_false(changed);
    // What cannot be read leaves the list as it was.
    assert_int_equal(sh_key_store_make(p->keys, "tower", &e, NULL), SHOAL_OK);
    assert_int_equal(sh_key_store_refresh(p->keys, &list, &changed, NULL), SHOAL_OK);
    assert_int_equal(chmod(p->keys, 0755), 0);
    assert_int_equal(sh_key_store_refresh(p->keys, &list, &changed, NULL), SHOAL_ERR_STATE);
    assert_int_equal(list.n, 1);
    sh_key_list_release(&list);
}

static void store__files_that_others_reach_are_refused(void **state)
{
    struct place *p = *state;
    struct sh_key_list list = SH_KEY_LIST_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_key_entry e;
    const char *path = in(p, "a/b/keys/tower");
    char text[300];

    assert_int_equal(sh_key_store_make(p->keys, "tower", &e, NULL), SHOAL_OK);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(sh_key_store_get(p->keys, "tower", &e, &err), SHOAL_ERR_STATE);
    (void)snprintf(text, sizeof text, "chmod 600 %s", path);
    assert_non_null(strstr(err.message, text));
    assert_int_equal(sh_key_store_load(p->keys, &list, &err), SHOAL_ERR_STATE);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(sh_key_store_load(p->keys, &list, &err), SHOAL_OK);

    assert_int_equal(chmod(p->keys, 0711), 0);
    assert_int_equal(sh_key_store_load(p->keys, &list, &err), SHOAL_ERR_STATE);
    (void)snprintf(text, sizeof text, "chmod 700 %s", p->keys);
    assert_non_null(strstr(err.message, text));
    assert_int_equal(sh_key_store_make(p->keys, "phone", &e, &err), SHOAL_ERR_STATE);
    assert_int_equal(sh_key_store_revoke(p->keys, "tower", &err), SHOAL_ERR_STATE);
    assert_int_equal(chmod(p->keys, 0700), 0);

    assert_int_equal(symlink("tower", in(p, "a/b/keys/linked")), 0);
    assert_int_equal(sh_key_store_get(p->keys, "linked", &e, &err), SHOAL_ERR_STATE);
    assert_non_null(strstr(err.message, "symbolic link"));
    assert_int_equal(sh_key_store_make(p->keys, "linked", &e, &err), SHOAL_ERR_STATE);
    assert_int_equal(sh_key_store_revoke(p->keys, "linked", &err), SHOAL_OK); // the link
    assert_int_equal(sh_key_store_get(p->keys, "tower", &e, &err), SHOAL_OK);

    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(p->keys, in(p, "a/b/real")), 0);
    assert_int_equal(symlink("real", p->keys), 0);
    assert_int_equal(sh_key_store_load(p->keys, &list, &err), SHOAL_ERR_STATE);
    assert_non_null(strstr(err.message, "symbolic link"));
    assert_int_equal(sh_key_store_make(p->keys, "tower", &e, &err), SHOAL_ERR_STATE);
    sh_key_list_release(&list);
}

static void store__damaged_files_are_named_and_can_be_revoked(void **state)
{
    static const char nul[] = "SHOAL1-\0SECRET";
    struct place *p = *state;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_key_list list = SH_KEY_LIST_INIT;
    struct sh_key_entry e;
    char long_text[600];
    const char *path = in(p, "a/b/keys/tower");

    assert_int_equal(sh_key_store_make(p->keys, "laptop", &e, NULL), SHOAL_OK);
    memset(long_text, 'A', sizeof long_text);
    const struct {
        const char *text;
        size_t n;
        enum shoal_status st;
    } rows[] = {
        {"", 0, SHOAL_ERR_FORMAT},           {"SECRET\n", 7, SHOAL_ERR_FORMAT},
        {nul, sizeof nul, SHOAL_ERR_FORMAT}, {long_text, sizeof long_text, SHOAL_ERR_LIMIT},
        {g_text, 60, SHOAL_ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put_file(path, rows[i].text, rows[i].n, 0600);
        assert_int_equal(sh_key_store_load(p->keys, &list, &err), rows[i].st);
        assert_non_null(strstr(err.message, path));
        assert_null(strstr(err.message, "SECRET"));
        assert_int_equal(sh_key_store_get(p->keys, "laptop", &e, &err), SHOAL_OK);
    }
    assert_int_equal(sh_key_store_revoke(p->keys, "tower", &err), SHOAL_OK);
    assert_int_equal(sh_key_store_load(p->keys, &list, &err), SHOAL_OK);
    assert_int_equal(list.n, 1);
    sh_key_list_release(&list);
}

/* ---- several at once ------------------------------------------------------------------------*/

#define WRITERS 6
#define EACH 5

struct writer {
    const struct place *place;
    int i;
    int n_made, n_taken, n_put;
};

static void *write_some(void *arg)
{
    struct writer *w = arg;
    struct sh_key_entry e;
    struct sh_key key = counting_key();

    const enum shoal_status st = sh_key_store_make(w->place->keys, "tower", &e, NULL);
    w->n_made = st == SHOAL_OK;
    w->n_taken = st == SHOAL_ERR_STATE;
    for (int n = 0; n < EACH; n++) {
        char address[40];
        bool replaced = true;
        (void)snprintf(address, sizeof address, "10.0.%d.%d:50052", w->i, n);
        key.bytes[0] = (uint8_t)w->i;
        if (!sh_cluster_put(w->place->cluster, address, &key, NULL, &replaced, NULL) && !replaced)
            w->n_put++;
    }
    return NULL;
}

static void files__two_writers_at_once_both_take_effect(void **state)
{
    struct place *p = *state;
    struct writer w[WRITERS];
    struct sh_thread thread[WRITERS];
    struct sh_cluster c = SH_CLUSTER_INIT;
    int made = 0, taken = 0;

    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.place = p, .i = i};
        thread[i] = (struct sh_thread)SH_THREAD_INIT;
        assert_int_equal(sh_thread_start(&thread[i], "writer", write_some, &w[i], NULL), SHOAL_OK);
    }
    for (int i = 0; i < WRITERS; i++) {
        sh_thread_join(&thread[i]);
        made += w[i].n_made;
        taken += w[i].n_taken;
        assert_int_equal(w[i].n_put, EACH);
    }
    assert_int_equal(made, 1);
    assert_int_equal(taken, WRITERS - 1);
    assert_int_equal(sh_cluster_load(p->cluster, &c, NULL), SHOAL_OK);
    assert_int_equal(c.n, WRITERS * EACH);
    sh_cluster_release(&c);
}

/* ---- cluster --------------------------------------------------------------------------------*/

static void cluster__puts_replaces_and_forgets(void **state)
{
    struct place *p = *state;
    struct sh_cluster c = SH_CLUSTER_INIT;
    struct sh_key a = counting_key(), b = counting_key();
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_cluster_entry *e;
    bool replaced;

    b.bytes[0] = 99;
    assert_int_equal(sh_cluster_load(p->cluster, &c, NULL), SHOAL_OK);
    assert_int_equal(c.n, 0);
    assert_int_equal(sh_cluster_forget(p->cluster, "x:1", &err), SHOAL_ERR_NOT_FOUND);
    assert_int_equal(sh_cluster_put(p->cluster, "Attic.Local:50052", &a, "attic", &replaced, NULL),
                     SHOAL_OK);
    assert_false(replaced);
    assert_int_equal(mode_of(p->cluster), 0600);
    assert_int_equal(sh_cluster_put(p->cluster, "[FE80::1]:7", &a, NULL, &replaced, NULL),
                     SHOAL_OK);
    assert_int_equal(sh_cluster_put(p->cluster, "attic.local:50052", &b, NULL, &replaced, NULL),
                     SHOAL_OK);
    assert_true(replaced);
    assert_int_equal(sh_cluster_load(p->cluster, &c, NULL), SHOAL_OK);
    assert_int_equal(c.n, 2);
    e = sh_cluster_find(&c, "attic.local:50052");
    assert_ptr_equal(e, &c.entry[0]);
    assert_true(sh_key_equal(&e->key, &b));
    assert_string_equal(e->name, "");
    assert_int_equal(strlen(e->kid), 16);
    assert_non_null(sh_cluster_find(&c, "[fe80::1]:7"));
    sh_cluster_release(&c);

    assert_int_equal(sh_cluster_forget(p->cluster, "[fe80::1]:7", NULL), SHOAL_OK);
    assert_int_equal(sh_cluster_load(p->cluster, &c, NULL), SHOAL_OK);
    assert_int_equal(c.n, 1);
    sh_cluster_release(&c);

    assert_int_equal(sh_cluster_put(p->cluster, "nowhere", &a, NULL, &replaced, &err),
                     SHOAL_ERR_ARG);
    assert_int_equal(sh_cluster_put(p->cluster, ":50052", &a, NULL, &replaced, &err),
                     SHOAL_ERR_ARG);
    assert_int_equal(sh_cluster_put(p->cluster, "x:0", &a, NULL, &replaced, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_cluster_put(p->cluster, "a b:5", &a, NULL, &replaced, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_cluster_put(p->cluster, "a\nb:5", &a, NULL, &replaced, &err),
                     SHOAL_ERR_ARG);
    assert_int_equal(sh_cluster_put(p->cluster, "x:5", &a, "No", &replaced, &err), SHOAL_ERR_ARG);
}

static void cluster__what_people_wrote_stays(void **state)
{
    struct place *p = *state;
    struct sh_key key = counting_key();
    struct sh_cluster c = SH_CLUSTER_INIT;
    char text[1000], got[1000];
    bool replaced;

    assert_int_equal(mkdir(in(p, "c"), 0755), 0);
    const int n =
        snprintf(text, sizeof text, "# mine\n\n  attic:1\t%s   big-one  # upstairs\r\ncellar:2 %s",
                 g_text, g_text);
    put_file(p->cluster, text, (size_t)n, 0600);
    assert_int_equal(sh_cluster_load(p->cluster, &c, NULL), SHOAL_OK);
    assert_int_equal(c.n, 2);
    assert_string_equal(c.entry[0].name, "big-one");
    sh_cluster_release(&c);
    assert_int_equal(sh_cluster_put(p->cluster, "barn:3", &key, "barn", &replaced, NULL), SHOAL_OK);
    assert_int_equal(sh_cluster_forget(p->cluster, "cellar:2", NULL), SHOAL_OK);
    FILE *f = fopen(p->cluster, "rb");
    assert_non_null(f);
    got[fread(got, 1, sizeof got - 1, f)] = '\0';
    (void)fclose(f);
    (void)snprintf(text, sizeof text,
                   "# mine\n\n  attic:1\t%s   big-one  # upstairs\r\nbarn:3 %s barn\n", g_text,
                   g_text);
    assert_string_equal(got, text);
}

static void cluster__bad_lines_are_named_and_not_rewritten(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"attic:1\n", "line 1: there is no key"},
        {"#\nattic:1 SECRET\n", "line 2: this is no key"},
        {"attic SHOAL1-SECRET\n", "line 1"},
        {"attic:1 KEY\nATTIC:1 KEY\n", "line 2: there is a line for attic:1"},
        {"attic:1 KEY a b\n", "more than a name"},
        {"attic:1 KEYKEY\n", "too long"},
        {"attic:1 KEY Name\n", "no name"},
    };
    struct place *p = *state;
    struct sh_cluster c = SH_CLUSTER_INIT;
    struct sh_key key = counting_key();

    assert_int_equal(mkdir(in(p, "c"), 0700), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        char text[400] = "";
        size_t n = 0;
        bool replaced;
        for (const char *at = rows[i].text; *at;) {
            const bool is_key = strncmp(at, "KEY", 3) == 0;
            n += (size_t)snprintf(text + n, sizeof text - n, is_key ? "%s" : "%.1s",
                                  is_key ? g_text : at);
            at += is_key ? 3 : 1;
        }
        put_file(p->cluster, text, n, 0600);
        assert_int_equal(sh_cluster_load(p->cluster, &c, &err), SHOAL_ERR_FORMAT);
        assert_non_null(strstr(err.message, p->cluster));
        assert_non_null(strstr(err.message, rows[i].why));
        assert_null(strstr(err.message, "SECRET"));
        assert_int_equal(sh_cluster_put(p->cluster, "barn:3", &key, NULL, &replaced, &err),
                         SHOAL_ERR_FORMAT);
    }
    put_file(p->cluster, "\0\0\0\n", 4, 0600);
    assert_int_equal(sh_cluster_load(p->cluster, &c, NULL), SHOAL_ERR_FORMAT);
}

static void cluster__a_file_that_others_reach_is_refused(void **state)
{
    struct place *p = *state;
    struct sh_cluster c = SH_CLUSTER_INIT;
    struct sh_key key = counting_key();
    struct shoal_error err = SHOAL_ERROR_INIT;
    char text[300];
    bool replaced;

    assert_int_equal(sh_cluster_put(p->cluster, "a:1", &key, NULL, &replaced, NULL), SHOAL_OK);
    assert_int_equal(chmod(p->cluster, 0604), 0);
    assert_int_equal(sh_cluster_load(p->cluster, &c, &err), SHOAL_ERR_STATE);
    (void)snprintf(text, sizeof text, "chmod 600 %s", p->cluster);
    assert_non_null(strstr(err.message, text));
    assert_int_equal(sh_cluster_put(p->cluster, "b:1", &key, NULL, &replaced, &err),
                     SHOAL_ERR_STATE);
    assert_int_equal(chmod(p->cluster, 0600), 0);
    assert_int_equal(chmod(in(p, "c"), 0755), 0); // may be looked at
    assert_int_equal(sh_cluster_load(p->cluster, &c, &err), SHOAL_OK);
    sh_cluster_release(&c);
    assert_int_equal(chmod(in(p, "c"), 0775), 0);
    assert_int_equal(sh_cluster_load(p->cluster, &c, &err), SHOAL_ERR_STATE);
    assert_non_null(strstr(err.message, "change"));
    assert_int_equal(chmod(in(p, "c"), 0700), 0);
    assert_int_equal(rename(p->cluster, in(p, "c/real")), 0);
    assert_int_equal(symlink("real", p->cluster), 0);
    assert_int_equal(sh_cluster_load(p->cluster, &c, &err), SHOAL_ERR_STATE);
    assert_int_equal(sh_cluster_put(p->cluster, "b:1", &key, NULL, &replaced, &err),
                     SHOAL_ERR_STATE);
}

static void files__each_failed_allocation_is_survived(void **state)
{
    struct place *p = *state;
    struct sh_key key = counting_key();
    bool pending = false;

    for (int n = 0; !pending; n++) {
        struct sh_key_list list = SH_KEY_LIST_INIT;
        struct sh_cluster c = SH_CLUSTER_INIT;
        struct sh_key_entry e;
        bool replaced;
        sh_mem_fail_after(n);
        const enum shoal_status made = sh_key_store_make(p->keys, "tower", &e, NULL);
        const enum shoal_status load = sh_key_store_load(p->keys, &list, NULL);
        const enum shoal_status put = sh_cluster_put(p->cluster, "a:1", &key, "x", &replaced, NULL);
        const enum shoal_status read = sh_cluster_load(p->cluster, &c, NULL);
        pending = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (!pending) {
            assert_true(made == SHOAL_ERR_NOMEM || load == SHOAL_ERR_NOMEM ||
                        put == SHOAL_ERR_NOMEM || read == SHOAL_ERR_NOMEM);
        } else {
            assert_int_equal(load, SHOAL_OK);
            assert_int_equal(list.n, 1);
            assert_int_equal(read, SHOAL_OK);
            assert_int_equal(c.n, 1);
        }
        sh_key_list_release(&list);
        sh_cluster_release(&c);
    }
}

static void places__follow_the_environment(void **state)
{
    struct sh_buf path = SH_BUF_INIT;

    (void)state;
    assert_int_equal(setenv("XDG_CONFIG_HOME", "/etc/x", 1), 0);
    assert_int_equal(sh_key_folder(&path, NULL), SHOAL_OK);
    assert_string_equal(path.ptr, "/etc/x/shoal/keys");
    assert_int_equal(setenv("XDG_CONFIG_HOME", "relative", 1), 0);
    assert_int_equal(setenv("HOME", "/home/me", 1), 0);
    assert_int_equal(sh_cluster_path(&path, NULL), SHOAL_OK);
    assert_string_equal(path.ptr, "/home/me/.config/shoal/cluster");
    assert_int_equal(unsetenv("HOME"), 0);
    assert_int_equal(sh_cluster_path(&path, NULL), SHOAL_ERR_NOT_FOUND);
    sh_buf_release(&path);
}

#define IN_PLACE(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key__text_and_words_are_those_written_down),
        cmocka_unit_test(key__any_key_survives_being_text),
        cmocka_unit_test(key__every_wrong_character_of_a_text_is_found),
        cmocka_unit_test(key__what_is_no_key_is_told_without_showing_it),
        cmocka_unit_test(key__names_are_small_words),
        IN_PLACE(store__makes_shows_lists_and_revokes),
        IN_PLACE(store__changes_are_seen_without_reading_all),
        IN_PLACE(store__files_that_others_reach_are_refused),
        IN_PLACE(store__damaged_files_are_named_and_can_be_revoked),
        IN_PLACE(files__two_writers_at_once_both_take_effect),
        IN_PLACE(cluster__puts_replaces_and_forgets),
        IN_PLACE(cluster__what_people_wrote_stays),
        IN_PLACE(cluster__bad_lines_are_named_and_not_rewritten),
        IN_PLACE(cluster__a_file_that_others_reach_is_refused),
        IN_PLACE(files__each_failed_allocation_is_survived),
        cmocka_unit_test(places__follow_the_environment),
    };

    return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}

/* The cache of tensors: entries come and go whole, whatever lies in the directory. */
#include "ggmlrpc/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fnv.h"
#include "base/log.h"
#include "base/thread.h"

enum { BYTES = 100000 };

struct bench {
    char root[64], dir[128];
    struct sh_cache *cache;
};

static int g_warnings;

static void count_warnings(void *user, const struct sh_log_record *r)
{
    (void)user;
    g_warnings += r->level <= SH_LOG_WARN;
}

static void bench_open(struct bench *b, const struct sh_cache_options *with)
{
    struct sh_cache_options opt = {.bytes_max = 1 << 30};
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (with) opt = *with;
    memset(b, 0, sizeof *b);
    (void)snprintf(b->root, sizeof b->root, "/tmp/shoal-cache-test-XXXXXX");
    assert_non_null(mkdtemp(b->root));
    (void)snprintf(b->dir, sizeof b->dir, "%s/one/two", b->root);
    opt.dir = b->dir;
    if (sh_cache_open(&b->cache, &opt, &err)) fail_msg("%s", err.message);
    g_warnings = 0;
    sh_log_set_sink(count_warnings, NULL, SH_LOG_WARN);
}

static int count_files(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;

    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

static void remove_all(const char *dir)
{
    DIR *d = opendir(dir);
    char path[512];

    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (unlink(path) != 0 && rmdir(path) != 0) remove_all(path);
    }
    (void)closedir(d);
    (void)rmdir(dir);
}

static void bench_close(struct bench *b)
{
    sh_log_set_sink(NULL, NULL, SH_LOG_ERROR);
    sh_cache_close(b->cache);
    remove_all(b->root);
    (void)rmdir(b->root);
}

/* Bytes that depend on `which`; their hash. */
static uint64_t make(uint8_t bytes[BYTES], uint64_t which)
{
    for (size_t i = 0; i < BYTES; i++) {
        which = which * UINT64_C(6364136223846793005) + 1;
        bytes[i] = (uint8_t)(which >> 40);
    }
    return sh_fnv(SH_FNV_START, bytes, BYTES);
}

static void put(struct sh_cache *c, uint64_t hash, const uint8_t *bytes, size_t n)
{
    struct sh_cache_put *p = sh_cache_put_begin(c, hash, n);

    for (size_t at = 0; at < n; at += 30000)
        sh_cache_put_bytes(p, bytes + at, n - at < 30000 ? n - at : 30000);
    sh_cache_put_end(p);
    sh_cache_flush(c);
}

/* Is the entry there, with these bytes? */
static bool has(struct sh_cache *c, uint64_t hash, const uint8_t *bytes)
{
    static uint8_t got[BYTES];
    struct sh_cache_entry e;
    bool whole = true;

    if (!sh_cache_find(c, hash, BYTES, &e)) return false;
    for (size_t at = 0; at < e.bytes && whole; at += 40000)
        whole = sh_cache_read(&e, got + at, e.bytes - at < 40000 ? e.bytes - at : 40000);
    if (!sh_cache_read_end(c, &e)) return false;
    assert_int_equal(e.bytes, BYTES);
    assert_memory_equal(got, bytes, BYTES);
    return true;
}

static void path_of(const struct bench *b, uint64_t hash, char out[256])
{
    (void)snprintf(out, 256, "%s/%016" PRIx64, b->dir, hash);
}

/* ---- in order -------------------------------------------------------------------------------*/

static void cache__what_is_put_is_found(void **state)
{
    static uint8_t bytes[BYTES];
    const uint64_t hash = make(bytes, 1);
    struct sh_cache_stats s;
    struct sh_cache_entry e;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct stat sb;
    struct bench b;
    char path[256];

    (void)state;
    bench_open(&b, NULL);
    assert_false(has(b.cache, hash, bytes));
    put(b.cache, hash, bytes, BYTES);
    assert_true(has(b.cache, hash, bytes));
    assert_true(has(b.cache, hash, bytes));
    assert_false(sh_cache_find(b.cache, hash, BYTES - 1, &e)); // too long for its place
    assert_null(sh_cache_put_begin(b.cache, hash, BYTES));     // it is there

    // What is on the disk is what llama.cpp would have there, and ours alone.
    path_of(&b, hash, path);
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_size, BYTES);
    assert_int_equal(sb.st_mode & 0777, 0600);
    assert_int_equal(stat(b.dir, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0700);
    assert_int_equal(count_files(b.dir), 1);
    sh_cache_stats(b.cache, &s);
    assert_int_equal(s.n_entries, 1);
    assert_int_equal(s.bytes, BYTES);

    // And it is there the next time.
    sh_cache_close(b.cache);
    b.cache = NULL;
    const struct sh_cache_options again = {.dir = b.dir};
    if (sh_cache_open(&b.cache, &again, &err)) fail_msg("%s", err.message);
    assert_true(has(b.cache, hash, bytes));
    sh_cache_stats(b.cache, &s);
    assert_true(s.bytes_max > 0);
    bench_close(&b);
}

static void cache__other_bytes_than_the_hash_are_not_stored(void **state)
{
    static uint8_t bytes[BYTES];
    const uint64_t hash = make(bytes, 1);
    struct sh_cache_put *p;
    struct bench b;

    (void)state;
    bench_open(&b, NULL);
    bytes[BYTES - 1] ^= 1;
    p = sh_cache_put_begin(b.cache, hash, BYTES);
    assert_non_null(p);
    sh_cache_put_bytes(p, bytes, BYTES);
    sh_cache_put_end(p);
    sh_cache_flush(b.cache);
    assert_int_equal(g_warnings, 1);
    assert_int_equal(count_files(b.dir), 0);
    bytes[BYTES - 1] ^= 1;
    p = sh_cache_put_begin(b.cache, hash, BYTES); // too few
    sh_cache_put_bytes(p, bytes, BYTES - 1);
    sh_cache_put_end(p);
    p = sh_cache_put_begin(b.cache, hash, BYTES);
    sh_cache_put_bytes(p, bytes, BYTES);
    sh_cache_put_abort(p);
    sh_cache_flush(b.cache);
    assert_int_equal(count_files(b.dir), 0);
    sh_cache_put_bytes(NULL, bytes, BYTES);
    sh_cache_put_end(NULL);
    bench_close(&b);
}

static void cache__the_oldest_make_room(void **state)
{
    static uint8_t bytes[4][BYTES];
    const struct sh_cache_options opt = {.bytes_max = 3 * BYTES + 10};
    uint64_t hash[4];
    struct bench b;
    char path[256];

    (void)state;
    bench_open(&b, &opt);
    for (uint64_t i = 0; i < 4; i++)
        hash[i] = make(bytes[i], i);
    for (int i = 0; i < 3; i++) {
        const struct timespec old[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000 + i}};
        put(b.cache, hash[i], bytes[i], BYTES);
        path_of(&b, hash[i], path);
        assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    }
    assert_true(has(b.cache, hash[0], bytes[0])); // read: not the oldest any more
    put(b.cache, hash[3], bytes[3], BYTES);
    assert_true(has(b.cache, hash[0], bytes[0]));
    assert_false(has(b.cache, hash[1], bytes[1]));
    assert_true(has(b.cache, hash[2], bytes[2]));
    assert_true(has(b.cache, hash[3], bytes[3]));
    assert_null(sh_cache_put_begin(b.cache, 5, 3 * BYTES + 11)); // never
    bench_close(&b);

    const struct sh_cache_options few = {.bytes_max = 1 << 30, .entries_max = 2};
    bench_open(&b, &few);
    for (int i = 0; i < 4; i++)
        put(b.cache, hash[i], bytes[i], BYTES);
    assert_int_equal(count_files(b.dir), 2);
    assert_true(has(b.cache, hash[3], bytes[3]));
    bench_close(&b);
}

/* ---- damage ---------------------------------------------------------------------------------*/

static void rewrite(const char *path, const uint8_t *bytes, size_t n)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    (void)close(fd);
}

static void cache__damaged_entries_are_deleted(void **state)
{
    static uint8_t bytes[BYTES], other[BYTES];
    const uint64_t hash = make(bytes, 1);
    struct bench b;
    char path[256];

    (void)state;
    bench_open(&b, NULL);
    path_of(&b, hash, path);
    for (int how = 0; how < 3; how++) {
        size_t n = BYTES;
        memcpy(other, bytes, BYTES);
        if (how == 0) other[BYTES / 2] ^= 4;
        if (how == 1) n = BYTES - 1;
        if (how == 2) n = 0;
        rewrite(path, other, n);
        assert_false(has(b.cache, hash, bytes));
        assert_int_equal(access(path, F_OK), -1);
        put(b.cache, hash, bytes, BYTES); // and can come back
        assert_true(has(b.cache, hash, bytes));
    }
    assert_int_equal(g_warnings, 3);
    bench_close(&b);
}

static void cache__shrinks_while_it_is_read(void **state)
{
    static uint8_t bytes[BYTES], got[BYTES];
    const uint64_t hash = make(bytes, 1);
    struct sh_cache_entry e;
    struct bench b;
    char path[256];

    (void)state;
    bench_open(&b, NULL);
    path_of(&b, hash, path);
    put(b.cache, hash, bytes, BYTES);
    assert_true(sh_cache_find(b.cache, hash, BYTES, &e));
    assert_true(sh_cache_read(&e, got, 1000));
    assert_int_equal(truncate(path, 2000), 0);
    assert_false(sh_cache_read(&e, got, 5000));
    assert_false(sh_cache_read_end(b.cache, &e));
    assert_int_equal(count_files(b.dir), 0);

    // One that was replaced meanwhile stays.
    put(b.cache, hash, bytes, BYTES);
    assert_true(sh_cache_find(b.cache, hash, BYTES, &e));
    assert_int_equal(unlink(path), 0);
    rewrite(path, bytes, BYTES);
    assert_false(sh_cache_read_end(b.cache, &e));
    assert_true(has(b.cache, hash, bytes));
    bench_close(&b);
}

static void cache__what_is_no_file_is_no_entry(void **state)
{
    static uint8_t bytes[BYTES];
    const uint64_t hash = make(bytes, 1);
    struct bench b;
    char path[256], target[256];

    (void)state;
    bench_open(&b, NULL);
    path_of(&b, hash, path);
    (void)snprintf(target, sizeof target, "%s/target", b.root);
    rewrite(target, bytes, BYTES); // even with the right bytes

    assert_int_equal(symlink(target, path), 0);
    assert_false(has(b.cache, hash, bytes));
    put(b.cache, hash, bytes, BYTES); // takes the place of the link
    assert_true(has(b.cache, hash, bytes));
    assert_int_equal(unlink(path), 0);

    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(has(b.cache, hash, bytes));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(g_warnings, 0);

    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(has(b.cache, hash, bytes));
    put(b.cache, hash, bytes, BYTES); // cannot
    assert_false(has(b.cache, hash, bytes));
    assert_int_equal(g_warnings, 1);
    put(b.cache, hash, bytes, BYTES); // said once
    assert_int_equal(g_warnings, 1);
    assert_int_equal(count_files(b.dir), 1);
    assert_int_equal(rmdir(path), 0);
    put(b.cache, hash, bytes, BYTES);
    assert_true(has(b.cache, hash, bytes));
    bench_close(&b);
}

static void cache__failing_writes_lose_the_entry_only(void **state)
{
    static uint8_t bytes[BYTES];
    const uint64_t hash = make(bytes, 1);
    struct rlimit before, small;
    struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
    struct bench b;

    (void)state;
    bench_open(&b, NULL);
    assert_int_equal(sigaction(SIGXFSZ, &ignore, &old), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = BYTES / 2; // writing fails in the middle, as on a full disk
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    put(b.cache, hash, bytes, BYTES);
    put(b.cache, hash, bytes, BYTES);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(sigaction(SIGXFSZ, &old, NULL), 0);
    assert_int_equal(g_warnings, 1);
    assert_int_equal(count_files(b.dir), 0);
    assert_false(has(b.cache, hash, bytes));
    put(b.cache, hash, bytes, BYTES);
    assert_true(has(b.cache, hash, bytes));
    bench_close(&b);
}

/* ---- several, and those that die ------------------------------------------------------------*/

/* In a child: begin to store, say so, and wait to be killed; `whole`: after all was handed over. */
static void store_in_child(const char *dir, const uint8_t *bytes, uint64_t hash, bool whole, int to)
{
    const struct sh_cache_options opt = {.dir = dir, .bytes_max = 1 << 30};
    struct sh_cache_put *p;
    struct sh_cache *c;

    if (sh_cache_open(&c, &opt, NULL)) _exit(1);
    p = sh_cache_put_begin(c, hash, BYTES);
    if (!p) _exit(2);
    sh_cache_put_bytes(p, bytes, whole ? BYTES : BYTES / 2);
    if (whole) sh_cache_put_end(p);
    if (write(to, "x", 1) != 1) _exit(4);
    for (;;)
        (void)pause();
}

static void kill_while_storing(struct bench *b, const uint8_t *bytes, uint64_t hash, bool whole)
{
    int ends[2], status;
    pid_t pid;
    char byte;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) store_in_child(b->dir, bytes, hash, whole, ends[1]);
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    (void)close(ends[0]);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void reopen(struct bench *b)
{
    const struct sh_cache_options opt = {.dir = b->dir, .bytes_max = 1 << 30};
    struct shoal_error err = SHOAL_ERROR_INIT;

    sh_cache_close(b->cache);
    b->cache = NULL;
    if (sh_cache_open(&b->cache, &opt, &err)) fail_msg("%s", err.message);
}

/* Children are made while this process has no other threads. */
static void cache__a_writer_that_is_killed_leaves_no_bad_entry(void **state)
{
    static uint8_t bytes[BYTES];
    const uint64_t hash = make(bytes, 1);
    struct sh_cache_put *p;
    struct sh_cache *other;
    struct bench b;
    char path[256];

    (void)state;
    bench_open(&b, NULL);
    sh_cache_close(b.cache);
    b.cache = NULL;
    kill_while_storing(&b, bytes, hash, false);
    assert_int_equal(count_files(b.dir), 1); // its leftover
    reopen(&b);
    assert_int_equal(count_files(b.dir), 0);
    assert_false(has(b.cache, hash, bytes));

    // A file of one that lives stays.
    const struct sh_cache_options again = {.dir = b.dir, .bytes_max = 1 << 30};
    p = sh_cache_put_begin(b.cache, hash, BYTES);
    assert_int_equal(sh_cache_open(&other, &again, NULL), SHOAL_OK);
    sh_cache_put_bytes(p, bytes, BYTES);
    sh_cache_put_end(p);
    sh_cache_flush(b.cache);
    assert_true(has(other, hash, bytes));
    sh_cache_close(other);

    path_of(&b, hash, path);
    for (int i = 0; i < 10; i++) {
        sh_cache_close(b.cache);
        b.cache = NULL;
        assert_int_equal(unlink(path), 0);
        kill_while_storing(&b, bytes, hash, true);
        reopen(&b);
        if (access(path, F_OK) == 0) {
            assert_true(has(b.cache, hash, bytes));
        } else {
            put(b.cache, hash, bytes, BYTES);
        }
        assert_int_equal(count_files(b.dir), 1);
    }
    assert_int_equal(g_warnings, 0);
    bench_close(&b);
}

struct rival {
    struct sh_cache *cache;
    const uint8_t *bytes;
    uint64_t hash;
    pthread_t thread;
    int n_bad;
};

static void *store_and_read(void *arg)
{
    struct rival *r = arg;

    for (int i = 0; i < 20; i++) {
        struct sh_cache_put *p = sh_cache_put_begin(r->cache, r->hash, BYTES);
        struct sh_cache_entry e;
        uint8_t got[1000];
        sh_cache_put_bytes(p, r->bytes, BYTES);
        sh_cache_put_end(p);
        if (!sh_cache_find(r->cache, r->hash, BYTES, &e)) continue;
        r->n_bad += e.bytes != BYTES;
        while (e.at < e.bytes && sh_cache_read(&e, got, sizeof got)) {
        }
        r->n_bad += !sh_cache_read_end(r->cache, &e);
        if (i % 5 == 4) sh_cache_flush(r->cache);
    }
    return NULL;
}

static void cache__two_store_the_same(void **state)
{
    static uint8_t bytes[BYTES];
    const uint64_t hash = make(bytes, 1);
    struct rival r[2];
    struct sh_cache *other;
    struct bench b;

    (void)state;
    bench_open(&b, NULL);
    const struct sh_cache_options again = {.dir = b.dir, .bytes_max = 1 << 30};
    assert_int_equal(sh_cache_open(&other, &again, NULL), SHOAL_OK);
    for (int i = 0; i < 2; i++) {
        r[i] = (struct rival){.cache = i ? other : b.cache, .bytes = bytes, .hash = hash};
        assert_int_equal(pthread_create(&r[i].thread, NULL, store_and_read, &r[i]), 0);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(r[i].thread, NULL), 0);
    assert_int_equal(r[0].n_bad + r[1].n_bad, 0);
    sh_cache_close(other);
    sh_cache_flush(b.cache);
    assert_true(has(b.cache, hash, bytes));
    assert_int_equal(count_files(b.dir), 1);
    assert_int_equal(g_warnings, 0);

    // Both under way at once: each in a file of its own.
    struct sh_cache_put *p[2];
    char path[256];
    path_of(&b, hash, path);
    assert_int_equal(unlink(path), 0);
    for (int i = 0; i < 2; i++)
        p[i] = sh_cache_put_begin(b.cache, hash, BYTES);
    for (int i = 0; i < 2; i++)
        sh_cache_put_bytes(p[i], bytes, BYTES);
    for (int i = 0; i < 2; i++)
        sh_cache_put_end(p[i]);
    sh_cache_flush(b.cache);
    assert_true(has(b.cache, hash, bytes));
    assert_int_equal(count_files(b.dir), 1);
    bench_close(&b);
}

/* ---- directories ----------------------------------------------------------------------------*/

static void expect_refused(const char *dir, const char *words)
{
    const struct sh_cache_options opt = {.dir = dir, .bytes_max = 1000};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_cache *c;

    assert_int_not_equal(sh_cache_open(&c, &opt, &err), SHOAL_OK);
    assert_null(c);
    if (!strstr(err.message, words)) fail_msg("\"%s\" is not in \"%s\"", words, err.message);
}

static void cache__directories_that_will_not_do(void **state)
{
    struct bench b;
    char path[256];

    (void)state;
    bench_open(&b, NULL);
    expect_refused("", "no directory");
    (void)snprintf(path, sizeof path, "%s/link", b.root);
    assert_int_equal(symlink(b.dir, path), 0);
    expect_refused(path, path);
    (void)snprintf(path, sizeof path, "%s/file", b.root);
    rewrite(path, (const uint8_t *)"x", 1);
    expect_refused(path, path);
    (void)snprintf(path, sizeof path, "%s/file/below", b.root);
    expect_refused(path, path);
    assert_int_equal(chmod(b.dir, 0770), 0);
    expect_refused(b.dir, "others may write");
    assert_int_equal(chmod(b.dir, 0755), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(b.dir, 12345, (gid_t)-1), 0);
        expect_refused(b.dir, "another user");
    }
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cache__what_is_put_is_found),
        cmocka_unit_test(cache__other_bytes_than_the_hash_are_not_stored),
        cmocka_unit_test(cache__the_oldest_make_room),
        cmocka_unit_test(cache__damaged_entries_are_deleted),
        cmocka_unit_test(cache__shrinks_while_it_is_read),
        cmocka_unit_test(cache__what_is_no_file_is_no_entry),
        cmocka_unit_test(cache__failing_writes_lose_the_entry_only),
        cmocka_unit_test(cache__a_writer_that_is_killed_leaves_no_bad_entry),
        cmocka_unit_test(cache__two_store_the_same),
        cmocka_unit_test(cache__directories_that_will_not_do),
    };

    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}

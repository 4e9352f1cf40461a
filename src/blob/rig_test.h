/* blob/rig_test.h - for the tests of blob: a folder that goes away again, and model files in it. */
#ifndef BLOB_RIG_TEST_H
#define BLOB_RIG_TEST_H

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "blob/manifest.h"
#include "gguf/write.h"

struct rig {
    char root[64], models[96], hashes[96];
    atomic_int warnings;
};

static inline void rig_count_warning(void *user, const struct sh_log_record *r)
{
    struct rig *rig = user;

    if (r->level <= SH_LOG_WARN) atomic_fetch_add(&rig->warnings, 1);
}

static inline void rig_open(struct rig *r)
{
    memset(r, 0, sizeof *r);
    (void)snprintf(r->root, sizeof r->root, "/tmp/shoal-blob-test-XXXXXX");
    assert_non_null(mkdtemp(r->root));
    (void)snprintf(r->models, sizeof r->models, "%s/models", r->root);
    (void)snprintf(r->hashes, sizeof r->hashes, "%s/cache/hashes", r->root);
    assert_int_equal(mkdir(r->models, 0700), 0);
    sh_log_set_sink(rig_count_warning, r, SH_LOG_WARN);
}

/* A folder with all that is in it, below the folder `at`. */
static inline void rig_remove_at(int at, const char *name)
{
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (!d) return;
    for (const struct dirent *e = readdir(d); e; e = readdir(d)) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (unlinkat(fd, e->d_name, 0) != 0) rig_remove_at(fd, e->d_name);
    }
    (void)closedir(d);
    (void)unlinkat(at, name, AT_REMOVEDIR);
}

static inline void rig_remove(const char *dir)
{
    rig_remove_at(AT_FDCWD, dir);
}

static inline void rig_close(struct rig *r)
{
    sh_log_set_sink(NULL, NULL, SH_LOG_ERROR);
    rig_remove(r->root);
}

static inline int rig_count_files(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;

    if (!d) return 0;
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    (void)closedir(d);
    return n;
}

/* An hour from now: every file of a test has settled. */
static inline int64_t rig_later_ns(void *self)
{
    struct timespec t;

    (void)self;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return ((int64_t)t.tv_sec + 3600) * SH_SECOND;
}
static const struct sh_clock RIG_LATER = {.now_ns = rig_later_ns, .self = NULL};

/* Random numbers of a seed; the same numbers again for the same seed. */
static inline float *rig_numbers(size_t n, uint64_t seed)
{
    uint8_t *p = sh_malloc(n * sizeof(float));

    assert_non_null(p);
    for (size_t i = 0; i < n * sizeof(float); i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1;
        p[i] = (uint8_t)(seed >> 40);
    }
    return (float *)(void *)p;
}

/* A model of n tensors in file name; tensor i has sizes[i] numbers of seeds[i]. */
static inline void rig_model(const struct rig *r, const char *name, int n_shards, size_t n,
                             const size_t *sizes, const uint64_t *seeds)
{
    struct sh_gguf_writer *w = sh_gguf_writer_create();
    struct shoal_error err = SHOAL_ERROR_INIT;
    float *data[8] = {NULL};
    char path[256];

    assert_non_null(w);
    assert_true(n <= 8);
    sh_gguf_put_str(w, "general.architecture", SH_STR_LIT("llama"));
    for (size_t i = 0; i < n; i++) {
        char tensor[16];
        const int64_t ne[1] = {(int64_t)sizes[i]};
        (void)snprintf(tensor, sizeof tensor, "t%zu", i);
        data[i] = rig_numbers(sizes[i], seeds[i]);
        sh_gguf_put_tensor(w, sh_str_from(tensor), SH_DTYPE_F32, 1, ne, data[i]);
    }
    (void)snprintf(path, sizeof path, "%s/%s", r->models, name);
    if (sh_gguf_write(w, path, n_shards, &err)) fail_msg("%s", err.message);
    sh_gguf_writer_destroy(w);
    for (size_t i = 0; i < n; i++)
        sh_free(data[i]);
}

static inline struct sh_sha256 rig_hash(size_t size, uint64_t seed)
{
    float *data = rig_numbers(size, seed);
    struct sh_sha256 h;

    assert_int_equal(sh_sha256_of(&h, data, size * sizeof *data, NULL), SHOAL_OK);
    sh_free(data);
    return h;
}

#endif

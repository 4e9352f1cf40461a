/* Manifests: their hashes against those of the same bytes in one go, what is remembered and what is
 * not, files that change under us, and every allocation that fails. */
#include "blob/manifest.h"

#include "base/thread.h"
#include "blob/rig_test.h"

enum { N_BIG = 5, PIECE = (4 << 20) / 4 };

/* In numbers of four bytes: tiny, one piece, one and a bit, many pieces, a bit less than one. */
static const size_t BIG[N_BIG] = {3, PIECE, PIECE + 1, 3 * PIECE + 77, PIECE - 1};
static const uint64_t BIG_SEEDS[N_BIG] = {1, 2, 3, 4, 5};
static const size_t SMALL[3] = {10, 1000, 70};
static const uint64_t SMALL_SEEDS[3] = {6, 7, 8};

static struct sh_gguf *open_model(const struct rig *r, const char *name)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", r->models, name);
    if (sh_gguf_open(&g, path, &err)) fail_msg("%s", err.message);
    return g;
}

static struct sh_manifest *make(const struct sh_gguf *g, const struct sh_manifest_options *opt)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_manifest *m = NULL;

    if (sh_manifest_make(&m, g, opt, &err)) fail_msg("%s", err.message);
    assert_non_null(m);
    return m;
}

/* Every hash against one of the mapped bytes, computed in one go. */
static void check(const struct sh_manifest *m, const struct sh_gguf *g)
{
    assert_int_equal(sh_manifest_n_tensors(m), sh_gguf_n_tensors(g));
    for (size_t i = 0; i < sh_manifest_n_tensors(m); i++) {
        const struct sh_manifest_tensor *t = sh_manifest_tensor(m, i);
        const struct sh_gguf_tensor *of = sh_gguf_tensor(g, i);
        struct sh_sha256 want;
        assert_int_equal(t->bytes, of->data_bytes);
        assert_int_equal(t->offset, of->offset);
        assert_int_equal(t->shard, of->shard);
        assert_int_equal(sh_sha256_of(&want, of->data, of->data_bytes, NULL), SHOAL_OK);
        assert_true(sh_sha256_equal(&t->sha256, &want));
        assert_int_equal(t->n_pieces, (t->bytes + SH_PIECE_BYTES - 1) / SH_PIECE_BYTES);
        for (size_t p = 0; p < t->n_pieces; p++) {
            const size_t at = p * SH_PIECE_BYTES, left = of->data_bytes - at;
            const size_t n = left < SH_PIECE_BYTES ? left : SH_PIECE_BYTES;
            assert_int_equal(sh_sha256_of(&want, (const uint8_t *)of->data + at, n, NULL),
                             SHOAL_OK);
            assert_true(sh_sha256_equal(&t->pieces[p], &want));
        }
    }
}

struct told {
    atomic_int tensors[N_BIG];
    _Atomic uint64_t most; /* bytes done */
    _Atomic uint64_t total;
    atomic_bool stop, stop_soon;
    const char *grow; /* a file that gets longer with the first progress */
};

static void on_tensor(void *user, size_t tensor, const struct sh_sha256 *sha256)
{
    struct told *t = user;
    const struct sh_sha256 want = rig_hash(BIG[tensor], BIG_SEEDS[tensor]);

    // Assertions of cmocka belong to the main thread.
    if (sh_sha256_equal(sha256, &want)) atomic_fetch_add(&t->tensors[tensor], 1);
}

static void on_progress(void *user, uint64_t done, uint64_t total)
{
    struct told *t = user;
    uint64_t most = atomic_load(&t->most);

    while (done > most && !atomic_compare_exchange_weak(&t->most, &most, done)) {
    }
    atomic_store(&t->total, total);
    if (atomic_load(&t->stop_soon)) atomic_store(&t->stop, true);
    if (t->grow) {
        const int fd = open(t->grow, O_WRONLY | O_APPEND);
        if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) != 0) t->grow = "";
    }
}

static void manifest__hashes_are_those_of_the_bytes(void **state)
{
    static const int THREADS[] = {1, 3, 0};
    struct rig r;
    struct sh_gguf *g;

    (void)state;
    rig_open(&r);
    rig_model(&r, "big.gguf", 1, N_BIG, BIG, BIG_SEEDS);
    g = open_model(&r, "big.gguf");
    for (size_t i = 0; i < sizeof THREADS / sizeof THREADS[0]; i++) {
        struct told told = {.most = 0};
        const struct sh_manifest_options opt = {.n_threads = THREADS[i],
                                                .on_tensor = on_tensor,
                                                .on_progress = on_progress,
                                                .user = &told};
        struct sh_manifest *m = make(g, &opt);
        check(m, g);
        assert_false(sh_manifest_recalled(m));
        for (size_t t = 0; t < N_BIG; t++)
            assert_int_equal(atomic_load(&told.tensors[t]), 1);
        assert_int_equal(atomic_load(&told.most), sh_manifest_bytes(m));
        assert_int_equal(atomic_load(&told.total), sh_manifest_bytes(m));
        sh_manifest_destroy(m);
    }
    sh_gguf_close(g);
    rig_close(&r);
}

struct meeting {
    struct sh_mutex lock;
    struct sh_cond changed;
    pthread_t first;
    int n; /* threads that called */
};

/* The first thread that hashed a piece waits until another has. */
static void on_progress_meet(void *user, uint64_t done, uint64_t total)
{
    struct meeting *m = user;
    const int64_t give_up = sh_deadline_in(&sh_clock_system, 60 * SH_SECOND);

    (void)done;
    (void)total;
    sh_mutex_lock(&m->lock);
    if (m->n == 0) {
        m->n = 1;
        m->first = pthread_self();
    } else if (m->n == 1 && !pthread_equal(m->first, pthread_self())) {
        m->n = 2;
        sh_cond_broadcast(&m->changed);
    }
    while (m->n < 2 && sh_now_ns(&sh_clock_system) < give_up)
        (void)sh_cond_wait(&m->changed, &m->lock, SH_SECOND);
    sh_mutex_unlock(&m->lock);
}

/* One tensor and two threads: both work on it. */
static void manifest__pieces_of_one_tensor_are_shared(void **state)
{
    struct rig r;
    struct meeting meeting = {.n = 0};
    const struct sh_manifest_options opt = {
        .n_threads = 2, .on_progress = on_progress_meet, .user = &meeting};
    struct sh_gguf *g;
    struct sh_manifest *m;

    (void)state;
    sh_mutex_init(&meeting.lock);
    sh_cond_init(&meeting.changed);
    rig_open(&r);
    rig_model(&r, "one.gguf", 1, 1, &BIG[3], &BIG_SEEDS[3]);
    g = open_model(&r, "one.gguf");
    m = make(g, &opt);
    check(m, g);
    assert_int_equal(meeting.n, 2);
    sh_manifest_destroy(m);
    sh_gguf_close(g);
    rig_close(&r);
    sh_cond_release(&meeting.changed);
    sh_mutex_release(&meeting.lock);
}

static void manifest__is_remembered(void **state)
{
    struct rig r;
    struct told told = {.most = 0};
    struct sh_manifest_options opt = {.n_threads = 2, .wall = &RIG_LATER};
    struct sh_gguf *g;
    struct sh_manifest *m;

    (void)state;
    rig_open(&r);
    rig_model(&r, "big.gguf", 1, N_BIG, BIG, BIG_SEEDS);
    opt.dir = r.hashes;
    g = open_model(&r, "big.gguf");
    assert_int_equal(sh_manifest_recall(&m, g, r.hashes, NULL), SHOAL_OK);
    assert_null(m);
    sh_manifest_destroy(make(g, &opt));
    assert_int_equal(rig_count_files(r.hashes), 1);
    sh_gguf_close(g);

    g = open_model(&r, "big.gguf");
    opt.on_tensor = on_tensor;
    opt.on_progress = on_progress;
    opt.user = &told;
    m = make(g, &opt);
    assert_true(sh_manifest_recalled(m));
    check(m, g);
    for (size_t t = 0; t < N_BIG; t++)
        assert_int_equal(atomic_load(&told.tensors[t]), 1);
    assert_int_equal(atomic_load(&told.most), sh_manifest_bytes(m));
    sh_manifest_destroy(m);
    assert_int_equal(sh_manifest_recall(&m, g, r.hashes, NULL), SHOAL_OK);
    assert_non_null(m);
    check(m, g);
    sh_manifest_destroy(m);
    sh_gguf_close(g);
    assert_int_equal(atomic_load(&r.warnings), 0);
    rig_close(&r);
}

/* The only file in the folder of what is remembered. */
static void only_file(const struct rig *r, char out[400])
{
    DIR *d = opendir(r->hashes);

    assert_non_null(d);
    out[0] = '\0';
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        if (e->d_name[0] != '.') (void)snprintf(out, 400, "%s/%s", r->hashes, e->d_name);
    (void)closedir(d);
    assert_true(out[0] != '\0');
}

static void flip(const char *path, off_t at)
{
    const int fd = open(path, O_RDWR);
    uint8_t b;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &b, 1, at), 1);
    b ^= 16;
    assert_int_equal(pwrite(fd, &b, 1, at), 1);
    assert_int_equal(close(fd), 0);
}

static void manifest__damage_is_hashed_again(void **state)
{
    struct rig r;
    struct sh_manifest_options opt = {.n_threads = 1, .wall = &RIG_LATER};
    struct sh_gguf *g;
    struct stat sb;
    char path[400];

    (void)state;
    rig_open(&r);
    rig_model(&r, "m.gguf", 1, 3, SMALL, SMALL_SEEDS);
    opt.dir = r.hashes;
    g = open_model(&r, "m.gguf");
    sh_manifest_destroy(make(g, &opt));
    only_file(&r, path);
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_mode & 0777, 0600);
    for (off_t at = 0; at <= sb.st_size; at += 13) {
        struct sh_manifest *m;
        if (at + 13 <= sb.st_size)
            flip(path, at);
        else
            assert_int_equal(truncate(path, sb.st_size / 2), 0);
        m = make(g, &opt);
        assert_false(sh_manifest_recalled(m));
        check(m, g);
        sh_manifest_destroy(m);
        m = make(g, &opt);
        assert_true(sh_manifest_recalled(m));
        sh_manifest_destroy(m);
    }
    assert_int_equal(rig_count_files(r.hashes), 1);
    sh_gguf_close(g);
    rig_close(&r);
}

/* Another model's hashes under this model's name; a link; a folder that others may write to. */
static void manifest__what_is_foreign_is_not_believed(void **state)
{
    struct rig r;
    struct sh_manifest_options opt = {.n_threads = 1, .wall = &RIG_LATER};
    struct sh_gguf *g, *other;
    struct sh_manifest *m;
    char path[400], moved[256];

    (void)state;
    rig_open(&r);
    rig_model(&r, "m.gguf", 1, 3, SMALL, SMALL_SEEDS);
    rig_model(&r, "other.gguf", 1, 3, SMALL, BIG_SEEDS);
    (void)snprintf(moved, sizeof moved, "%s/moved", r.root);
    opt.dir = r.hashes;
    g = open_model(&r, "m.gguf");
    other = open_model(&r, "other.gguf");
    sh_manifest_destroy(make(other, &opt));
    only_file(&r, path);
    assert_int_equal(rename(path, moved), 0);
    sh_manifest_destroy(make(g, &opt));
    only_file(&r, path);
    assert_int_equal(rename(moved, path), 0);
    assert_int_equal(sh_manifest_recall(&m, g, r.hashes, NULL), SHOAL_OK);
    assert_null(m);
    sh_manifest_destroy(make(g, &opt));
    assert_int_equal(sh_manifest_recall(&m, g, r.hashes, NULL), SHOAL_OK);
    assert_non_null(m);
    sh_manifest_destroy(m);

    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(symlink(moved, path), 0);
    assert_int_equal(sh_manifest_recall(&m, g, r.hashes, NULL), SHOAL_OK);
    assert_null(m);
    assert_int_equal(rename(moved, path), 0);
    assert_int_equal(chmod(r.hashes, 0777), 0);
    assert_int_equal(sh_manifest_recall(&m, g, r.hashes, NULL), SHOAL_OK);
    assert_null(m);
    assert_int_equal(atomic_load(&r.warnings), 0);
    sh_manifest_destroy(make(g, &opt)); // works, but says that it cannot remember
    assert_int_equal(atomic_load(&r.warnings), 1);
    sh_gguf_close(other);
    sh_gguf_close(g);
    rig_close(&r);
}

static int64_t fixed_ns(void *self)
{
    return *(int64_t *)self;
}

static void manifest__a_fresh_file_is_not_remembered(void **state)
{
    struct rig r;
    int64_t now;
    const struct sh_clock wall = {.now_ns = fixed_ns, .self = &now};
    struct sh_manifest_options opt = {.n_threads = 1, .wall = &wall};
    struct sh_gguf *g;
    int64_t changed;

    (void)state;
    rig_open(&r);
    rig_model(&r, "m.gguf", 1, 3, SMALL, SMALL_SEEDS);
    opt.dir = r.hashes;
    g = open_model(&r, "m.gguf");
    changed = (int64_t)sh_gguf_map(g, 0)->id.changed_ns;
    for (int i = -1; i < 2; i++) {
        now = changed + i * SH_SECOND;
        sh_manifest_destroy(make(g, &opt));
        assert_int_equal(rig_count_files(r.hashes), 0);
    }
    now = changed + 2 * SH_SECOND;
    sh_manifest_destroy(make(g, &opt));
    assert_int_equal(rig_count_files(r.hashes), 1);
    sh_gguf_close(g);
    rig_close(&r);
}

static void make_bad(const struct sh_gguf *g, const struct sh_manifest_options *opt,
                     enum shoal_status want, const char *text)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_manifest *m;

    assert_int_equal(sh_manifest_make(&m, g, opt, &err), want);
    assert_null(m);
    assert_int_equal(err.code, want);
    if (!strstr(err.message, text)) assert_string_equal(err.message, text);
}

static void manifest__a_changing_file_is_an_error(void **state)
{
    struct rig r;
    struct told told = {.most = 0};
    struct sh_manifest_options opt = {.n_threads = 3, .wall = &RIG_LATER};
    struct sh_gguf *g;
    char path[256];

    (void)state;
    rig_open(&r);
    rig_model(&r, "big.gguf", 1, N_BIG, BIG, BIG_SEEDS);
    (void)snprintf(path, sizeof path, "%s/big.gguf", r.models);
    opt.dir = r.hashes;
    g = open_model(&r, "big.gguf");
    told.grow = path;
    opt.n_threads = 1;
    opt.on_progress = on_progress;
    opt.user = &told;
    make_bad(g, &opt, SHOAL_ERR_IO, "big.gguf was changed while it was hashed");
    assert_string_equal(told.grow, path);
    opt.on_progress = NULL;
    opt.n_threads = 3;
    assert_int_equal(truncate(path, 8192), 0);
    make_bad(g, &opt, SHOAL_ERR_IO, "big.gguf lost bytes while it was hashed");
    assert_int_equal(unlink(path), 0);
    make_bad(g, &opt, SHOAL_ERR_IO, "big.gguf");
    sh_gguf_close(g);
    assert_int_equal(rig_count_files(r.hashes), 0);
    rig_close(&r);
}

static void manifest__stops_when_asked(void **state)
{
    struct rig r;
    struct sh_gguf *g;

    (void)state;
    rig_open(&r);
    rig_model(&r, "big.gguf", 1, N_BIG, BIG, BIG_SEEDS);
    g = open_model(&r, "big.gguf");
    for (int threads = 1; threads <= 3; threads += 2) {
        struct told told = {.stop_soon = true};
        const struct sh_manifest_options opt = {
            .n_threads = threads, .stop = &told.stop, .on_progress = on_progress, .user = &told};
        make_bad(g, &opt, SHOAL_ERR_CANCELLED, "big.gguf was cancelled");
        assert_true(atomic_load(&told.most) > 0);
        assert_true(atomic_load(&told.most) < atomic_load(&told.total));
        make_bad(g, &opt, SHOAL_ERR_CANCELLED, "big.gguf was cancelled");
    }
    sh_gguf_close(g);
    rig_close(&r);
}

static void manifest__shards_are_one_model(void **state)
{
    struct rig r;
    struct sh_manifest_options opt = {.n_threads = 3, .wall = &RIG_LATER};
    struct sh_gguf *g;
    struct sh_manifest *m;

    (void)state;
    rig_open(&r);
    rig_model(&r, "s.gguf", 3, 3, SMALL, SMALL_SEEDS);
    opt.dir = r.hashes;
    g = open_model(&r, "s-00002-of-00003.gguf");
    m = make(g, &opt);
    check(m, g);
    assert_true(sh_manifest_tensor(m, 2)->shard > 0);
    sh_manifest_destroy(m);
    sh_gguf_close(g);
    g = open_model(&r, "s-00001-of-00003.gguf");
    m = make(g, &opt);
    assert_true(sh_manifest_recalled(m));
    check(m, g);
    sh_manifest_destroy(m);
    sh_gguf_close(g);
    rig_close(&r);
}

static void manifest__every_allocation_may_fail(void **state)
{
    struct rig r;
    struct sh_manifest_options opt = {.n_threads = 1, .wall = &RIG_LATER};
    struct sh_gguf *g;
    bool pending = false;

    (void)state;
    rig_open(&r);
    rig_model(&r, "m.gguf", 1, 3, SMALL, SMALL_SEEDS);
    opt.dir = r.hashes;
    g = open_model(&r, "m.gguf");
    for (int64_t i = 0; !pending; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_manifest *m = NULL;
        const size_t before = sh_mem_live_bytes();
        enum shoal_status st;
        rig_remove(r.hashes);
        sh_mem_fail_after(i);
        st = sh_manifest_make(&m, g, &opt, &err);
        pending = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (st)
            assert_int_equal(st, SHOAL_ERR_NOMEM);
        else
            check(m, g);
        sh_manifest_destroy(m);
        assert_int_equal(sh_mem_live_bytes(), before);
    }
    assert_int_equal(rig_count_files(r.hashes), 1);
    sh_gguf_close(g);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manifest__hashes_are_those_of_the_bytes),
        cmocka_unit_test(manifest__pieces_of_one_tensor_are_shared),
        cmocka_unit_test(manifest__is_remembered),
        cmocka_unit_test(manifest__damage_is_hashed_again),
        cmocka_unit_test(manifest__what_is_foreign_is_not_believed),
        cmocka_unit_test(manifest__a_fresh_file_is_not_remembered),
        cmocka_unit_test(manifest__a_changing_file_is_an_error),
        cmocka_unit_test(manifest__stops_when_asked),
        cmocka_unit_test(manifest__shards_are_one_model),
        cmocka_unit_test(manifest__every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

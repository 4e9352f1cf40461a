/* A folder's tensors by hash: what is found, what drops out, what is left out. */
#include "blob/folder.h"

#include "blob/rig_test.h"

#include "base/thread.h"

static const size_t SIZES[3] = {10, 1000, 70};
static const uint64_t SEEDS[3] = {6, 7, 8};
static const uint64_t OTHER[3] = {16, 7, 18}; /* the middle one in common */

static struct sh_folder *open_folder(const struct rig *r)
{
    const struct sh_folder_options opt = {
        .dir = r->models, .hashes = r->hashes, .n_threads = 2, .wall = &RIG_LATER};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_folder *f = NULL;

    if (sh_folder_open(&f, &opt, &err)) fail_msg("%s", err.message);
    return f;
}

static void hash_all(struct sh_folder *f)
{
    assert_int_equal(sh_folder_hash(f, NULL), SHOAL_OK);
    sh_folder_wait(f);
}

static struct sh_folder_stats stats_of(struct sh_folder *f)
{
    struct sh_folder_stats s;

    sh_folder_stats(f, &s);
    return s;
}

/* Take the tensor of that size and seed; are its bytes right? */
static bool take(struct sh_folder *f, size_t size, uint64_t seed, struct sh_folder_blob *out)
{
    const struct sh_sha256 h = rig_hash(size, seed);
    struct shoal_error err = SHOAL_ERROR_INIT;
    const enum shoal_status st = sh_folder_get(f, &h, out, &err);
    float *want;

    if (st) {
        assert_int_equal(st, SHOAL_ERR_NOT_FOUND);
        assert_null(out->data);
        assert_null(out->model);
        return false;
    }
    want = rig_numbers(size, seed);
    assert_int_equal(out->bytes, size * sizeof *want);
    assert_memory_equal(out->data, want, out->bytes);
    assert_false(sh_map_faulted(out->map));
    sh_free(want);
    return true;
}

static bool has(struct sh_folder *f, size_t size, uint64_t seed)
{
    struct sh_folder_blob b;
    const bool found = take(f, size, seed, &b);

    sh_folder_blob_release(f, &b);
    return found;
}

static void path_in(const struct rig *r, const char *name, char out[200])
{
    (void)snprintf(out, 200, "%s/%s", r->models, name);
}

static void move(const struct rig *r, const char *from, const char *to)
{
    char a[200], b[200];

    path_in(r, from, a);
    path_in(r, to, b);
    assert_int_equal(rename(a, b), 0);
}

static void folder__finds_tensors_by_hash(void **state)
{
    struct rig r;
    struct sh_folder *f;
    char sub[200];

    (void)state;
    rig_open(&r);
    path_in(&r, "below", sub);
    assert_int_equal(mkdir(sub, 0700), 0);
    rig_model(&r, "any name.gguf", 1, 3, SIZES, SEEDS);
    rig_model(&r, "below/split.gguf", 3, 3, SIZES, OTHER);
    f = open_folder(&r);
    assert_int_equal(stats_of(f).n_models, 2);
    assert_int_equal(stats_of(f).n_tensors, 0);
    assert_int_equal(stats_of(f).bytes_waiting, 2 * 1080 * 4);
    assert_false(has(f, SIZES[0], SEEDS[0]));
    hash_all(f);
    assert_int_equal(stats_of(f).n_hashed, 2);
    assert_int_equal(stats_of(f).n_tensors, 6);
    assert_int_equal(stats_of(f).bytes_waiting, 0);
    for (int i = 0; i < 3; i++) {
        assert_true(has(f, SIZES[i], SEEDS[i]));
        assert_true(has(f, SIZES[i], OTHER[i]));
        assert_false(has(f, SIZES[i], 99));
    }
    sh_folder_close(f);

    f = open_folder(&r); // everything is remembered
    assert_int_equal(stats_of(f).n_tensors, 6);
    assert_true(has(f, SIZES[2], OTHER[2]));
    sh_folder_close(f);
    assert_int_equal(atomic_load(&r.warnings), 0);
    rig_close(&r);
}

static void folder__a_tensor_in_two_files_survives_one(void **state)
{
    struct rig r;
    struct sh_folder *f;
    struct sh_folder_blob b;
    char path[200];

    (void)state;
    rig_open(&r);
    rig_model(&r, "a.gguf", 1, 3, SIZES, SEEDS);
    rig_model(&r, "b.gguf", 1, 3, SIZES, OTHER);
    f = open_folder(&r);
    hash_all(f);
    assert_true(take(f, SIZES[1], SEEDS[1], &b));
    path_in(&r, "a.gguf", path);
    assert_int_equal(unlink(path), 0);
    assert_true(has(f, SIZES[1], SEEDS[1])); // of b.gguf
    assert_int_equal(stats_of(f).n_models, 1);
    assert_int_equal(atomic_load(&r.warnings), 1);
    assert_false(has(f, SIZES[0], SEEDS[0]));
    assert_memory_equal(b.map->ptr, "GGUF", 4); // still mapped
    sh_folder_blob_release(f, &b);
    sh_folder_close(f);
    rig_close(&r);
}

static void folder__a_renamed_file_is_found_again(void **state)
{
    struct rig r;
    struct sh_folder *f;

    (void)state;
    rig_open(&r);
    rig_model(&r, "a.gguf", 1, 3, SIZES, SEEDS);
    f = open_folder(&r);
    hash_all(f);
    move(&r, "a.gguf", "z.gguf");
    assert_false(has(f, SIZES[1], SEEDS[1]));
    assert_int_equal(stats_of(f).n_models, 0);
    assert_int_equal(sh_folder_scan(f, NULL), SHOAL_OK);
    hash_all(f);
    assert_true(has(f, SIZES[1], SEEDS[1]));
    sh_folder_close(f);
    rig_close(&r);
}

/* Whether its file is open at the time or not. */
static void folder__a_replaced_file_drops_out(void **state)
{
    struct rig r;
    struct sh_folder *f;
    struct sh_folder_blob b;

    (void)state;
    for (int held = 0; held < 2; held++) {
        rig_open(&r);
        rig_model(&r, "a.gguf", 1, 3, SIZES, SEEDS);
        rig_model(&r, "new.other", 1, 3, SIZES, OTHER);
        f = open_folder(&r);
        hash_all(f);
        assert_int_equal(stats_of(f).n_models, 1);
        if (held) assert_true(take(f, SIZES[2], SEEDS[2], &b));
        move(&r, "new.other", "a.gguf");
        assert_false(has(f, SIZES[0], SEEDS[0]));
        assert_int_equal(stats_of(f).n_models, 0);
        assert_int_equal(sh_folder_scan(f, NULL), SHOAL_OK);
        assert_false(has(f, SIZES[0], OTHER[0]));
        hash_all(f);
        assert_true(has(f, SIZES[0], OTHER[0]));
        assert_false(has(f, SIZES[0], SEEDS[0]));
        if (held) {
            float *want = rig_numbers(SIZES[2], SEEDS[2]);
            assert_memory_equal(b.data, want, b.bytes); // what was taken stays
            sh_free(want);
            sh_folder_blob_release(f, &b);
        }
        sh_folder_close(f);
        rig_close(&r);
    }
}

/* A scan keeps what it knows of files that are as they were. */
static void folder__a_scan_keeps_hashes(void **state)
{
    struct rig r;
    struct sh_folder *f;
    struct sh_folder_options opt = {.n_threads = 1, .wall = &RIG_LATER};

    (void)state;
    rig_open(&r);
    opt.dir = r.models;
    rig_model(&r, "a.gguf", 1, 3, SIZES, SEEDS);
    assert_int_equal(sh_folder_open(&f, &opt, NULL), SHOAL_OK); // nothing is remembered
    hash_all(f);
    rig_model(&r, "b.gguf", 1, 3, SIZES, OTHER);
    assert_int_equal(sh_folder_scan(f, NULL), SHOAL_OK);
    assert_int_equal(stats_of(f).n_models, 2);
    assert_int_equal(stats_of(f).n_hashed, 1);
    assert_true(has(f, SIZES[0], SEEDS[0]));
    sh_folder_close(f);
    rig_close(&r);
}

static void write_text(const struct rig *r, const char *name, const char *text)
{
    char path[200];
    FILE *file;

    path_in(r, name, path);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void link_to(const struct rig *r, const char *to, const char *name)
{
    char path[200];

    path_in(r, name, path);
    assert_int_equal(symlink(to, path), 0);
}

static void folder__what_counts_as_a_model(void **state)
{
    static const char *const DIRS[] = {"1",         "1/2",     "1/2/3", "1/2/3/4",
                                       "1/2/3/4/5", ".hidden", "x.gguf"};
    struct rig r;
    struct sh_folder *f;
    char path[200];

    (void)state;
    rig_open(&r);
    for (size_t i = 0; i < sizeof DIRS / sizeof DIRS[0]; i++) {
        path_in(&r, DIRS[i], path);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    rig_model(&r, "1/2/3/4/deep.gguf", 1, 1, SIZES, SEEDS);
    rig_model(&r, "1/2/3/4/5/deeper.gguf", 1, 1, SIZES, OTHER);
    rig_model(&r, ".hidden/m.gguf", 1, 1, SIZES, OTHER);
    rig_model(&r, "../outside", 1, 1, SIZES + 1, SEEDS + 1);
    link_to(&r, "../outside", "link.gguf");
    link_to(&r, "../outside", "same.gguf");
    link_to(&r, "nowhere", "dangling.gguf");
    link_to(&r, "1", "loop.gguf");
    link_to(&r, "..", "1/up");
    path_in(&r, "pipe.gguf", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    write_text(&r, "notes.txt", "GGUF");
    f = open_folder(&r);
    assert_int_equal(atomic_load(&r.warnings), 0);
    hash_all(f);
    assert_int_equal(stats_of(f).n_models, 2);
    assert_true(has(f, SIZES[0], SEEDS[0]));
    assert_true(has(f, SIZES[1], SEEDS[1]));
    assert_false(has(f, SIZES[0], OTHER[0]));

    write_text(&r, "broken.gguf", "GGUF and no more");
    write_text(&r, "empty.gguf", "");
    assert_int_equal(sh_folder_scan(f, NULL), SHOAL_OK);
    assert_int_equal(atomic_load(&r.warnings), 2);
    assert_int_equal(stats_of(f).n_hashed, 2);
    sh_folder_close(f);
    rig_close(&r);
}

static void folder__limits(void **state)
{
    struct rig r;
    struct sh_folder_options opt = {.n_threads = 1, .files_max = 2, .wall = &RIG_LATER};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_folder *f;

    (void)state;
    rig_open(&r);
    opt.dir = r.models;
    for (int i = 0; i < 4; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "%d.gguf", i);
        rig_model(&r, name, 1, 3, SIZES, i % 2 ? SEEDS : OTHER);
    }
    assert_int_equal(sh_folder_open(&f, &opt, NULL), SHOAL_OK);
    assert_int_equal(stats_of(f).n_models, 2);
    assert_int_equal(atomic_load(&r.warnings), 1);
    sh_folder_close(f);
    opt.files_max = 0;
    opt.tensors_max = 8;
    assert_int_equal(sh_folder_open(&f, &opt, NULL), SHOAL_OK);
    assert_int_equal(stats_of(f).n_models, 2);
    assert_int_equal(atomic_load(&r.warnings), 3);
    sh_folder_close(f);
    opt.dir = "/nonexistent/models";
    assert_int_equal(sh_folder_open(&f, &opt, &err), SHOAL_ERR_IO);
    assert_string_equal(err.message, "cannot read /nonexistent/models: No such file or directory");
    assert_null(f);
    rig_close(&r);
}

struct user {
    struct sh_folder *f;
    struct sh_sha256 hash;
    int n_found;
};

static void *use(void *arg)
{
    struct user *u = arg;

    for (int i = 0; i < 200; i++) {
        struct sh_folder_blob b;
        if (sh_folder_get(u->f, &u->hash, &b, NULL)) continue;
        u->n_found += memcmp(b.map->ptr, "GGUF", 4) == 0 && b.bytes == SIZES[1] * 4;
        sh_folder_blob_release(u->f, &b);
    }
    return NULL;
}

static void folder__many_threads_use_it(void **state)
{
    struct rig r;
    struct sh_folder *f;
    struct user users[3];
    struct sh_thread threads[3];

    (void)state;
    rig_open(&r);
    rig_model(&r, "a.gguf", 1, 3, SIZES, SEEDS);
    rig_model(&r, "b.gguf", 1, 3, SIZES, OTHER);
    f = open_folder(&r);
    hash_all(f);
    for (int i = 0; i < 3; i++) {
        users[i] = (struct user){.f = f, .hash = rig_hash(SIZES[1], SEEDS[1])};
        threads[i] = (struct sh_thread)SH_THREAD_INIT;
        assert_int_equal(sh_thread_start(&threads[i], "user", use, &users[i], NULL), SHOAL_OK);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(sh_folder_scan(f, NULL), SHOAL_OK);
        assert_int_equal(sh_folder_hash(f, NULL), SHOAL_OK);
    }
    for (int i = 0; i < 3; i++) {
        sh_thread_join(&threads[i]);
        assert_int_equal(users[i].n_found, 200);
    }
    sh_folder_close(f);
    f = open_folder(&r);
    assert_int_equal(sh_folder_hash(f, NULL), SHOAL_OK);
    sh_folder_close(f); // while it may be hashing
    rig_close(&r);
}

/* A clock that stops who asks first, which is the hashing of the first model, until it may go on.
 */
struct gate {
    struct sh_mutex lock;
    struct sh_cond changed;
    bool reached, is_open;
};

static int64_t wait_at_gate(void *self)
{
    struct gate *g = self;

    sh_mutex_lock(&g->lock);
    g->reached = true;
    sh_cond_broadcast(&g->changed);
    while (!g->is_open)
        (void)sh_cond_wait(&g->changed, &g->lock, INT64_MAX);
    sh_mutex_unlock(&g->lock);
    return rig_later_ns(NULL);
}

static void await_gate(struct gate *g)
{
    sh_mutex_lock(&g->lock);
    while (!g->reached)
        (void)sh_cond_wait(&g->changed, &g->lock, INT64_MAX);
    sh_mutex_unlock(&g->lock);
}

static void open_gate(struct gate *g)
{
    sh_mutex_lock(&g->lock);
    g->is_open = true;
    sh_cond_broadcast(&g->changed);
    sh_mutex_unlock(&g->lock);
}

/* Whoever waits for a tensor says what it looks like: its model is hashed first. */
static void folder__hurries_for_those_who_wait(void **state)
{
    struct gate gate = {.reached = false};
    const struct sh_clock wall = {.now_ns = wait_at_gate, .self = &gate};
    struct sh_folder_options opt = {.n_threads = 2, .wall = &wall};
    struct sh_folder *f;
    struct rig r;

    (void)state;
    sh_mutex_init(&gate.lock);
    sh_cond_init(&gate.changed);
    rig_open(&r);
    rig_model(&r, "a.gguf", 1, 3, SIZES, OTHER);
    rig_model(&r, "b.gguf", 1, 2, SIZES + 1, SEEDS + 1); // of another length each
    opt.dir = r.models;
    assert_int_equal(sh_folder_open(&f, &opt, NULL), SHOAL_OK);
    assert_false(sh_folder_hurry(f, SH_STR_LIT("t0"), 4000)); // nobody hashes
    assert_int_equal(sh_folder_hash(f, NULL), SHOAL_OK);
    await_gate(&gate);
    assert_false(sh_folder_hurry(f, SH_STR_LIT("t0"), 4004));
    assert_false(sh_folder_hurry(f, SH_STR_LIT("t3"), 4000));
    assert_true(sh_folder_hurry(f, SH_STR_LIT("t0"), 4000)); // of b: a has to give way
    open_gate(&gate);
    while (sh_folder_hurry(f, SH_STR_LIT("t0"), 4000))
        sh_folder_wait_some(f, SH_SECOND);
    assert_true(has(f, 70, 8));
    sh_folder_wait(f); // what had to give way is hashed, too
    assert_true(has(f, 10, 16));
    assert_int_equal(stats_of(f).n_hashed, 2);
    assert_int_equal(stats_of(f).n_failed, 0);
    assert_false(sh_folder_hurry(f, SH_STR_LIT("t0"), 4000)); // it is hashed
    sh_folder_wait_some(f, SH_NO_DEADLINE);                   // and nothing is to come
    sh_folder_close(f);
    rig_close(&r);
    sh_cond_release(&gate.changed);
    sh_mutex_release(&gate.lock);
}

static void folder__every_allocation_may_fail(void **state)
{
    struct rig r;
    const struct sh_sha256 hash = rig_hash(SIZES[1], SEEDS[1]);
    bool pending = false;

    (void)state;
    rig_open(&r);
    rig_model(&r, "a.gguf", 1, 3, SIZES, SEEDS);
    for (int64_t i = 0; !pending; i++) {
        const struct sh_folder_options opt = {
            .dir = r.models, .hashes = r.hashes, .n_threads = 1, .wall = &RIG_LATER};
        const size_t before = sh_mem_live_bytes();
        struct sh_folder_blob b = {.model = NULL};
        struct sh_folder *f;
        enum shoal_status st;
        rig_remove(r.hashes);
        sh_mem_fail_after(i);
        st = sh_folder_open(&f, &opt, NULL);
        if (!st) {
            st = sh_folder_hash(f, NULL);
            sh_folder_wait(f);
            if (!st) st = sh_folder_get(f, &hash, &b, NULL);
        }
        pending = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        // A model that could not be hashed is as if it were not there.
        if (st)
            assert_true(st == SHOAL_ERR_NOMEM || st == SHOAL_ERR_NOT_FOUND);
        else
            sh_folder_blob_release(f, &b);
        if (pending) assert_int_equal(st, SHOAL_OK);
        sh_folder_close(f);
        assert_int_equal(sh_mem_live_bytes(), before);
    }
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder__finds_tensors_by_hash),
        cmocka_unit_test(folder__a_tensor_in_two_files_survives_one),
        cmocka_unit_test(folder__a_renamed_file_is_found_again),
        cmocka_unit_test(folder__a_replaced_file_drops_out),
        cmocka_unit_test(folder__a_scan_keeps_hashes),
        cmocka_unit_test(folder__what_counts_as_a_model),
        cmocka_unit_test(folder__limits),
        cmocka_unit_test(folder__many_threads_use_it),
        cmocka_unit_test(folder__hurries_for_those_who_wait),
        cmocka_unit_test(folder__every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

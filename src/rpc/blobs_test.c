/* Weights of a worker: who sees what, halves that are taken up again, hashes that do not fit, files
 * of its own, several senders at once, and every allocation that fails. */
#include "rpc/blobs.h"

#include "base/thread.h"
#include "blob/rig_test.h"

enum { BYTES = 5000, BIG = (1 << 20) + 12345, PIECE = 4096, SENDERS = 4 };

static const char *const ANNA = "00000000000000aa", *const BERT = "00000000000000bb";

static struct sh_blobs *create(struct sh_folder *f)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_blobs *b = NULL;

    if (sh_blobs_create(&b, f, &err)) fail_msg("%s", err.message);
    return b;
}

static struct sh_blob *want(struct sh_blobs *b, const char *kid, const struct sh_sha256 *sha256,
                            size_t bytes)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_blob *blob = NULL;

    if (sh_blobs_want(b, kid, sha256, bytes, &blob, &err)) fail_msg("%s", err.message);
    assert_non_null(blob);
    return blob;
}

/* Random bytes and their hash; freed by the caller. */
static uint8_t *make_bytes(size_t n, uint64_t seed, struct sh_sha256 *sha256)
{
    uint8_t *p = sh_malloc(n);

    assert_non_null(p);
    for (size_t i = 0; i < n; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1;
        p[i] = (uint8_t)(seed >> 40);
    }
    assert_int_equal(sh_sha256_of(sha256, p, n, NULL), SHOAL_OK);
    return p;
}

static void send_all(struct sh_blob *blob, const uint8_t *p, size_t n)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    for (size_t at = (size_t)sh_blob_held(blob); at < n; at += PIECE)
        if (sh_blob_write(blob, at, p + at, n - at < PIECE ? n - at : PIECE, &err))
            fail_msg("%s", err.message);
}

static void expect_bytes(const struct sh_blob *blob, const void *p, size_t n)
{
    const struct sh_map *map;
    size_t bytes;
    const void *data;

    assert_true(sh_blob_whole(blob));
    data = sh_blob_data(blob, &bytes, &map);
    assert_int_equal(bytes, n);
    assert_memory_equal(data, p, n);
}

static void blobs__what_is_sent_serves_its_key_only(void **state)
{
    struct sh_blobs *b = create(NULL);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_sha256 sha;
    uint8_t *p = make_bytes(BYTES, 1, &sha);
    struct sh_blob *one = want(b, ANNA, &sha, BYTES), *two = want(b, ANNA, &sha, BYTES);
    struct sh_blob *other = want(b, BERT, &sha, BYTES), *nobody = want(b, "", &sha, BYTES);

    (void)state;
    assert_ptr_equal(one, two);
    send_all(one, p, BYTES);
    assert_false(sh_blob_whole(one)); // all of it is here, and yet it is not verified
    assert_int_equal(sh_blob_finish(one, &err), SHOAL_OK);
    expect_bytes(two, p, BYTES);
    assert_false(sh_blob_of_file(two));
    assert_int_equal(sh_blob_held(other), 0);
    assert_int_equal(sh_blob_held(nobody), 0);
    assert_false(sh_blob_whole(other));
    // One session ends: the other still has it, and a third finds it.
    sh_blob_release(one);
    one = want(b, ANNA, &sha, BYTES);
    expect_bytes(one, p, BYTES);
    assert_int_equal(sh_blob_write(one, 0, p, 100, &err), SHOAL_OK); // passed over
    sh_blob_release(one);
    sh_blob_release(two);
    // The last one has ended: nothing is left of it.
    one = want(b, ANNA, &sha, BYTES);
    assert_int_equal(sh_blob_held(one), 0);
    sh_blob_release(one);
    sh_blob_release(other);
    sh_blob_release(nobody);
    sh_blob_release(NULL);
    sh_blobs_destroy(b);
    sh_free(p);
}

static void blobs__a_half_is_taken_up_again(void **state)
{
    struct sh_blobs *b = create(NULL);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_sha256 sha;
    uint8_t *p = make_bytes(BYTES, 2, &sha);
    struct sh_blob *kept = want(b, ANNA, &sha, BYTES), *blob = want(b, ANNA, &sha, BYTES);

    (void)state;
    assert_int_equal(sh_blob_write(blob, 0, p, 1700, &err), SHOAL_OK);
    sh_blob_release(blob);
    blob = want(b, ANNA, &sha, BYTES);
    assert_int_equal(sh_blob_held(blob), 1700);
    assert_int_equal(sh_blob_write(blob, 1701, p + 1701, 10, &err), SHOAL_ERR_ARG); // a gap
    assert_non_null(strstr(err.message, "from 1700 on"));
    assert_int_equal(sh_blob_write(blob, 1700, p, BYTES - 1699, &err), SHOAL_ERR_ARG); // too many
    assert_int_equal(sh_blob_write(blob, UINT64_MAX, p, 2, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_blob_held(blob), 1700);
    assert_int_equal(sh_blob_finish(blob, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "1700 of its 5000 bytes"));
    assert_int_equal(sh_blob_held(blob), 1700);
    assert_int_equal(sh_blob_write(blob, 1000, p + 1000, 1000, &err), SHOAL_OK); // over the border
    assert_int_equal(sh_blob_held(blob), 2000);
    send_all(blob, p, BYTES);
    assert_int_equal(sh_blob_finish(blob, &err), SHOAL_OK);
    expect_bytes(kept, p, BYTES);
    sh_blob_release(blob);
    sh_blob_release(kept);
    sh_blobs_destroy(b);
    sh_free(p);
}

static void blobs__another_hash_is_refused(void **state)
{
    struct sh_blobs *b = create(NULL);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_sha256 sha;
    uint8_t *p = make_bytes(BYTES, 3, &sha);
    struct sh_blob *blob = want(b, ANNA, &sha, BYTES);
    char text[SH_SHA256_TEXT_BYTES];

    (void)state;
    p[4711] ^= 1;
    send_all(blob, p, BYTES);
    assert_int_equal(sh_blob_finish(blob, &err), SHOAL_ERR_FORMAT);
    sh_sha256_text(&sha, text);
    text[16] = '\0';
    assert_non_null(strstr(err.message, text));
    assert_false(sh_blob_whole(blob));
    assert_int_equal(sh_blob_held(blob), 0);
    p[4711] ^= 1;
    send_all(blob, p, BYTES);
    assert_int_equal(sh_blob_finish(blob, &err), SHOAL_OK);
    assert_int_equal(sh_blob_finish(blob, &err), SHOAL_OK);
    expect_bytes(blob, p, BYTES);
    sh_blob_release(blob);
    // The same hash under another length is another blob, which can never be whole.
    blob = want(b, ANNA, &sha, BYTES - 1);
    send_all(blob, p, BYTES - 1);
    assert_int_equal(sh_blob_finish(blob, &err), SHOAL_ERR_FORMAT);
    sh_blob_release(blob);
    assert_int_equal(sh_blobs_want(b, ANNA, &sha, 0, &blob, &err), SHOAL_ERR_ARG);
    assert_null(blob);
    sh_blobs_destroy(b);
    sh_free(p);
}

/* ---- files ----------------------------------------------------------------------------------*/

static struct sh_folder *open_folder(const struct rig *r)
{
    const struct sh_folder_options opt = {.dir = r->models, .hashes = r->hashes};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_folder *f = NULL;

    if (sh_folder_open(&f, &opt, &err) || sh_folder_hash(f, &err)) fail_msg("%s", err.message);
    sh_folder_wait(f);
    return f;
}

static void blobs__files_are_everybodys(void **state)
{
    static const size_t SIZES[2] = {100, 3000};
    static const uint64_t SEEDS[2] = {11, 12};
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_sha256 sha = rig_hash(3000, 12);
    float *numbers = rig_numbers(3000, 12);
    const size_t n = 3000 * sizeof *numbers;
    struct sh_blob *half, *one, *two;
    const struct sh_map *map;
    struct sh_folder *f;
    struct sh_blobs *b;
    struct rig r;
    size_t bytes;

    (void)state;
    rig_open(&r);
    rig_model(&r, "some.gguf", 1, 2, SIZES, SEEDS);
    f = open_folder(&r);
    b = create(f);
    one = want(b, ANNA, &sha, n);
    two = want(b, BERT, &sha, n);
    expect_bytes(one, numbers, n);
    expect_bytes(two, numbers, n);
    assert_ptr_equal(sh_blob_data(one, &bytes, &map), sh_blob_data(two, &bytes, &map));
    assert_non_null(map);
    assert_true(sh_blob_of_file(one));
    assert_int_equal(sh_blob_held(one), n);
    assert_int_equal(sh_blobs_want(b, ANNA, &sha, n + 4, &half, &err), SHOAL_ERR_FORMAT);
    sh_blob_release(one);
    // The file goes: who has it keeps it, others do not get it any more.
    rig_remove(r.models);
    half = want(b, ANNA, &sha, n);
    assert_int_equal(sh_blob_held(half), 0);
    assert_int_equal(sh_blob_write(half, 0, numbers, 100, &err), SHOAL_OK);
    expect_bytes(two, numbers, n);
    sh_blob_release(two);
    sh_blob_release(half);
    sh_blobs_destroy(b);
    sh_folder_close(f);
    sh_free(numbers);
    rig_close(&r);
}

/* A file that comes while half of its tensor was sent is better than the half. */
static void blobs__new_files_are_found(void **state)
{
    static const size_t SIZES[1] = {3000};
    static const uint64_t SEEDS[1] = {21};
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_sha256 sha = rig_hash(3000, 21);
    float *numbers = rig_numbers(3000, 21);
    const size_t n = 3000 * sizeof *numbers;
    struct sh_blob *half, *whole;
    struct sh_folder *f;
    struct sh_blobs *b;
    struct rig r;

    (void)state;
    rig_open(&r);
    f = open_folder(&r);
    b = create(f);
    half = want(b, ANNA, &sha, n);
    assert_int_equal(sh_blob_write(half, 0, numbers, 100, &err), SHOAL_OK);
    rig_model(&r, "late.gguf", 1, 1, SIZES, SEEDS);
    assert_true(sh_blobs_look_again(b));
    assert_false(sh_blobs_look_again(b)); // a moment ago
    sh_folder_wait(f);
    whole = want(b, ANNA, &sha, n);
    expect_bytes(whole, numbers, n);
    sh_blob_release(whole);
    sh_blob_release(half);
    sh_blobs_destroy(b);
    sh_folder_close(f);
    sh_free(numbers);
    rig_close(&r);
}

/* ---- threads --------------------------------------------------------------------------------*/

struct sender {
    struct sh_thread thread;
    struct sh_blobs *b;
    const uint8_t *p;
    const struct sh_sha256 *sha;
    enum shoal_status st;
    bool equal;
};

static void *send_it(void *arg)
{
    struct sender *s = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_blob *blob;
    const struct sh_map *map;
    size_t bytes;

    s->st = sh_blobs_want(s->b, ANNA, s->sha, BIG, &blob, &err);
    for (size_t at = s->st ? BIG : (size_t)sh_blob_held(blob); at < BIG && !s->st; at += PIECE)
        s->st = sh_blob_write(blob, at, s->p + at, BIG - at < PIECE ? BIG - at : PIECE, &err);
    if (!s->st) s->st = sh_blob_finish(blob, &err);
    if (!s->st) s->equal = memcmp(sh_blob_data(blob, &bytes, &map), s->p, BIG) == 0;
    sh_blob_release(blob);
    return NULL;
}

static void blobs__several_may_send_the_same(void **state)
{
    struct sender senders[SENDERS];
    struct sh_blobs *b = create(NULL);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_sha256 sha;
    uint8_t *p = make_bytes(BIG, 4, &sha);

    (void)state;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < SENDERS; i++) {
            senders[i] = (struct sender){.b = b, .p = p, .sha = &sha};
            assert_int_equal(
                sh_thread_start(&senders[i].thread, "send", send_it, &senders[i], &err), SHOAL_OK);
        }
        for (int i = 0; i < SENDERS; i++) {
            sh_thread_join(&senders[i].thread);
            assert_int_equal(senders[i].st, SHOAL_OK);
            assert_true(senders[i].equal);
        }
    }
    sh_blobs_destroy(b);
    sh_free(p);
}

/* ---- memory ---------------------------------------------------------------------------------*/

static void blobs__every_allocation_may_fail(void **state)
{
    struct sh_sha256 sha;
    uint8_t *p = make_bytes(BYTES, 5, &sha);
    const size_t live = sh_mem_live_bytes();
    bool more = true;

    (void)state;
    for (int64_t n = 0; more; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_blobs *b = NULL;
        struct sh_blob *blob = NULL;
        enum shoal_status st;
        sh_mem_fail_after(n);
        st = sh_blobs_create(&b, NULL, &err);
        if (!st) st = sh_blobs_want(b, ANNA, &sha, BYTES, &blob, &err);
        more = !sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (more) {
            assert_int_equal(st, SHOAL_ERR_NOMEM);
            assert_null(blob);
        } else {
            assert_int_equal(st, SHOAL_OK);
            assert_true(n >= 3);
        }
        sh_blob_release(blob);
        sh_blobs_destroy(b);
        assert_int_equal(sh_mem_live_bytes(), live);
    }
    sh_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blobs__what_is_sent_serves_its_key_only),
        cmocka_unit_test(blobs__a_half_is_taken_up_again),
        cmocka_unit_test(blobs__another_hash_is_refused),
        cmocka_unit_test(blobs__files_are_everybodys),
        cmocka_unit_test(blobs__new_files_are_found),
        cmocka_unit_test(blobs__several_may_send_the_same),
        cmocka_unit_test(blobs__every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("blobs", tests, NULL, NULL);
}

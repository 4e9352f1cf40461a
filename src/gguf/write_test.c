/* Writing models and reading them back: every kind of value, layout, replacing, splitting, and
 * what a writer refuses. */
#include "gguf/write.h"

#include "gguf/bytes_test.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/shoal-gguf-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

static struct sh_gguf_writer *create(void)
{
    struct sh_gguf_writer *w = sh_gguf_writer_create();

    assert_non_null(w);
    return w;
}

static void write_ok(struct sh_gguf_writer *w, struct sh_buf *out)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_gguf_write_memory(w, out, &err)) assert_string_equal(err.message, "");
}

static struct sh_gguf *open_bytes(const struct sh_buf *b)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;

    if (sh_gguf_open_memory(&g, b->ptr, b->len, "m.gguf", &err)) {
        assert_string_equal(err.message, "");
    }
    return g;
}

/* The worked example of the format: one string key, one tensor, 160 bytes. */
static void write__known_bytes(void **state)
{
    static const uint8_t HEAD[] =
        "GGUF\3\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"
        "\x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0\5\0\0\0\0\0\0\0llama"
        "\1\0\0\0\0\0\0\0x\1\0\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    struct sh_gguf_writer *w = create();
    struct sh_buf b = SH_BUF_INIT;
    const float x[4] = {1, 2, 3, 4};
    const uint8_t zeros[32] = {0};

    (void)state;
    sh_gguf_put_str(w, "general.architecture", SH_STR_LIT("llama"));
    sh_gguf_put_tensor(w, SH_STR_LIT("x"), SH_DTYPE_F32, 1, (const int64_t[]){4}, x);
    write_ok(w, &b);
    assert_int_equal(b.len, 160);
    assert_int_equal(sizeof HEAD - 1, 102);
    assert_memory_equal(b.ptr, HEAD, 102);
    assert_memory_equal(b.ptr + 102, zeros, 26);
    assert_memory_equal(b.ptr + 128, x, 16);
    assert_memory_equal(b.ptr + 144, zeros, 16);
    sh_gguf_writer_destroy(w);
    sh_buf_release(&b);
}

static void fill_all_kinds(struct sh_gguf_writer *w)
{
    sh_gguf_put_int(w, "a.u8", SH_GGUF_U8, 200);
    sh_gguf_put_int(w, "a.i8", SH_GGUF_I8, -3);
    sh_gguf_put_int(w, "a.u16", SH_GGUF_U16, 60000);
    sh_gguf_put_int(w, "a.i16", SH_GGUF_I16, -30000);
    sh_gguf_put_u32(w, "a.u32", 4000000000u);
    sh_gguf_put_int(w, "a.i32", SH_GGUF_I32, -2000000000);
    sh_gguf_put_u64(w, "a.u64", UINT64_MAX);
    sh_gguf_put_int(w, "a.i64", SH_GGUF_I64, INT64_MIN);
    sh_gguf_put_f32(w, "a.f32", 0.1f);
    sh_gguf_put_f64(w, "a.f64", 0.1);
    sh_gguf_put_bool(w, "a.bool", false);
    sh_gguf_put_str(w, "a.str", (struct sh_str){"n\0l", 3});
    sh_gguf_put_ints(w, "b.ints", SH_GGUF_I32, (const int64_t[]){-1, INT32_MAX}, 2);
    sh_gguf_put_f32s(w, "b.f32s", (const float[]){1, -2, 3}, 3);
    sh_gguf_put_f64s(w, "b.f64s", (const double[]){1e300}, 1);
    sh_gguf_put_bools(w, "b.bools", (const bool[]){true, false, true}, 3);
    sh_gguf_put_strs(w, "b.strs", (const struct sh_str[]){SH_STR_LIT("one"), SH_STR_EMPTY}, 2);
    sh_gguf_put_strs(w, "b.none", NULL, 0);
}

static void write__all_kinds_come_back(void **state)
{
    struct sh_gguf_writer *w = create();
    struct sh_buf b = SH_BUF_INIT, again = SH_BUF_INIT;
    struct sh_gguf *g;
    const struct sh_gguf_value *v;
    struct sh_str s[2];
    int64_t i;
    double d;
    bool f;

    (void)state;
    fill_all_kinds(w);
    write_ok(w, &b);
    sh_gguf_writer_destroy(w);
    g = open_bytes(&b);
    assert_int_equal(sh_gguf_n_values(g), 18);
    assert_true(sh_gguf_int_at(sh_gguf_find(g, "a.i32"), 0, &i));
    assert_true(i == -2000000000);
    assert_true(sh_gguf_double_at(sh_gguf_find(g, "a.f64"), 0, &d));
    assert_true(d == 0.1);
    assert_true(sh_gguf_fill_strings(sh_gguf_find(g, "a.str"), s, 1));
    assert_int_equal(s[0].len, 3);
    v = sh_gguf_find(g, "b.bools");
    assert_int_equal(v->count, 3);
    assert_true(sh_gguf_bool_at(v, 1, &f));
    assert_false(f);
    assert_true(sh_gguf_fill_strings(sh_gguf_find(g, "b.strs"), s, 2));
    assert_true(sh_str_is(s[0], "one") && s[1].len == 0);
    assert_int_equal(sh_gguf_find(g, "b.none")->count, 0);

    w = create(); // a copy value by value has the same bytes
    for (size_t k = 0; k < sh_gguf_n_values(g); k++)
        sh_gguf_put_value(w, sh_gguf_value(g, k));
    write_ok(w, &again);
    assert_int_equal(again.len, b.len);
    assert_memory_equal(again.ptr, b.ptr, b.len);
    sh_gguf_close(g);
    sh_gguf_writer_destroy(w);
    sh_buf_release(&b);
    sh_buf_release(&again);
}

static void write__copy_of_a_real_model(void **state)
{
    static const char PATH[] = "tests/data/models/llama-moe.gguf";
    struct sh_gguf_writer *w = create();
    struct sh_gguf *g = NULL;
    struct sh_buf b = SH_BUF_INIT;
    char *bytes = NULL;
    size_t len;

    (void)state;
    assert_int_equal(sh_gguf_open(&g, PATH, NULL), SHOAL_OK);
    for (size_t i = 0; i < sh_gguf_n_values(g); i++)
        sh_gguf_put_value(w, sh_gguf_value(g, i));
    for (size_t i = 0; i < sh_gguf_n_tensors(g); i++) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        sh_gguf_put_tensor(w, t->name, t->dtype, t->n_dims, t->ne, t->data);
    }
    write_ok(w, &b);
    assert_int_equal(sh_read_file(&bytes, &len, PATH, 1 << 20, NULL), SHOAL_OK);
    assert_int_equal(b.len, len);
    assert_memory_equal(b.ptr, bytes, len);
    sh_free(bytes);
    sh_gguf_close(g);
    sh_gguf_writer_destroy(w);
    sh_buf_release(&b);
}

static void write__second_value_replaces_first(void **state)
{
    struct sh_gguf_writer *w = create();
    struct sh_buf b = SH_BUF_INIT;
    struct sh_gguf *g;
    uint32_t n;

    (void)state;
    sh_gguf_put_str(w, "x", SH_STR_LIT("long enough to matter"));
    sh_gguf_put_u32(w, "y", 1);
    sh_gguf_put_u32(w, "x", 5);
    write_ok(w, &b);
    g = open_bytes(&b);
    assert_int_equal(sh_gguf_n_values(g), 2);
    assert_true(sh_str_is(sh_gguf_value(g, 0)->key, "x"));
    assert_int_equal(sh_gguf_get_u32(g, "x", 0, &n, NULL), SHOAL_OK);
    assert_int_equal(n, 5);
    sh_gguf_close(g);
    sh_gguf_writer_destroy(w);
    sh_buf_release(&b);
}

static void write__shapes_and_alignment(void **state)
{
    struct sh_gguf_writer *w = create();
    struct sh_buf b = SH_BUF_INIT;
    struct sh_gguf *g;
    uint8_t blocks[3 * 34] = {9};
    float x[24] = {0};

    (void)state;
    sh_gguf_put_u32(w, "general.alignment", 512);
    sh_gguf_put_tensor(w, SH_STR_LIT("q"), SH_DTYPE_Q8_0, 3, (const int64_t[]){32, 3, 1}, blocks);
    sh_gguf_put_tensor(w, SH_STR_LIT("f"), SH_DTYPE_F32, 4, (const int64_t[]){4, 1, 3, 2}, x);
    sh_gguf_put_tensor(w, SH_STR_LIT("one"), SH_DTYPE_F32, 2, (const int64_t[]){1, 1}, x);
    write_ok(w, &b);
    assert_int_equal(b.len % 512, 0);
    g = open_bytes(&b);
    assert_int_equal(sh_gguf_alignment(g, 0), 512);
    assert_int_equal(sh_gguf_tensor(g, 0)->n_dims, 2); // trailing ones are not written
    assert_int_equal(sh_gguf_tensor(g, 1)->n_dims, 4);
    assert_int_equal(sh_gguf_tensor(g, 2)->n_dims, 1);
    assert_int_equal(sh_gguf_tensor(g, 1)->offset % 512, 0);
    assert_memory_equal(sh_gguf_tensor(g, 0)->data, blocks, sizeof blocks);
    sh_gguf_close(g);
    sh_gguf_writer_destroy(w);
    sh_buf_release(&b);
}

/* The writer has failed with a message that has `part` in it; destroys it. */
static void refused(struct sh_gguf_writer *w, const char *part)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buf b = SH_BUF_INIT;

    sh_gguf_put_u32(w, "after", 1); // the first failure sticks
    assert_int_equal(sh_gguf_write_memory(w, &b, &err), SHOAL_ERR_ARG);
    if (!strstr(err.message, part)) assert_string_equal(err.message, part);
    assert_int_equal(b.len, 0);
    sh_gguf_writer_destroy(w);
}

static void write__refuses(void **state)
{
    const float x[32] = {0};
    struct sh_gguf_writer *w = create();

    (void)state;
    sh_gguf_put_int(w, "k", SH_GGUF_U8, 256);
    refused(w, "key 'k': 256 does not fit into u8");
    sh_gguf_put_ints(w = create(), "k", SH_GGUF_I8, (const int64_t[]){127, -129}, 2);
    refused(w, "key 'k': -129 does not fit into i8");
    sh_gguf_put_int(w = create(), "k", SH_GGUF_U64, -1);
    refused(w, "does not fit into u64");
    sh_gguf_put_int(w = create(), "k", SH_GGUF_F32, 1);
    refused(w, "integers cannot have type f32");
    sh_gguf_put_u32(w = create(), "", 1);
    refused(w, "keys have 1 to 65535 bytes");
    sh_gguf_put_u32(w = create(), "general.alignment", 48);
    refused(w, "general.alignment is 48");
    sh_gguf_put_str(w = create(), "general.alignment", SH_STR_LIT("32"));
    refused(w, "general.alignment has type string");
    sh_gguf_put_tensor(w = create(), SH_STR_EMPTY, SH_DTYPE_F32, 1, (const int64_t[]){4}, x);
    refused(w, "tensor name '' of 0 bytes");
    sh_gguf_put_tensor(w = create(), SH_STR_LIT("t"), SH_DTYPE_F32, 5, (const int64_t[]){4}, x);
    refused(w, "tensor 't': 5 dimensions");
    sh_gguf_put_tensor(w = create(), SH_STR_LIT("t"), SH_DTYPE_F32, 1, (const int64_t[]){0}, x);
    refused(w, "tensor 't': dimension 0 is 0");
    sh_gguf_put_tensor(w = create(), SH_STR_LIT("t"), SH_DTYPE_Q4_0, 1, (const int64_t[]){31}, x);
    refused(w, "rows of 31 elements are no whole q4_0 blocks");
    sh_gguf_put_tensor(w = create(), SH_STR_LIT("t"), SH_DTYPE_F32, 2,
                       (const int64_t[]){INT64_MAX, 8}, x);
    refused(w, "more bytes than can be counted");
    w = create();
    sh_gguf_put_tensor(w, SH_STR_LIT("t"), SH_DTYPE_F32, 1, (const int64_t[]){4}, x);
    sh_gguf_put_tensor(w, SH_STR_LIT("t"), SH_DTYPE_F32, 1, (const int64_t[]){4}, x);
    refused(w, "two tensors are called 't'");
}

static int count_files(void)
{
    DIR *d = opendir(folder);
    int n = 0;

    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    assert_int_equal(closedir(d), 0);
    return n;
}

static void write__file_appears_whole_or_not(void **state)
{
    struct sh_gguf_writer *w = create();
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    char path[128], missing[128];

    (void)state;
    (void)snprintf(path, sizeof path, "%s/m.gguf", folder);
    (void)snprintf(missing, sizeof missing, "%s/no/m.gguf", folder);
    sh_gguf_put_u32(w, "x", 1);
    assert_int_equal(sh_gguf_write(w, path, 1, &err), SHOAL_OK);
    sh_gguf_put_u32(w, "x", 2);
    assert_int_equal(sh_gguf_write(w, path, 1, &err), SHOAL_OK); // replaces
    assert_int_equal(count_files(), 1);
    assert_int_equal(sh_gguf_open(&g, path, &err), SHOAL_OK);
    sh_gguf_close(g);

    assert_int_equal(sh_gguf_write(w, missing, 1, &err), SHOAL_ERR_IO);
    assert_non_null(strstr(err.message, "No such file or directory"));
    assert_int_equal(sh_gguf_write(w, folder, 1, &err), SHOAL_ERR_ARG);
    assert_non_null(strstr(err.message, "it is no regular file"));
    assert_int_equal(sh_gguf_write(w, path, 2, &err), SHOAL_ERR_ARG);
    assert_non_null(strstr(err.message, "2 shards for 0 tensors"));
    assert_int_equal(count_files(), 1);
    assert_int_equal(unlink(path), 0);
    sh_gguf_writer_destroy(w);
}

static void write__shards_are_about_even(void **state)
{
    static uint8_t data[1000];
    struct sh_gguf_writer *w = create();
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    size_t bytes[4] = {0};
    char name[16], path[128];

    (void)state;
    sh_gguf_put_u32(w, "general.alignment", 64);
    sh_gguf_put_u32(w, "split.count", 9); // the writer's own business
    for (int i = 0; i < 40; i++) {
        (void)snprintf(name, sizeof name, "t%d", i);
        sh_gguf_put_tensor(w, sh_str_from(name), SH_DTYPE_I8, 1, (const int64_t[]){100 + i * 20},
                           data);
    }
    (void)snprintf(path, sizeof path, "%s/s", folder);
    if (sh_gguf_write(w, path, 4, &err)) assert_string_equal(err.message, "");
    (void)snprintf(path, sizeof path, "%s/s-00001-of-00004.gguf", folder);
    if (sh_gguf_open(&g, path, &err)) assert_string_equal(err.message, "");
    assert_int_equal(sh_gguf_n_tensors(g), 40);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(sh_gguf_tensor(g, i)->data_bytes, 100 + i * 20);
        bytes[sh_gguf_tensor(g, i)->shard] += sh_gguf_tensor(g, i)->data_bytes;
    }
    for (int i = 0; i < 4; i++) {
        assert_in_range(bytes[i], 4000, 6000); // of 19600 in all
        assert_int_equal(sh_gguf_alignment(g, i), 64);
        assert_int_equal(unlink(sh_gguf_path(g, i)), 0);
    }
    sh_gguf_close(g);
    sh_gguf_writer_destroy(w);
    assert_int_equal(count_files(), 0);
}

static void write__one_big_tensor_among_shards(void **state)
{
    static uint8_t data[10000];
    static const int64_t SIZES[] = {10, 10000, 10};
    struct sh_gguf_writer *w = create();
    struct sh_gguf *g = NULL;
    char path[128];

    (void)state;
    sh_gguf_put_tensor(w, SH_STR_LIT("a"), SH_DTYPE_I8, 1, &SIZES[0], data);
    sh_gguf_put_tensor(w, SH_STR_LIT("b"), SH_DTYPE_I8, 1, &SIZES[1], data);
    sh_gguf_put_tensor(w, SH_STR_LIT("c"), SH_DTYPE_I8, 1, &SIZES[2], data);
    (void)snprintf(path, sizeof path, "%s/s.gguf", folder);
    assert_int_equal(sh_gguf_write(w, path, 3, NULL), SHOAL_OK);
    (void)snprintf(path, sizeof path, "%s/s-00001-of-00003.gguf", folder);
    assert_int_equal(sh_gguf_open(&g, path, NULL), SHOAL_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sh_gguf_tensor(g, (size_t)i)->shard, i);
        assert_int_equal(unlink(sh_gguf_path(g, i)), 0);
    }
    sh_gguf_close(g);
    sh_gguf_writer_destroy(w);
}

/* Everything with the allocation after `n` others failing; true when none failed. */
static bool write_with_failure(int n, const char *path)
{
    static const float X[8] = {0};
    struct sh_gguf_writer *w;
    enum shoal_status st = SHOAL_ERR_NOMEM;

    sh_mem_fail_after(n);
    w = sh_gguf_writer_create();
    if (w) {
        fill_all_kinds(w);
        sh_gguf_put_tensor(w, SH_STR_LIT("t"), SH_DTYPE_F32, 1, (const int64_t[]){8}, X);
        sh_gguf_put_tensor(w, SH_STR_LIT("u"), SH_DTYPE_F32, 1, (const int64_t[]){8}, X);
        st = sh_gguf_write(w, path, 2, NULL);
    }
    sh_mem_fail_after(-1);
    sh_gguf_writer_destroy(w);
    if (st) assert_int_equal(st, SHOAL_ERR_NOMEM);
    return st == SHOAL_OK;
}

static void write__no_memory(void **state)
{
    const size_t live = sh_mem_live_bytes();
    char path[128], one[128], two[128];
    int n = 0;

    (void)state;
    (void)snprintf(path, sizeof path, "%s/n.gguf", folder);
    (void)snprintf(one, sizeof one, "%s/n-00001-of-00002.gguf", folder);
    (void)snprintf(two, sizeof two, "%s/n-00002-of-00002.gguf", folder);
    while (!write_with_failure(n, path)) {
        assert_int_equal(sh_mem_live_bytes(), live);
        assert_int_not_equal(access(one, F_OK), 0);
        n++;
    }
    assert_in_range(n, 20, 200);
    assert_int_equal(unlink(one), 0);
    (void)unlink(two);
    assert_int_equal(count_files(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write__known_bytes),
        cmocka_unit_test(write__all_kinds_come_back),
        cmocka_unit_test(write__copy_of_a_real_model),
        cmocka_unit_test(write__second_value_replaces_first),
        cmocka_unit_test(write__shapes_and_alignment),
        cmocka_unit_test(write__refuses),
        cmocka_unit_test(write__file_appears_whole_or_not),
        cmocka_unit_test(write__shards_are_about_even),
        cmocka_unit_test(write__one_big_tensor_among_shards),
        cmocka_unit_test(write__no_memory),
    };
    return cmocka_run_group_tests_name("gguf write", tests, make_folder, remove_folder);
}

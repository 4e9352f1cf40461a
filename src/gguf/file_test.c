/* Opening models by path: real ones, split ones, ones that shrink under us; and the getters. */
#include "gguf/bytes_test.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "gguf/write.h"

#define MODELS "tests/data/models/"

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

static const char *in_folder(char *out, size_t cap, const char *name)
{
    (void)snprintf(out, cap, "%s/%s", folder, name);
    return out;
}

static void open_ok(struct sh_gguf **g, const char *path)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_gguf_open(g, path, &err)) assert_string_equal(err.message, "");
    assert_non_null(*g);
}

static void open_bad(const char *path, enum shoal_status code, const char *part)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;

    assert_int_equal(sh_gguf_open(&g, path, &err), code);
    assert_null(g);
    if (!strstr(err.message, part)) assert_string_equal(err.message, part);
}

static void file__a_real_model(void **state)
{
    const struct sh_gguf_tensor *t;
    const struct sh_gguf_value *v;
    struct sh_gguf *g = NULL;
    struct sh_str s, tokens[104];
    uint32_t n;
    float eps;

    (void)state;
    open_ok(&g, MODELS "llama-dense-q4_0.gguf");
    assert_int_equal(sh_gguf_version(g), 3);
    assert_int_equal(sh_gguf_n_shards(g), 1);
    assert_int_equal(sh_gguf_alignment(g, 0), 32);
    assert_int_equal(sh_gguf_file_bytes(g, 0), 47168);
    assert_string_equal(sh_gguf_path(g, 0), MODELS "llama-dense-q4_0.gguf");
    assert_int_equal(sh_gguf_get_str(g, "general.architecture", SH_STR_EMPTY, &s, NULL), 0);
    assert_true(sh_str_is(s, "llama"));
    assert_int_equal(sh_gguf_get_u32(g, "llama.embedding_length", 0, &n, NULL), SHOAL_OK);
    assert_int_equal(n, 64);
    assert_int_equal(sh_gguf_get_f32(g, "llama.attention.layer_norm_rms_epsilon", 0, &eps, NULL),
                     SHOAL_OK);
    assert_true(eps > 0 && eps < 0.1f);

    assert_int_equal(sh_gguf_get_array(g, "tokenizer.ggml.tokens", SH_GGUF_STRING, &v, NULL), 0);
    assert_non_null(v);
    assert_int_equal(v->count, 104);
    assert_false(sh_gguf_fill_strings(v, tokens, 103));
    assert_true(sh_gguf_fill_strings(v, tokens, 104));
    assert_true(sh_str_is(tokens[1], "<|bos|>"));

    t = sh_gguf_find_tensor(g, SH_STR_LIT("token_embd.weight"));
    assert_non_null(t);
    assert_int_equal(t->dtype, SH_DTYPE_Q4_0);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->ne[0], 64);
    assert_int_equal(t->ne[1], 104);
    assert_int_equal(t->ne[2] * t->ne[3], 1);
    assert_int_equal(t->data_bytes, 64 / 32 * 18 * 104);
    assert_int_equal(t->offset % 32, 0);
    assert_null(sh_gguf_find_tensor(g, SH_STR_LIT("token_embd.weigh")));
    assert_null(sh_gguf_find_tensor(g, SH_STR_EMPTY));
    assert_null(sh_gguf_find(g, "no.such.key"));
    (void)read_everything(g);
    assert_false(sh_gguf_faulted(g));
    sh_gguf_close(g);
    sh_gguf_close(NULL);
}

static void file__all_golden_models_open(void **state)
{
    static const char *const NAMES[] = {
        "llama-dense",      "llama-dense-iq4_nl", "llama-dense-mxfp4", "llama-dense-q4_0",
        "llama-dense-q8_0", "llama-moe",          "llama-w256-q4_k",   "llama-w256-q6_k",
    };
    struct sh_gguf *g = NULL;
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        (void)snprintf(path, sizeof path, MODELS "%s.gguf", NAMES[i]);
        open_ok(&g, path);
        assert_in_range(sh_gguf_n_tensors(g), 10, 100);
        (void)read_everything(g);
        sh_gguf_close(g);
    }
}

static void file__what_is_no_file(void **state)
{
    char path[128];

    (void)state;
    open_bad("no/such/model.gguf", SHOAL_ERR_IO, "no/such/model.gguf: No such file");
    open_bad(folder, SHOAL_ERR_IO, "not a regular file");
    open_bad(in_folder(path, sizeof path, "missing.gguf"), SHOAL_ERR_IO, "No such file");
}

/* A writer with keys of all types. */
static struct sh_gguf_writer *all_types(void)
{
    struct sh_gguf_writer *w = sh_gguf_writer_create();

    assert_non_null(w);
    sh_gguf_put_int(w, "u8", SH_GGUF_U8, 255);
    sh_gguf_put_int(w, "i8", SH_GGUF_I8, -128);
    sh_gguf_put_int(w, "u16", SH_GGUF_U16, 65535);
    sh_gguf_put_int(w, "i16", SH_GGUF_I16, -32768);
    sh_gguf_put_u32(w, "u32", UINT32_MAX);
    sh_gguf_put_int(w, "i32", SH_GGUF_I32, INT32_MIN);
    sh_gguf_put_u64(w, "u64", UINT64_MAX);
    sh_gguf_put_int(w, "i64", SH_GGUF_I64, INT64_MIN);
    sh_gguf_put_f32(w, "f32", 1.5f);
    sh_gguf_put_f64(w, "f64", 2.25);
    sh_gguf_put_f64(w, "huge", 1e300);
    sh_gguf_put_f32(w, "nan", NAN);
    sh_gguf_put_f64(w, "inf", INFINITY);
    sh_gguf_put_bool(w, "bool", true);
    sh_gguf_put_str(w, "str", SH_STR_LIT("text"));
    sh_gguf_put_f32s(w, "f32s", (const float[]){1, 2}, 2);
    sh_gguf_put_ints(w, "i16s", SH_GGUF_I16, (const int64_t[]){-1, 0, 1}, 3);
    return w;
}

static struct sh_gguf *reopen(struct sh_gguf_writer *w, struct sh_buf *bytes)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;

    if (sh_gguf_write_memory(w, bytes, &err)) assert_string_equal(err.message, "");
    if (sh_gguf_open_memory(&g, bytes->ptr, bytes->len, "m.gguf", &err)) {
        assert_string_equal(err.message, "");
    }
    sh_gguf_writer_destroy(w);
    return g;
}

static void file__integers_of_any_width(void **state)
{
    static const struct {
        const char *key;
        int64_t value;
    } CASES[] = {
        {"u8", 255},         {"i8", -128},       {"u16", 65535},     {"i16", -32768},
        {"u32", UINT32_MAX}, {"i32", INT32_MIN}, {"i64", INT64_MIN}, {"absent", 77},
    };
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buf bytes = SH_BUF_INIT;
    struct sh_gguf *g = reopen(all_types(), &bytes);
    int64_t i;
    uint32_t n;
    uint64_t u;

    (void)state;
    for (size_t k = 0; k < sizeof CASES / sizeof CASES[0]; k++) {
        assert_int_equal(sh_gguf_get_i64(g, CASES[k].key, 77, &i, &err), SHOAL_OK);
        assert_true(i == CASES[k].value);
        assert_int_equal(sh_gguf_get_u32(g, CASES[k].key, 77, &n, &err),
                         CASES[k].value >= 0 ? SHOAL_OK : SHOAL_ERR_FORMAT);
        if (CASES[k].value >= 0) assert_int_equal(n, CASES[k].value);
    }
    assert_int_equal(sh_gguf_get_i64(g, "u64", 0, &i, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "gguf: m.gguf: key 'u64' is 18446744073709551615 (u64), it "
                                     "must be an integer of at most 63 bits");
    assert_true(sh_gguf_uint_at(sh_gguf_find(g, "u64"), 0, &u));
    assert_true(u == UINT64_MAX);
    assert_int_equal(sh_gguf_get_u32(g, "i8", 0, &n, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message,
                        "gguf: m.gguf: key 'i8' is -128 (i8), it must be an integer from 0 to "
                        "4294967295");
    assert_int_equal(sh_gguf_get_u32(g, "f32", 0, &n, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "key 'f32' is 1.5 (f32), it must be an integer"));
    assert_int_equal(sh_gguf_get_u32(g, "bool", 0, &n, &err), SHOAL_ERR_FORMAT);
    assert_int_equal(sh_gguf_get_u32(g, "i16s", 0, &n, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "key 'i16s' is an array of 3 i16, it must be"));
    sh_gguf_close(g);
    sh_buf_release(&bytes);
}

static void file__floats_bools_strings(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buf bytes = SH_BUF_INIT;
    struct sh_gguf *g = reopen(all_types(), &bytes);
    struct sh_str s;
    float f;
    bool b;

    (void)state;
    assert_int_equal(sh_gguf_get_f32(g, "f32", 0, &f, &err), SHOAL_OK);
    assert_true(f == 1.5f);
    assert_int_equal(sh_gguf_get_f32(g, "f64", 0, &f, &err), SHOAL_OK);
    assert_true(f == 2.25f);
    assert_int_equal(sh_gguf_get_f32(g, "absent", 7, &f, &err), SHOAL_OK);
    assert_true(f == 7);
    assert_int_equal(sh_gguf_get_f32(g, "huge", 0, &f, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "key 'huge' is 1e+300 (f64), it must be a finite float"));
    assert_int_equal(sh_gguf_get_f32(g, "nan", 0, &f, &err), SHOAL_ERR_FORMAT);
    assert_int_equal(sh_gguf_get_f32(g, "inf", 0, &f, &err), SHOAL_ERR_FORMAT);
    assert_int_equal(sh_gguf_get_f32(g, "u32", 0, &f, &err), SHOAL_ERR_FORMAT);
    assert_int_equal(sh_gguf_get_f32(g, "f32s", 0, &f, &err), SHOAL_ERR_FORMAT);
    assert_int_equal(sh_gguf_get_bool(g, "bool", false, &b, &err), SHOAL_OK);
    assert_true(b);
    assert_int_equal(sh_gguf_get_bool(g, "absent", true, &b, &err), SHOAL_OK);
    assert_true(b);
    assert_int_equal(sh_gguf_get_bool(g, "u8", false, &b, &err), SHOAL_ERR_FORMAT);
    assert_int_equal(sh_gguf_get_str(g, "str", SH_STR_EMPTY, &s, &err), SHOAL_OK);
    assert_true(sh_str_is(s, "text"));
    assert_int_equal(sh_gguf_get_str(g, "absent", SH_STR_LIT("x"), &s, &err), SHOAL_OK);
    assert_true(sh_str_is(s, "x"));
    assert_int_equal(sh_gguf_get_str(g, "u8", SH_STR_EMPTY, &s, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "key 'u8' is 255 (u8), it must be a string"));
    sh_gguf_close(g);
    sh_buf_release(&bytes);
}

static void file__arrays(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buf bytes = SH_BUF_INIT;
    struct sh_gguf *g = reopen(all_types(), &bytes);
    const struct sh_gguf_value *v;
    int64_t i;
    float f;

    (void)state;
    assert_int_equal(sh_gguf_get_array(g, "i16s", SH_GGUF_I32, &v, &err), SHOAL_OK);
    assert_int_equal(v->count, 3);
    assert_true(sh_gguf_int_at(v, 0, &i));
    assert_int_equal(i, -1);
    assert_false(sh_gguf_int_at(v, 3, &i));
    assert_false(sh_gguf_float_at(v, 0, &f));
    assert_int_equal(sh_gguf_get_array(g, "f32s", SH_GGUF_F32, &v, &err), SHOAL_OK);
    assert_true(sh_gguf_float_at(v, 1, &f));
    assert_true(f == 2);
    assert_int_equal(sh_gguf_get_array(g, "absent", SH_GGUF_F32, &v, &err), SHOAL_OK);
    assert_null(v);
    assert_int_equal(sh_gguf_get_array(g, "i16s", SH_GGUF_STRING, &v, &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "is an array of 3 i16, it must be an array of strings"));
    assert_int_equal(sh_gguf_get_array(g, "u8", SH_GGUF_U8, &v, &err), SHOAL_ERR_FORMAT);
    assert_int_equal(sh_gguf_need(g, "u8", &v, &err), SHOAL_OK);
    assert_int_equal(sh_gguf_need(g, "absent", &v, &err), SHOAL_ERR_FORMAT);
    assert_string_equal(err.message, "gguf: m.gguf: key 'absent' is missing");
    sh_gguf_close(g);
    sh_buf_release(&bytes);
}

/* Five tensors "t0" .. of 64 floats, tensor i full of i; in `n_shards` files. */
static void write_five(const char *path, int n_shards)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf_writer *w = sh_gguf_writer_create();
    float data[5][64];
    char name[16];

    assert_non_null(w);
    sh_gguf_put_str(w, "general.architecture", SH_STR_LIT("llama"));
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 64; k++)
            data[i][k] = (float)i;
        (void)snprintf(name, sizeof name, "t%d", i);
        sh_gguf_put_tensor(w, sh_str_from(name), SH_DTYPE_F32, 2, (const int64_t[]){32, 2},
                           data[i]);
    }
    if (sh_gguf_write(w, path, n_shards, &err)) assert_string_equal(err.message, "");
    sh_gguf_writer_destroy(w);
}

static void check_five(const struct sh_gguf *g)
{
    assert_int_equal(sh_gguf_n_tensors(g), 5);
    for (size_t i = 0; i < 5; i++) {
        const struct sh_gguf_tensor *t = sh_gguf_tensor(g, i);
        float last;
        assert_int_equal(t->name.ptr[1], '0' + (int)i);
        assert_int_equal(t->data_bytes, 256);
        memcpy(&last, (const char *)t->data + 252, sizeof last);
        assert_true(last == (float)i);
    }
}

static void shard_path(char *out, size_t cap, int no)
{
    (void)snprintf(out, cap, "%s/m-%05d-of-00003.gguf", folder, no);
}

static void remove_shards(void)
{
    char path[128];

    for (int i = 1; i <= 3; i++) {
        shard_path(path, sizeof path, i);
        (void)unlink(path);
    }
}

static void file__split_model_from_any_shard(void **state)
{
    struct sh_gguf *g = NULL;
    char path[128];

    (void)state;
    write_five(in_folder(path, sizeof path, "m.gguf"), 3);
    for (int i = 1; i <= 3; i++) {
        shard_path(path, sizeof path, i);
        open_ok(&g, path);
        assert_int_equal(sh_gguf_n_shards(g), 3);
        check_five(g);
        assert_non_null(sh_gguf_find(g, "general.architecture"));
        assert_int_equal(sh_gguf_tensor(g, 0)->shard, 0);
        assert_int_equal(sh_gguf_tensor(g, 4)->shard, 2);
        assert_string_equal(sh_gguf_path(g, i - 1), path);
        sh_gguf_close(g);
    }
    remove_shards();
}

static void file__split_model_with_a_shard_missing(void **state)
{
    char path[128], gone[128];

    (void)state;
    write_five(in_folder(path, sizeof path, "m.gguf"), 3);
    shard_path(path, sizeof path, 1);
    shard_path(gone, sizeof gone, 2);
    assert_int_equal(unlink(gone), 0);
    open_bad(path, SHOAL_ERR_IO, "shard 2 of 3: cannot open ");
    open_bad(path, SHOAL_ERR_IO, "m-00002-of-00003.gguf: No such file");
    remove_shards();
}

static void file__split_model_in_disorder(void **state)
{
    char one[128], two[128], three[128], other[128];

    (void)state;
    write_five(in_folder(one, sizeof one, "m.gguf"), 3);
    shard_path(one, sizeof one, 1);
    shard_path(two, sizeof two, 2);
    shard_path(three, sizeof three, 3);
    in_folder(other, sizeof other, "other.gguf");

    assert_int_equal(rename(one, other), 0);
    open_bad(other, SHOAL_ERR_FORMAT, "shard 1 of 3, so its name must end in -00001-of-00003.gguf");
    assert_int_equal(rename(other, one), 0);

    assert_int_equal(rename(two, other), 0);
    assert_int_equal(link(three, two), 0); // shard 3 under the name of shard 2
    open_bad(one, SHOAL_ERR_FORMAT, "it says that it is shard 3 of 3, its name says 2 of 3");
    assert_int_equal(unlink(two), 0);
    write_five(two, 1); // a whole model under the name of shard 2
    open_bad(one, SHOAL_ERR_FORMAT, "it says that it is shard 1 of 1, its name says 2 of 3");
    assert_int_equal(rename(other, two), 0);

    assert_int_equal(truncate(three, 30), 0);
    open_bad(one, SHOAL_ERR_FORMAT, "shard 3 of 3: gguf: ");
    remove_shards();
}

/* One shard of two by hand. */
static void write_shard(const char *name, int no, int total, const char *tensor)
{
    struct sh_buf b = SH_BUF_INIT;
    char path[128];
    FILE *f;

    put_header(&b, 3, 1, 3);
    put_u32_pair(&b, "split.no", (uint32_t)no); // u32: third-party files have any integer here
    put_u32_pair(&b, "split.count", 2);
    put_u32_pair(&b, "split.tensors.count", (uint32_t)total);
    put_info(&b, tensor, 4, 1, SH_DTYPE_F32, 0);
    put_padding(&b, 32, 16);
    f = fopen(in_folder(path, sizeof path, name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b.ptr, 1, b.len, f), b.len);
    assert_int_equal(fclose(f), 0);
    sh_buf_release(&b);
}

static void file__split_model_that_lies(void **state)
{
    struct sh_gguf *g = NULL;
    char one[128], two[128];

    (void)state;
    in_folder(one, sizeof one, "s-00001-of-00002.gguf");
    in_folder(two, sizeof two, "s-00002-of-00002.gguf");
    write_shard("s-00001-of-00002.gguf", 0, 2, "a");
    write_shard("s-00002-of-00002.gguf", 1, 2, "b");
    open_ok(&g, one);
    sh_gguf_close(g);
    write_shard("s-00001-of-00002.gguf", 0, 3, "a");
    open_bad(one, SHOAL_ERR_FORMAT, "split.tensors.count is 3, its 2 shards hold 2 tensors");
    write_shard("s-00001-of-00002.gguf", 0, 2, "b");
    open_bad(one, SHOAL_ERR_FORMAT, "s-00002-of-00002.gguf: tensor 'b' is in shard 1 already");
    write_shard("s-00001-of-00002.gguf", 2, 2, "a");
    open_bad(one, SHOAL_ERR_FORMAT, "key 'split.no' is 2, it must be from 0 to 1");
    assert_int_equal(unlink(one), 0);
    assert_int_equal(unlink(two), 0);
}

static void file__split_model_in_memory(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buf b = SH_BUF_INIT;
    struct sh_gguf *g = NULL;

    (void)state;
    put_header(&b, 3, 0, 1);
    put_u32_pair(&b, "split.count", 2);
    assert_int_equal(sh_gguf_open_memory(&g, b.ptr, b.len, "m", &err), SHOAL_ERR_UNSUPPORTED);
    assert_null(g);
    assert_non_null(strstr(err.message, "gguf: m: shard 1 of 2 in memory"));
    b.len = 0;
    put_header(&b, 3, 0, 1);
    put_u32_pair(&b, "split.count", 1000000);
    assert_int_equal(sh_gguf_open_memory(&g, b.ptr, b.len, "m", &err), SHOAL_ERR_FORMAT);
    assert_non_null(strstr(err.message, "key 'split.count' is 1000000, it must be from 0 to 4096"));
    sh_buf_release(&b);
}

static void file__shrinks_while_mapped(void **state)
{
    struct sh_gguf_writer *w = sh_gguf_writer_create();
    struct sh_gguf *g = NULL;
    static float data[16384];
    char path[128];
    float last = 7;

    (void)state;
    for (size_t i = 0; i < 16384; i++)
        data[i] = 1;
    assert_non_null(w);
    sh_gguf_put_tensor(w, SH_STR_LIT("t"), SH_DTYPE_F32, 1, (const int64_t[]){16384}, data);
    assert_int_equal(sh_gguf_write(w, in_folder(path, sizeof path, "s.gguf"), 1, NULL), SHOAL_OK);
    sh_gguf_writer_destroy(w);

    open_ok(&g, path);
    assert_false(sh_gguf_faulted(g));
    assert_int_equal(truncate(path, 4096), 0);
    memcpy(&last, (const char *)sh_gguf_tensor(g, 0)->data + 65532, sizeof last);
    assert_true(last == 0); // the lost page reads as zeros
    assert_true(sh_gguf_faulted(g));
    sh_gguf_close(g);
    open_bad(path, SHOAL_ERR_FORMAT, "tensor 't': its 65536 bytes at offset 0 end beyond the file");
    assert_int_equal(unlink(path), 0);
}

static void file__no_memory(void **state)
{
    char path[128];
    int n_failed = 0;

    (void)state;
    write_five(in_folder(path, sizeof path, "m.gguf"), 3);
    shard_path(path, sizeof path, 2);
    for (int i = 0;; i++) {
        struct sh_gguf *g = NULL;
        const size_t live = sh_mem_live_bytes();
        enum shoal_status st;
        sh_mem_fail_after(i);
        st = sh_gguf_open(&g, path, NULL);
        sh_mem_fail_after(-1);
        if (!st) {
            sh_gguf_close(g);
            break;
        }
        assert_int_equal(st, SHOAL_ERR_NOMEM);
        assert_null(g);
        assert_int_equal(sh_mem_live_bytes(), live);
        n_failed++;
    }
    assert_in_range(n_failed, 15, 100);
    remove_shards();
}

static void file__long_paths_keep_their_end(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    char name[600];

    (void)state;
    memset(name, 'd', sizeof name);
    memcpy(name + sizeof name - 8, "/m.gguf", 8);
    assert_int_equal(sh_gguf_open_memory(&g, "none", 4, name, &err), SHOAL_ERR_FORMAT);
    assert_memory_equal(err.message, "gguf: ...ddd", 12);
    assert_non_null(strstr(err.message, "dd/m.gguf: no GGUF file: it starts with \"none\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file__a_real_model),
        cmocka_unit_test(file__all_golden_models_open),
        cmocka_unit_test(file__what_is_no_file),
        cmocka_unit_test(file__integers_of_any_width),
        cmocka_unit_test(file__floats_bools_strings),
        cmocka_unit_test(file__arrays),
        cmocka_unit_test(file__split_model_from_any_shard),
        cmocka_unit_test(file__split_model_with_a_shard_missing),
        cmocka_unit_test(file__split_model_in_disorder),
        cmocka_unit_test(file__split_model_that_lies),
        cmocka_unit_test(file__split_model_in_memory),
        cmocka_unit_test(file__shrinks_while_mapped),
        cmocka_unit_test(file__no_memory),
        cmocka_unit_test(file__long_paths_keep_their_end),
    };
    return cmocka_run_group_tests_name("gguf file", tests, make_folder, remove_folder);
}

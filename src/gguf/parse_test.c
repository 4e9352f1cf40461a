/* Bad GGUF files, each refused with one sentence that names path, item and value. */
#include "gguf/bytes_test.h"

#include <stdio.h>

static const char DOTS[] = "gguf: m.gguf: ";

/* Opening fails with `code` and a message that has `part` in it.  Releases `b`. */
static void refuse(struct sh_buf *b, enum shoal_status code, const char *part)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    uint8_t *copy;

    assert_int_equal(open_copy(&g, &copy, b->ptr, b->len, &err), code);
    assert_null(g);
    assert_int_equal(err.code, code);
    assert_memory_equal(err.message, DOTS, sizeof DOTS - 1);
    if (!strstr(err.message, part)) assert_string_equal(err.message, part);
    free(copy);
    sh_buf_release(b);
}

static void accept(struct sh_buf *b)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    uint8_t *copy;

    if (open_copy(&g, &copy, b->ptr, b->len, &err)) assert_string_equal(err.message, "");
    (void)read_everything(g);
    sh_gguf_close(g);
    free(copy);
    sh_buf_release(b);
}

static void parse__header(void **state)
{
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    refuse(&b, SHOAL_ERR_FORMAT, "the file has 0 bytes, a GGUF header takes 24");
    assert_int_equal(sh_buf_append(&b, "PK\3\4....................", 24), SHOAL_OK);
    refuse(&b, SHOAL_ERR_FORMAT, "starts with \"PK\\x03\\x04\"");
    put_header(&b, 1, 0, 0);
    refuse(&b, SHOAL_ERR_UNSUPPORTED, "version 1");
    put_header(&b, 4, 0, 0);
    refuse(&b, SHOAL_ERR_UNSUPPORTED, "version 4 is unknown");
    put_header(&b, 0, 0, 0);
    refuse(&b, SHOAL_ERR_UNSUPPORTED, "version 0 is unknown");
    put_header(&b, 0x03000000, 0, 0);
    refuse(&b, SHOAL_ERR_UNSUPPORTED, "big-endian");
    put_header(&b, 2, 0, 0);
    accept(&b);
    put_header(&b, 3, 0, 0);
    accept(&b);
}

static void parse__lying_counts(void **state)
{
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    put_header(&b, 3, UINT64_MAX, 0);
    refuse(&b, SHOAL_ERR_FORMAT, "the number of tensors is -1");
    put_header(&b, 3, 0, (uint64_t)INT64_MIN);
    refuse(&b, SHOAL_ERR_FORMAT, "the number of metadata keys is -9223372036854775808");
    put_header(&b, 3, INT64_MAX, 0);
    refuse(&b, SHOAL_ERR_FORMAT, "9223372036854775807 tensors do not fit into the 0 bytes");
    put_header(&b, 3, 0, 2);
    put_padding(&b, 1, 27);
    refuse(&b, SHOAL_ERR_FORMAT, "2 metadata keys do not fit into the 27 bytes");
    put_header(&b, 3, 0, SH_GGUF_KV_MAX + 1);
    put_padding(&b, 1, (size_t)(SH_GGUF_KV_MAX + 1) * 14);
    refuse(&b, SHOAL_ERR_LIMIT, "65537 metadata keys, at most 65536");
    put_header(&b, 3, SH_GGUF_TENSORS_MAX + 1, 0);
    put_padding(&b, 1, (size_t)(SH_GGUF_TENSORS_MAX + 1) * 33);
    refuse(&b, SHOAL_ERR_LIMIT, "262145 tensors, at most 262144");
}

static void parse__keys(void **state)
{
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    put_header(&b, 3, 0, 1);
    put_u32_pair(&b, "", 1);
    put_padding(&b, 1, 10);
    refuse(&b, SHOAL_ERR_FORMAT, "key 1 of 1 is empty");

    put_header(&b, 3, 0, 1);
    put_le(&b, 3, 8);
    assert_int_equal(sh_buf_append(&b, "a\0b", 3), SHOAL_OK);
    put_le(&b, SH_GGUF_U32, 4);
    put_le(&b, 1, 4);
    refuse(&b, SHOAL_ERR_FORMAT, "key 1 of 1, 'a\\x00b', has a NUL byte");

    put_header(&b, 3, 0, 1);
    put_le(&b, UINT64_MAX, 8);
    put_padding(&b, 1, 20);
    refuse(&b, SHOAL_ERR_FORMAT, "key 1 of 1 is 18446744073709551615 bytes long, the file has 20");

    put_header(&b, 3, 0, 1);
    put_le(&b, SH_GGUF_KEY_BYTES_MAX + 1, 8);
    put_padding(&b, 1, SH_GGUF_KEY_BYTES_MAX + 100);
    refuse(&b, SHOAL_ERR_LIMIT, "key 1 of 1 is 65536 bytes long, at most 65535");

    put_header(&b, 3, 0, 3);
    put_u32_pair(&b, "x.a", 1);
    put_u32_pair(&b, "x.b", 1);
    put_u32_pair(&b, "x.a", 2);
    refuse(&b, SHOAL_ERR_FORMAT, "keys 1 and 3 are both 'x.a'");
}

/* One pair "k" of type `type` with `n` bytes of value behind it. */
static void put_raw_pair(struct sh_buf *b, uint32_t type, const void *value, size_t n)
{
    put_header(b, 3, 0, 1);
    put_text(b, "k");
    put_le(b, type, 4);
    assert_int_equal(sh_buf_append(b, value, n), SHOAL_OK);
}

static void parse__values(void **state)
{
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    put_raw_pair(&b, 13, "........", 8);
    refuse(&b, SHOAL_ERR_FORMAT, "key 'k': value type 13 is unknown");
    put_raw_pair(&b, UINT32_MAX, "........", 8);
    refuse(&b, SHOAL_ERR_FORMAT, "key 'k': value type -1 is unknown");
    put_raw_pair(&b, SH_GGUF_BOOL, "\2", 1);
    refuse(&b, SHOAL_ERR_FORMAT, "key 'k': element 0 is the bool 2");
    put_raw_pair(&b, SH_GGUF_BOOL, "\1", 1);
    accept(&b);
    put_raw_pair(&b, SH_GGUF_U64, "1234567", 7);
    refuse(&b, SHOAL_ERR_FORMAT, "the file ends inside key 'k'");
    put_raw_pair(&b, SH_GGUF_STRING, "\5\0\0\0\0\0\0\0four", 12);
    refuse(&b, SHOAL_ERR_FORMAT, "key 'k': string 1 of 1 is 5 bytes long, the file has 4 left");
    put_raw_pair(&b, SH_GGUF_STRING, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    refuse(&b, SHOAL_ERR_FORMAT, "string 1 of 1 is 18446744073709551615 bytes long");
    put_raw_pair(&b, SH_GGUF_STRING, "\0\0\0\0\0\0\0\0", 8);
    accept(&b);
}

static void put_array(struct sh_buf *b, uint32_t elem, uint64_t n, size_t bytes)
{
    put_raw_pair(b, SH_GGUF_ARRAY, "", 0);
    put_le(b, elem, 4);
    put_le(b, n, 8);
    for (size_t i = 0; i < bytes; i++)
        put_le(b, 0, 1);
}

static void parse__arrays(void **state)
{
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    put_array(&b, SH_GGUF_ARRAY, 1, 20);
    refuse(&b, SHOAL_ERR_UNSUPPORTED, "key 'k' is an array of arrays");
    put_array(&b, 99, 1, 20);
    refuse(&b, SHOAL_ERR_FORMAT, "key 'k': element type 99 is unknown");
    put_array(&b, SH_GGUF_U32, 3, 11);
    refuse(&b, SHOAL_ERR_FORMAT, "an array of 3 times u32 does not fit into the 11 bytes left");
    put_array(&b, SH_GGUF_U32, UINT64_MAX / 4 + 2, 100);
    refuse(&b, SHOAL_ERR_FORMAT, "an array of 4611686018427387905 times u32 does not fit");
    put_array(&b, SH_GGUF_STRING, 2, 15);
    refuse(&b, SHOAL_ERR_FORMAT, "an array of 2 times string does not fit into the 15 bytes");
    put_array(&b, SH_GGUF_STRING, 1, 0);
    refuse(&b, SHOAL_ERR_FORMAT, "does not fit into the 0 bytes left");
    put_array(&b, SH_GGUF_STRING, 2, 16);
    accept(&b);
    put_array(&b, SH_GGUF_F64, 0, 0);
    accept(&b);
    put_array(&b, SH_GGUF_BOOL, 2, 1);
    refuse(&b, SHOAL_ERR_FORMAT, "does not fit");
    put_array(&b, SH_GGUF_BOOL, 2, 1);
    put_le(&b, 9, 1);
    refuse(&b, SHOAL_ERR_FORMAT, "key 'k': element 1 is the bool 9");
    put_array(&b, SH_GGUF_STRING, 2, 8);
    put_le(&b, 1, 8);
    refuse(&b, SHOAL_ERR_FORMAT, "string 2 of 2 is 1 bytes long, the file has 0 left");
}

static void parse__alignment(void **state)
{
    static const uint32_t BAD[] = {0, 1, 4, 24, 33, 1u << 21, UINT32_MAX};
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        put_header(&b, 3, 0, 1);
        put_u32_pair(&b, "general.alignment", BAD[i]);
        refuse(&b, SHOAL_ERR_FORMAT, "must be a power of two from 8 to 1048576");
    }
    put_header(&b, 3, 0, 1);
    put_text(&b, "general.alignment");
    put_le(&b, SH_GGUF_U64, 4);
    put_le(&b, 32, 8);
    refuse(&b, SHOAL_ERR_FORMAT, "general.alignment has type u64, it must be u32");

    put_header(&b, 3, 1, 1);
    put_u32_pair(&b, "general.alignment", 256);
    put_info(&b, "t", 4, 1, SH_DTYPE_F32, 0);
    put_padding(&b, 256, 16);
    accept(&b);
}

/* One tensor "t" of the given description and `bytes` bytes of data section. */
static void put_tensor_file(struct sh_buf *b, uint64_t ne0, uint64_t ne1, uint32_t type,
                            uint64_t offset, size_t bytes)
{
    put_header(b, 3, 1, 0);
    put_info(b, "t", ne0, ne1, type, offset);
    put_padding(b, 32, bytes);
}

static void parse__tensor_types(void **state)
{
    static const uint32_t RETIRED[] = {4, 5, 31, 32, 33, 36, 37, 38};
    struct sh_buf b = SH_BUF_INIT;
    char text[64];

    (void)state;
    put_tensor_file(&b, 4, 1, 43, 0, 64);
    refuse(&b, SHOAL_ERR_UNSUPPORTED, "tensor 't' has type 43, which is unknown");
    put_tensor_file(&b, 4, 1, UINT32_MAX, 0, 64);
    refuse(&b, SHOAL_ERR_UNSUPPORTED, "tensor 't' has type -1, which is unknown");
    for (size_t i = 0; i < sizeof RETIRED / sizeof RETIRED[0]; i++) {
        put_tensor_file(&b, 32, 1, RETIRED[i], 0, 64);
        (void)snprintf(text, sizeof text, "tensor 't' has type %u, which is retired", RETIRED[i]);
        refuse(&b, SHOAL_ERR_UNSUPPORTED, text);
    }
    put_tensor_file(&b, 33, 1, SH_DTYPE_Q4_0, 0, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "rows of 33 elements are no whole blocks of q4_0 (32 each)");
    put_tensor_file(&b, 64, 2, SH_DTYPE_Q4_0, 0, 72);
    accept(&b);
}

static void parse__tensor_shapes(void **state)
{
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    put_tensor_file(&b, 0, 1, SH_DTYPE_F32, 0, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "tensor 't': dimension 0 is 0");
    put_tensor_file(&b, 4, UINT64_MAX, SH_DTYPE_F32, 0, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "tensor 't': dimension 1 is 18446744073709551615");
    put_tensor_file(&b, UINT64_C(1) << 32, UINT64_C(1) << 32, SH_DTYPE_F32, 0, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "product of its dimensions overflows at dimension 1, 4294967296");
    put_tensor_file(&b, UINT64_C(1) << 62, 4, SH_DTYPE_F32, 0, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "product of its dimensions overflows");
    put_tensor_file(&b, UINT64_C(1) << 62, 1, SH_DTYPE_F32, 0, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "more bytes than can be counted");
    put_tensor_file(&b, (UINT64_C(1) << 61) - 1, 1, SH_DTYPE_F64, 0, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "end beyond the file, which has 64 bytes of data");

    put_header(&b, 3, 1, 0);
    put_text(&b, "t");
    put_le(&b, 0, 4);
    put_padding(&b, 1, 40);
    refuse(&b, SHOAL_ERR_FORMAT, "tensor 't' has 0 dimensions, 1 to 4 are possible");
    put_header(&b, 3, 1, 0);
    put_text(&b, "t");
    put_le(&b, 5, 4);
    put_padding(&b, 1, 80);
    refuse(&b, SHOAL_ERR_FORMAT, "tensor 't' has 5 dimensions, 1 to 4 are possible");
}

static void parse__tensor_names(void **state)
{
    struct sh_buf b = SH_BUF_INIT;
    char name[65] = {0};

    (void)state;
    put_header(&b, 3, 1, 0);
    put_info(&b, "", 4, 1, SH_DTYPE_F32, 0);
    put_padding(&b, 32, 32);
    refuse(&b, SHOAL_ERR_FORMAT, "tensor 1 of 1 has no name");

    memset(name, 'n', 64);
    put_header(&b, 3, 1, 0);
    put_info(&b, name, 4, 1, SH_DTYPE_F32, 0);
    put_padding(&b, 32, 32);
    refuse(&b, SHOAL_ERR_LIMIT, "the name of tensor 1 of 1 is 64 bytes long, at most 63");
    name[63] = '\0';
    put_header(&b, 3, 1, 0);
    put_info(&b, name, 4, 1, SH_DTYPE_F32, 0);
    put_padding(&b, 32, 32);
    accept(&b);

    put_header(&b, 3, 1, 0);
    put_le(&b, 2, 8);
    put_le(&b, 'x', 2);
    put_padding(&b, 1, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "tensor 1 of 1, 'x\\x00', has a NUL byte in its name");

    put_header(&b, 3, 3, 0);
    put_info(&b, "same", 4, 1, SH_DTYPE_F32, 0);
    put_info(&b, "other", 4, 1, SH_DTYPE_F32, 32);
    put_info(&b, "same", 4, 1, SH_DTYPE_F32, 64);
    put_padding(&b, 32, 96);
    refuse(&b, SHOAL_ERR_FORMAT, "two tensors are called 'same'");

    put_header(&b, 3, 1, 0);
    put_info(&b, "\x1b[2J\n", 4, 1, 99, 0);
    put_padding(&b, 32, 32);
    refuse(&b, SHOAL_ERR_UNSUPPORTED, "tensor '\\x1b[2J\\x0a' has type 99");
}

static void parse__tensor_places(void **state)
{
    struct sh_buf b = SH_BUF_INIT;

    (void)state;
    put_tensor_file(&b, 4, 1, SH_DTYPE_F32, 16, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "its offset 16 is no multiple of the alignment 32");
    put_tensor_file(&b, 4, 1, SH_DTYPE_F32, 64, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "its 16 bytes at offset 64 end beyond the file");
    put_tensor_file(&b, 4, 1, SH_DTYPE_F32, UINT64_MAX - 31, 64);
    refuse(&b, SHOAL_ERR_FORMAT, "its 16 bytes at offset 18446744073709551584 end beyond");
    put_tensor_file(&b, 4, 5, SH_DTYPE_F32, 0, 79);
    refuse(&b, SHOAL_ERR_FORMAT, "its 80 bytes at offset 0 end beyond the file, which has 79");
    put_tensor_file(&b, 4, 5, SH_DTYPE_F32, 0, 80); // the last tensor without its padding
    accept(&b);

    put_header(&b, 3, 2, 0);
    put_info(&b, "a", 16, 1, SH_DTYPE_F32, 32);
    put_info(&b, "b", 16, 1, SH_DTYPE_F32, 0);
    put_padding(&b, 32, 96);
    refuse(&b, SHOAL_ERR_FORMAT, "tensor 'a' at byte 160 overlaps tensor 'b', 64 bytes at");
    put_header(&b, 3, 2, 0);
    put_info(&b, "a", 4, 1, SH_DTYPE_F32, 0);
    put_info(&b, "b", 4, 1, SH_DTYPE_F32, 0);
    put_padding(&b, 32, 96);
    refuse(&b, SHOAL_ERR_FORMAT, "tensor 'b' at byte 128 overlaps tensor 'a'");
    put_header(&b, 3, 2, 0); // out of order and with a gap, but sound
    put_info(&b, "a", 4, 1, SH_DTYPE_F32, 96);
    put_info(&b, "b", 4, 1, SH_DTYPE_F32, 0);
    put_padding(&b, 32, 112);
    accept(&b);

    put_header(&b, 3, 1, 0);
    put_info(&b, "t", 4, 1, SH_DTYPE_F32, 0);
    refuse(&b, SHOAL_ERR_FORMAT, "its data starts at byte 96");
}

/* A file with a bit of everything.  *data_end is where the last tensor ends. */
static void put_rich_file(struct sh_buf *b, size_t *data_end)
{
    put_header(b, 3, 2, 5);
    put_text(b, "general.architecture");
    put_le(b, SH_GGUF_STRING, 4);
    put_text(b, "llama");
    put_u32_pair(b, "llama.block_count", 2);
    put_text(b, "tokenizer.ggml.tokens");
    put_le(b, SH_GGUF_ARRAY, 4);
    put_le(b, SH_GGUF_STRING, 4);
    put_le(b, 3, 8);
    put_text(b, "<s>");
    put_text(b, "");
    put_text(b, "hello");
    put_text(b, "flags");
    put_le(b, SH_GGUF_ARRAY, 4);
    put_le(b, SH_GGUF_BOOL, 4);
    put_le(b, 2, 8);
    put_le(b, 0x0100, 2);
    put_text(b, "eps");
    put_le(b, SH_GGUF_F64, 4);
    put_le(b, UINT64_C(0x3ff8000000000000), 8);
    put_info(b, "a.weight", 32, 2, SH_DTYPE_Q8_0, 0);
    put_info(b, "b.weight", 5, 1, SH_DTYPE_F32, 96);
    put_padding(b, 32, 96 + 20);
    *data_end = b->len;
    put_padding(b, 32, 0);
}

static void parse__every_prefix(void **state)
{
    struct sh_buf b = SH_BUF_INIT;
    size_t data_end;

    (void)state;
    put_rich_file(&b, &data_end);
    for (size_t n = 0; n <= b.len; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_gguf *g = NULL;
        uint8_t *copy;
        const enum shoal_status st = open_copy(&g, &copy, b.ptr, n, &err);
        if (n < data_end) {
            assert_int_equal(st, SHOAL_ERR_FORMAT);
            assert_null(g);
            assert_memory_equal(err.message, DOTS, sizeof DOTS - 1);
        } else {
            assert_int_equal(st, SHOAL_OK);
            (void)read_everything(g);
        }
        sh_gguf_close(g);
        free(copy);
    }
    sh_buf_release(&b);
}

/* Open damaged bytes.  Whatever comes of it must be a status, or a model that can be read. */
static bool survive(const uint8_t *p, size_t n)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    uint8_t *copy;
    const enum shoal_status st = open_copy(&g, &copy, p, n, &err);

    if (st) {
        assert_null(g);
        assert_int_equal(err.code, st);
        assert_int_not_equal(strlen(err.message), 0);
    } else {
        (void)read_everything(g);
    }
    sh_gguf_close(g);
    free(copy);
    return st == SHOAL_OK;
}

static void parse__every_byte_changed(void **state)
{
    static const uint8_t FLIPS[] = {0x01, 0x10, 0x80, 0xff};
    struct sh_buf b = SH_BUF_INIT;
    size_t data_end, n_opened = 0;

    (void)state;
    put_rich_file(&b, &data_end);
    for (size_t i = 0; i < b.len; i++) {
        for (size_t k = 0; k < sizeof FLIPS; k++) {
            uint8_t *p = (uint8_t *)b.ptr;
            p[i] ^= FLIPS[k];
            n_opened += survive(p, b.len);
            p[i] ^= FLIPS[k];
        }
    }
    assert_in_range(n_opened, 1, b.len * sizeof FLIPS - 1); // some do not matter, some do
    sh_buf_release(&b);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void parse__random_bytes(void **state)
{
    struct sh_buf b = SH_BUF_INIT;
    uint32_t seed = 20;
    size_t data_end;

    (void)state;
    put_rich_file(&b, &data_end);
    for (int round = 0; round < 3000; round++) {
        uint8_t *p = malloc(b.len);
        const size_t from = round % 3 == 0 ? 0 : round % 3 == 1 ? 8 : 24;
        assert_non_null(p);
        memcpy(p, b.ptr, b.len);
        if (round % 2) {
            for (size_t i = from; i < b.len; i++)
                p[i] = (uint8_t)next_random(&seed);
        } else {
            for (int i = 0; i < 1 + round % 5; i++)
                p[from + next_random(&seed) % (b.len - from)] = (uint8_t)next_random(&seed);
        }
        (void)survive(p, b.len);
        free(p);
    }
    sh_buf_release(&b);
}

static void parse__no_memory(void **state)
{
    struct sh_buf b = SH_BUF_INIT;
    size_t data_end;
    int n_failed = 0;

    (void)state;
    put_rich_file(&b, &data_end);
    for (int i = 0;; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_gguf *g = NULL;
        const size_t live = sh_mem_live_bytes();
        enum shoal_status st;
        sh_mem_fail_after(i);
        st = sh_gguf_open_memory(&g, b.ptr, b.len, "m.gguf", &err);
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
    assert_in_range(n_failed, 6, 50);
    sh_buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__header),       cmocka_unit_test(parse__lying_counts),
        cmocka_unit_test(parse__keys),         cmocka_unit_test(parse__values),
        cmocka_unit_test(parse__arrays),       cmocka_unit_test(parse__alignment),
        cmocka_unit_test(parse__tensor_types), cmocka_unit_test(parse__tensor_shapes),
        cmocka_unit_test(parse__tensor_names), cmocka_unit_test(parse__tensor_places),
        cmocka_unit_test(parse__every_prefix), cmocka_unit_test(parse__every_byte_changed),
        cmocka_unit_test(parse__random_bytes), cmocka_unit_test(parse__no_memory),
    };
    return cmocka_run_group_tests_name("gguf parse", tests, NULL, NULL);
}

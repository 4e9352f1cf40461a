/* Golden bytes: every record, request and answer at the offsets that the protocol gives them. */
#include "ggmlrpc/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* A record whose fields all differ, and where each of its bytes must lie. */
static struct sh_wire_tensor sample(unsigned seed)
{
    struct sh_wire_tensor t = {.id = UINT64_C(0x0807060504030201) + seed,
                               .type = 0x1c1b1a19,
                               .buffer = UINT64_C(0x2827262524232221),
                               .ne = {0x31, 0x32, 0x33, 0xfffffff4},
                               .nb = {0x41, 0x42, 0x43, 0xfffffff5},
                               .op = 0x51525354,
                               .flags = 0x61626364,
                               .view_src = UINT64_C(0x7172737475767778),
                               .view_offs = UINT64_C(0x8182838485868788),
                               .data = UINT64_C(0x9192939495969798),
                               .name = "blk.0.attn_q",
                               .use_count = -2};

    for (int i = 0; i < SH_WIRE_PARAMS; i++)
        t.params[i] = -(i + 1);
    for (int i = 0; i < SH_WIRE_SRC; i++)
        t.src[i] = UINT64_C(0xa0b0c0d000000000) + (unsigned)i + seed;
    return t;
}

static void expect_le(const uint8_t *at, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(at[i], (uint8_t)(v >> (8 * i)));
}

static void expect_sample(const uint8_t *b, unsigned seed)
{
    static const char name[64] = "blk.0.attn_q";

    expect_le(b, UINT64_C(0x0807060504030201) + seed, 8);
    expect_le(b + 8, 0x1c1b1a19, 4);
    expect_le(b + 12, UINT64_C(0x2827262524232221), 8);
    expect_le(b + 20, 0x31, 4);
    expect_le(b + 24, 0x32, 4);
    expect_le(b + 28, 0x33, 4);
    expect_le(b + 32, 0xfffffff4, 4);
    expect_le(b + 36, 0x41, 4);
    expect_le(b + 40, 0x42, 4);
    expect_le(b + 44, 0x43, 4);
    expect_le(b + 48, 0xfffffff5, 4);
    expect_le(b + 52, 0x51525354, 4);
    for (unsigned i = 0; i < 16; i++)
        expect_le(b + 56 + 4 * i, (uint32_t) - (int32_t)(i + 1), 4);
    expect_le(b + 120, 0x61626364, 4);
    for (unsigned i = 0; i < 10; i++)
        expect_le(b + 124 + 8 * i, UINT64_C(0xa0b0c0d000000000) + i + seed, 8);
    expect_le(b + 204, UINT64_C(0x7172737475767778), 8);
    expect_le(b + 212, UINT64_C(0x8182838485868788), 8);
    expect_le(b + 220, UINT64_C(0x9192939495969798), 8);
    assert_memory_equal(b + 228, name, 64);
    expect_le(b + 292, 0xfffffffe, 4);
}

static void expect_equal(const struct sh_wire_tensor *a, const struct sh_wire_tensor *b)
{
    assert_true(a->id == b->id);
    assert_int_equal(a->type, b->type);
    assert_true(a->buffer == b->buffer);
    assert_memory_equal(a->ne, b->ne, sizeof a->ne);
    assert_memory_equal(a->nb, b->nb, sizeof a->nb);
    assert_int_equal(a->op, b->op);
    assert_memory_equal(a->params, b->params, sizeof a->params);
    assert_int_equal(a->flags, b->flags);
    assert_memory_equal(a->src, b->src, sizeof a->src);
    assert_true(a->view_src == b->view_src);
    assert_true(a->view_offs == b->view_offs);
    assert_true(a->data == b->data);
    assert_memory_equal(a->name, b->name, sizeof a->name);
    assert_int_equal(a->use_count, b->use_count);
}

static void wire__tensor_record_has_the_protocols_offsets(void **state)
{
    uint8_t bytes[SH_WIRE_TENSOR_BYTES + 1] = {[SH_WIRE_TENSOR_BYTES] = 0xee};
    struct sh_writer w = sh_writer_over(bytes, SH_WIRE_TENSOR_BYTES);
    struct sh_reader r = sh_reader_over(bytes, SH_WIRE_TENSOR_BYTES);
    const struct sh_wire_tensor t = sample(0);
    struct sh_wire_tensor back;

    (void)state;
    sh_wire_tensor_put(&w, &t);
    assert_false(w.bad);
    assert_int_equal(w.pos, SH_WIRE_TENSOR_BYTES);
    expect_sample(bytes, 0);
    sh_wire_tensor_get(&r, &back);
    assert_false(r.bad);
    assert_int_equal(sh_reader_left(&r), 0);
    expect_equal(&t, &back);
}

static void wire__a_name_without_an_end_is_cut(void **state)
{
    uint8_t bytes[SH_WIRE_TENSOR_BYTES] = {0};
    struct sh_reader r = sh_reader_over(bytes, sizeof bytes);
    struct sh_wire_tensor t;

    (void)state;
    memset(bytes, 'x', sizeof bytes);
    sh_wire_tensor_get(&r, &t);
    assert_int_equal(strlen(t.name), 63);
}

/* What lies where in a request's fixed part: T = sample record with this seed, else a number. */
struct piece {
    size_t at, bytes; /* bytes = 0: a record, value = its seed */
    uint64_t value;
};

static const struct {
    enum sh_wire_command command;
    uint64_t more;
    size_t fixed_bytes;
    struct piece piece[4];
} g_requests[] = {
    {SH_WIRE_ALLOC_BUFFER, 0, 12, {{0, 4, 3}, {4, 8, UINT64_C(0x1122334455667788)}}},
    {SH_WIRE_GET_ALIGNMENT, 0, 4, {{0, 4, 3}}},
    {SH_WIRE_GET_MAX_SIZE, 0, 4, {{0, 4, 3}}},
    {SH_WIRE_BUFFER_GET_BASE, 0, 8, {{0, 8, UINT64_C(0xc1c2c3c4c5c6c7c8)}}},
    {SH_WIRE_FREE_BUFFER, 0, 8, {{0, 8, UINT64_C(0xc1c2c3c4c5c6c7c8)}}},
    {SH_WIRE_BUFFER_CLEAR, 0, 9, {{0, 8, UINT64_C(0xc1c2c3c4c5c6c7c8)}, {8, 1, 0x5a}}},
    {SH_WIRE_SET_TENSOR,
     77,
     305,
     {{0, 0, 1}, {296, 1, 0x5a}, {297, 8, UINT64_C(0x99aabbccddeeff)}}},
    {SH_WIRE_SET_TENSOR_HASH,
     0,
     312,
     {{0, 0, 1}, {296, 8, UINT64_C(0x99aabbccddeeff)}, {304, 8, UINT64_C(0x0102030405060709)}}},
    {SH_WIRE_GET_TENSOR,
     0,
     312,
     {{0, 0, 1}, {296, 8, UINT64_C(0x99aabbccddeeff)}, {304, 8, UINT64_C(0x1122334455667788)}}},
    {SH_WIRE_COPY_TENSOR, 0, 592, {{0, 0, 1}, {296, 0, 2}}},
    {SH_WIRE_GRAPH_COMPUTE, 0, 4, {{0, 4, 3}}},
    {SH_WIRE_GET_DEVICE_MEMORY, 0, 4, {{0, 4, 3}}},
    {SH_WIRE_INIT_TENSOR, 0, 296, {{0, 0, 1}}},
    {SH_WIRE_GET_ALLOC_SIZE, 0, 3260, {{0, 4, 3}, {4, 0, 1}, {300, 0, 10}, {300 + 9 * 296, 0, 19}}},
    {SH_WIRE_HELLO, 0, 24, {{0, 8, 0}, {8, 8, 0}, {16, 7, 0}, {23, 1, 0x77}}},
    {SH_WIRE_DEVICE_COUNT, 0, 0, {{0, 0, 0}}},
    {SH_WIRE_GRAPH_RECOMPUTE, 0, 4, {{0, 4, 3}}},
    {SH_WIRE_MEMSET_TENSOR,
     0,
     313,
     {{0, 0, 1},
      {296, 8, UINT64_C(0x99aabbccddeeff)},
      {304, 8, UINT64_C(0x1122334455667788)},
      {312, 1, 0x5a}}},
};

static struct sh_wire_request sample_request(void)
{
    struct sh_wire_request rq = {.device = 3,
                                 .buffer = UINT64_C(0xc1c2c3c4c5c6c7c8),
                                 .offset = UINT64_C(0x99aabbccddeeff),
                                 .size = UINT64_C(0x1122334455667788),
                                 .hash = UINT64_C(0x0102030405060709),
                                 .value = 0x5a,
                                 .caps = {[23] = 0x77},
                                 .tensor = sample(1),
                                 .dst = sample(2)};

    for (unsigned i = 0; i < SH_WIRE_SRC; i++)
        rq.src[i] = sample(10 + i);
    return rq;
}

static void wire__requests_have_the_protocols_layout(void **state)
{
    const struct sh_wire_request rq = sample_request();
    const size_t n = sizeof g_requests / sizeof g_requests[0];

    (void)state;
    assert_int_equal(n, SH_WIRE_COMMAND_COUNT);
    for (size_t i = 0; i < n; i++) {
        uint8_t bytes[SH_WIRE_REQUEST_BYTES_MAX];
        struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
        const size_t fixed = g_requests[i].fixed_bytes;

        sh_wire_request_put(&w, g_requests[i].command, &rq, g_requests[i].more);
        assert_false(w.bad);
        assert_int_equal(w.pos, SH_WIRE_REQUEST_HEADER + fixed);
        assert_int_equal(bytes[0], i); // the table above is in the order of the numbers
        // a graph's twelve bytes are counted in the header but written by the encoder of graphs
        expect_le(bytes + 1, i == SH_WIRE_GRAPH_COMPUTE ? 12 : fixed + g_requests[i].more, 8);
        for (int k = 0; k < 4; k++) {
            const struct piece *p = &g_requests[i].piece[k];
            if (k > 0 && p->at == 0) break;
            if (p->bytes == 0 && fixed > 0) expect_sample(bytes + 9 + p->at, (unsigned)p->value);
            expect_le(bytes + 9 + p->at, p->value, p->bytes);
        }
    }
}

static void wire__requests_come_back_as_they_went(void **state)
{
    const struct sh_wire_request rq = sample_request();

    (void)state;
    for (size_t i = 0; i < SH_WIRE_COMMAND_COUNT; i++) {
        uint8_t bytes[SH_WIRE_REQUEST_BYTES_MAX], again[SH_WIRE_REQUEST_BYTES_MAX];
        struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
        struct sh_writer v = sh_writer_over(again, sizeof again);
        struct sh_reader r;
        static struct sh_wire_request back;

        memset(&back, 0, sizeof back);
        sh_wire_request_put(&w, (enum sh_wire_command)i, &rq, 0);
        r = sh_reader_over(bytes + SH_WIRE_REQUEST_HEADER, w.pos - SH_WIRE_REQUEST_HEADER);
        sh_wire_request_get(&r, (enum sh_wire_command)i, &back);
        assert_false(r.bad);
        assert_int_equal(sh_reader_left(&r), 0);
        sh_wire_request_put(&v, (enum sh_wire_command)i, &back, 0);
        assert_int_equal(w.pos, v.pos);
        assert_memory_equal(bytes, again, w.pos);
    }
}

static void wire__hello_is_the_known_bytes(void **state)
{
    static const uint8_t request[33] = {14, 24};
    static const uint8_t answer[36] = {28, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0};
    const struct sh_wire_request rq = {.device = 0};
    const struct sh_wire_answer a = {.major = 7};
    uint8_t bytes[64];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    (void)state;
    sh_wire_request_put(&w, SH_WIRE_HELLO, &rq, 0);
    assert_int_equal(w.pos, sizeof request);
    assert_memory_equal(bytes, request, sizeof request);
    w = sh_writer_over(bytes, sizeof bytes);
    sh_wire_answer_put(&w, SH_WIRE_HELLO, &a);
    assert_int_equal(w.pos, sizeof answer);
    assert_memory_equal(bytes, answer, sizeof answer);
}

static void wire__answers_have_the_protocols_layout(void **state)
{
    static const struct {
        enum sh_wire_command command;
        size_t bytes;
        struct piece piece[3];
    } rows[] = {
        {SH_WIRE_ALLOC_BUFFER, 16, {{0, 8, 0xb1}, {8, 8, 0xb2}}},
        {SH_WIRE_GET_ALIGNMENT, 8, {{0, 8, 0xb2}}},
        {SH_WIRE_GET_MAX_SIZE, 8, {{0, 8, 0xb2}}},
        {SH_WIRE_BUFFER_GET_BASE, 8, {{0, 8, 0xb2}}},
        {SH_WIRE_SET_TENSOR_HASH, 1, {{0, 1, 1}}},
        {SH_WIRE_COPY_TENSOR, 1, {{0, 1, 1}}},
        {SH_WIRE_GET_DEVICE_MEMORY, 16, {{0, 8, 0xb3}, {8, 8, 0xb4}}},
        {SH_WIRE_GET_ALLOC_SIZE, 8, {{0, 8, 0xb2}}},
        {SH_WIRE_HELLO, 28, {{0, 4, 0x050607}, {4, 8, 0}, {20, 8, 0}}},
        {SH_WIRE_DEVICE_COUNT, 4, {{0, 4, 0xb2}}},
    };
    const struct sh_wire_answer a = {.buffer = 0xb1,
                                     .value = 0xb2,
                                     .memory_free = 0xb3,
                                     .memory_total = 0xb4,
                                     .result = 1,
                                     .major = 7,
                                     .minor = 6,
                                     .patch = 5};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[SH_WIRE_ANSWER_BYTES_MAX], again[SH_WIRE_ANSWER_BYTES_MAX];
        struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
        struct sh_writer v = sh_writer_over(again, sizeof again);
        struct sh_wire_answer back = {0};
        struct sh_reader r;

        sh_wire_answer_put(&w, rows[i].command, &a);
        assert_false(w.bad);
        assert_int_equal(w.pos, SH_WIRE_ANSWER_HEADER + rows[i].bytes);
        expect_le(bytes, rows[i].bytes, 8);
        for (int k = 0; k < 3 && rows[i].piece[k].bytes; k++)
            expect_le(bytes + 8 + rows[i].piece[k].at, rows[i].piece[k].value,
                      rows[i].piece[k].bytes);
        assert_int_equal(sh_wire_command_info(rows[i].command)->answer_bytes, rows[i].bytes);
        r = sh_reader_over(bytes + SH_WIRE_ANSWER_HEADER, rows[i].bytes);
        sh_wire_answer_get(&r, rows[i].command, &back);
        assert_false(r.bad);
        sh_wire_answer_put(&v, rows[i].command, &back);
        assert_memory_equal(bytes, again, w.pos);
    }
}

static void wire__the_command_table_ends_at_18(void **state)
{
    static const bool silent[SH_WIRE_COMMAND_COUNT] = {
        [4] = 1, [5] = 1, [6] = 1, [10] = 1, [12] = 1, [16] = 1, [17] = 1};

    (void)state;
    assert_int_equal(SH_WIRE_COMMAND_COUNT, 18);
    assert_null(sh_wire_command_info(18));
    assert_null(sh_wire_command_info(255));
    for (unsigned i = 0; i < SH_WIRE_COMMAND_COUNT; i++) {
        assert_non_null(sh_wire_command_info(i)->name);
        assert_int_equal(sh_wire_command_info(i)->answer_bytes == SH_WIRE_SILENT, silent[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wire__tensor_record_has_the_protocols_offsets),
        cmocka_unit_test(wire__a_name_without_an_end_is_cut),
        cmocka_unit_test(wire__requests_have_the_protocols_layout),
        cmocka_unit_test(wire__requests_come_back_as_they_went),
        cmocka_unit_test(wire__hello_is_the_known_bytes),
        cmocka_unit_test(wire__answers_have_the_protocols_layout),
        cmocka_unit_test(wire__the_command_table_ends_at_18),
    };

    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}

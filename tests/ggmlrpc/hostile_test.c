/* What a server of the protocol must refuse outside graphs, row by row: framing and session,
 * buffers, tensor records and the commands on them.  Over the CPU device.
 */
#include "hostile.h"

#include <string.h>

#include "tensor/dtype.h"
#include "tensor/ops.h"

/* ---- framing and session --------------------------------------------------------------------*/

static void hello_of(struct peer *p, uint64_t size)
{
    static const uint8_t zeros[64];

    peer_header(p, SH_WIRE_HELLO, size);
    peer_raw(p, zeros, (size_t)size);
}

ROW(first_byte_is_http)
{
    (void)b;
    peer_raw(p, "G", 1); // not even a whole header: the answer must not wait for more
}
ROW(first_command_is_another)
{
    (void)b;
    peer_header(p, SH_WIRE_DEVICE_COUNT, 0);
}
ROW(hello_without_caps)
{
    (void)b;
    hello_of(p, 0);
}
ROW(hello_too_long)
{
    (void)b;
    hello_of(p, 25);
}
ROW(second_hello)
{
    (void)b;
    hello_of(p, 24);
}
ROW(command_18)
{
    (void)b;
    peer_header(p, 18, 0);
}
ROW(command_255)
{
    (void)b;
    peer_header(p, 255, UINT64_MAX);
}
ROW(set_shorter_than_its_header)
{
    (void)b;
    peer_header(p, SH_WIRE_SET_TENSOR, 304);
}
ROW(set_of_nearly_everything)
{
    struct sh_wire_request rq = {.tensor = peer_tensor(b, 0, SH_DTYPE_I8, 16, 1)};
    uint8_t bytes[SH_WIRE_REQUEST_BYTES_MAX];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    sh_wire_request_put(&w, SH_WIRE_SET_TENSOR, &rq, UINT64_C(1) << 63);
    peer_raw(p, bytes, w.pos);
}
ROW(graph_shorter_than_its_counts)
{
    (void)b;
    peer_header(p, SH_WIRE_GRAPH_COMPUTE, 11);
}
ROW(graph_of_gigabytes)
{
    (void)b;
    peer_header(p, SH_WIRE_GRAPH_COMPUTE, (UINT64_C(32) << 20) + 1);
}
ROW(get_of_a_wrong_size)
{
    (void)b;
    peer_header(p, SH_WIRE_GET_TENSOR, 311);
}
ROW(frame_that_stops)
{
    (void)b;
    peer_header(p, SH_WIRE_GRAPH_COMPUTE, 1000000);
    peer_raw(p, "\0\0\0\0", 4);
}
ROW(header_that_stops)
{
    (void)b;
    peer_raw(p, "\1\4\0", 3);
}

ROW(graph_that_never_comes)
{
    (void)b;
    peer_header(p, SH_WIRE_GRAPH_COMPUTE, UINT64_C(32) << 20);
}
ROW(set_that_never_comes)
{
    struct sh_wire_request rq = {.tensor = peer_tensor(b, 0, SH_DTYPE_I8, BUFFER_BYTES, 1)};
    uint8_t bytes[SH_WIRE_REQUEST_BYTES_MAX];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    sh_wire_request_put(&w, SH_WIRE_SET_TENSOR, &rq, BUFFER_BYTES);
    peer_raw(p, bytes, w.pos);
}
ROW(set_longer_than_its_tensor)
{
    struct sh_wire_request rq = {.tensor = peer_tensor(b, 0, SH_DTYPE_I8, 16, 1)};
    uint8_t bytes[SH_WIRE_REQUEST_BYTES_MAX];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    sh_wire_request_put(&w, SH_WIRE_SET_TENSOR, &rq, 17); // none of the 17 is waited for
    peer_raw(p, bytes, w.pos);
}

static void on_device_1(struct peer *p, enum sh_wire_command command)
{
    static struct sh_wire_request rq;

    rq.device = 1;
    peer_send(p, command, &rq, NULL, 0);
}
ROW(device_1_alloc)
{
    (void)b;
    on_device_1(p, SH_WIRE_ALLOC_BUFFER);
}
ROW(device_1_alignment)
{
    (void)b;
    on_device_1(p, SH_WIRE_GET_ALIGNMENT);
}
ROW(device_1_max_size)
{
    (void)b;
    on_device_1(p, SH_WIRE_GET_MAX_SIZE);
}
ROW(device_1_memory)
{
    (void)b;
    on_device_1(p, SH_WIRE_GET_DEVICE_MEMORY);
}
ROW(device_1_alloc_size)
{
    (void)b;
    on_device_1(p, SH_WIRE_GET_ALLOC_SIZE);
}
ROW(device_1_recompute)
{
    (void)b;
    on_device_1(p, SH_WIRE_GRAPH_RECOMPUTE);
}
ROW(device_1_compute)
{
    struct peer_graph g;

    peer_graph_add(&g, b, 4);
    g.device = 1;
    peer_compute(p, &g);
}
ROW(recompute_of_nothing)
{
    const struct sh_wire_request rq = {.device = 0};

    (void)b;
    peer_send(p, SH_WIRE_GRAPH_RECOMPUTE, &rq, NULL, 0);
}

static const struct row g_framing[] = {
    {"first byte is HTTP's", first_byte_is_http, "", "first byte is 71", true,
     "the first command is HELLO of 24 bytes, and no other is"},
    {"first command is another", first_command_is_another, "", "first byte is 15", true, NULL},
    {"greeting of 0 bytes", hello_without_caps, "HELLO", "request of 0 bytes", true, NULL},
    {"greeting of 25 bytes", hello_too_long, "HELLO", "request of 25 bytes", true, NULL},
    {"second greeting", second_hello, "HELLO", "second greeting", false, NULL},
    {"command 18", command_18, "", "command 18 does not exist", false, "commands below 18"},
    {"command 255", command_255, "", "command 255 does not exist", false, NULL},
    {"SET of 304 bytes", set_shorter_than_its_header, "SET_TENSOR", "request of 304 bytes", false,
     "least sizes of SET and GRAPH"},
    {"SET of 2^63 bytes", set_of_nearly_everything, "SET_TENSOR", "9223372036854775808 bytes",
     false, "variable sizes are bounded before memory is"},
    {"graph of 11 bytes", graph_shorter_than_its_counts, "GRAPH_COMPUTE", "request of 11", false,
     "least sizes of SET and GRAPH"},
    {"graph above 32 MiB", graph_of_gigabytes, "GRAPH_COMPUTE", "33554433 bytes", false,
     "variable sizes are bounded before memory is"},
    {"GET of 311 bytes", get_of_a_wrong_size, "GET_TENSOR", "request of 311 bytes", false,
     "fixed sizes"},
    {"SET past its tensor", set_longer_than_its_tensor, "SET_TENSOR", "17 bytes at offset 0", false,
     "data goes into the checked range as it comes"},
    {"SET without data", set_that_never_comes, "SET_TENSOR", "too slowly", false, NULL},
    {"graph that never comes", graph_that_never_comes, "GRAPH_COMPUTE", "too slowly", false,
     "idle, slow and endless clients, their number and addresses"},
    {"frame that stops", frame_that_stops, "GRAPH_COMPUTE", "too slowly", false, NULL},
    {"header that stops", header_that_stops, "GET_ALIGNMENT", "too slowly", false, NULL},
    {"device 1: alloc", device_1_alloc, "ALLOC_BUFFER", "device 1 does not exist", false,
     "device numbers"},
    {"device 1: alignment", device_1_alignment, "GET_ALIGNMENT", "device 1 does not", false, NULL},
    {"device 1: max size", device_1_max_size, "GET_MAX_SIZE", "device 1 does not exist", false,
     NULL},
    {"device 1: memory", device_1_memory, "GET_DEVICE_MEMORY", "device 1 does not exist", false,
     NULL},
    {"device 1: alloc size", device_1_alloc_size, "GET_ALLOC_SIZE", "device 1 does not", false,
     NULL},
    {"device 1: recompute", device_1_recompute, "GRAPH_RECOMPUTE", "device 1 does not", false,
     NULL},
    {"device 1: compute", device_1_compute, "GRAPH_COMPUTE", "device 1 does not exist", false,
     NULL},
    {"recompute of nothing", recompute_of_nothing, "GRAPH_RECOMPUTE", "no graph to run", false,
     NULL},
};

/* ---- buffers --------------------------------------------------------------------------------*/

static void with_token(struct peer *p, enum sh_wire_command command, uint64_t token)
{
    struct sh_wire_request rq = {.buffer = token};

    peer_send(p, command, &rq, NULL, 0);
}
ROW(base_of_no_buffer)
{
    with_token(p, SH_WIRE_BUFFER_GET_BASE, b->token + 1);
}
ROW(free_of_no_buffer)
{
    (void)b;
    with_token(p, SH_WIRE_FREE_BUFFER, 0);
}
ROW(clear_of_no_buffer)
{
    with_token(p, SH_WIRE_BUFFER_CLEAR, b->token ^ (UINT64_C(1) << 40));
}
ROW(free_twice)
{
    with_token(p, SH_WIRE_FREE_BUFFER, b->token);
    with_token(p, SH_WIRE_FREE_BUFFER, b->token);
}
ROW(set_after_free)
{
    with_token(p, SH_WIRE_FREE_BUFFER, b->token);
    peer_set(p, b, 0, "abcd", 4);
}
ROW(recompute_after_free)
{
    const struct sh_wire_request rq = {.device = 0};
    struct peer_graph g;

    peer_graph_add(&g, b, 4);
    peer_compute(p, &g);
    with_token(p, SH_WIRE_FREE_BUFFER, b->token);
    peer_send(p, SH_WIRE_GRAPH_RECOMPUTE, &rq, NULL, 0);
}
ROW(compute_after_free)
{
    struct peer_graph g;

    peer_graph_add(&g, b, 4);
    peer_compute(p, &g);
    with_token(p, SH_WIRE_FREE_BUFFER, b->token);
    peer_compute(p, &g);
}

static const struct row g_buffers[] = {
    {"base of no buffer", base_of_no_buffer, "BUFFER_GET_BASE", "does not exist", false,
     "tokens are live and of this connection"},
    {"free of no buffer", free_of_no_buffer, "FREE_BUFFER", "buffer 0x0 does not exist", false,
     NULL},
    {"clear of no buffer", clear_of_no_buffer, "BUFFER_CLEAR", "does not exist", false, NULL},
    {"free twice", free_twice, "FREE_BUFFER", "does not exist", false, NULL},
    {"SET after free", set_after_free, "SET_TENSOR", "does not exist", false, NULL},
    {"recompute after free", recompute_after_free, "GRAPH_RECOMPUTE", "no graph to run", false,
     "FREE drops the graphs that use the buffer, and only those"},
    {"compute after free", compute_after_free, "GRAPH_COMPUTE", "has no buffer", false, NULL},
};

/* ---- records --------------------------------------------------------------------------------*/

/* A row sends SET_TENSOR of 16 bytes with a damaged record of 64 floats. */
#define RECORD(name, code)                                                                         \
    ROW(name)                                                                                      \
    {                                                                                              \
        static const uint8_t data[16];                                                             \
        struct sh_wire_request rq = {.tensor = peer_tensor(b, 0, SH_DTYPE_F32, 16, 4)};            \
        struct sh_wire_tensor *t = &rq.tensor;                                                     \
        code;                                                                                      \
        (void)t;                                                                                   \
        peer_send(p, SH_WIRE_SET_TENSOR, &rq, data, sizeof data);                                  \
    }

RECORD(type_4, t->type = 4)
RECORD(type_36, t->type = 36)
RECORD(type_43, t->type = 43)
RECORD(type_huge, t->type = 0xffffffff)
RECORD(row_of_half_a_block, {
    *t = peer_tensor(b, 0, SH_DTYPE_Q4_0, 32, 4);
    t->ne[0] = 48;
})
RECORD(too_many_elements, {
    for (int i = 0; i < 4; i++)
        t->ne[i] = 0xffffffff;
})
RECORD(elements_of_2_63, {
    t->ne[0] = t->ne[1] = 1u << 31;
    t->ne[2] = 2;
})
RECORD(strides_that_wrap, {
    t->ne[1] = t->ne[2] = t->ne[3] = 0xffff;
    t->nb[1] = t->nb[2] = t->nb[3] = 0xfffffffc;
    t->ne[0] = 1;
})
RECORD(stride_of_zero, t->nb[1] = 0)
RECORD(stride_between_elements, t->nb[1] = 66)
RECORD(blocks_with_gaps, {
    *t = peer_tensor(b, 0, SH_DTYPE_Q4_0, 64, 4);
    t->nb[0] = 19;
})
RECORD(no_such_buffer, t->buffer ^= UINT64_C(1) << 30)
RECORD(no_buffer_at_all, t->buffer = 0)
RECORD(no_address, t->data = 0)
RECORD(address_below, t->data = b->base - 64)
RECORD(address_far_below, t->data = 0x1000)
RECORD(address_above, t->data = b->base + b->bytes)
RECORD(end_outside, t->data = b->base + b->bytes - 252)
RECORD(address_that_wraps, t->data = UINT64_MAX - 15)
RECORD(address_of_a_neighbour, t->data += UINT64_C(1) << 40)
RECORD(address_not_aligned, t->data += 2)
RECORD(offset_behind, rq.offset = 257)
RECORD(end_behind_tensor, rq.offset = 241)
RECORD(offset_that_wraps, rq.offset = UINT64_MAX - 3)
RECORD(offset_before, rq.offset = (uint64_t)-16)

static const struct row g_records[] = {
    {"type 4", type_4, "SET_TENSOR", "type 4 does not exist", false, "types that exist"},
    {"type 36", type_36, "SET_TENSOR", "type 36 does not exist", false, NULL},
    {"type 43", type_43, "SET_TENSOR", "type 43 does not exist", false, NULL},
    {"type 2^32-1", type_huge, "SET_TENSOR", "type 4294967295 does not exist", false, NULL},
    {"row of 1.5 blocks", row_of_half_a_block, "SET_TENSOR", "48 elements are no whole", false,
     "rows of whole blocks"},
    {"2^128 elements", too_many_elements, "SET_TENSOR", "are too many", false,
     "element counts and extents without overflow"},
    {"2^63 elements", elements_of_2_63, "SET_TENSOR", "are too many", false, NULL},
    {"strides that wrap", strides_that_wrap, "SET_TENSOR", "outside their buffer", false, NULL},
    {"stride 0", stride_of_zero, "SET_TENSOR", "stride 0 of dimension 1", false, "strides"},
    {"stride 66 of floats", stride_between_elements, "SET_TENSOR", "stride 66", false, NULL},
    {"blocks with gaps", blocks_with_gaps, "SET_TENSOR", "stride 19 of dimension 0", false, NULL},
    {"unknown token", no_such_buffer, "SET_TENSOR", "does not exist", false,
     "a buffer wherever there is an address"},
    {"token 0", no_buffer_at_all, "SET_TENSOR", "buffer 0x0 does not exist", false, NULL},
    {"address 0", no_address, "SET_TENSOR", "outside their buffer", false,
     "places inside the buffer"},
    {"address below", address_below, "SET_TENSOR", "outside their buffer", false, NULL},
    {"address far below", address_far_below, "SET_TENSOR", "outside their buffer", false, NULL},
    {"address above", address_above, "SET_TENSOR", "outside their buffer", false, NULL},
    {"end outside", end_outside, "SET_TENSOR", "outside their buffer", false, NULL},
    {"address near 2^64", address_that_wraps, "SET_TENSOR", "outside their buffer", false, NULL},
    {"neighbour's address", address_of_a_neighbour, "SET_TENSOR", "outside their buffer", false,
     NULL},
    {"address not aligned", address_not_aligned, "SET_TENSOR", "not aligned", false, "alignment"},
    {"offset behind", offset_behind, "SET_TENSOR", "16 bytes at offset 257", false,
     "offset and size inside the tensor"},
    {"end behind the tensor", end_behind_tensor, "SET_TENSOR", "16 bytes at offset 241", false,
     NULL},
    {"offset near 2^64", offset_that_wraps, "SET_TENSOR", "of a tensor of 256 bytes", false, NULL},
    {"offset of -16", offset_before, "SET_TENSOR", "of a tensor of 256 bytes", false, NULL},
};

/* ---- the other commands on tensors ----------------------------------------------------------*/

static void ask(struct peer *p, enum sh_wire_command command, struct sh_wire_request *rq)
{
    peer_send(p, command, rq, NULL, 0);
}
#define REQUEST(name, cmd, code)                                                                   \
    ROW(name)                                                                                      \
    {                                                                                              \
        static struct sh_wire_request rq;                                                          \
        memset(&rq, 0, sizeof rq);                                                                 \
        rq.tensor = peer_tensor(b, 0, SH_DTYPE_F32, 16, 4);                                        \
        rq.dst = peer_tensor(b, 1024, SH_DTYPE_F32, 16, 4);                                        \
        code;                                                                                      \
        ask(p, cmd, &rq);                                                                          \
    }

REQUEST(get_too_much, SH_WIRE_GET_TENSOR, rq.size = 257)
REQUEST(get_everything, SH_WIRE_GET_TENSOR, rq.size = UINT64_MAX)
REQUEST(get_wrapping, SH_WIRE_GET_TENSOR, {
    rq.offset = UINT64_MAX - 1;
    rq.size = 4;
})
REQUEST(get_foreign, SH_WIRE_GET_TENSOR, rq.tensor.buffer = 77)
REQUEST(memset_too_much, SH_WIRE_MEMSET_TENSOR, {
    rq.offset = 250;
    rq.size = 7;
})
REQUEST(memset_foreign, SH_WIRE_MEMSET_TENSOR, rq.tensor.buffer = 0)
REQUEST(memset_wrapping, SH_WIRE_MEMSET_TENSOR, {
    rq.offset = UINT64_MAX;
    rq.size = 2;
})
REQUEST(hash_past_the_buffer, SH_WIRE_SET_TENSOR_HASH, rq.tensor.data = b->base + BUFFER_BYTES - 4)
REQUEST(copy_wrapping, SH_WIRE_COPY_TENSOR, rq.dst.data = UINT64_MAX - 63)
REQUEST(copy_past_the_source, SH_WIRE_COPY_TENSOR, rq.tensor.data = b->base + BUFFER_BYTES - 128)
REQUEST(init_past_the_buffer, SH_WIRE_INIT_TENSOR, rq.tensor.data = b->base + BUFFER_BYTES)
REQUEST(size_of_half_a_block, SH_WIRE_GET_ALLOC_SIZE, {
    rq.tensor.type = SH_DTYPE_Q4_0;
    rq.tensor.ne[0] = 33;
})
REQUEST(hash_offset, SH_WIRE_SET_TENSOR_HASH, rq.offset = 300)
REQUEST(hash_foreign, SH_WIRE_SET_TENSOR_HASH, rq.tensor.buffer = 5)
REQUEST(copy_types, SH_WIRE_COPY_TENSOR, rq.dst.type = SH_DTYPE_I32)
REQUEST(copy_shapes, SH_WIRE_COPY_TENSOR, rq.dst.ne[1] = 3)
REQUEST(copy_strides, SH_WIRE_COPY_TENSOR, rq.dst.nb[1] = 128)
REQUEST(copy_outside, SH_WIRE_COPY_TENSOR, rq.dst.data = b->base + BUFFER_BYTES - 128)
REQUEST(copy_from_nowhere, SH_WIRE_COPY_TENSOR, rq.tensor.buffer = 1)
REQUEST(copy_to_nowhere, SH_WIRE_COPY_TENSOR, rq.dst.buffer = 1)
REQUEST(init_nowhere, SH_WIRE_INIT_TENSOR, rq.tensor.buffer = 0)
REQUEST(init_type, SH_WIRE_INIT_TENSOR, rq.tensor.type = 5)
REQUEST(size_type, SH_WIRE_GET_ALLOC_SIZE, rq.tensor.type = 31)
REQUEST(size_elements, SH_WIRE_GET_ALLOC_SIZE, { rq.tensor.ne[0] = rq.tensor.ne[1] = 0xffffffff; })
REQUEST(size_source, SH_WIRE_GET_ALLOC_SIZE, {
    rq.src[3] = rq.tensor;
    rq.src[3].type = 99;
})

static const struct row g_requests[] = {
    {"GET too much", get_too_much, "GET_TENSOR", "257 bytes at offset 0", false,
     "answers of GET are bounded"},
    {"GET 2^64-1", get_everything, "GET_TENSOR", "of a tensor of 256 bytes", false, NULL},
    {"GET wrapping", get_wrapping, "GET_TENSOR", "of a tensor of 256 bytes", false, NULL},
    {"GET of no buffer", get_foreign, "GET_TENSOR", "buffer 0x4d does not exist", false, NULL},
    {"MEMSET too much", memset_too_much, "MEMSET_TENSOR", "7 bytes at offset 250", false,
     "offset and size inside the tensor"},
    {"MEMSET of no buffer", memset_foreign, "MEMSET_TENSOR", "does not exist", false, NULL},
    {"MEMSET wrapping", memset_wrapping, "MEMSET_TENSOR", "of a tensor of 256 bytes", false, NULL},
    {"HASH past the buffer", hash_past_the_buffer, "SET_TENSOR_HASH", "outside their", false, NULL},
    {"HASH offset", hash_offset, "SET_TENSOR_HASH", "offset 300", false, NULL},
    {"HASH of no buffer", hash_foreign, "SET_TENSOR_HASH", "does not exist", false, NULL},
    {"COPY of two types", copy_types, "COPY_TENSOR", "differ in type", false,
     "COPY of two tensors that match"},
    {"COPY of two shapes", copy_shapes, "COPY_TENSOR", "differ in type, shape", false, NULL},
    {"COPY of two strides", copy_strides, "COPY_TENSOR", "differ in type, shape", false, NULL},
    {"COPY outside", copy_outside, "COPY_TENSOR", "outside their buffer", false, NULL},
    {"COPY wrapping", copy_wrapping, "COPY_TENSOR", "outside their buffer", false, NULL},
    {"COPY past the source", copy_past_the_source, "COPY_TENSOR", "outside their buffer", false,
     NULL},
    {"COPY from nowhere", copy_from_nowhere, "COPY_TENSOR", "does not exist", false, NULL},
    {"COPY to nowhere", copy_to_nowhere, "COPY_TENSOR", "does not exist", false, NULL},
    {"INIT nowhere", init_nowhere, "INIT_TENSOR", "does not exist", false,
     "INIT of a tensor in a buffer"},
    {"INIT past the buffer", init_past_the_buffer, "INIT_TENSOR", "outside their buffer", false,
     NULL},
    {"INIT of type 5", init_type, "INIT_TENSOR", "type 5 does not exist", false, NULL},
    {"ALLOC_SIZE of type 31", size_type, "GET_ALLOC_SIZE", "type 31 does not exist", false,
     "records of GET_ALLOC_SIZE"},
    {"ALLOC_SIZE overflow", size_elements, "GET_ALLOC_SIZE", "are too many", false, NULL},
    {"ALLOC_SIZE of 1.03 blocks", size_of_half_a_block, "GET_ALLOC_SIZE", "33 elements", false,
     NULL},
    {"ALLOC_SIZE bad source", size_source, "GET_ALLOC_SIZE", "type 99 does not exist", false, NULL},
};

/* ---- what rows do not show ------------------------------------------------------------------*/

static void hostile__framing_and_session(void **state)
{
    (void)state;
    RUN(g_framing);
}
static void hostile__buffers(void **state)
{
    (void)state;
    RUN(g_buffers);
}
static void hostile__tensor_records(void **state)
{
    (void)state;
    RUN(g_records);
}
static void hostile__requests_on_tensors(void **state)
{
    (void)state;
    RUN(g_requests);
}

/* Every command of fixed size, one byte less and one more. */
static void hostile__sizes_of_all_commands(void **state)
{
    (void)state;
    for (unsigned c = 0; c < SH_WIRE_COMMAND_COUNT; c++) {
        const struct sh_wire_command_info *info = sh_wire_command_info(c);
        if (info->bytes_min != info->bytes_max || c == SH_WIRE_HELLO) continue;
        for (int by = -1; by <= 1; by += 2) {
            struct peer p;
            if (info->bytes_min == 0 && by < 0) continue;
            peer_open(&p, g_server);
            peer_hello(&p);
            peer_header(&p, c, info->bytes_min + (uint64_t)(int64_t)by);
            assert_int_equal(peer_expect_end(&p), SHOAL_ERR_FORMAT);
            assert_non_null(strstr(p.err.message, "a request of"));
        }
    }
    hostile_expect_service(g_server);
}

/* Every number that is no type, in SET and in GET_ALLOC_SIZE. */
static void hostile__types_that_do_not_exist(void **state)
{
    (void)state;
    for (uint32_t type = 0; type < 48; type++) {
        for (int how = 0; how < 2 && !sh_dtype_valid(type); how++) {
            static struct sh_wire_request rq;
            struct peer_buffer b;
            struct peer p;
            peer_open(&p, g_server);
            peer_hello(&p);
            peer_alloc(&p, BUFFER_BYTES, &b);
            memset(&rq, 0, sizeof rq);
            rq.tensor = peer_tensor(&b, 0, SH_DTYPE_F32, 16, 1);
            rq.tensor.type = type;
            peer_send(&p, how ? SH_WIRE_GET_ALLOC_SIZE : SH_WIRE_SET_TENSOR, &rq, "", how ? 0 : 1);
            assert_int_equal(peer_expect_end(&p), SHOAL_ERR_FORMAT);
            assert_non_null(strstr(p.err.message, "does not exist"));
            hostile_expect_service(g_server);
        }
    }
}

/* What another connection was given means nothing on this one, in whatever command. */
static void hostile__tokens_of_others(void **state)
{
    static const uint8_t commands[] = {
        SH_WIRE_BUFFER_GET_BASE, SH_WIRE_FREE_BUFFER,     SH_WIRE_BUFFER_CLEAR,
        SH_WIRE_SET_TENSOR,      SH_WIRE_SET_TENSOR_HASH, SH_WIRE_GET_TENSOR,
        SH_WIRE_COPY_TENSOR,     SH_WIRE_INIT_TENSOR,     SH_WIRE_MEMSET_TENSOR};
    struct peer_buffer theirs;
    struct peer owner;

    (void)state;
    peer_open(&owner, g_server);
    peer_hello(&owner);
    peer_alloc(&owner, BUFFER_BYTES, &theirs);
    for (size_t i = 0; i < sizeof commands; i++) {
        static struct sh_wire_request rq;
        struct peer_buffer mine;
        struct peer p;
        peer_open(&p, g_server);
        peer_hello(&p);
        peer_alloc(&p, BUFFER_BYTES, &mine);
        memset(&rq, 0, sizeof rq);
        rq.buffer = theirs.token;
        rq.tensor = rq.dst = peer_tensor(&theirs, 0, SH_DTYPE_F32, 16, 4);
        peer_send(&p, (enum sh_wire_command)commands[i], &rq, NULL, 0);
        assert_int_equal(peer_expect_end(&p), SHOAL_ERR_FORMAT);
        assert_non_null(strstr(p.err.message, "does not exist"));
    }
    assert_int_equal(peer_end(&owner), SHOAL_OK);
    hostile_expect_service(g_server);
}

/* Odd, and lawful: flags and counts that nobody knows, sizes asked without sources. */
static void hostile__what_must_be_taken(void **state)
{
    static struct sh_wire_request rq;
    struct sh_wire_answer a = {.value = 0};
    struct peer_graph g;
    struct peer_buffer b;
    struct peer p;
    uint8_t out[4];

    (void)state;
    peer_open(&p, g_server);
    peer_hello(&p);
    peer_alloc(&p, BUFFER_BYTES, &b);
    peer_graph_add(&g, &b, 16);
    for (int i = 0; i < 3; i++) {
        g.records[i].use_count = i - 1;
        memset(g.records[i].name, 'n', sizeof g.records[i].name); // and no NUL
    }
    g.records[2].flags = 0xffffffff;
    peer_compute(&p, &g);
    peer_get(&p, &b, 0, out, sizeof out);
    memset(&rq, 0, sizeof rq);
    rq.tensor = peer_tensor(&b, 0, SH_DTYPE_F32, 16, 4);
    rq.tensor.op = (uint32_t)sh_op_info(SH_OP_MUL_MAT)->wire;
    rq.tensor.buffer = 77;
    rq.tensor.data = 1;
    peer_send(&p, SH_WIRE_GET_ALLOC_SIZE, &rq, NULL, 0);
    peer_answer(&p, SH_WIRE_GET_ALLOC_SIZE, &a);
    assert_int_equal(a.value, 16 * 4 * 4);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    hostile_expect_service(g_server);
}

static const char *const CHECKS[] = {
    "the first command is HELLO of 24 bytes, and no other is",
    "commands below 18",
    "fixed sizes",
    "least sizes of SET and GRAPH",
    "variable sizes are bounded before memory is",
    "data goes into the checked range as it comes",
    "idle, slow and endless clients, their number and addresses",
    "writing to a client that has gone",
    "device numbers",
    "quotas of a client and of all, number of buffers, size 0",
    "tokens are live and of this connection",
    "tokens are no addresses of ours",
    "memory is zeroed",
    "FREE drops the graphs that use the buffer, and only those",
    "everything is freed at the end of a connection",
    "types that exist",
    "rows of whole blocks",
    "element counts and extents without overflow",
    "strides",
    "a buffer wherever there is an address",
    "places inside the buffer",
    "alignment",
    "offset and size inside the tensor",
    "answers of GET are bounded",
    "COPY of two tensors that match",
    "HASH of a file that fits",
    "INIT of a tensor in a buffer",
    "records of GET_ALLOC_SIZE",
    "names without an end",
    "unknown flags, use counts",
};
static const struct elsewhere ELSEWHERE[] = {
    {"writing to a client that has gone", "hostile_limits_test: clients_that_vanish"},
    {"quotas of a client and of all, number of buffers, size 0", "hostile_limits_test: quotas"},
    {"tokens are no addresses of ours", "server_test: addresses_are_made_up"},
    {"memory is zeroed", "hostile_limits_test: secrets_of_others"},
    {"everything is freed at the end of a connection", "after every row"},
    {"HASH of a file that fits", "cache_test"},
    {"names without an end", "what_must_be_taken"},
    {"unknown flags, use counts", "what_must_be_taken"},
};

static void hostile__every_check_is_tested(void **state)
{
    static const struct row *const tables[] = {g_framing, g_buffers, g_records, g_requests};
    static const size_t sizes[] = {
        sizeof g_framing / sizeof g_framing[0], sizeof g_buffers / sizeof g_buffers[0],
        sizeof g_records / sizeof g_records[0], sizeof g_requests / sizeof g_requests[0]};

    (void)state;
    hostile_every_check_is_tested(CHECKS, sizeof CHECKS / sizeof CHECKS[0], tables, sizes, 4,
                                  ELSEWHERE, sizeof ELSEWHERE / sizeof ELSEWHERE[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile__framing_and_session),
        cmocka_unit_test(hostile__sizes_of_all_commands),
        cmocka_unit_test(hostile__buffers),
        cmocka_unit_test(hostile__tokens_of_others),
        cmocka_unit_test(hostile__tensor_records),
        cmocka_unit_test(hostile__types_that_do_not_exist),
        cmocka_unit_test(hostile__requests_on_tensors),
        cmocka_unit_test(hostile__what_must_be_taken),
        cmocka_unit_test(hostile__every_check_is_tested),
    };

    return cmocka_run_group_tests_name("hostile", tests, hostile_open, hostile_close);
}

/* What a server of the protocol must refuse, row by row: each row is a connection that does one
 * wrong thing.  The server must end that connection with one logged line that names command and
 * reason, free what the client had, and serve the next client as if nothing had been.
 *
 * A row is a function that sends, and the words that the line must hold.  Over the CPU device.
 */
#include "peer.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/device.h"
#include "tensor/dtype.h"
#include "tensor/ops.h"

#define BUFFER_BYTES 4096

static struct sh_device *g_device;
static struct sh_ggmlrpc_server *g_server;
static struct sh_ggmlrpc_server *g_hasty; /* for clients that stop in the middle of a frame */

typedef void row_fn(struct peer *p, const struct peer_buffer *b);

struct row {
    const char *name;
    row_fn *send;
    const char *command; /* in the log, "" where none was recognised */
    const char *reason;
    bool raw; /* no greeting and no buffer before it */
};

/* ---- framing and session --------------------------------------------------------------------*/

static void hello_of(struct peer *p, uint64_t size)
{
    static const uint8_t zeros[64];

    peer_header(p, SH_WIRE_HELLO, size);
    peer_raw(p, zeros, (size_t)size);
}

#define ROW(name) static void name(struct peer *p, const struct peer_buffer *b)

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
    {"first byte is HTTP's", first_byte_is_http, "", "first byte is 71", true},
    {"first command is another", first_command_is_another, "", "first byte is 15", true},
    {"greeting of 0 bytes", hello_without_caps, "HELLO", "request of 0 bytes", true},
    {"greeting of 25 bytes", hello_too_long, "HELLO", "request of 25 bytes", true},
    {"second greeting", second_hello, "HELLO", "second greeting", false},
    {"command 18", command_18, "", "command 18 does not exist", false},
    {"command 255", command_255, "", "command 255 does not exist", false},
    {"SET of 304 bytes", set_shorter_than_its_header, "SET_TENSOR", "request of 304 bytes", false},
    {"SET of 2^63 bytes", set_of_nearly_everything, "SET_TENSOR", "9223372036854775808 bytes",
     false},
    {"graph of 11 bytes", graph_shorter_than_its_counts, "GRAPH_COMPUTE", "request of 11", false},
    {"graph above 32 MiB", graph_of_gigabytes, "GRAPH_COMPUTE", "33554433 bytes", false},
    {"GET of 311 bytes", get_of_a_wrong_size, "GET_TENSOR", "request of 311 bytes", false},
    {"frame that stops", frame_that_stops, "GRAPH_COMPUTE", "too slowly", false},
    {"header that stops", header_that_stops, "GET_ALIGNMENT", "too slowly", false},
    {"device 1: alloc", device_1_alloc, "ALLOC_BUFFER", "device 1 does not exist", false},
    {"device 1: alignment", device_1_alignment, "GET_ALIGNMENT", "device 1 does not", false},
    {"device 1: max size", device_1_max_size, "GET_MAX_SIZE", "device 1 does not exist", false},
    {"device 1: memory", device_1_memory, "GET_DEVICE_MEMORY", "device 1 does not exist", false},
    {"device 1: alloc size", device_1_alloc_size, "GET_ALLOC_SIZE", "device 1 does not", false},
    {"device 1: recompute", device_1_recompute, "GRAPH_RECOMPUTE", "device 1 does not", false},
    {"device 1: compute", device_1_compute, "GRAPH_COMPUTE", "device 1 does not exist", false},
    {"recompute of nothing", recompute_of_nothing, "GRAPH_RECOMPUTE", "no graph to run", false},
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

static const struct row g_buffers[] = {
    {"base of no buffer", base_of_no_buffer, "BUFFER_GET_BASE", "does not exist", false},
    {"free of no buffer", free_of_no_buffer, "FREE_BUFFER", "buffer 0x0 does not exist", false},
    {"clear of no buffer", clear_of_no_buffer, "BUFFER_CLEAR", "does not exist", false},
    {"free twice", free_twice, "FREE_BUFFER", "does not exist", false},
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
    {"type 4", type_4, "SET_TENSOR", "type 4 does not exist", false},
    {"type 36", type_36, "SET_TENSOR", "type 36 does not exist", false},
    {"type 43", type_43, "SET_TENSOR", "type 43 does not exist", false},
    {"type 2^32-1", type_huge, "SET_TENSOR", "type 4294967295 does not exist", false},
    {"row of 1.5 blocks", row_of_half_a_block, "SET_TENSOR", "48 elements are no whole", false},
    {"2^128 elements", too_many_elements, "SET_TENSOR", "are too many", false},
    {"2^63 elements", elements_of_2_63, "SET_TENSOR", "are too many", false},
    {"strides that wrap", strides_that_wrap, "SET_TENSOR", "outside their buffer", false},
    {"stride 0", stride_of_zero, "SET_TENSOR", "stride 0 of dimension 1", false},
    {"stride 66 of floats", stride_between_elements, "SET_TENSOR", "stride 66", false},
    {"blocks with gaps", blocks_with_gaps, "SET_TENSOR", "stride 19 of dimension 0", false},
    {"unknown token", no_such_buffer, "SET_TENSOR", "does not exist", false},
    {"token 0", no_buffer_at_all, "SET_TENSOR", "buffer 0x0 does not exist", false},
    {"address 0", no_address, "SET_TENSOR", "outside their buffer", false},
    {"address below", address_below, "SET_TENSOR", "outside their buffer", false},
    {"address far below", address_far_below, "SET_TENSOR", "outside their buffer", false},
    {"address above", address_above, "SET_TENSOR", "outside their buffer", false},
    {"end outside", end_outside, "SET_TENSOR", "outside their buffer", false},
    {"address near 2^64", address_that_wraps, "SET_TENSOR", "outside their buffer", false},
    {"neighbour's address", address_of_a_neighbour, "SET_TENSOR", "outside their buffer", false},
    {"address not aligned", address_not_aligned, "SET_TENSOR", "not aligned", false},
    {"offset behind", offset_behind, "SET_TENSOR", "16 bytes at offset 257", false},
    {"end behind the tensor", end_behind_tensor, "SET_TENSOR", "16 bytes at offset 241", false},
    {"offset near 2^64", offset_that_wraps, "SET_TENSOR", "of a tensor of 256 bytes", false},
    {"offset of -16", offset_before, "SET_TENSOR", "of a tensor of 256 bytes", false},
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
    {"GET too much", get_too_much, "GET_TENSOR", "257 bytes at offset 0", false},
    {"GET 2^64-1", get_everything, "GET_TENSOR", "of a tensor of 256 bytes", false},
    {"GET wrapping", get_wrapping, "GET_TENSOR", "of a tensor of 256 bytes", false},
    {"GET of no buffer", get_foreign, "GET_TENSOR", "buffer 0x4d does not exist", false},
    {"MEMSET too much", memset_too_much, "MEMSET_TENSOR", "7 bytes at offset 250", false},
    {"MEMSET of no buffer", memset_foreign, "MEMSET_TENSOR", "does not exist", false},
    {"HASH offset", hash_offset, "SET_TENSOR_HASH", "offset 300", false},
    {"HASH of no buffer", hash_foreign, "SET_TENSOR_HASH", "does not exist", false},
    {"COPY of two types", copy_types, "COPY_TENSOR", "differ in type", false},
    {"COPY of two shapes", copy_shapes, "COPY_TENSOR", "differ in type, shape", false},
    {"COPY of two strides", copy_strides, "COPY_TENSOR", "differ in type, shape", false},
    {"COPY outside", copy_outside, "COPY_TENSOR", "outside their buffer", false},
    {"COPY from nowhere", copy_from_nowhere, "COPY_TENSOR", "does not exist", false},
    {"COPY to nowhere", copy_to_nowhere, "COPY_TENSOR", "does not exist", false},
    {"INIT nowhere", init_nowhere, "INIT_TENSOR", "does not exist", false},
    {"INIT of type 5", init_type, "INIT_TENSOR", "type 5 does not exist", false},
    {"ALLOC_SIZE of type 31", size_type, "GET_ALLOC_SIZE", "type 31 does not exist", false},
    {"ALLOC_SIZE overflow", size_elements, "GET_ALLOC_SIZE", "are too many", false},
    {"ALLOC_SIZE bad source", size_source, "GET_ALLOC_SIZE", "type 99 does not exist", false},
};

/* ---- graphs ---------------------------------------------------------------------------------*/

/* A row damages the graph c = a + b over 16 floats: records 0, 1, 2; node 0 is record 2. */
#define GRAPH(name, code)                                                                          \
    ROW(name)                                                                                      \
    {                                                                                              \
        struct peer_graph g;                                                                       \
        struct sh_wire_tensor *r = g.records;                                                      \
        peer_graph_add(&g, b, 16);                                                                 \
        code;                                                                                      \
        (void)r;                                                                                   \
        peer_compute(p, &g);                                                                       \
    }

GRAPH(counts_that_wrap, g.say_nodes = 0x20000001)
GRAPH(records_that_wrap, g.say_records = 0xffffffff)
GRAPH(one_record_less, g.say_records = 2)
GRAPH(one_record_more, g.say_records = 4)
GRAPH(bytes_left_over, g.more = 8)
GRAPH(bytes_missing, g.cut = 1)
GRAPH(record_id_0, r[0].id = 0)
GRAPH(same_id_twice, r[1].id = r[0].id)
GRAPH(node_without_record, g.nodes[0] = 0x77)
GRAPH(node_id_0, g.nodes[0] = 0)
GRAPH(node_twice, {
    g.nodes[1] = g.nodes[0];
    g.n_nodes = 2;
})
GRAPH(source_without_record, r[2].src[1] = 0x99)
GRAPH(unused_source_without_record, r[0].src[4] = 0x99)
GRAPH(root_without_record, r[1].view_src = 0x99)
GRAPH(source_is_itself, r[2].src[0] = r[2].id)
GRAPH(sources_in_a_circle, {
    r[0].op = r[1].op = r[2].op;
    r[0].src[0] = r[1].id;
    r[1].src[0] = r[0].id;
})
GRAPH(source_comes_later, r[0].src[0] = r[2].id)
GRAPH(root_is_itself, r[2].view_src = r[2].id)
GRAPH(root_is_a_view, {
    r[1].view_src = r[0].id;
    r[1].data = r[0].data;
    r[2].view_src = r[1].id;
    r[2].data = r[0].data;
})
GRAPH(op_101, r[2].op = 101)
GRAPH(op_huge, r[2].op = 0xffffffff)
GRAPH(op_custom, r[2].op = 92)
GRAPH(op_custom_in_a_leaf, r[0].op = 95)
GRAPH(op_unknown_here, r[2].op = 76)
GRAPH(unary_22, {
    r[2].op = 91;
    r[2].src[1] = 0;
    r[2].params[0] = 22;
})
GRAPH(glu_7, {
    r[2].op = 100;
    r[2].params[0] = 7;
})
GRAPH(concat_dim_4, {
    r[2].op = 22;
    r[2].params[0] = 4;
    r[2].ne[0] = 32;
})
GRAPH(permute_of_the_same_axis, {
    // views compute nothing: their record alone counts, and ADD of their bytes is what is refused
    r[1].op = 38;
    r[1].ne[0] = 15;
    g.nodes[1] = g.nodes[0];
    g.nodes[0] = r[1].id;
    g.n_nodes = 2;
})
GRAPH(missing_source, r[2].src[1] = 0)
GRAPH(result_of_another_shape, r[2].ne[0] = 15)
GRAPH(result_of_another_type, r[2].type = SH_DTYPE_I32)
GRAPH(result_past_the_buffer, r[2].data = b->base + BUFFER_BYTES - 32)
GRAPH(source_past_the_buffer, r[0].data = b->base + BUFFER_BYTES - 32)
GRAPH(source_in_no_buffer, r[0].buffer = r[0].data = 0)
GRAPH(source_in_a_foreign_buffer, r[0].buffer ^= 1u << 20)
GRAPH(result_in_no_buffer, r[2].buffer = r[2].data = 0)
GRAPH(result_half_over_a_source, r[2].data = r[0].data + 32)
GRAPH(result_with_gaps, {
    r[2].ne[0] = r[0].ne[0] = r[1].ne[0] = 4;
    r[2].ne[1] = r[0].ne[1] = r[1].ne[1] = 4;
    r[2].nb[1] = 20;
})
GRAPH(view_elsewhere, {
    r[1].view_src = r[0].id;
    r[1].view_offs = 4;
})
GRAPH(view_longer_than_its_root, {
    r[0].ne[0] = 8;
    r[1].view_src = r[0].id;
    r[1].data = r[0].data;
})
GRAPH(view_in_another_buffer, {
    r[1].view_src = r[0].id;
    r[0].buffer = r[0].data = 0;
})
GRAPH(cast_to_nothing, {
    r[2].op = 34;
    r[2].src[1] = r[2].id;
    r[2].type = SH_DTYPE_IQ2_XXS;
    r[2].ne[0] = 256;
})
GRAPH(copy_elsewhere, {
    r[2].op = 34;
    r[2].view_src = r[1].id;
    r[2].data = r[1].data;
    r[2].view_offs = 0;
    r[2].data += 4;
    r[2].ne[0] = 15;
})

static const struct row g_graphs[] = {
    {"8 N overflows", counts_that_wrap, "GRAPH_COMPUTE", "nodes do not fit", false},
    {"296 T overflows", records_that_wrap, "GRAPH_COMPUTE", "4294967295 tensors", false},
    {"a record too many", one_record_less, "GRAPH_COMPUTE", "2 tensors of 296", false},
    {"a record too few", one_record_more, "GRAPH_COMPUTE", "4 tensors of 296", false},
    {"bytes left over", bytes_left_over, "GRAPH_COMPUTE", "3 tensors of 296", false},
    {"a byte is missing", bytes_missing, "GRAPH_COMPUTE", "3 tensors of 296", false},
    {"record id 0", record_id_0, "GRAPH_COMPUTE", "record 0 has the id 0", false},
    {"an id twice", same_id_twice, "GRAPH_COMPUTE", "0 and 1 have the same id 0x1000", false},
    {"node without record", node_without_record, "GRAPH_COMPUTE", "has the id 0x77", false},
    {"node id 0", node_id_0, "GRAPH_COMPUTE", "no record has the id 0x0", false},
    {"node twice", node_twice, "GRAPH_COMPUTE", "listed twice", false},
    {"source without record", source_without_record, "GRAPH_COMPUTE", "id 0x99", false},
    {"of an unused record", unused_source_without_record, "GRAPH_COMPUTE", "id 0x99", false},
    {"root without record", root_without_record, "GRAPH_COMPUTE", "id 0x99", false},
    {"source is itself", source_is_itself, "GRAPH_COMPUTE", "record 2, which comes later", false},
    {"a circle", sources_in_a_circle, "GRAPH_COMPUTE", "which comes later", false},
    {"source comes later", source_comes_later, "GRAPH_COMPUTE", "which comes later", false},
    {"root is itself", root_is_itself, "GRAPH_COMPUTE", "which comes later", false},
    {"root is a view", root_is_a_view, "GRAPH_COMPUTE", "is itself a view", false},
    {"op 101", op_101, "GRAPH_COMPUTE", "op 101 may not be sent", false},
    {"op 2^32-1", op_huge, "GRAPH_COMPUTE", "op 4294967295 may not", false},
    {"op with a function pointer", op_custom, "GRAPH_COMPUTE", "op 92 may not be sent", false},
    {"the same in a leaf", op_custom_in_a_leaf, "GRAPH_COMPUTE", "op 95 may not be sent", false},
    {"op unknown here", op_unknown_here, "GRAPH_COMPUTE", "op 76 is not supported", false},
    {"UNARY 22", unary_22, "GRAPH_COMPUTE", "UNARY", false},
    {"GLU 7", glu_7, "GRAPH_COMPUTE", "GLU", false},
    {"CONCAT along 4", concat_dim_4, "GRAPH_COMPUTE", "dimension 4", false},
    {"operands do not match", permute_of_the_same_axis, "GRAPH_COMPUTE", "ADD", false},
    {"missing source", missing_source, "GRAPH_COMPUTE", "source 1 is missing", false},
    {"other shape", result_of_another_shape, "GRAPH_COMPUTE", "claimed [15,1,1,1]", false},
    {"other type", result_of_another_type, "GRAPH_COMPUTE", "claimed i32", false},
    {"result outside", result_past_the_buffer, "GRAPH_COMPUTE", "outside their buffer", false},
    {"source outside", source_past_the_buffer, "GRAPH_COMPUTE", "outside their buffer", false},
    {"source nowhere", source_in_no_buffer, "GRAPH_COMPUTE", "has no buffer", false},
    {"source foreign", source_in_a_foreign_buffer, "GRAPH_COMPUTE", "has no buffer", false},
    {"result nowhere", result_in_no_buffer, "GRAPH_COMPUTE", "has no buffer", false},
    {"half over a source", result_half_over_a_source, "GRAPH_COMPUTE", "overlaps", false},
    {"result with gaps", result_with_gaps, "GRAPH_COMPUTE", "not contiguous", false},
    {"view elsewhere", view_elsewhere, "GRAPH_COMPUTE", "no view of record 0", false},
    {"view too long", view_longer_than_its_root, "GRAPH_COMPUTE", "no view of record 0", false},
    {"view of nothing", view_in_another_buffer, "GRAPH_COMPUTE", "no view of record 0", false},
    {"cast to a codebook type", cast_to_nothing, "GRAPH_COMPUTE", "CPY", false},
    {"copy elsewhere", copy_elsewhere, "GRAPH_COMPUTE", "record 2", false},
};

/* ---- running a table ------------------------------------------------------------------------*/

/* A well-behaved client from first to last byte. */
static void expect_service(void)
{
    struct peer p;
    struct peer_buffer b;
    float in[8], out[4];
    struct peer_graph g;

    peer_open(&p, g_server);
    peer_hello(&p);
    peer_alloc(&p, 48, &b);
    for (int i = 0; i < 8; i++)
        in[i] = (float)i;
    peer_set(&p, &b, 0, in, sizeof in);
    peer_graph_add(&g, &b, 4);
    peer_compute(&p, &g);
    peer_get(&p, &b, 32, out, sizeof out);
    for (int i = 0; i < 4; i++)
        assert_float_equal(out[i], in[i] + in[i + 4], 0);
    assert_int_equal(peer_end(&p), SHOAL_OK);
}

static void run_row(const struct row *row)
{
    struct sh_ggmlrpc_server_stats stats;
    struct peer_buffer b = {.token = 0};
    char lines[4096];
    struct peer p;
    int n;

    (void)peer_log_take(lines, sizeof lines);
    peer_open(&p, strstr(row->reason, "slowly") ? g_hasty : g_server);
    if (!row->raw) {
        peer_hello(&p);
        peer_alloc(&p, BUFFER_BYTES, &b);
    }
    row->send(&p, &b);
    if (peer_expect_end(&p) == SHOAL_OK) fail_msg("%s: the session ended well", row->name);
    n = peer_log_take(lines, sizeof lines);
    if (n != 1 || !strstr(lines, row->command) || !strstr(lines, row->reason) ||
        !strstr(lines, "memory:0: ")) {
        fail_msg("%s: %d lines instead of one with \"%s\" and \"%s\":\n%s", row->name, n,
                 row->command, row->reason, lines);
    }
    sh_ggmlrpc_server_stats(g_server, &stats);
    if (stats.memory_used != 0) fail_msg("%s: %zu bytes kept", row->name, stats.memory_used);
}

static void run_table(const struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        run_row(&rows[i]);
    expect_service();
}
#define RUN(table) run_table(table, sizeof(table) / sizeof((table)[0]))

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
static void hostile__graphs(void **state)
{
    (void)state;
    RUN(g_graphs);
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
    expect_service();
}

/* A chain as deep as a graph may be: no recursion over it. */
static void hostile__deep_chain_of_views(void **state)
{
    const uint32_t depth = 60000;
    const size_t bytes = 12 + 8 + (size_t)depth * SH_WIRE_TENSOR_BYTES;
    uint8_t *payload = sh_malloc(bytes);
    struct sh_writer w = sh_writer_over(payload, bytes);
    struct peer_buffer b;
    struct peer p;
    uint8_t out[4];

    (void)state;
    peer_open(&p, g_server);
    peer_hello(&p);
    peer_alloc(&p, 64, &b);
    sh_write_u32(&w, 0);
    sh_write_u32(&w, 1);
    sh_write_u64(&w, depth);
    sh_write_u32(&w, depth);
    for (uint32_t i = 1; i <= depth; i++) {
        struct sh_wire_tensor t = peer_tensor(&b, 0, SH_DTYPE_F32, 4, 1);
        t.id = i;
        t.op = i > 1 ? 36 : 0;
        t.src[0] = i - 1;
        if (i > 1) t.view_src = 1;
        sh_wire_tensor_put(&w, &t);
    }
    assert_false(w.bad);
    peer_header(&p, SH_WIRE_GRAPH_COMPUTE, bytes);
    peer_raw(&p, payload, bytes);
    peer_get(&p, &b, 0, out, sizeof out);
    assert_int_equal(peer_end(&p), SHOAL_OK);
    sh_free(payload);
}

/* Index values are data: checked when the graph runs. */
static void hostile__row_numbers_outside(void **state)
{
    const int32_t rows[2] = {1, 99};
    struct peer_buffer b;
    struct peer_graph g;
    struct peer p;
    char lines[4096];
    uint8_t out[4];

    (void)state;
    (void)out;
    (void)peer_log_take(lines, sizeof lines);
    peer_open(&p, g_server);
    peer_hello(&p);
    peer_alloc(&p, BUFFER_BYTES, &b);
    peer_set(&p, &b, 1024, rows, sizeof rows);
    memset(&g, 0, sizeof g);
    g.records[0] = peer_tensor(&b, 0, SH_DTYPE_F32, 4, 8);
    g.records[1] = peer_tensor(&b, 1024, SH_DTYPE_I32, 2, 1);
    g.records[2] = peer_tensor(&b, 2048, SH_DTYPE_F32, 4, 2);
    for (uint64_t i = 0; i < 3; i++)
        g.records[i].id = i + 1;
    g.records[2].op = 40; // GET_ROWS
    g.records[2].flags = SH_WIRE_FLAG_COMPUTE;
    g.records[2].src[0] = 1;
    g.records[2].src[1] = 2;
    g.nodes[0] = 3;
    g.n_nodes = 1;
    g.n_records = 3;
    peer_compute(&p, &g);
    {
        struct sh_wire_request rq = {.tensor = peer_tensor(&b, 0, SH_DTYPE_I8, 4, 1), .size = 4};
        peer_send(&p, SH_WIRE_GET_TENSOR, &rq, NULL, 0);
    }
    assert_int_not_equal(peer_expect_end(&p), SHOAL_OK);
    assert_int_equal(peer_log_take(lines, sizeof lines), 1);
    assert_non_null(strstr(lines, "99"));
    expect_service();
}

/* ---- damage at random -----------------------------------------------------------------------*/

struct stream {
    uint8_t bytes[1 << 14];
    struct sh_writer w;
};

static void put(struct stream *s, enum sh_wire_command c, const struct sh_wire_request *rq,
                size_t data)
{
    sh_wire_request_put(&s->w, c, rq, data);
    for (size_t i = 0; i < data; i++)
        sh_write_u8(&s->w, (uint8_t)i);
}

static void put_graph(struct stream *s, const struct peer_buffer *b)
{
    struct peer_graph g;

    peer_graph_add(&g, b, 16);
    sh_write_u8(&s->w, SH_WIRE_GRAPH_COMPUTE);
    sh_write_u64(&s->w, 12 + 8 + 3 * SH_WIRE_TENSOR_BYTES);
    sh_write_u32(&s->w, 0);
    sh_write_u32(&s->w, 1);
    sh_write_u64(&s->w, g.nodes[0]);
    sh_write_u32(&s->w, 3);
    for (int i = 0; i < 3; i++)
        sh_wire_tensor_put(&s->w, &g.records[i]);
}

/* A session's worth of lawful frames. */
static void put_session(struct stream *s, const struct peer_buffer *b)
{
    static struct sh_wire_request rq;

    s->w = sh_writer_over(s->bytes, sizeof s->bytes);
    memset(&rq, 0, sizeof rq);
    rq.buffer = b->token;
    rq.size = 64;
    rq.offset = 16;
    rq.tensor = peer_tensor(b, 0, SH_DTYPE_F32, 16, 4);
    rq.dst = peer_tensor(b, 1024, SH_DTYPE_F32, 16, 4);
    put(s, SH_WIRE_BUFFER_CLEAR, &rq, 0);
    put(s, SH_WIRE_SET_TENSOR, &rq, 64);
    put_graph(s, b);
    put(s, SH_WIRE_GRAPH_RECOMPUTE, &rq, 0);
    put(s, SH_WIRE_MEMSET_TENSOR, &rq, 0);
    put(s, SH_WIRE_COPY_TENSOR, &rq, 0);
    put(s, SH_WIRE_INIT_TENSOR, &rq, 0);
    put(s, SH_WIRE_SET_TENSOR_HASH, &rq, 0);
    put(s, SH_WIRE_GET_ALLOC_SIZE, &rq, 0);
    put(s, SH_WIRE_GET_TENSOR, &rq, 0);
    put(s, SH_WIRE_ALLOC_BUFFER, &rq, 0);
    put(s, SH_WIRE_FREE_BUFFER, &rq, 0);
    put(s, SH_WIRE_HELLO, &rq, 0); // a second greeting: what gets here is over
    assert_false(s->w.bad);
}

static uint32_t random_below(uint64_t *state, uint32_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) % n;
}

static void damage(struct stream *s, uint64_t *state)
{
    static const uint8_t favourites[] = {0, 1, 0x7f, 0x80, 0xff};
    const uint32_t n = 1 + random_below(state, 4);

    for (uint32_t i = 0; i < n; i++) {
        uint8_t *at = s->bytes + random_below(state, (uint32_t)s->w.pos);
        if (random_below(state, 2)) {
            *at = favourites[random_below(state, 5)];
        } else {
            *at = (uint8_t)(*at ^ 1u << random_below(state, 8));
        }
    }
}

/* Read answers until the server closes, or waits for what will not come. */
static void read_all(struct peer *p)
{
    uint8_t bytes[256];
    size_t got;

    do {
        struct sh_pace pace = sh_pace_rate(50 * SH_MS, SH_NO_DEADLINE, 0);
        sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
        if (sh_stream_read_some(p->s, bytes, sizeof bytes, &pace, &got, NULL)) break;
    } while (got > 0);
}

/* Whatever arrives: the server goes on, and keeps nothing. */
static void hostile__damaged_streams(void **state)
{
    static struct stream s;
    struct sh_ggmlrpc_server_stats stats;
    uint64_t seed = 20240229;
    int n_refused = 0, n_through = 0;

    (void)state;
    for (int i = 0; i < 1500; i++) {
        struct peer_buffer b;
        struct peer p;
        peer_open(&p, g_server);
        peer_hello(&p);
        peer_alloc(&p, BUFFER_BYTES, &b);
        put_session(&s, &b);
        if (i > 0) damage(&s, &seed);
        peer_raw(&p, s.bytes, s.w.pos);
        read_all(&p);
        if (peer_end(&p) == SHOAL_OK) fail_msg("stream %d ended well", i);
        if (strstr(p.err.message, "second greeting")) {
            n_through++;
        } else {
            n_refused++;
        }
        sh_ggmlrpc_server_stats(g_server, &stats);
        assert_int_equal(stats.memory_used, 0);
        if (i == 0) assert_int_equal(n_through, 1);
    }
    assert_true(n_refused > 300);
    assert_true(n_through > 100);
    expect_service();
}

static int open_all(void **state)
{
    const struct sh_cpu_options cpu = {.n_threads = 1};
    struct sh_ggmlrpc_server_options opt = {.memory_max = 1 << 20, .log_lines_max = 100000};
    struct shoal_error err = SHOAL_ERROR_INIT;

    (void)state;
    peer_log_begin();
    if (sh_cpu_device_open(&g_device, &cpu, &err)) return -1;
    opt.device = g_device;
    if (sh_ggmlrpc_server_create(&g_server, &opt, &err)) return -1;
    opt.stall_ns = 200 * SH_MS;
    return sh_ggmlrpc_server_create(&g_hasty, &opt, &err);
}

static int close_all(void **state)
{
    (void)state;
    sh_ggmlrpc_server_destroy(g_hasty);
    sh_ggmlrpc_server_destroy(g_server);
    sh_device_close(g_device);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile__framing_and_session),
        cmocka_unit_test(hostile__sizes_of_all_commands),
        cmocka_unit_test(hostile__buffers),
        cmocka_unit_test(hostile__tensor_records),
        cmocka_unit_test(hostile__requests_on_tensors),
        cmocka_unit_test(hostile__graphs),
        cmocka_unit_test(hostile__deep_chain_of_views),
        cmocka_unit_test(hostile__row_numbers_outside),
        cmocka_unit_test(hostile__damaged_streams),
    };

    return cmocka_run_group_tests_name("hostile", tests, open_all, close_all);
}

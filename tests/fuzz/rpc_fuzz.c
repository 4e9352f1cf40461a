/* Fuzz target: any bytes as a message of shoal's own protocol, or as a graph.
 *
 * The first byte chooses: from 0xf0 on the rest is a graph, else it is the payload of the message
 * of that place in the table, sent with or without a checksum that is right.  A message that
 * decodes must encode to the same bytes, at once and in pieces; a graph that is built must survive
 * the validator and come back from its own bytes.  Every refusal must have a reason.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "rpc/codec.h"
#include "rpc/graph_wire.h"

#define MESSAGE_BYTES 4096 /* of the largest struct, with room */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
    if (!ok) abort();
}

/* ---- messages -------------------------------------------------------------------------------*/

/* The message at place i of the table, around and around. */
static uint16_t message_at(unsigned i)
{
    uint16_t types[SH_RPC_TYPE_COUNT];
    unsigned n = 0;

    for (uint16_t t = 0; t < SH_RPC_TYPE_COUNT; t++) {
        if (sh_rpc_info(t)) types[n++] = t;
    }
    return types[i % n];
}

static void encode_again(const struct sh_rpc_head *head, const void *msg, bool checksum,
                         const uint8_t *frame, size_t n)
{
    const enum sh_rpc_type type = (enum sh_rpc_type)head->type;
    uint8_t *again = sh_malloc(n);
    struct sh_rpc_pieces pieces;
    struct sh_writer w;
    size_t at = 0;

    expect(again && sh_rpc_frame_bytes(type, msg, SH_RPC_REVISION) == n);
    w = sh_writer_over(again, n);
    expect(!sh_rpc_encode(&w, type, head->request, msg, SH_RPC_REVISION, checksum, NULL));
    expect(w.pos == n && memcmp(again, frame, n) == 0);
    w = sh_writer_over(again, n);
    expect(!sh_rpc_encode_pieces(&pieces, &w, type, head->request, msg, SH_RPC_REVISION, checksum,
                                 NULL));
    for (int i = 0; i < pieces.n; i++) {
        expect(pieces.iov[i].iov_len <= n - at);
        expect(memcmp(pieces.iov[i].iov_base, frame + at, pieces.iov[i].iov_len) == 0);
        at += pieces.iov[i].iov_len;
    }
    expect(at == n && pieces.bytes == n);
    sh_free(again);
}

static void try_message(unsigned which, bool checksum, const uint8_t *data, size_t size)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_arena arena = SH_ARENA_INIT;
    uint64_t msg[MESSAGE_BYTES / 8];
    const size_t n = SH_RPC_HEAD_BYTES + size;
    uint8_t *frame = sh_malloc(n);
    const uint16_t type = message_at(which);
    struct sh_rpc_head head;
    struct sh_writer w;
    enum shoal_status st;

    expect(frame && sh_rpc_info(type)->struct_bytes <= sizeof msg);
    w = sh_writer_over(frame, n);
    sh_write_u32(&w, (uint32_t)size);
    sh_write_u32(&w, type);
    sh_write_u32(&w, 5);
    sh_write_u32(&w, 0);
    sh_write_bytes(&w, data, size);
    if (checksum) {
        uint32_t crc = sh_crc32c(0, frame, SH_RPC_CHECKSUM_AT);
        crc = sh_crc32c(crc, data, size);
        w.pos = SH_RPC_CHECKSUM_AT;
        sh_write_u32(&w, crc);
    }
    st = sh_rpc_head_get(&head, frame, sh_rpc_info(type)->from != 'S', SH_RPC_REVISION, &err);
    if (!st) {
        st = sh_rpc_decode(msg, &head, frame + SH_RPC_HEAD_BYTES, SH_RPC_REVISION, checksum, &arena,
                           &err);
        if (!st) encode_again(&head, msg, checksum, frame, n);
    }
    expect(!st || err.message[0]);
    sh_arena_release(&arena);
    sh_free(frame);
}

/* ---- graphs ---------------------------------------------------------------------------------*/

static void try_graph(const uint8_t *data, size_t size)
{
    static struct sh_graph_wire_map ops;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g, back;
    enum shoal_status st;
    size_t n;

    sh_graph_wire_map_own(&ops);
    st = sh_graph_wire_get(&g, data, size, &ops, &err);
    expect(!st || err.message[0]);
    if (!st) {
        uint8_t *bytes;
        struct sh_writer w;
        expect(!sh_graph_wire_bytes(&n, &g, &err));
        bytes = sh_malloc(n);
        expect(bytes != NULL);
        w = sh_writer_over(bytes, n);
        expect(!sh_graph_wire_put(&w, &g, &err) && w.pos == n);
        expect(!sh_graph_wire_get(&back, bytes, n, &ops, &err));
        expect(sh_graph_wire_equal(&g, &back));
        st = sh_graph_validate(&back, NULL, 0, true, &err);
        expect(!st || err.message[0]);
        sh_graph_release(&back);
        sh_free(bytes);
    }
    sh_graph_release(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t before = sh_mem_live_bytes();

    if (size == 0) return 0;
    if (data[0] >= 0xf0) {
        try_graph(data + 1, size - 1);
    } else {
        try_message(data[0] >> 1, data[0] & 1, data + 1, size - 1);
    }
    expect(sh_mem_live_bytes() == before);
    return 0;
}

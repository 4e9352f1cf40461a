/* tests/fuzz/wire_frames.h - bytes as the frames of a client: what the fuzzer varies.
 *
 * The bytes are decisions: which command, on which buffer, which op over which shapes, and what is
 * wrong with it.  Undecided is zero, so any bytes are some session, and most graphs are nearly
 * lawful: sources fit the op, results have the shape that the op's rule gives, until a later byte
 * bends a field.  Tokens and addresses come from the server's own answers.
 *
 *     wire_frames.c   commands, and damage to their bytes
 *     wire_nodes.c    graphs
 *
 * Threads: one at a time.
 */
#ifndef TESTS_FUZZ_WIRE_FRAMES_H
#define TESTS_FUZZ_WIRE_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "ggmlrpc/wire.h"
#include "tensor/graph.h"

#define FRAMES_BUFFERS_MAX 6
#define FRAMES_RECORDS_MAX 48
#define FRAMES_BYTES_MAX ((size_t)1 << 15)
#define FRAMES_DAMAGE_MAX 4

struct frames_buffer {
    uint64_t token, base;
    size_t bytes;
    size_t used; /* where the next tensor of a graph goes */
};

struct frames {
    struct sh_reader script;
    struct frames_buffer buffers[FRAMES_BUFFERS_MAX];
    int n_buffers;
    int stage;     /* of the opening: greeting, first buffers */
    bool has_base; /* of the last buffer */
    unsigned command;
    size_t wanted; /* bytes of the buffer that was asked for */

    uint8_t bytes[FRAMES_BYTES_MAX]; /* the frame */
    size_t n;
    uint8_t graph[FRAMES_BYTES_MAX]; /* the last graph, to be sent again */
    size_t n_graph;
    struct {
        uint16_t at;
        uint8_t flip;
    } damage[FRAMES_DAMAGE_MAX]; /* to the next frame */
    int n_damage;

    /* of the graph being made */
    struct sh_graph g; /* every record as a tensor */
    struct sh_wire_tensor records[FRAMES_RECORDS_MAX];
    bool listed[FRAMES_RECORDS_MAX];
};

void frames_begin(struct frames *f, const uint8_t *script, size_t n);
/* Make the next frame in f->bytes; false: the session is over. */
bool frames_next(struct frames *f);
/* What the server has sent since the last frame, without the bytes behind the first 64. */
void frames_answered(struct frames *f, const uint8_t *bytes, size_t n);

/* Decisions: one of n, one of a table, a small extent. */
unsigned frames_pick(struct frames *f, unsigned n);
int64_t frames_extent(struct frames *f);
enum sh_dtype frames_type(struct frames *f);
const struct frames_buffer *frames_buffer(struct frames *f);
/* A record of type and dense shape somewhere in a buffer, at times bent. */
void frames_record(struct frames *f, struct sh_wire_tensor *out);
/* Now and then one field becomes something else. */
void frames_bend(struct frames *f, struct sh_wire_tensor *t);

/* wire_nodes.c: append the payload of GRAPH_COMPUTE. */
void frames_graph(struct frames *f, struct sh_writer *w);

#endif

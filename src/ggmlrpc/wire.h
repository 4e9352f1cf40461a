/* ggmlrpc/wire.h - the bytes of llama.cpp's RPC protocol, major 7.
 *
 *   request    u8 command | u64 size | size bytes
 *   answer     u64 size | size bytes          no status, no echo; silent commands have none
 *
 * Everything is little-endian and packed.  This unit turns records and the fixed part of every
 * message into plain structs and back, and holds the one table of commands; what the values mean
 * and whether they may be used is checked by whoever receives them.
 * Threads: pure functions and constant data.
 */
#ifndef GGMLRPC_WIRE_H
#define GGMLRPC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"

#define SH_WIRE_MAJOR 7
#define SH_WIRE_MINOR 0
#define SH_WIRE_PATCH 0

#define SH_WIRE_REQUEST_HEADER 9
#define SH_WIRE_ANSWER_HEADER 8
#define SH_WIRE_TENSOR_BYTES 296
#define SH_WIRE_CAPS_BYTES 24
#define SH_WIRE_NAME_BYTES 64
#define SH_WIRE_DIMS 4
#define SH_WIRE_SRC 10
#define SH_WIRE_PARAMS 16
#define SH_WIRE_SET_BYTES 305  /* of SET_TENSOR in front of the data */
#define SH_WIRE_HASH_BYTES 312 /* of SET_TENSOR_HASH */
#define SH_WIRE_GRAPH_BYTES_MAX (UINT64_C(32) << 20)
#define SH_WIRE_OPS 101 /* size of the op table of this major */
#define SH_WIRE_PORT 50052

/* Answers that are no fixed number of bytes. */
#define SH_WIRE_SILENT (-1) /* none is sent */
#define SH_WIRE_DATA (-2)   /* as many bytes as were asked for */

/* name, number, fewest and most request bytes, answer bytes */
#define SH_WIRE_COMMANDS(X)                                                                        \
    X(ALLOC_BUFFER, 0, 12, 12, 16)                                                                 \
    X(GET_ALIGNMENT, 1, 4, 4, 8)                                                                   \
    X(GET_MAX_SIZE, 2, 4, 4, 8)                                                                    \
    X(BUFFER_GET_BASE, 3, 8, 8, 8)                                                                 \
    X(FREE_BUFFER, 4, 8, 8, SH_WIRE_SILENT)                                                        \
    X(BUFFER_CLEAR, 5, 9, 9, SH_WIRE_SILENT)                                                       \
    X(SET_TENSOR, 6, SH_WIRE_SET_BYTES, UINT64_MAX, SH_WIRE_SILENT)                                \
    X(SET_TENSOR_HASH, 7, SH_WIRE_HASH_BYTES, SH_WIRE_HASH_BYTES, 1)                               \
    X(GET_TENSOR, 8, 312, 312, SH_WIRE_DATA)                                                       \
    X(COPY_TENSOR, 9, 592, 592, 1)                                                                 \
    X(GRAPH_COMPUTE, 10, 12, SH_WIRE_GRAPH_BYTES_MAX, SH_WIRE_SILENT)                              \
    X(GET_DEVICE_MEMORY, 11, 4, 4, 16)                                                             \
    X(INIT_TENSOR, 12, 296, 296, SH_WIRE_SILENT)                                                   \
    X(GET_ALLOC_SIZE, 13, 3260, 3260, 8)                                                           \
    X(HELLO, 14, 24, 24, 28)                                                                       \
    X(DEVICE_COUNT, 15, 0, 0, 4)                                                                   \
    X(GRAPH_RECOMPUTE, 16, 4, 4, SH_WIRE_SILENT)                                                   \
    X(MEMSET_TENSOR, 17, 313, 313, SH_WIRE_SILENT)

enum sh_wire_command {
#define X(name, number, fewest, most, answer) SH_WIRE_##name = number,
    SH_WIRE_COMMANDS(X)
#undef X
        SH_WIRE_COMMAND_COUNT
};

struct sh_wire_command_info {
    const char *name;
    uint64_t bytes_min, bytes_max; /* of the request without its header */
    int64_t answer_bytes;          /* or SH_WIRE_SILENT, SH_WIRE_DATA */
};

/* NULL for numbers that are no command. */
const struct sh_wire_command_info *sh_wire_command_info(unsigned command);

enum sh_wire_flag { SH_WIRE_FLAG_COMPUTE = 16 };

/* A tensor record as it lies on the wire. */
struct sh_wire_tensor {
    uint64_t id; /* 0 = absent */
    uint32_t type;
    uint64_t buffer; /* token of ALLOC_BUFFER, 0 = none */
    uint32_t ne[SH_WIRE_DIMS], nb[SH_WIRE_DIMS];
    uint32_t op;
    int32_t params[SH_WIRE_PARAMS];
    uint32_t flags;
    uint64_t src[SH_WIRE_SRC];
    uint64_t view_src, view_offs;
    uint64_t data; /* absolute device address, 0 = none */
    char name[SH_WIRE_NAME_BYTES];
    int32_t use_count;
};

void sh_wire_tensor_put(struct sh_writer *w, const struct sh_wire_tensor *t);
void sh_wire_tensor_get(struct sh_reader *r, struct sh_wire_tensor *t);

/* The fixed part of any request; a command uses the fields that its layout names.  Of
 * GRAPH_COMPUTE only `device`, of SET_TENSOR all but the data. */
struct sh_wire_request {
    uint32_t device;
    uint64_t buffer; /* token */
    uint64_t offset, size;
    uint64_t hash;
    uint8_t value; /* of BUFFER_CLEAR, MEMSET_TENSOR; cache flag of SET_TENSOR */
    uint8_t caps[SH_WIRE_CAPS_BYTES];
    struct sh_wire_tensor tensor;
    struct sh_wire_tensor dst;              /* COPY_TENSOR */
    struct sh_wire_tensor src[SH_WIRE_SRC]; /* GET_ALLOC_SIZE; id 0 = absent */
};

/* Most bytes of a header and a fixed part. */
#define SH_WIRE_REQUEST_BYTES_MAX (SH_WIRE_REQUEST_HEADER + 3260)

/* Header and fixed part; `more` bytes of data will follow (SET_TENSOR). */
void sh_wire_request_put(struct sh_writer *w, enum sh_wire_command command,
                         const struct sh_wire_request *rq, uint64_t more);
/* The fixed part, behind the header.  Fields that the command does not name are left alone. */
void sh_wire_request_get(struct sh_reader *r, enum sh_wire_command command,
                         struct sh_wire_request *rq);

/* Any answer of fixed size. */
struct sh_wire_answer {
    uint64_t buffer; /* ALLOC_BUFFER: token, 0 = refused */
    uint64_t value;  /* size, alignment, base, count: whatever was asked */
    uint64_t memory_free, memory_total;
    uint8_t result; /* SET_TENSOR_HASH, COPY_TENSOR */
    uint8_t major, minor, patch;
};

#define SH_WIRE_ANSWER_BYTES_MAX (SH_WIRE_ANSWER_HEADER + 28)

void sh_wire_answer_put(struct sh_writer *w, enum sh_wire_command command,
                        const struct sh_wire_answer *a);
void sh_wire_answer_get(struct sh_reader *r, enum sh_wire_command command,
                        struct sh_wire_answer *a);

#endif

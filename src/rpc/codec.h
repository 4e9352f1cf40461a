/* rpc/codec.h - messages of shoal's own protocol to bytes and back, by the table.
 *
 *     frame:  u32 payload bytes | u16 message number | u16 zero | u32 request | u32 checksum
 *             payload: the fields in table order (rpc/messages.h)
 *
 * `request` is chosen by the end that asks and repeated in the answer; 0 where no answer is due.
 * The checksum is CRC-32C over the first 12 bytes of the head and the payload where CHECKSUM was
 * agreed, else zero.
 *
 * Every struct below mirrors its fields: LIST rows becomes `const struct sh_rpc_row *rows; uint32_t
 * n_rows`, TEXT and BYTES a pointer and a length.  Decoded text and bytes are borrowed from the
 * frame (text is not NUL-terminated there; sh_rpc_text_copy() helps), lists come from the arena,
 * which a caller resets per message: nothing is allocated per step once it has grown.
 *
 * Nothing that arrives is trusted: lengths and counts are checked against what is there and
 * against the table's limits before anything is allocated, text must be UTF-8 without control
 * characters, and nothing may follow the last field.  Every message has one form only: what
 * decodes, encodes to the same bytes.  What a number means (a kind, a handle, a step) is checked by
 * who uses it.
 * Threads: pure functions; an arena is its owner's.
 */
#ifndef RPC_CODEC_H
#define RPC_CODEC_H

#include <stdbool.h>
#include <sys/uio.h>

#include "base/arena.h"
#include "base/cursor.h"
#include "base/error.h"
#include "rpc/messages.h"

struct sh_rpc_handle {
    uint32_t slot, generation; /* generation 0: none */
};
struct sh_rpc_text {
    const char *ptr;
    uint32_t n;
};
struct sh_rpc_bytes {
    const uint8_t *ptr;
    uint32_t n;
};

/* A member of a struct, by the kind of its field. */
#define SH_RPC_MEMBER_U8(name, record) uint8_t name;
#define SH_RPC_MEMBER_U16(name, record) uint16_t name;
#define SH_RPC_MEMBER_U32(name, record) uint32_t name;
#define SH_RPC_MEMBER_U64(name, record) uint64_t name;
#define SH_RPC_MEMBER_I32(name, record) int32_t name;
#define SH_RPC_MEMBER_I64(name, record) int64_t name;
#define SH_RPC_MEMBER_F32(name, record) float name;
#define SH_RPC_MEMBER_F64(name, record) double name;
#define SH_RPC_MEMBER_ID(name, record) uint8_t name[16];
#define SH_RPC_MEMBER_HASH(name, record) uint8_t name[32];
#define SH_RPC_MEMBER_HANDLE(name, record) struct sh_rpc_handle name;
#define SH_RPC_MEMBER_TEXT(name, record) struct sh_rpc_text name;
#define SH_RPC_MEMBER_BYTES(name, record) struct sh_rpc_bytes name;
#define SH_RPC_MEMBER_LIST(name, record)                                                           \
    const struct sh_rpc_##record *name;                                                            \
    uint32_t n_##name;
#define SH_RPC_MEMBER(kind, name, record, max, since) SH_RPC_MEMBER_##kind(name, record)

/* struct sh_rpc_<record> and struct sh_rpc_<message>. */
#define X(name, FIELDS)                                                                            \
    struct sh_rpc_##name {                                                                         \
        FIELDS(SH_RPC_MEMBER)                                                                      \
    };
SH_RPC_RECORDS(X)
#undef X
#define X(number, name, NAME, from, answer, since)                                                 \
    struct sh_rpc_##name {                                                                         \
        SH_RPC_##NAME##_FIELDS(SH_RPC_MEMBER)                                                      \
    };
SH_RPC_MESSAGES(X)
#undef X

/* SH_RPC_MSG_HELLO = 1, ... */
enum sh_rpc_type {
#define X(number, name, NAME, from, answer, since) SH_RPC_MSG_##NAME = number,
    SH_RPC_MESSAGES(X)
#undef X
        SH_RPC_TYPE_COUNT /* one past the largest number */
};

#define SH_RPC_HEAD_BYTES 16
#define SH_RPC_CHECKSUM_AT 12 /* in the head */
struct sh_rpc_head {
    uint32_t bytes, request, checksum;
    uint16_t type;
    uint8_t raw[SH_RPC_CHECKSUM_AT]; /* what the checksum covers */
};

struct sh_rpc_info {
    const char *name; /* "STAGE_PUT" */
    char from;        /* 'C', 'S', 'B' */
    uint16_t answer;  /* 0: none */
    uint16_t since;
    size_t struct_bytes;
};
/* NULL for numbers without a row. */
const struct sh_rpc_info *sh_rpc_info(uint32_t type);
/* Most and fewest bytes of a payload; `type` must have a row. */
size_t sh_rpc_payload_max(uint32_t type, uint16_t revision);
size_t sh_rpc_payload_min(uint32_t type, uint16_t revision);

/* Bytes of the whole frame; 0 if a field is beyond its limit (sh_rpc_encode() then says which). */
size_t sh_rpc_frame_bytes(enum sh_rpc_type type, const void *msg, uint16_t revision);
/* Head and payload into w.  ERR_LIMIT and ERR_ARG name message and field (then, and where w is too
 * small, nothing is written). */
SHOAL_NODISCARD enum shoal_status sh_rpc_encode(struct sh_writer *w, enum sh_rpc_type type,
                                                uint32_t request, const void *msg,
                                                uint16_t revision, bool checksum,
                                                struct shoal_error *err);

/* A frame as pieces for writev: head and small fields in the writer's memory, BYTES of more than
 * SH_RPC_COPY_MAX where they lie.  Both must stay until all is written. */
#define SH_RPC_COPY_MAX 4096
#define SH_RPC_PIECES_MAX 5
struct sh_rpc_pieces {
    struct iovec iov[SH_RPC_PIECES_MAX];
    int n;
    size_t bytes; /* of the frame */
};
/* The writer needs the frame's bytes less those of long BYTES; SH_RPC_HEAD_BYTES + 2 *
 * SH_RPC_COPY_MAX always do for PUT, HIDDEN, LOGITS, SUM and PROBE. */
SHOAL_NODISCARD enum shoal_status sh_rpc_encode_pieces(struct sh_rpc_pieces *out,
                                                       struct sh_writer *w, enum sh_rpc_type type,
                                                       uint32_t request, const void *msg,
                                                       uint16_t revision, bool checksum,
                                                       struct shoal_error *err);

/* A head: known number, of this direction, length within the message's own least and most, zero
 * where zero is due.  ERR_FORMAT or ERR_LIMIT say what came. */
SHOAL_NODISCARD enum shoal_status sh_rpc_head_get(struct sh_rpc_head *out,
                                                  const uint8_t bytes[SH_RPC_HEAD_BYTES],
                                                  bool from_client, uint16_t revision,
                                                  struct shoal_error *err);
/* A payload of head->bytes into `msg` (struct sh_rpc_info.struct_bytes, zeroed here).  ERR_FORMAT,
 * ERR_LIMIT or ERR_NOMEM name message and field. */
SHOAL_NODISCARD enum shoal_status sh_rpc_decode(void *msg, const struct sh_rpc_head *head,
                                                const uint8_t *payload, uint16_t revision,
                                                bool checksum, struct sh_arena *arena,
                                                struct shoal_error *err);

/* The rolling hash of an epoch's steps (base/fnv.h, from SH_FNV_START on) with one more: `payload`
 * of a STEP of n bytes, which is hashed from its edits on; so `hash` itself may still be missing,
 * and the STEPs of one step to all stages have the same. */
#define SH_RPC_STEP_HASHED_AT 48
uint64_t sh_rpc_step_hash(uint64_t before, const uint8_t *payload, size_t n);

/* ---- text ----------------------------------------------------------------------------------- */
/* Borrowed. */
struct sh_rpc_text sh_rpc_text_from(const char *s);
/* At most n - 1 bytes, cut at a whole character, and a NUL. */
void sh_rpc_text_copy(char *dst, size_t n, struct sh_rpc_text t);
/* The same from any string, which may hold what a peer sent: control characters and what is no
 * UTF-8 become '?', so that it may be sent. */
struct sh_rpc_text sh_rpc_text_clean(char *dst, size_t n, const char *src);
/* UTF-8 without control characters? */
bool sh_rpc_text_ok(const char *s, size_t n);

/* ---- status --------------------------------------------------------------------------------- */
/* On the wire a status is a number from 0 up; one that only the peer knows reads as ERR_PEER. */
uint32_t sh_rpc_status_put(enum shoal_status st);
enum shoal_status sh_rpc_status_get(uint32_t wire);
/* Of an ERROR, which is never OK.  A peer that ends something says so as ERR_CANCELLED; here that
 * is ERR_PEER, for what is cancelled here was asked for here. */
enum shoal_status sh_rpc_status_of_error(uint32_t wire);

#endif

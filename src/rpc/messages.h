/* rpc/messages.h - the message table of shoal's own protocol: every message and every record in
 * it, once.
 *
 * The structs, the encoder and decoder (rpc/codec.h), the limits, the tests of golden bytes and the
 * tables of docs/protocol.md expand from the lists below.  What a message means and when it is sent
 * is in docs/protocol.md; here is what it looks like.
 *
 * A field is F(kind, name, record, max, since):
 *   U8 U16 U32 U64 I32 I64 F32 F64    little-endian, floats by their bits
 *   ID (16 bytes)  HASH (32 bytes)
 *   HANDLE      u32 slot, u32 generation
 *   TEXT        u16 length, UTF-8 bytes without control characters; at most `max` bytes
 *   BYTES       u32 length, bytes; at most `max`
 *   LIST        u32 count, `record`s; at most `max`
 * `since` is the revision of the protocol that brought the field.  A frame holds exactly the fields
 * up to the revision agreed in the greeting; fields are only ever added at the end of a message or
 * record.  `record` and `max` are `none` and 0 where they do not apply.
 *
 * HELLO and WELCOME tell the revision, so they keep the fields of revision 1 for ever: what a later
 * one wants to greet with is a message of its own.
 *
 * Threads: constant data.
 */
#ifndef RPC_MESSAGES_H
#define RPC_MESSAGES_H

#include <stddef.h>
#include <stdint.h>

/* What a client writes before its first frame; no other protocol of a listener begins so. */
#define SH_RPC_PREFACE "shoal\r\n\1"
#define SH_RPC_PREFACE_BYTES 8

#define SH_RPC_REVISION 1 /* of this table; the oldest that is still spoken: */
#define SH_RPC_REVISION_MIN 1

#define SH_RPC_FRAME_MAX (4u << 20)     /* bytes of a payload */
#define SH_RPC_CHUNK_MAX (1u << 20)     /* bytes of data in PUT, HIDDEN, LOGITS, SUM, PROBE */
#define SH_RPC_GREETING_MAX (16u << 10) /* bytes of HELLO and WELCOME, heads included */
#define SH_RPC_DECODED_MAX (16u << 20)  /* bytes of lists that one message may become in memory */

/* What both ends can do, beyond what every end must: bits of `features`. */
enum sh_rpc_feature {
    SH_RPC_CHECKSUM = 1 << 0,  /* CRC-32C in every frame's head */
    SH_RPC_RESUME = 1 << 1,    /* sessions outlive their connection */
    SH_RPC_LINKS = 1 << 2,     /* hidden rows from worker to worker */
    SH_RPC_RELAY = 1 << 3,     /* and through the host where they cannot */
    SH_RPC_DATA = 1 << 4,      /* weights on a second connection */
    SH_RPC_OWN_FILES = 1 << 5, /* weights from the worker's own model files */
    SH_RPC_SLICES = 1 << 6,    /* weights named by parent and cut */
    SH_RPC_SUMS = 1 << 7,      /* sums between the shards of a stage */
    SH_RPC_F16 = 1 << 8,       /* hidden rows in f16 */
    SH_RPC_Q8 = 1 << 9,        /* in blocks of 32 8-bit numbers with an f16 scale */
    SH_RPC_CANCELS = 1 << 10   /* CANCELLED between the ends of links and sums */
};

/* What a connection is for (HELLO). */
enum sh_rpc_purpose {
    SH_RPC_FOR_CONTROL,
    SH_RPC_FOR_DATA,
    SH_RPC_FOR_LINK,
    SH_RPC_FOR_SUMS,
    SH_RPC_PURPOSE_COUNT
};

/* How rows lie in HIDDEN. */
enum sh_rpc_format { SH_RPC_ROWS_F32, SH_RPC_ROWS_F16, SH_RPC_ROWS_Q8, SH_RPC_FORMAT_COUNT };

/* clang-format off */
/* ---- records --------------------------------------------------------------------------------- */
#define SH_RPC_NAME_FIELDS(F)                                                                      \
    F(TEXT,   name,           none,        32,    1)
#define SH_RPC_DEVICE_FIELDS(F)                                                                    \
    F(TEXT,   name,           none,        64,    1)                                               \
    F(TEXT,   description,    none,        96,    1)                                               \
    F(U32,    kind,           none,        0,     1) /* 0 CPU, 1 GPU, 2 remote */                  \
    F(U32,    flags,          none,        0,     1) /* 1: shoal's ops, 2: exact bits */           \
    F(U64,    memory_free,    none,        0,     1)                                               \
    F(U64,    memory_total,   none,        0,     1)                                               \
    F(U32,    threads,        none,        0,     1)
#define SH_RPC_STAT_FIELDS(F)                                                                      \
    F(TEXT,   name,           none,        96,    1)                                               \
    F(U64,    value,          none,        0,     1)
/* Who uses what on a worker. */
#define SH_RPC_OCCUPANT_FIELDS(F)                                                                  \
    F(U64,    session,        none,        0,     1)                                               \
    F(TEXT,   key,            none,        64,    1) /* name of the key that opened it */          \
    F(TEXT,   name,           none,        96,    1) /* of the model */                            \
    F(TEXT,   peer,           none,        72,    1) /* address; empty while detached */           \
    F(U64,    memory,         none,        0,     1) /* bytes taken */                             \
    F(U64,    steps,          none,        0,     1) /* run so far */                              \
    F(U32,    age_s,          none,        0,     1)                                               \
    F(U32,    idle_ms,        none,        0,     1) /* since its last frame */
/* What a session sets aside on one device, bytes. */
#define SH_RPC_CLAIM_FIELDS(F)                                                                     \
    F(U32,    device,         none,        0,     1)                                               \
    F(U64,    weights,        none,        0,     1)                                               \
    F(U64,    cache,          none,        0,     1)                                               \
    F(U64,    scratch,        none,        0,     1)                                               \
    F(U64,    places,         none,        0,     1) /* inputs and outputs of steps in flight */
/* Where a stage stands, for RESUMED. */
#define SH_RPC_PROGRESS_OF_FIELDS(F)                                                               \
    F(HANDLE, stage,          none,        0,     1)                                               \
    F(U64,    next,           none,        0,     1) /* step that is expected next */              \
    F(U64,    hash,           none,        0,     1) /* rolling hash up to there */
#define SH_RPC_SEGMENT_FIELDS(F)                                                                   \
    F(I64,    begin,          none,        0,     1)                                               \
    F(I64,    end,            none,        0,     1)
/* A stored tensor; which part of it a leaf holds is in the graph. */
#define SH_RPC_WEIGHT_FIELDS(F)                                                                    \
    F(TEXT,   name,           none,        128,   1)                                               \
    F(HASH,   sha256,         none,        0,     1) /* of its bytes, or the slice's */            \
    F(U32,    dtype,          none,        0,     1) /* GGUF's number of the type */               \
    F(I64,    ne0,            none,        0,     1)                                               \
    F(I64,    ne1,            none,        0,     1)                                               \
    F(I64,    ne2,            none,        0,     1)                                               \
    F(I64,    ne3,            none,        0,     1)                                               \
    F(U64,    bytes,          none,        0,     1)                                               \
    F(I32,    axis,           none,        0,     1) /* -1: whole; else (SLICES) is cut */         \
    F(LIST,   segments,       segment,     8,     1) /* of that axis, ascending */                 \
    F(HASH,   parent,         none,        0,     1) /* of a slice: the whole's; else 0 */
#define SH_RPC_MISS_FIELDS(F)                                                                      \
    F(HASH,   sha256,         none,        0,     1)                                               \
    F(U64,    held,           none,        0,     1) /* bytes from the start, here already */
#define SH_RPC_GROUP_FIELDS(F)                                                                     \
    F(U32,    kind,           none,        0,     1) /* 0 full, 1 window, 2 states */              \
    F(I64,    window,         none,        0,     1)                                               \
    F(I64,    pages,          none,        0,     1)
/* Of the page tables (stage/step.h). */
#define SH_RPC_EDIT_FIELDS(F)                                                                      \
    F(U8,     kind,           none,        0,     1) /* 0 MAP, 1 FORK, 2 DROP, 3 COPY, 4 SHIFT */  \
    F(I32,    seq,            none,        0,     1)                                               \
    F(I32,    from,           none,        0,     1)                                               \
    F(I32,    group,          none,        0,     1)                                               \
    F(I32,    index,          none,        0,     1)                                               \
    F(I32,    page,           none,        0,     1)                                               \
    F(I32,    page_from,      none,        0,     1)                                               \
    F(I64,    begin,          none,        0,     1)                                               \
    F(I64,    end,            none,        0,     1)                                               \
    F(I64,    delta,          none,        0,     1)
#define SH_RPC_ROW_FIELDS(F)                                                                       \
    F(I32,    token,          none,        0,     1) /* id; below 0: embedding row -1 - token */   \
    F(I32,    seq,            none,        0,     1)                                               \
    F(I32,    pos,            none,        0,     1)                                               \
    F(I32,    last,           none,        0,     1) /* last visible position */                   \
    F(U8,     want,           none,        0,     1) /* 0 nothing, 1 token, 2 top k, 3 logits */   \
    F(I32,    top_k,          none,        0,     1)                                               \
    F(F64,    draw,           none,        0,     1) /* uniform in [0, 1) */
#define SH_RPC_ID_FIELDS(F)                                                                        \
    F(I32,    id,             none,        0,     1)
/* A run of rows of one sequence. */
#define SH_RPC_SEQ_FIELDS(F)                                                                       \
    F(I32,    seq,            none,        0,     1)                                               \
    F(I32,    first_row,      none,        0,     1)                                               \
    F(I32,    n_rows,         none,        0,     1)                                               \
    F(I32,    state_read,     none,        0,     1) /* -1: none, zeros */                         \
    F(I32,    state_write,    none,        0,     1)                                               \
    F(F32,    temp,           none,        0,     1)                                               \
    F(I32,    top_k,          none,        0,     1)                                               \
    F(F32,    top_p,          none,        0,     1)                                               \
    F(F32,    min_p,          none,        0,     1)                                               \
    F(F32,    repeat_penalty, none,        0,     1)                                               \
    F(I32,    repeat_last_n,  none,        0,     1)                                               \
    F(I32,    min_keep,       none,        0,     1)                                               \
    F(LIST,   recent,         id,          8192,  1) /* tokens up to this run's last, newest last */
#define SH_RPC_CANDIDATE_FIELDS(F)                                                                 \
    F(I32,    id,             none,        0,     1)                                               \
    F(F32,    logit,          none,        0,     1)                                               \
    F(F32,    p,              none,        0,     1) /* log-probability */
/* Of a wanted row. */
#define SH_RPC_OUTCOME_FIELDS(F)                                                                   \
    F(I32,    row,            none,        0,     1)                                               \
    F(U8,     want,           none,        0,     1)                                               \
    F(I32,    token,          none,        0,     1)                                               \
    F(LIST,   top,            candidate,   4096,  1)
/* Of one stage in one step, microseconds by its own clock. */
#define SH_RPC_TIMING_FIELDS(F)                                                                    \
    F(U32,    stage,          none,        0,     1) /* its place in the pipeline */               \
    F(U32,    wait_us,        none,        0,     1) /* from STEP to the last input */             \
    F(U32,    queue_us,       none,        0,     1) /* until it began to run */                   \
    F(U32,    compute_us,     none,        0,     1)
#define SH_RPC_ADDRESS_FIELDS(F)                                                                   \
    F(TEXT,   address,        none,        72,    1) /* "10.0.0.2:50052" */

#define SH_RPC_RECORDS(X)                                                                          \
    X(name,       SH_RPC_NAME_FIELDS)                                                              \
    X(device,     SH_RPC_DEVICE_FIELDS)                                                            \
    X(stat,       SH_RPC_STAT_FIELDS)                                                              \
    X(occupant,   SH_RPC_OCCUPANT_FIELDS)                                                          \
    X(claim,      SH_RPC_CLAIM_FIELDS)                                                             \
    X(progress_of, SH_RPC_PROGRESS_OF_FIELDS)                                                      \
    X(segment,    SH_RPC_SEGMENT_FIELDS)                                                           \
    X(weight,     SH_RPC_WEIGHT_FIELDS)                                                            \
    X(miss,       SH_RPC_MISS_FIELDS)                                                              \
    X(group,      SH_RPC_GROUP_FIELDS)                                                             \
    X(edit,       SH_RPC_EDIT_FIELDS)                                                              \
    X(row,        SH_RPC_ROW_FIELDS)                                                               \
    X(id,         SH_RPC_ID_FIELDS)                                                                \
    X(seq,        SH_RPC_SEQ_FIELDS)                                                               \
    X(candidate,  SH_RPC_CANDIDATE_FIELDS)                                                         \
    X(outcome,    SH_RPC_OUTCOME_FIELDS)                                                           \
    X(timing,     SH_RPC_TIMING_FIELDS)                                                            \
    X(address,    SH_RPC_ADDRESS_FIELDS)

/* ---- messages: the connection ---------------------------------------------------------------- */
#define SH_RPC_HELLO_FIELDS(F)                                                                     \
    F(U16,    revision_min,   none,        0,     1)                                               \
    F(U16,    revision_max,   none,        0,     1)                                               \
    F(U64,    features,       none,        0,     1)                                               \
    F(U8,     purpose,        none,        0,     1) /* 0 CONTROL, 1 DATA, 2 LINK, 3 SUMS */       \
    F(TEXT,   software,       none,        64,    1) /* "shoal 0.2.0" */                           \
    F(ID,     machine,        none,        0,     1)                                               \
    F(LIST,   ops,            name,        400,   1) /* op number i of this end's graphs */
#define SH_RPC_WELCOME_FIELDS(F)                                                                   \
    F(U16,    revision,       none,        0,     1)                                               \
    F(U64,    features,       none,        0,     1) /* what both have */                          \
    F(TEXT,   software,       none,        64,    1)                                               \
    F(ID,     machine,        none,        0,     1)                                               \
    F(ID,     boot,           none,        0,     1) /* another one: all sessions are gone */      \
    F(LIST,   ops,            name,        400,   1) /* ops that some device here runs */
#define SH_RPC_ERROR_FIELDS(F)                                                                     \
    F(U32,    status,         none,        0,     1) /* section 10 */                              \
    F(U8,     fatal,          none,        0,     1) /* 1: this connection ends now */             \
    F(U64,    need,           none,        0,     1) /* bytes, where memory was refused; else 0 */ \
    F(U64,    free,           none,        0,     1)                                               \
    F(TEXT,   message,        none,        400,   1)
#define SH_RPC_BEAT_FIELDS(F)                                                                      \
    F(U64,    ack,            none,        0,     1) /* results below this number are held */
#define SH_RPC_BYE_FIELDS(F)                                                                       \
    F(TEXT,   reason,         none,        400,   1)
/* Measures a connection; data is not looked at. */
#define SH_RPC_PROBE_FIELDS(F)                                                                     \
    F(U64,    stamp,          none,        0,     1) /* anything; comes back */                    \
    F(U32,    answer_bytes,   none,        0,     1) /* of data that PROBED should carry */        \
    F(BYTES,  data,           none,        SH_RPC_CHUNK_MAX, 1)
#define SH_RPC_PROBED_FIELDS(F)                                                                    \
    F(U64,    stamp,          none,        0,     1)                                               \
    F(BYTES,  data,           none,        SH_RPC_CHUNK_MAX, 1)
/* ---- messages: what a worker has ------------------------------------------------------------- */
#define SH_RPC_DEVICES_FIELDS(F)                                                                   \
    F(U32,    unused,         none,        0,     1)
#define SH_RPC_DEVICES_ARE_FIELDS(F)                                                               \
    F(LIST,   devices,        device,      64,    1)
#define SH_RPC_STATS_FIELDS(F)                                                                     \
    F(U32,    unused,         none,        0,     1)
#define SH_RPC_STATS_ARE_FIELDS(F)                                                                 \
    F(LIST,   stats,          stat,        4096,  1)                                               \
    F(LIST,   sessions,       occupant,    1024,  1)
/* ---- messages: sessions ---------------------------------------------------------------------- */
#define SH_RPC_OPEN_FIELDS(F)                                                                      \
    F(TEXT,   name,           none,        96,    1) /* of the model, for people */                \
    F(LIST,   claims,         claim,       64,    1) /* set aside together or not at all */        \
    F(U32,    lease_ms,       none,        0,     1) /* 0: 30 s */
#define SH_RPC_OPENED_FIELDS(F)                                                                    \
    F(U64,    session,        none,        0,     1)                                               \
    F(ID,     secret,         none,        0,     1)                                               \
    F(U32,    lease_ms,       none,        0,     1) /* granted */
#define SH_RPC_RESUME_FIELDS(F)                                                                    \
    F(U64,    session,        none,        0,     1)                                               \
    F(ID,     secret,         none,        0,     1)                                               \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    ack,            none,        0,     1)
#define SH_RPC_RESUMED_FIELDS(F)                                                                   \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(LIST,   stages,         progress_of, 64,    1)
#define SH_RPC_CLOSE_FIELDS(F)                                                                     \
    F(U32,    unused,         none,        0,     1)
#define SH_RPC_CLOSED_FIELDS(F)                                                                    \
    F(U64,    freed,          none,        0,     1) /* bytes */
#define SH_RPC_RESET_FIELDS(F)                                                                     \
    F(U64,    epoch,          none,        0,     1)
#define SH_RPC_RESET_DONE_FIELDS(F)                                                                \
    F(U64,    epoch,          none,        0,     1)
/* First on a DATA connection: whose it is. */
#define SH_RPC_ATTACH_FIELDS(F)                                                                    \
    F(U64,    session,        none,        0,     1)                                               \
    F(ID,     secret,         none,        0,     1)
#define SH_RPC_ATTACHED_FIELDS(F)                                                                  \
    F(U32,    chunk_bytes,    none,        0,     1) /* that PUT should carry */
/* ---- messages: weights ----------------------------------------------------------------------- */
#define SH_RPC_WANT_FIELDS(F)                                                                      \
    F(LIST,   weights,        weight,      16384, 1)
#define SH_RPC_MISSING_FIELDS(F)                                                                   \
    F(LIST,   misses,         miss,        16384, 1)
#define SH_RPC_PUT_FIELDS(F)                                                                       \
    F(HASH,   sha256,         none,        0,     1)                                               \
    F(U64,    offset,         none,        0,     1)                                               \
    F(BYTES,  data,           none,        SH_RPC_CHUNK_MAX, 1)
#define SH_RPC_PUT_END_FIELDS(F)                                                                   \
    F(HASH,   sha256,         none,        0,     1)
#define SH_RPC_PUT_DONE_FIELDS(F)                                                                  \
    F(HASH,   sha256,         none,        0,     1)
/* While WANT or STAGE_PUT lasts; carries its request. */
#define SH_RPC_PROGRESS_FIELDS(F)                                                                  \
    F(U8,     what,           none,        0,     1) /* 0 hashing, 1 loading */                    \
    F(U64,    done,           none,        0,     1) /* bytes */                                   \
    F(U64,    total,          none,        0,     1)
/* ---- messages: stages ------------------------------------------------------------------------ */
#define SH_RPC_STAGE_PUT_FIELDS(F)                                                                 \
    F(U32,    device,         none,        0,     1)                                               \
    F(U32,    index,          none,        0,     1) /* its place in the pipeline */               \
    F(U8,     first,          none,        0,     1)                                               \
    F(U8,     last,           none,        0,     1)                                               \
    F(U32,    n_slots,        none,        0,     1) /* steps in flight */                         \
    F(I32,    n_seqs,         none,        0,     1)                                               \
    F(I64,    n_positions,    none,        0,     1)                                               \
    F(I64,    rows_max,       none,        0,     1)                                               \
    F(I64,    wanted_max,     none,        0,     1)                                               \
    F(I32,    n_states,       none,        0,     1)                                               \
    F(U32,    n_shards,       none,        0,     1) /* 1: whole */                                \
    F(U32,    rank,           none,        0,     1)                                               \
    F(LIST,   groups,         group,       8,     1)                                               \
    F(LIST,   weights,        weight,      16384, 1)                                               \
    F(BYTES,  graph,          none,        SH_RPC_FRAME_MAX, 1) /* section 9 */                    \
    F(BYTES,  rotate,         none,        SH_RPC_FRAME_MAX, 1) /* empty: no shifts */
#define SH_RPC_STAGE_READY_FIELDS(F)                                                               \
    F(HANDLE, stage,          none,        0,     1)                                               \
    F(U64,    weights,        none,        0,     1) /* bytes taken */                             \
    F(U64,    cache,          none,        0,     1)                                               \
    F(U64,    scratch,        none,        0,     1)
#define SH_RPC_STAGE_DROP_FIELDS(F)                                                                \
    F(HANDLE, stage,          none,        0,     1)
#define SH_RPC_STAGE_DROPPED_FIELDS(F)                                                             \
    F(HANDLE, stage,          none,        0,     1)
/* Where a stage's hidden rows go. */
#define SH_RPC_ROUTE_FIELDS(F)                                                                     \
    F(HANDLE, stage,          none,        0,     1)                                               \
    F(U8,     where,          none,        0,     1) /* 0: the host, 1: a link */                  \
    F(HANDLE, link,           none,        0,     1)                                               \
    F(U8,     format,         none,        0,     1) /* 0: f32, 1: f16, 2: 8 bits */               \
    F(U64,    from,           none,        0,     1) /* first step that goes there */              \
    F(HANDLE, reader,         none,        0,     1) /* to name in HIDDEN to the host */
#define SH_RPC_ROUTED_FIELDS(F)                                                                    \
    F(HANDLE, stage,          none,        0,     1)
/* ---- messages: steps ------------------------------------------------------------------------- */
#define SH_RPC_STEP_FIELDS(F)                                                                      \
    F(HANDLE, stage,          none,        0,     1)                                               \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    number,         none,        0,     1)                                               \
    F(U64,    hash,           none,        0,     1) /* over the epoch's steps, this too */        \
    F(U64,    ack,            none,        0,     1)                                               \
    F(U32,    deadline_ms,    none,        0,     1) /* for computing; 0: the worker's own */      \
    F(I32,    n_embd,         none,        0,     1) /* embedding rows, which follow as HIDDEN */  \
    F(LIST,   edits,          edit,        65536, 1)                                               \
    F(LIST,   rows,           row,         65536, 1)                                               \
    F(LIST,   seqs,           seq,         4096,  1)
/* Rows for a stage: hidden states or embeddings. */
#define SH_RPC_HIDDEN_FIELDS(F)                                                                    \
    F(HANDLE, stage,          none,        0,     1) /* that reads them */                         \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    number,         none,        0,     1)                                               \
    F(U32,    first_row,      none,        0,     1)                                               \
    F(U32,    n_rows,         none,        0,     1)                                               \
    F(U8,     format,         none,        0,     1)                                               \
    F(U32,    status,         none,        0,     1) /* not 0: it failed before; no rows */        \
    F(LIST,   timings,        timing,      64,    1)                                               \
    F(BYTES,  data,           none,        SH_RPC_CHUNK_MAX, 1)
#define SH_RPC_RESULT_FIELDS(F)                                                                    \
    F(HANDLE, stage,          none,        0,     1)                                               \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    number,         none,        0,     1)                                               \
    F(U32,    status,         none,        0,     1) /* of the step */                             \
    F(U8,     here,           none,        0,     1) /* 1: it failed at this stage, not before */  \
    F(TEXT,   message,        none,        400,   1)                                               \
    F(LIST,   outcomes,       outcome,     65536, 1)                                               \
    F(U32,    n_logits,       none,        0,     1) /* rows of logits, which follow as LOGITS */  \
    F(LIST,   timings,        timing,      64,    1)
#define SH_RPC_LOGITS_FIELDS(F)                                                                    \
    F(HANDLE, stage,          none,        0,     1)                                               \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    number,         none,        0,     1)                                               \
    F(I32,    row,            none,        0,     1)                                               \
    F(U32,    first,          none,        0,     1) /* id of the first logit here */              \
    F(BYTES,  data,           none,        SH_RPC_CHUNK_MAX, 1)
/* Steps [from, to) of the epoch; no answer but their results. */
#define SH_RPC_CANCEL_FIELDS(F)                                                                    \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    from,           none,        0,     1)                                               \
    F(U64,    to,             none,        0,     1)
/* Feature CANCELS: nothing more of steps [from, to) comes from here. */
#define SH_RPC_CANCELLED_FIELDS(F)                                                                 \
    F(HANDLE, stage,          none,        0,     1) /* that would have read it */                 \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    from,           none,        0,     1)                                               \
    F(U64,    to,             none,        0,     1)                                               \
    F(U32,    status,         none,        0,     1)                                               \
    F(TEXT,   message,        none,        400,   1)
/* ---- messages: links ------------------------------------------------------------------------- */
/* Somebody will come. */
#define SH_RPC_LINK_EXPECT_FIELDS(F)                                                               \
    F(HANDLE, stage,          none,        0,     1) /* own: that writes, or that reads */         \
    F(U8,     purpose,        none,        0,     1) /* 2 LINK, 3 SUMS */                          \
    F(U8,     writes,         none,        0,     1) /* 1: this end produces the rows */           \
    F(U32,    rank,           none,        0,     1) /* SUMS: of the other shard */                \
    F(ID,     token,          none,        0,     1)                                               \
    F(HASH,   key,            none,        0,     1) /* of pair and direction, or zeros */
#define SH_RPC_LINK_EXPECTED_FIELDS(F)                                                             \
    F(HANDLE, link,           none,        0,     1)                                               \
    F(LIST,   addresses,      address,     16,    1)
/* Go there. */
#define SH_RPC_LINK_OPEN_FIELDS(F)                                                                 \
    F(HANDLE, stage,          none,        0,     1)                                               \
    F(U8,     purpose,        none,        0,     1)                                               \
    F(U8,     writes,         none,        0,     1)                                               \
    F(U32,    rank,           none,        0,     1)                                               \
    F(ID,     token,          none,        0,     1)                                               \
    F(HASH,   key,            none,        0,     1)                                               \
    F(LIST,   addresses,      address,     16,    1) /* tried in turn */
#define SH_RPC_LINK_OPENED_FIELDS(F)                                                               \
    F(HANDLE, link,           none,        0,     1)                                               \
    F(TEXT,   address,        none,        72,    1) /* the one that worked */                     \
    F(U32,    round_trip_us,  none,        0,     1)
/* First on a link, after the greeting. */
#define SH_RPC_LINK_HELLO_FIELDS(F)                                                                \
    F(ID,     token,          none,        0,     1)                                               \
    F(HANDLE, stage,          none,        0,     1) /* a reader's: to put into HIDDEN */          \
    F(U64,    epoch,          none,        0,     1) /* a reader's */                              \
    F(U64,    next,           none,        0,     1) /* a reader's: first step wanted */
#define SH_RPC_LINK_WELCOME_FIELDS(F)                                                              \
    F(HANDLE, stage,          none,        0,     1)                                               \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    next,           none,        0,     1)
/* Reader to writer: rows of steps below are held. */
#define SH_RPC_LINK_ACK_FIELDS(F)                                                                  \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    next,           none,        0,     1)
/* Either end to the host. */
#define SH_RPC_LINK_DOWN_FIELDS(F)                                                                 \
    F(HANDLE, link,           none,        0,     1)                                               \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    sent,           none,        0,     1) /* steps below were sent, or came */          \
    F(U64,    acked,          none,        0,     1)                                               \
    F(TEXT,   message,        none,        400,   1)
#define SH_RPC_LINK_CLOSE_FIELDS(F)                                                                \
    F(HANDLE, link,           none,        0,     1)
#define SH_RPC_LINK_CLOSED_FIELDS(F)                                                               \
    F(HANDLE, link,           none,        0,     1)
/* Measure it: PROBE and PROBED. */
#define SH_RPC_LINK_PROBE_FIELDS(F)                                                                \
    F(HANDLE, link,           none,        0,     1)                                               \
    F(U32,    bytes,          none,        0,     1) /* of data each way */                        \
    F(U32,    count,          none,        0,     1)
#define SH_RPC_LINK_PROBED_FIELDS(F)                                                               \
    F(HANDLE, link,           none,        0,     1)                                               \
    F(U32,    least_us,       none,        0,     1) /* round trips */                             \
    F(U32,    median_us,      none,        0,     1)                                               \
    F(U64,    bytes_per_s,    none,        0,     1) /* one way */
/* ---- messages: sums -------------------------------------------------------------------------- */
/* Feature SUMS: vectors of a SHARD_SUM for another shard. */
#define SH_RPC_SUM_FIELDS(F)                                                                       \
    F(HANDLE, stage,          none,        0,     1) /* that reads them */                         \
    F(U64,    epoch,          none,        0,     1)                                               \
    F(U64,    number,         none,        0,     1)                                               \
    F(U32,    sum,            none,        0,     1) /* number of the SHARD_SUM in the graph */    \
    F(U32,    part,           none,        0,     1) /* operand */                                 \
    F(U32,    rank,           none,        0,     1) /* of the sender */                           \
    F(U8,     phase,          none,        0,     1) /* 0: subtree vectors, 1: a finished piece */ \
    F(U64,    first,          none,        0,     1) /* f32 of the part before these */            \
    F(BYTES,  data,           none,        SH_RPC_CHUNK_MAX, 1)

/* Number, name, fields, who may send it (C: the end that connected, S: the other, B: both), the
 * number of its answer (0: none), since.  Numbers are never used again for something else. */
#define SH_RPC_MESSAGES(X)                                                                         \
    X(1,  hello,         HELLO,         C, 2,  1)                                                  \
    X(2,  welcome,       WELCOME,       S, 0,  1)                                                  \
    X(3,  error,         ERROR,         B, 0,  1)                                                  \
    X(4,  beat,          BEAT,          B, 0,  1)                                                  \
    X(5,  bye,           BYE,           B, 0,  1)                                                  \
    X(6,  probe,         PROBE,         B, 7,  1)                                                  \
    X(7,  probed,        PROBED,        B, 0,  1)                                                  \
    X(8,  devices,       DEVICES,       C, 9,  1)                                                  \
    X(9,  devices_are,   DEVICES_ARE,   S, 0,  1)                                                  \
    X(10, stats,         STATS,         C, 11, 1)                                                  \
    X(11, stats_are,     STATS_ARE,     S, 0,  1)                                                  \
    X(16, open,          OPEN,          C, 17, 1)                                                  \
    X(17, opened,        OPENED,        S, 0,  1)                                                  \
    X(18, resume,        RESUME,        C, 19, 1)                                                  \
    X(19, resumed,       RESUMED,       S, 0,  1)                                                  \
    X(20, close,         CLOSE,         C, 21, 1)                                                  \
    X(21, closed,        CLOSED,        S, 0,  1)                                                  \
    X(22, reset,         RESET,         C, 23, 1)                                                  \
    X(23, reset_done,    RESET_DONE,    S, 0,  1)                                                  \
    X(24, attach,        ATTACH,        C, 25, 1)                                                  \
    X(25, attached,      ATTACHED,      S, 0,  1)                                                  \
    X(32, want,          WANT,          C, 33, 1)                                                  \
    X(33, missing,       MISSING,       S, 0,  1)                                                  \
    X(34, put,           PUT,           C, 0,  1)                                                  \
    X(35, put_end,       PUT_END,       C, 36, 1)                                                  \
    X(36, put_done,      PUT_DONE,      S, 0,  1)                                                  \
    X(37, progress,      PROGRESS,      S, 0,  1)                                                  \
    X(48, stage_put,     STAGE_PUT,     C, 49, 1)                                                  \
    X(49, stage_ready,   STAGE_READY,   S, 0,  1)                                                  \
    X(50, stage_drop,    STAGE_DROP,    C, 51, 1)                                                  \
    X(51, stage_dropped, STAGE_DROPPED, S, 0,  1)                                                  \
    X(52, route,         ROUTE,         C, 53, 1)                                                  \
    X(53, routed,        ROUTED,        S, 0,  1)                                                  \
    X(64, step,          STEP,          C, 0,  1)                                                  \
    X(65, hidden,        HIDDEN,        B, 0,  1)                                                  \
    X(66, result,        RESULT,        S, 0,  1)                                                  \
    X(67, logits,        LOGITS,        S, 0,  1)                                                  \
    X(68, cancel,        CANCEL,        C, 0,  1)                                                  \
    X(69, cancelled,     CANCELLED,     B, 0,  1)                                                  \
    X(80, link_expect,   LINK_EXPECT,   C, 81, 1)                                                  \
    X(81, link_expected, LINK_EXPECTED, S, 0,  1)                                                  \
    X(82, link_open,     LINK_OPEN,     C, 83, 1)                                                  \
    X(83, link_opened,   LINK_OPENED,   S, 0,  1)                                                  \
    X(84, link_hello,    LINK_HELLO,    C, 85, 1)                                                  \
    X(85, link_welcome,  LINK_WELCOME,  S, 0,  1)                                                  \
    X(86, link_ack,      LINK_ACK,      B, 0,  1)                                                  \
    X(87, link_down,     LINK_DOWN,     S, 0,  1)                                                  \
    X(88, link_close,    LINK_CLOSE,    C, 89, 1)                                                  \
    X(89, link_closed,   LINK_CLOSED,   S, 0,  1)                                                  \
    X(90, link_probe,    LINK_PROBE,    C, 91, 1)                                                  \
    X(91, link_probed,   LINK_PROBED,   S, 0,  1)                                                  \
    X(96, sum,           SUM,           B, 0,  1)
/* 97 to 111: more of sums, not yet laid down. */

/* clang-format on */
#endif

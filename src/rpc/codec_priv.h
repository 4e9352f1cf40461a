/* rpc/codec_priv.h - field descriptors, expanded from a table of messages, and the loops over them.
 *
 * A layout describes one record or message: its fields with kind, place in the struct, limit and
 * revision.  Nested lists are layouts again; how deep they go is the table's matter, never the
 * input's.
 * Threads: as codec.h.
 */
#ifndef RPC_CODEC_PRIV_H
#define RPC_CODEC_PRIV_H

#include "rpc/codec.h"

#define SH_RPC_KINDS(X) /* kind, bytes on the wire (the least, where it varies) */                 \
    X(U8, 1)                                                                                       \
    X(U16, 2)                                                                                      \
    X(U32, 4)                                                                                      \
    X(U64, 8)                                                                                      \
    X(I32, 4)                                                                                      \
    X(I64, 8)                                                                                      \
    X(F32, 4)                                                                                      \
    X(F64, 8)                                                                                      \
    X(ID, 16)                                                                                      \
    X(HASH, 32)                                                                                    \
    X(HANDLE, 8)                                                                                   \
    X(TEXT, 2)                                                                                     \
    X(BYTES, 4)                                                                                    \
    X(LIST, 4)

enum sh_rpc_kind {
#define X(kind, bytes) SH_RPC_KIND_##kind,
    SH_RPC_KINDS(X)
#undef X
};

struct sh_rpc_layout;
typedef const struct sh_rpc_layout *sh_rpc_layout_fn(void);

struct sh_rpc_field {
    const char *name;
    enum sh_rpc_kind kind;
    uint16_t since;
    uint32_t max;
    size_t offset;
    size_t count_offset;      /* LIST */
    sh_rpc_layout_fn *record; /* LIST */
};

struct sh_rpc_layout {
    const char *name;
    const struct sh_rpc_field *fields;
    int n_fields;
    size_t struct_bytes;
};

/* A field's row.  `struct self` is the struct that is being described. */
#define SH_RPC_ROW_PLAIN(k, n, m, s)                                                               \
    {.name = #n, .kind = k, .since = s, .max = m, .offset = offsetof(struct self, n)},
#define SH_RPC_ROW_U8(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_U8, n, m, s)
#define SH_RPC_ROW_U16(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_U16, n, m, s)
#define SH_RPC_ROW_U32(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_U32, n, m, s)
#define SH_RPC_ROW_U64(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_U64, n, m, s)
#define SH_RPC_ROW_I32(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_I32, n, m, s)
#define SH_RPC_ROW_I64(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_I64, n, m, s)
#define SH_RPC_ROW_F32(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_F32, n, m, s)
#define SH_RPC_ROW_F64(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_F64, n, m, s)
#define SH_RPC_ROW_ID(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_ID, n, m, s)
#define SH_RPC_ROW_HASH(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_HASH, n, m, s)
#define SH_RPC_ROW_HANDLE(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_HANDLE, n, m, s)
#define SH_RPC_ROW_TEXT(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_TEXT, n, m, s)
#define SH_RPC_ROW_BYTES(n, r, m, s) SH_RPC_ROW_PLAIN(SH_RPC_KIND_BYTES, n, m, s)
#define SH_RPC_ROW_LIST(n, r, m, s)                                                                \
    {.name = #n,                                                                                   \
     .kind = SH_RPC_KIND_LIST,                                                                     \
     .since = s,                                                                                   \
     .max = m,                                                                                     \
     .offset = offsetof(struct self, n),                                                           \
     .count_offset = offsetof(struct self, n_##n),                                                 \
     .record = layout_of_##r},
#define SH_RPC_ROW(kind, name, record, max, since) SH_RPC_ROW_##kind(name, record, max, since)

/* static const struct sh_rpc_layout *layout_of_<name>(void), for struct sh_rpc_<name>. */
#define SH_RPC_LAYOUT(tag, text, FIELDS)                                                           \
    static const struct sh_rpc_layout *layout_of_##tag(void)                                       \
    {                                                                                              \
        struct self {                                                                              \
            FIELDS(SH_RPC_MEMBER)                                                                  \
        };                                                                                         \
        static const struct sh_rpc_field fields[] = {FIELDS(SH_RPC_ROW)};                          \
        static const struct sh_rpc_layout layout = {.name = text,                                  \
                                                    .fields = fields,                              \
                                                    .n_fields = sizeof fields / sizeof fields[0],  \
                                                    .struct_bytes = sizeof(struct self)};          \
        _Static_assert(sizeof(struct self) == sizeof(struct sh_rpc_##tag), "one struct");          \
        return &layout;                                                                            \
    }

/* The layout of a message, NULL for numbers without a row. */
const struct sh_rpc_layout *sh_rpc_message_layout(uint32_t type);

/* Least and most bytes on the wire of a record at a revision; the most is cut at SIZE_MAX. */
size_t sh_rpc_layout_min(const struct sh_rpc_layout *l, uint16_t revision);
size_t sh_rpc_layout_max(const struct sh_rpc_layout *l, uint16_t revision);
static inline size_t sh_rpc_kind_bytes(enum sh_rpc_kind kind)
{
    static const uint8_t BYTES[] = {
#define X(k, bytes) [SH_RPC_KIND_##k] = bytes,
        SH_RPC_KINDS(X)
#undef X
    };
    return BYTES[kind];
}

/* Bytes that the struct `s` becomes.  ERR_LIMIT and ERR_ARG where a field may not be sent. */
SHOAL_NODISCARD enum shoal_status sh_rpc_layout_measure(size_t *bytes,
                                                        const struct sh_rpc_layout *l,
                                                        const void *s, uint16_t revision,
                                                        struct shoal_error *err);
/* Where bytes go: all into the writer, or long BYTES as pieces. */
struct sh_rpc_sink {
    struct sh_writer *w;
    struct sh_rpc_pieces *pieces; /* NULL: everything is copied */
    size_t begun;                 /* in w: where the piece being written begins */
};
/* Write the measured struct. */
void sh_rpc_layout_put(struct sh_rpc_sink *to, const struct sh_rpc_layout *l, const void *s,
                       uint16_t revision);
void sh_rpc_sink_end(struct sh_rpc_sink *to); /* the last piece ends */

/* Read a struct, zeroed before, to the reader's end. */
SHOAL_NODISCARD enum shoal_status sh_rpc_layout_get(void *s, const struct sh_rpc_layout *l,
                                                    struct sh_reader *r, uint16_t revision,
                                                    struct sh_arena *arena,
                                                    struct shoal_error *err);

#endif

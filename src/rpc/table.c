/* rpc/table.c - the layouts of all messages, and what follows from them alone: sizes, directions,
 * numbers. */
#include "rpc/codec_priv.h"

#include "base/mem.h"
#include "device/device.h"
#include "stage/stage.h"

/* Numbers that the wire took over from enums of ours: they may not move any more. */
_Static_assert(SH_DEVICE_CPU == 0 && SH_DEVICE_GPU == 1 && SH_DEVICE_REMOTE == 2, "device.kind");
_Static_assert(SH_GROUP_FULL == 0 && SH_GROUP_WINDOW == 1 && SH_GROUP_STATE == 2, "group.kind");
_Static_assert(SH_PRELUDE_MAP == 0 && SH_PRELUDE_FORK == 1 && SH_PRELUDE_DROP == 2 &&
                   SH_PRELUDE_COPY == 3 && SH_PRELUDE_SHIFT == 4,
               "edit.kind");
_Static_assert(SH_WANT_NOTHING == 0 && SH_WANT_TOKEN == 1 && SH_WANT_TOP_K == 2 &&
                   SH_WANT_LOGITS == 3,
               "row.want");
_Static_assert(SH_RPC_FOR_CONTROL == 0 && SH_RPC_FOR_DATA == 1 && SH_RPC_FOR_LINK == 2 &&
                   SH_RPC_FOR_SUMS == 3,
               "hello.purpose");

#define X(name, FIELDS) SH_RPC_LAYOUT(name, #name, FIELDS)
SH_RPC_RECORDS(X)
#undef X
#define X(number, name, NAME, from, answer, since)                                                 \
    SH_RPC_LAYOUT(name, #NAME, SH_RPC_##NAME##_FIELDS)
SH_RPC_MESSAGES(X)
#undef X

enum { FROM_C = 'C', FROM_S = 'S', FROM_B = 'B' };

static const struct {
    sh_rpc_layout_fn *layout;
    struct sh_rpc_info info;
} TABLE[SH_RPC_TYPE_COUNT] = {
#define X(number, name, NAME, who, reply, first)                                                   \
    [number] = {layout_of_##name, {#NAME, FROM_##who, reply, first, sizeof(struct sh_rpc_##name)}},
    SH_RPC_MESSAGES(X)
#undef X
};

const struct sh_rpc_layout *sh_rpc_message_layout(uint32_t type)
{
    return type < SH_RPC_TYPE_COUNT && TABLE[type].layout ? TABLE[type].layout() : NULL;
}

const struct sh_rpc_info *sh_rpc_info(uint32_t type)
{
    return type < SH_RPC_TYPE_COUNT && TABLE[type].layout ? &TABLE[type].info : NULL;
}

size_t sh_rpc_layout_min(const struct sh_rpc_layout *l, uint16_t revision)
{
    size_t sum = 0;

    for (int i = 0; i < l->n_fields; i++) {
        if (l->fields[i].since <= revision) sum += sh_rpc_kind_bytes(l->fields[i].kind);
    }
    return sum;
}

size_t sh_rpc_layout_max(const struct sh_rpc_layout *l, uint16_t revision)
{
    size_t sum = 0;

    for (int i = 0; i < l->n_fields; i++) {
        const struct sh_rpc_field *f = &l->fields[i];
        size_t more = f->max; // of TEXT and BYTES; 0 for numbers
        if (f->since > revision) continue;
        if (f->kind == SH_RPC_KIND_LIST &&
            !sh_mul_ok(f->max, sh_rpc_layout_max(f->record(), revision), &more)) {
            return SIZE_MAX;
        }
        if (!sh_add_ok(more, sh_rpc_kind_bytes(f->kind), &more) || !sh_add_ok(sum, more, &sum)) {
            return SIZE_MAX;
        }
    }
    return sum;
}

size_t sh_rpc_payload_min(uint32_t type, uint16_t revision)
{
    const struct sh_rpc_layout *l = sh_rpc_message_layout(type);

    SH_ASSERT(l);
    return sh_rpc_layout_min(l, revision);
}

size_t sh_rpc_payload_max(uint32_t type, uint16_t revision)
{
    const struct sh_rpc_layout *l = sh_rpc_message_layout(type);

    SH_ASSERT(l);
    const size_t most = sh_rpc_layout_max(l, revision);
    return most < SH_RPC_FRAME_MAX ? most : SH_RPC_FRAME_MAX;
}

uint32_t sh_rpc_status_put(enum shoal_status st)
{
    return (uint32_t) - (int32_t)st;
}

enum shoal_status sh_rpc_status_get(uint32_t wire)
{
    switch (wire) {
#define X(name, value, text)                                                                       \
    case -(value):                                                                                 \
        return SHOAL_##name;
        SHOAL_STATUSES(X)
#undef X
    default:
        return SHOAL_ERR_PEER;
    }
}

enum shoal_status sh_rpc_status_of_error(uint32_t wire)
{
    const enum shoal_status st = sh_rpc_status_get(wire);

    return st == SHOAL_OK || st == SHOAL_ERR_CANCELLED ? SHOAL_ERR_PEER : st;
}

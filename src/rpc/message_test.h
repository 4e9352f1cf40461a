/* rpc/message_test.h - messages made by going over their layouts, frames, golden frames: what the
 * tests of the codec share.
 */
#ifndef RPC_MESSAGE_TEST_H
#define RPC_MESSAGE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "rpc/codec_priv.h"
#include "rpc/golden_test.h"

static inline void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

static inline void refuses(enum shoal_status have, enum shoal_status want,
                           const struct shoal_error *err, const char *reason)
{
    if (have != want || !strstr(err->message, reason)) {
        fail_msg("%s \"%s\", expected %s \"%s\"", shoal_status_name(have), err->message,
                 shoal_status_name(want), reason);
    }
}

static inline void for_all(void (*check)(enum sh_rpc_type type, const struct sh_rpc_layout *l))
{
    for (uint32_t i = 0; i < SH_RPC_TYPE_COUNT; i++) {
        if (sh_rpc_info(i)) check((enum sh_rpc_type)i, sh_rpc_message_layout(i));
    }
}

/* ---- messages from nothing -------------------------------------------------------------------*/

/* Where the values of a message come from: a counter, or a generator. */
struct maker {
    struct sh_arena arena;
    uint32_t seed;
    bool random;
    uint32_t n; /* values so far */
};

static inline uint32_t next(struct maker *m)
{
    m->seed = m->seed * 1664525u + 1013904223u;
    return m->seed >> 8;
}

static inline uint64_t number(struct maker *m)
{
    m->n++;
    if (!m->random)
        return (UINT64_C(0x0102030405060708) * (m->n % 31 + 1) + 2 * m->n + 1) | 1; // never 0
    switch (next(m) % 4) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    default:
        return (uint64_t)next(m) << 40 ^ (uint64_t)next(m) << 20 ^ next(m);
    }
}

static inline uint32_t length(struct maker *m, uint32_t max, uint32_t usual)
{
    const uint32_t n = m->random ? next(m) % 4 == 0 ? 0 : next(m) % 40 : usual;
    return n < max ? n : max;
}

static inline struct sh_rpc_text make_text(struct maker *m, uint32_t max)
{
    static const char *const LETTERS[] = {"a", "\xc3\xa9",        "Z", "\xe2\x82\xac",
                                          "-", "\xf0\x9f\x90\x9f"};
    const uint32_t n = length(m, max, 9);
    char *s = sh_arena_calloc(&m->arena, n + 1, 1);
    uint32_t used = 0;

    assert_non_null(s);
    m->n++;
    for (;;) {
        const char *c = LETTERS[m->random ? next(m) % 6 : (m->n + used) % 6];
        const uint32_t more = (uint32_t)strlen(c);
        if (used + more > n) break;
        memcpy(s + used, c, more);
        used += more;
    }
    return (struct sh_rpc_text){s, used};
}

static inline struct sh_rpc_bytes make_bytes(struct maker *m, uint32_t max)
{
    const uint32_t n = length(m, max, 5);
    uint8_t *p = sh_arena_calloc(&m->arena, n + 1, 1);

    assert_non_null(p);
    for (uint32_t i = 0; i < n; i++)
        p[i] = (uint8_t)number(m);
    return (struct sh_rpc_bytes){p, n};
}

static inline void set_list(void *s, const struct sh_rpc_field *f, const void *list, uint32_t n)
{
    memcpy((uint8_t *)s + f->offset, &list, sizeof list);
    memcpy((uint8_t *)s + f->count_offset, &n, sizeof n);
}

static inline void *make(struct maker *m, const struct sh_rpc_layout *l, uint32_t count);

static inline void make_field(struct maker *m, const struct sh_rpc_field *f, uint8_t *s)
{
    const struct sh_rpc_text text = {0};
    const size_t bytes = sh_rpc_kind_bytes(f->kind);
    struct sh_rpc_bytes b;
    struct sh_rpc_text t = text;
    uint64_t v;
    uint32_t n;
    float f32;
    double f64;

    switch (f->kind) {
    case SH_RPC_KIND_TEXT:
        t = make_text(m, f->max);
        memcpy(s + f->offset, &t, sizeof t);
        break;
    case SH_RPC_KIND_BYTES:
        b = make_bytes(m, f->max);
        memcpy(s + f->offset, &b, sizeof b);
        break;
    case SH_RPC_KIND_LIST:
        n = m->random ? next(m) % 5 : 2;
        set_list(s, f, make(m, f->record(), n), n);
        break;
    case SH_RPC_KIND_F32:
        f32 = (float)(number(m) % 1000) + 0.5f;
        memcpy(s + f->offset, &f32, sizeof f32);
        break;
    case SH_RPC_KIND_F64:
        f64 = (double)(number(m) % 1000) / 1024;
        memcpy(s + f->offset, &f64, sizeof f64);
        break;
    default: // a number, or several side by side
        for (size_t at = 0; at < bytes; at += 8) {
            v = number(m);
            memcpy(s + f->offset + at, &v, bytes < 8 ? bytes : 8);
        }
        break;
    }
}

/* `count` structs side by side, every field filled. */
static inline void *make(struct maker *m, const struct sh_rpc_layout *l, uint32_t count)
{
    uint8_t *s = sh_arena_calloc(&m->arena, count, l->struct_bytes);

    assert_non_null(s);
    for (uint32_t k = 0; k < count; k++) {
        for (int i = 0; i < l->n_fields; i++)
            make_field(m, &l->fields[i], s + k * l->struct_bytes);
    }
    return s;
}

/* ---- frames ----------------------------------------------------------------------------------*/

struct frame {
    uint8_t bytes[1 << 16];
    size_t n;
};

static inline void encode(struct frame *f, enum sh_rpc_type type, const void *msg, bool checksum)
{
    struct sh_writer w = sh_writer_over(f->bytes, sizeof f->bytes);
    struct shoal_error err = SHOAL_ERROR_INIT;

    must(sh_rpc_encode(&w, type, 77, msg, SH_RPC_REVISION, checksum, &err), &err);
    f->n = w.pos;
    assert_int_equal(f->n, sh_rpc_frame_bytes(type, msg, SH_RPC_REVISION));
}

static inline bool by_client(enum sh_rpc_type type)
{
    return sh_rpc_info(type)->from != 'S';
}

/* Head and payload from a block of exactly n bytes. */
static inline enum shoal_status decode(void *msg, const uint8_t *bytes, size_t n, bool from_client,
                                       bool checksum, struct sh_arena *arena,
                                       struct shoal_error *err)
{
    const size_t payload = n - SH_RPC_HEAD_BYTES;
    struct sh_rpc_head head;
    uint8_t *copy;
    enum shoal_status st;

    st = sh_rpc_head_get(&head, bytes, from_client, SH_RPC_REVISION, err);
    if (st) return st;
    if (head.bytes != payload) return sh_fail(err, SHOAL_ERR_FORMAT, "another length");
    copy = sh_malloc(payload ? payload : 1);
    assert_non_null(copy);
    memcpy(copy, bytes + SH_RPC_HEAD_BYTES, payload);
    st = sh_rpc_decode(msg, &head, copy, SH_RPC_REVISION, checksum, arena, err);
    if (!st) { // it must give the same bytes again, while what it borrows is there
        struct sh_writer w;
        uint8_t *again = sh_malloc(n);
        assert_non_null(again);
        w = sh_writer_over(again, n);
        must(sh_rpc_encode(&w, (enum sh_rpc_type)head.type, head.request, msg, SH_RPC_REVISION,
                           checksum, err),
             err);
        assert_int_equal(w.pos, n);
        assert_memory_equal(again, bytes, n);
        sh_free(again);
    }
    sh_free(copy);
    return st;
}

static inline void set_length(uint8_t *frame, uint32_t n)
{
    struct sh_writer w = sh_writer_over(frame, 4);
    sh_write_u32(&w, n);
}

/* ---- golden frames ---------------------------------------------------------------------------*/

static inline const struct golden *find_golden(enum sh_rpc_type type)
{
    for (size_t i = 0; i < sizeof GOLDEN / sizeof GOLDEN[0]; i++) {
        if (strcmp(GOLDEN[i].name, sh_rpc_info(type)->name) == 0) return &GOLDEN[i];
    }
    return NULL;
}

static inline void from_hex(struct frame *f, const char *hex)
{
    static const char DIGITS[] = "0123456789abcdef";

    f->n = 0;
    for (; *hex; hex += 2) {
        const char *hi = strchr(DIGITS, hex[0]), *lo = strchr(DIGITS, hex[1]);
        assert_true(hi && lo && f->n < sizeof f->bytes);
        f->bytes[f->n++] = (uint8_t)((hi - DIGITS) * 16 + (lo - DIGITS));
    }
}

static inline void golden_frame(struct frame *f, enum sh_rpc_type type)
{
    const struct golden *row = find_golden(type);

    if (!row) fail_msg("%s has no golden row", sh_rpc_info(type)->name);
    from_hex(f, row ? row->hex : "");
}

#endif

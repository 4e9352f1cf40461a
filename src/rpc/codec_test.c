/* rpc/codec_test.c - every message by its golden bytes, at random, damaged, and at its limits.
 *
 * Messages are made by going over their layouts, so a row that is added to the table is tested as
 * soon as it has golden bytes (rpc/golden_test.h), without which a test fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fnv.h"
#include "base/mem.h"
#include "rpc/codec_priv.h"
#include "rpc/golden_test.h"

enum { FRAME_BYTES = 2 * SH_RPC_FRAME_MAX, ROOM_BYTES = 1 << 12 };

static void must(enum shoal_status st, const struct shoal_error *err)
{
    if (st) fail_msg("%s: %s", shoal_status_name(st), err->message);
}

static void refuses(enum shoal_status have, enum shoal_status want, const struct shoal_error *err,
                    const char *reason)
{
    if (have != want || !strstr(err->message, reason)) {
        fail_msg("%s \"%s\", expected %s \"%s\"", shoal_status_name(have), err->message,
                 shoal_status_name(want), reason);
    }
}

static void for_all(void (*check)(enum sh_rpc_type type, const struct sh_rpc_layout *l))
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

static uint32_t next(struct maker *m)
{
    m->seed = m->seed * 1664525u + 1013904223u;
    return m->seed >> 8;
}

static uint64_t number(struct maker *m)
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

static uint32_t length(struct maker *m, uint32_t max, uint32_t usual)
{
    const uint32_t n = m->random ? next(m) % 4 == 0 ? 0 : next(m) % 40 : usual;
    return n < max ? n : max;
}

static struct sh_rpc_text make_text(struct maker *m, uint32_t max)
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

static struct sh_rpc_bytes make_bytes(struct maker *m, uint32_t max)
{
    const uint32_t n = length(m, max, 5);
    uint8_t *p = sh_arena_calloc(&m->arena, n + 1, 1);

    assert_non_null(p);
    for (uint32_t i = 0; i < n; i++)
        p[i] = (uint8_t)number(m);
    return (struct sh_rpc_bytes){p, n};
}

static void set_list(void *s, const struct sh_rpc_field *f, const void *list, uint32_t n)
{
    memcpy((uint8_t *)s + f->offset, &list, sizeof list);
    memcpy((uint8_t *)s + f->count_offset, &n, sizeof n);
}

static void *make(struct maker *m, const struct sh_rpc_layout *l, uint32_t count);

static void make_field(struct maker *m, const struct sh_rpc_field *f, uint8_t *s)
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
static void *make(struct maker *m, const struct sh_rpc_layout *l, uint32_t count)
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

static void encode(struct frame *f, enum sh_rpc_type type, const void *msg, bool checksum)
{
    struct sh_writer w = sh_writer_over(f->bytes, sizeof f->bytes);
    struct shoal_error err = SHOAL_ERROR_INIT;

    must(sh_rpc_encode(&w, type, 77, msg, SH_RPC_REVISION, checksum, &err), &err);
    f->n = w.pos;
    assert_int_equal(f->n, sh_rpc_frame_bytes(type, msg, SH_RPC_REVISION));
}

static bool by_client(enum sh_rpc_type type)
{
    return sh_rpc_info(type)->from != 'S';
}

/* Head and payload from a block of exactly n bytes. */
static enum shoal_status decode(void *msg, const uint8_t *bytes, size_t n, bool from_client,
                                bool checksum, struct sh_arena *arena, struct shoal_error *err)
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

static void set_length(uint8_t *frame, uint32_t n)
{
    struct sh_writer w = sh_writer_over(frame, 4);
    sh_write_u32(&w, n);
}

/* ---- golden bytes ----------------------------------------------------------------------------*/

static const struct golden *find_golden(enum sh_rpc_type type)
{
    for (size_t i = 0; i < sizeof GOLDEN / sizeof GOLDEN[0]; i++) {
        if (strcmp(GOLDEN[i].name, sh_rpc_info(type)->name) == 0) return &GOLDEN[i];
    }
    return NULL;
}

static void from_hex(struct frame *f, const char *hex)
{
    static const char DIGITS[] = "0123456789abcdef";

    f->n = 0;
    for (; *hex; hex += 2) {
        const char *hi = strchr(DIGITS, hex[0]), *lo = strchr(DIGITS, hex[1]);
        assert_true(hi && lo && f->n < sizeof f->bytes);
        f->bytes[f->n++] = (uint8_t)((hi - DIGITS) * 16 + (lo - DIGITS));
    }
}

static void golden_frame(struct frame *f, enum sh_rpc_type type)
{
    const struct golden *row = find_golden(type);

    if (!row) fail_msg("%s has no golden row", sh_rpc_info(type)->name);
    from_hex(f, row ? row->hex : "");
}

static void print_row(enum sh_rpc_type type, const struct frame *f)
{
    printf("    {\"%s\"", sh_rpc_info(type)->name);
    for (size_t i = 0; i < f->n; i++)
        printf("%s%02x", i == 0 ? ", \"" : i % 40 == 0 ? "\"\n     \"" : "", f->bytes[i]);
    printf("\"},\n");
}

static int g_wrong;

static void check_golden(enum sh_rpc_type type, const struct sh_rpc_layout *l)
{
    static struct frame have, want;
    struct maker m = {.arena = SH_ARENA_INIT, .n = type};
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct golden *row = find_golden(type);
    void *msg = make(&m, l, 1);

    encode(&have, type, msg, true);
    if (row) from_hex(&want, row->hex);
    if (!row || want.n != have.n || memcmp(want.bytes, have.bytes, have.n) != 0) {
        g_wrong++;
        print_row(type, &have);
    }
    must(decode(msg, have.bytes, have.n, by_client(type), true, &arena, &err), &err);
    sh_arena_release(&arena);
    sh_arena_release(&m.arena);
}

static void codec__golden_bytes_of_every_message(void **state)
{
    (void)state;
    g_wrong = 0;
    for_all(check_golden);
    if (g_wrong) fail_msg("%d messages have no golden row, or another one", g_wrong);
}

static void check_prefixes(enum sh_rpc_type type, const struct sh_rpc_layout *l)
{
    static struct frame f;
    struct sh_arena arena = SH_ARENA_INIT;
    void *msg = sh_malloc(l->struct_bytes);

    golden_frame(&f, type);
    for (size_t n = SH_RPC_HEAD_BYTES; n < f.n; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        set_length(f.bytes, (uint32_t)(n - SH_RPC_HEAD_BYTES));
        memset(f.bytes + SH_RPC_CHECKSUM_AT, 0, 4);
        assert_int_not_equal(decode(msg, f.bytes, n, by_client(type), false, &arena, &err), 0);
        assert_true(err.message[0] != '\0');
        sh_arena_reset(&arena);
    }
    sh_arena_release(&arena);
    sh_free(msg);
}

static void codec__every_prefix_is_refused(void **state)
{
    (void)state;
    for_all(check_prefixes);
}

static void check_damage(enum sh_rpc_type type, const struct sh_rpc_layout *l)
{
    static const uint8_t FLIPS[] = {0x01, 0x80, 0xff};
    static struct frame f, with;
    struct sh_arena arena = SH_ARENA_INIT;
    // A damaged number may be another message's.
    void *msg = sh_calloc(1, 4096);

    (void)l;
    golden_frame(&with, type);
    f = with;
    memset(f.bytes + SH_RPC_CHECKSUM_AT, 0, 4);
    for (size_t i = 0; i < f.n; i++) {
        for (size_t k = 0; k < sizeof FLIPS; k++) {
            struct shoal_error err = SHOAL_ERROR_INIT;
            enum shoal_status st;
            with.bytes[i] ^= FLIPS[k];
            f.bytes[i] ^= FLIPS[k];
            st = decode(msg, with.bytes, with.n, by_client(type), true, &arena, &err);
            assert_int_not_equal(st, SHOAL_OK); // a checksum finds every byte
            assert_true(err.message[0] != '\0');
            err = (struct shoal_error)SHOAL_ERROR_INIT;
            st = decode(msg, f.bytes, f.n, by_client(type), false, &arena, &err);
            assert_true(!st || err.message[0] != '\0');
            sh_arena_reset(&arena);
            with.bytes[i] ^= FLIPS[k];
            f.bytes[i] ^= FLIPS[k];
        }
    }
    sh_arena_release(&arena);
    sh_free(msg);
}

static void codec__every_damaged_byte_is_found_or_harmless(void **state)
{
    (void)state;
    for_all(check_damage);
}

/* ---- random messages -------------------------------------------------------------------------*/

static void check_random(enum sh_rpc_type type, const struct sh_rpc_layout *l)
{
    static struct frame f;
    struct sh_arena arena = SH_ARENA_INIT;
    void *msg = sh_malloc(l->struct_bytes);

    for (uint32_t i = 0; i < 100; i++) {
        struct maker m = {.arena = SH_ARENA_INIT, .seed = i * 977 + type, .random = true};
        struct shoal_error err = SHOAL_ERROR_INIT;
        const bool checksum = i % 2 == 0;
        encode(&f, type, make(&m, l, 1), checksum);
        must(decode(msg, f.bytes, f.n, by_client(type), checksum, &arena, &err), &err);
        sh_arena_reset(&arena);
        sh_arena_release(&m.arena);
    }
    sh_arena_release(&arena);
    sh_free(msg);
}

static void codec__random_messages_come_back(void **state)
{
    (void)state;
    for_all(check_random);
}

/* ---- limits ----------------------------------------------------------------------------------*/

/* A struct whose only content is `n` entries or bytes of field f. */
static void *with_length(const struct sh_rpc_layout *l, const struct sh_rpc_field *f, uint32_t n,
                         void **content)
{
    uint8_t *s = sh_calloc(1, l->struct_bytes);

    *content = sh_calloc(n, f->kind == SH_RPC_KIND_LIST ? f->record()->struct_bytes : 1);
    assert_true(s && *content);
    if (f->kind == SH_RPC_KIND_TEXT) {
        const struct sh_rpc_text t = {memset(*content, 'x', n), n};
        memcpy(s + f->offset, &t, sizeof t);
    } else if (f->kind == SH_RPC_KIND_BYTES) {
        const struct sh_rpc_bytes b = {*content, n};
        memcpy(s + f->offset, &b, sizeof b);
    } else {
        set_list(s, f, *content, n);
    }
    return s;
}

/* Bytes of the struct in the form of the table, even where it is beyond a limit. */
static size_t put_anyhow(uint8_t *dst, const struct sh_rpc_layout *l, const void *s)
{
    struct sh_writer w = sh_writer_over(dst, FRAME_BYTES);
    struct sh_rpc_sink to = {.w = &w};

    sh_rpc_layout_put(&to, l, s, SH_RPC_REVISION);
    assert_false(w.bad);
    return w.pos;
}

static void check_field(const struct sh_rpc_layout *l, const struct sh_rpc_field *f, uint32_t n,
                        uint8_t *bytes)
{
    const bool good = n <= f->max;
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    void *content, *s = with_length(l, f, n, &content), *back = sh_calloc(1, l->struct_bytes);
    enum shoal_status st;
    struct sh_reader r;
    size_t have;

    st = sh_rpc_layout_measure(&have, l, s, SH_RPC_REVISION, &err);
    if (!good) refuses(st, SHOAL_ERR_LIMIT, &err, f->name);
    if (good) must(st, &err);
    r = sh_reader_over(bytes, put_anyhow(bytes, l, s));
    if (good) assert_int_equal(have, r.size);
    err = (struct shoal_error)SHOAL_ERROR_INIT;
    st = sh_rpc_layout_get(back, l, &r, SH_RPC_REVISION, &arena, &err);
    if (!good) {
        refuses(st, SHOAL_ERR_LIMIT, &err, f->name);
        assert_int_equal(arena.used_bytes, 0); // nothing was allocated for a lie
    } else {
        must(st, &err);
    }
    sh_arena_release(&arena);
    sh_free(back);
    sh_free(content);
    sh_free(s);
}

static void check_limits_of(const struct sh_rpc_layout *l, uint8_t *bytes)
{
    for (int i = 0; i < l->n_fields; i++) {
        const struct sh_rpc_field *f = &l->fields[i];
        if (f->max == 0) continue;
        if (f->kind == SH_RPC_KIND_LIST) check_limits_of(f->record(), bytes);
        // Zeros of the whole list may not fit into a frame; its limit is checked all the same.
        if (f->kind != SH_RPC_KIND_LIST ||
            f->max * sh_rpc_layout_min(f->record(), SH_RPC_REVISION) < SH_RPC_FRAME_MAX) {
            check_field(l, f, f->max, bytes);
            check_field(l, f, f->max + 1, bytes);
        }
    }
}

static void check_limits(enum sh_rpc_type type, const struct sh_rpc_layout *l)
{
    uint8_t *bytes = sh_malloc(FRAME_BYTES);

    (void)type;
    assert_non_null(bytes);
    check_limits_of(l, bytes);
    sh_free(bytes);
}

static void codec__every_limit_at_its_border(void **state)
{
    (void)state;
    for_all(check_limits);
}

static void check_head_limits(enum sh_rpc_type type, const struct sh_rpc_layout *l)
{
    const size_t most = sh_rpc_payload_max(type, 1), least = sh_rpc_payload_min(type, 1);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_head h;
    uint8_t head[SH_RPC_HEAD_BYTES] = {0};

    head[4] = (uint8_t)type;
    assert_true(most <= SH_RPC_FRAME_MAX && least <= most);
    set_length(head, (uint32_t)most);
    must(sh_rpc_head_get(&h, head, by_client(type), 1, &err), &err);
    set_length(head, (uint32_t)most + 1);
    refuses(sh_rpc_head_get(&h, head, by_client(type), 1, &err), SHOAL_ERR_LIMIT, &err, l->name);
    set_length(head, (uint32_t)least);
    must(sh_rpc_head_get(&h, head, by_client(type), 1, &err), &err);
    set_length(head, (uint32_t)least - 1);
    refuses(sh_rpc_head_get(&h, head, by_client(type), 1, &err), SHOAL_ERR_FORMAT, &err, l->name);
    set_length(head, (uint32_t)least);
    if (sh_rpc_info(type)->from != 'B') {
        refuses(sh_rpc_head_get(&h, head, !by_client(type), 1, &err), SHOAL_ERR_FORMAT, &err,
                "is not for the");
    }
    head[6] = 1;
    refuses(sh_rpc_head_get(&h, head, by_client(type), 1, &err), SHOAL_ERR_FORMAT, &err,
            "where zero is due");
    head[6] = 0;
    refuses(sh_rpc_head_get(&h, head, by_client(type), 0, &err), SHOAL_ERR_FORMAT, &err,
            "no message"); // before its revision
}

static void codec__heads_at_their_borders(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t head[SH_RPC_HEAD_BYTES] = {0, 0, 0, 0, 0xff, 0xff};
    struct sh_rpc_head h;

    (void)state;
    for_all(check_head_limits);
    refuses(sh_rpc_head_get(&h, head, true, 1, &err), SHOAL_ERR_FORMAT, &err, "no message 65535");
}

/* A greeting is small, and never changes. */
static void codec__the_greeting(void **state)
{
    static const enum sh_rpc_type GREETING[] = {SH_RPC_MSG_HELLO, SH_RPC_MSG_WELCOME};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct sh_rpc_layout *l = sh_rpc_message_layout(GREETING[i]);
        assert_true(SH_RPC_HEAD_BYTES + sh_rpc_payload_max(GREETING[i], SH_RPC_REVISION) <=
                    SH_RPC_GREETING_MAX);
        for (int k = 0; k < l->n_fields; k++)
            assert_int_equal(l->fields[k].since, 1);
    }
}

static void check_answer(enum sh_rpc_type type, const struct sh_rpc_layout *l)
{
    const struct sh_rpc_info *i = sh_rpc_info(type);

    assert_string_equal(i->name, l->name);
    assert_int_equal(i->struct_bytes, l->struct_bytes);
    assert_true(i->since >= 1 && i->since <= SH_RPC_REVISION);
    if (!i->answer) return;
    assert_non_null(sh_rpc_info(i->answer));
    assert_true(sh_rpc_info(i->answer)->from != i->from || i->from == 'B');
}

static void codec__answers_come_from_the_other_end(void **state)
{
    (void)state;
    for_all(check_answer);
}

/* ---- hostile contents ------------------------------------------------------------------------*/

static enum shoal_status decode_bye(const char *text, size_t n, struct shoal_error *err)
{
    uint8_t bytes[64] = {0};
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_bye bye;

    sh_write_u32(&w, (uint32_t)n + 2);
    sh_write_u16(&w, SH_RPC_MSG_BYE);
    w.pos = SH_RPC_HEAD_BYTES;
    sh_write_u16(&w, (uint16_t)n);
    sh_write_bytes(&w, text, n);
    return decode(&bye, bytes, w.pos, true, false, &arena, err);
}

static void codec__text_is_plain_text(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        bool good;
    } CASES[] = {
        {"", 0, true},
        {"shoal", 5, true},
        {"\xc2\xa0", 2, true}, // first behind the control characters
        {"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", 10, true},
        {"a\0b", 3, false},
        {"a\n", 2, false},
        {"\x1b[2J", 4, false},
        {"\x7f", 1, false},
        {"\xc2\x9f", 2, false}, // a control character of two bytes
        {"\x80", 1, false},
        {"\xc3", 1, false},
        {"\xe2\x82", 2, false},
        {"\xc0\xaf", 2, false},         // too long a form
        {"\xe0\x9f\xbf", 3, false},     // the same
        {"\xed\xa0\x80", 3, false},     // a surrogate
        {"\xf4\x90\x80\x80", 4, false}, // behind the last character
        {"\xff", 1, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        const struct sh_rpc_bye bye = {{CASES[i].text, (uint32_t)CASES[i].n}};
        const enum shoal_status st = decode_bye(CASES[i].text, CASES[i].n, &err);
        if (CASES[i].good) {
            must(st, &err);
            continue;
        }
        refuses(st, SHOAL_ERR_FORMAT, &err, "BYE: reason is no plain text");
        assert_int_equal(sh_rpc_frame_bytes(SH_RPC_MSG_BYE, &bye, 1), 0);
    }
}

static void codec__text_is_cleaned_and_cut(void **state)
{
    char dst[8];
    struct sh_rpc_text t;

    (void)state;
    t = sh_rpc_text_clean(dst, sizeof dst, "a\nb\xff");
    assert_string_equal(dst, "a?b?");
    assert_int_equal(t.n, 4);
    t = sh_rpc_text_clean(dst, sizeof dst, "12345\xe2\x82\xac");
    assert_string_equal(dst, "12345"); // no half characters
    assert_true(sh_rpc_text_ok(t.ptr, t.n));
    sh_rpc_text_copy(dst, sizeof dst, sh_rpc_text_from("123456789"));
    assert_string_equal(dst, "1234567");
    sh_rpc_text_copy(dst, 1, sh_rpc_text_from("1"));
    assert_string_equal(dst, "");
    sh_rpc_text_copy(dst, sizeof dst, (struct sh_rpc_text){0});
    assert_string_equal(dst, "");
}

static void codec__counts_that_lie(void **state)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_rpc_miss miss = {{1}, 2};
    const struct sh_rpc_missing m = {&miss, 1};
    struct sh_rpc_missing back;
    static struct frame f;

    (void)state;
    encode(&f, SH_RPC_MSG_MISSING, &m, false);
    for (uint32_t n = 0; n < 40; n++) {
        set_length(f.bytes + SH_RPC_HEAD_BYTES, n == 39 ? 16384 : n); // the count
        if (n == 1) continue;
        refuses(decode(&back, f.bytes, f.n, false, false, &arena, &err), SHOAL_ERR_FORMAT, &err,
                n == 0 ? "bytes behind the last field" : "ends inside misses");
        assert_int_equal(arena.used_bytes, 0);
    }
    sh_arena_release(&arena);
}

/* ---- memory ----------------------------------------------------------------------------------*/

static void codec__nothing_is_allocated_once_the_arena_has_grown(void **state)
{
    struct maker m = {.arena = SH_ARENA_INIT};
    const struct sh_rpc_layout *l = sh_rpc_message_layout(SH_RPC_MSG_STEP);
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_step *step = make(&m, l, 1), back;
    struct sh_rpc_head head;
    static struct frame f;

    (void)state;
    step->rows = make(&m, sh_rpc_message_layout(SH_RPC_MSG_STEP)->fields[8].record(), 300);
    step->n_rows = 300;
    encode(&f, SH_RPC_MSG_STEP, step, true);
    must(sh_rpc_head_get(&head, f.bytes, true, 1, &err), &err);
    for (int i = 0; i < 6; i++) {
        struct sh_writer w = sh_writer_over(f.bytes, sizeof f.bytes);
        if (i == 3) sh_mem_fail_after(0);
        sh_arena_reset(&arena);
        must(sh_rpc_decode(&back, &head, f.bytes + SH_RPC_HEAD_BYTES, 1, true, &arena, &err), &err);
        must(sh_rpc_encode(&w, SH_RPC_MSG_STEP, 77, step, 1, true, &err), &err);
    }
    assert_true(sh_mem_fail_pending());
    sh_mem_fail_after(-1);
    sh_arena_release(&arena);
    sh_arena_release(&m.arena);
}

static void codec__no_memory_is_said(void **state)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_rpc_miss miss = {{1}, 2};
    const struct sh_rpc_missing m = {&miss, 1};
    struct sh_rpc_missing back;
    struct sh_rpc_head head;
    static struct frame f;

    (void)state;
    encode(&f, SH_RPC_MSG_MISSING, &m, false);
    must(sh_rpc_head_get(&head, f.bytes, false, 1, &err), &err);
    sh_mem_fail_after(0);
    refuses(sh_rpc_decode(&back, &head, f.bytes + SH_RPC_HEAD_BYTES, 1, false, &arena, &err),
            SHOAL_ERR_NOMEM, &err, "misses");
    sh_mem_fail_after(-1);
    sh_arena_release(&arena);
}

/* ---- pieces ----------------------------------------------------------------------------------*/

static void check_pieces(enum sh_rpc_type type, const void *msg, int n_pieces, const void *data)
{
    const size_t n = sh_rpc_frame_bytes(type, msg, 1);
    uint8_t small[ROOM_BYTES * 3], *whole = sh_malloc(n), *flat = sh_malloc(n);
    struct sh_writer w = sh_writer_over(small, sizeof small), ww = sh_writer_over(whole, n);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_pieces p;
    size_t at = 0;

    must(sh_rpc_encode(&ww, type, 5, msg, 1, true, &err), &err);
    must(sh_rpc_encode_pieces(&p, &w, type, 5, msg, 1, true, &err), &err);
    assert_int_equal(p.n, n_pieces);
    assert_int_equal(p.bytes, n);
    if (n_pieces > 1) assert_ptr_equal(p.iov[1].iov_base, data); // not copied
    for (int i = 0; i < p.n; i++) {
        memcpy(flat + at, p.iov[i].iov_base, p.iov[i].iov_len);
        at += p.iov[i].iov_len;
    }
    assert_int_equal(at, n);
    assert_memory_equal(flat, whole, n);
    sh_free(whole);
    sh_free(flat);
}

static void codec__large_data_is_not_copied(void **state)
{
    uint8_t *data = sh_calloc(SH_RPC_CHUNK_MAX, 1);
    const struct sh_rpc_put put = {{7}, 8, {data, SH_RPC_CHUNK_MAX}};
    const struct sh_rpc_put small = {{7}, 8, {data, SH_RPC_COPY_MAX}};
    const struct sh_rpc_stage_put stage = {
        .n_slots = 2, .graph = {data, 20000}, .rotate = {data + 30000, 10000}};
    const struct sh_rpc_stage_put no_rotate = {.n_slots = 2, .graph = {data, 20000}};

    (void)state;
    for (uint32_t i = 0; i < SH_RPC_CHUNK_MAX; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    check_pieces(SH_RPC_MSG_PUT, &put, 2, data);
    check_pieces(SH_RPC_MSG_PUT, &small, 1, NULL);
    check_pieces(SH_RPC_MSG_STAGE_PUT, &stage, 4, data);
    check_pieces(SH_RPC_MSG_STAGE_PUT, &no_rotate, 3, data);
    sh_free(data);
}

static void codec__a_frame_that_does_not_fit_leaves_the_writer(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const struct sh_rpc_beat beat = {9};
    uint8_t bytes[30] = {0}, zeros[30] = {0};
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
    uint8_t *data = sh_calloc(SH_RPC_FRAME_MAX, 1);
    const struct sh_rpc_stage_put huge = {.graph = {data, SH_RPC_FRAME_MAX}};

    (void)state;
    must(sh_rpc_encode(&w, SH_RPC_MSG_BEAT, 0, &beat, 1, false, &err), &err);
    assert_int_equal(w.pos, 24);
    refuses(sh_rpc_encode(&w, SH_RPC_MSG_BEAT, 0, &beat, 1, true, &err), SHOAL_ERR_LIMIT, &err,
            "BEAT");
    assert_int_equal(w.pos, 24);
    assert_false(w.bad);
    w = sh_writer_over(zeros, sizeof zeros);
    refuses(sh_rpc_encode(&w, SH_RPC_MSG_STAGE_PUT, 0, &huge, 1, false, &err), SHOAL_ERR_LIMIT,
            &err, "STAGE_PUT");
    refuses(sh_rpc_encode(&w, (enum sh_rpc_type)15, 0, &huge, 1, false, &err), SHOAL_ERR_ARG, &err,
            "no message 15");
    sh_free(data);
}

/* ---- revisions -------------------------------------------------------------------------------*/

/* A table of its own, in which revision 2 brought a field of a record and two of a message. */
#define SH_RPC_T_ENTRY_FIELDS(F)                                                                   \
    F(U16, old, none, 0, 1)                                                                        \
    F(TEXT, fresh, none, 20, 2)
#define SH_RPC_T_SAMPLE_FIELDS(F)                                                                  \
    F(U32, old, none, 0, 1)                                                                        \
    F(LIST, entries, t_entry, 4000000, 1)                                                          \
    F(U64, fresh, none, 0, 2)                                                                      \
    F(BYTES, more, none, 10, 2)

struct sh_rpc_t_entry {
    SH_RPC_T_ENTRY_FIELDS(SH_RPC_MEMBER)
};
struct sh_rpc_t_sample {
    SH_RPC_T_SAMPLE_FIELDS(SH_RPC_MEMBER)
};
SH_RPC_LAYOUT(t_entry, "t_entry", SH_RPC_T_ENTRY_FIELDS)
SH_RPC_LAYOUT(t_sample, "T_SAMPLE", SH_RPC_T_SAMPLE_FIELDS)

static size_t put_sample(uint8_t *dst, size_t n, const struct sh_rpc_t_sample *s, uint16_t revision)
{
    struct sh_writer w = sh_writer_over(dst, n);
    struct sh_rpc_sink to = {.w = &w};
    struct shoal_error err = SHOAL_ERROR_INIT;
    size_t measured;

    must(sh_rpc_layout_measure(&measured, layout_of_t_sample(), s, revision, &err), &err);
    sh_rpc_layout_put(&to, layout_of_t_sample(), s, revision);
    assert_false(w.bad);
    assert_int_equal(w.pos, measured);
    return w.pos;
}

static void codec__fields_of_a_later_revision(void **state)
{
    static const uint8_t OLD[] = {9, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0};
    static const uint8_t FRESH[] = {9, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0, 'x', 2,   0,  0,
                                    0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0,   'a', 'b'};
    const struct sh_rpc_t_entry entries[] = {{1, {"x", 1}}, {2, {0}}};
    const struct sh_rpc_t_sample s = {9, entries, 2, 7, {(const uint8_t *)"ab", 2}};
    const struct sh_rpc_layout *l = layout_of_t_sample();
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_t_sample back = {0};
    struct sh_reader r = sh_reader_over(OLD, sizeof OLD);
    uint8_t bytes[64];

    (void)state;
    assert_int_equal(put_sample(bytes, sizeof bytes, &s, 1), sizeof OLD);
    assert_memory_equal(bytes, OLD, sizeof OLD);
    assert_int_equal(put_sample(bytes, sizeof bytes, &s, 2), sizeof FRESH);
    assert_memory_equal(bytes, FRESH, sizeof FRESH);
    must(sh_rpc_layout_get(&back, l, &r, 1, &arena, &err), &err);
    assert_int_equal(back.entries[1].old, 2);
    assert_int_equal(back.fresh + back.more.n + back.entries[0].fresh.n, 0);
    r = sh_reader_over(FRESH, sizeof FRESH);
    must(sh_rpc_layout_get(&back, l, &r, 2, &arena, &err), &err);
    assert_int_equal(back.fresh, 7);
    assert_int_equal(back.entries[0].fresh.ptr[0], 'x');
    r = sh_reader_over(OLD, sizeof OLD);
    refuses(sh_rpc_layout_get(&back, l, &r, 2, &arena, &err), SHOAL_ERR_FORMAT, &err, "ends");
    r = sh_reader_over(FRESH, sizeof FRESH);
    refuses(sh_rpc_layout_get(&back, l, &r, 1, &arena, &err), SHOAL_ERR_FORMAT, &err, "behind");
    assert_int_equal(sh_rpc_layout_min(l, 1), 8);
    assert_int_equal(sh_rpc_layout_min(l, 2), 20);
    sh_arena_release(&arena);
}

/* Many small entries would become much memory. */
static void codec__decoded_memory_is_bounded(void **state)
{
    const uint32_t n = SH_RPC_DECODED_MAX / (uint32_t)sizeof(struct sh_rpc_t_entry) + 1;
    const size_t size = 4 + 4 + 2 * (size_t)n;
    uint8_t *bytes = sh_calloc(size, 1);
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_t_sample back = {0};
    struct sh_reader r = sh_reader_over(bytes, size);

    (void)state;
    assert_true(size < SH_RPC_FRAME_MAX);
    set_length(bytes + 4, n);
    refuses(sh_rpc_layout_get(&back, layout_of_t_sample(), &r, 1, &arena, &err), SHOAL_ERR_LIMIT,
            &err, "too much memory");
    r = sh_reader_over(bytes, size - 2);
    set_length(bytes + 4, n - 1);
    must(sh_rpc_layout_get(&back, layout_of_t_sample(), &r, 1, &arena, &err), &err);
    sh_arena_release(&arena);
    sh_free(bytes);
}

/* ---- the rest --------------------------------------------------------------------------------*/

static void codec__status_numbers(void **state)
{
    (void)state;
#define X(name, value, text)                                                                       \
    assert_int_equal(sh_rpc_status_put(SHOAL_##name), -(value));                                   \
    assert_int_equal(sh_rpc_status_get(-(value)), SHOAL_##name);
    SHOAL_STATUSES(X)
#undef X
    assert_int_equal(sh_rpc_status_get(10000), SHOAL_ERR_PEER);
    assert_int_equal(sh_rpc_status_get(UINT32_MAX), SHOAL_ERR_PEER);
}

/* Everything from the edits on counts, and nothing before. */
static void codec__the_hash_of_steps(void **state)
{
    static struct frame f;
    uint8_t *p = f.bytes + SH_RPC_HEAD_BYTES;
    uint64_t first;
    size_t n;

    (void)state;
    assert_int_equal(sizeof SH_RPC_PREFACE - 1, SH_RPC_PREFACE_BYTES);
    golden_frame(&f, SH_RPC_MSG_STEP);
    n = f.n - SH_RPC_HEAD_BYTES;
    assert_int_equal(p[SH_RPC_STEP_HASHED_AT], 2); // the count of edits
    first = sh_rpc_step_hash(SH_FNV_START, p, n);
    assert_int_equal(first, GOLDEN_STEP_HASH);
    assert_int_not_equal(sh_rpc_step_hash(first, p, n), first);
    for (size_t i = 0; i < n; i++) {
        p[i] ^= 1;
        assert_int_equal(sh_rpc_step_hash(SH_FNV_START, p, n) == first, i < SH_RPC_STEP_HASHED_AT);
        p[i] ^= 1;
    }
}

static void codec__speed(void **state)
{
    static const uint32_t ROWS[] = {1, 512};

    (void)state;
    for (int k = 0; k < 2; k++) {
        enum { TIMES = 200 };
        struct sh_rpc_row *rows = sh_calloc(ROWS[k], sizeof *rows);
        const struct sh_rpc_id recent[64] = {{1}};
        const struct sh_rpc_seq seq = {
            .n_rows = (int32_t)ROWS[k], .recent = recent, .n_recent = 64};
        const struct sh_rpc_step step = {
            .number = 3, .rows = rows, .n_rows = ROWS[k], .seqs = &seq, .n_seqs = 1};
        struct sh_arena arena = SH_ARENA_INIT;
        struct shoal_error err = SHOAL_ERROR_INIT;
        static struct frame f;
        struct sh_rpc_step back;
        struct sh_rpc_head head;
        int64_t t[3];
        t[0] = sh_now_ns(&sh_clock_system);
        for (int i = 0; i < TIMES; i++)
            encode(&f, SH_RPC_MSG_STEP, &step, false);
        t[1] = sh_now_ns(&sh_clock_system);
        for (int i = 0; i < TIMES; i++) {
            sh_arena_reset(&arena);
            must(sh_rpc_head_get(&head, f.bytes, true, 1, &err), &err);
            must(sh_rpc_decode(&back, &head, f.bytes + SH_RPC_HEAD_BYTES, 1, false, &arena, &err),
                 &err);
        }
        t[2] = sh_now_ns(&sh_clock_system);
        printf("STEP of %u rows: %zu bytes, encoded in %.2f us (measured twice), decoded in %.2f\n",
               (unsigned)ROWS[k], f.n, (double)(t[1] - t[0]) / TIMES / 1e3,
               (double)(t[2] - t[1]) / TIMES / 1e3);
        sh_arena_release(&arena);
        sh_free(rows);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codec__golden_bytes_of_every_message),
        cmocka_unit_test(codec__every_prefix_is_refused),
        cmocka_unit_test(codec__every_damaged_byte_is_found_or_harmless),
        cmocka_unit_test(codec__random_messages_come_back),
        cmocka_unit_test(codec__every_limit_at_its_border),
        cmocka_unit_test(codec__heads_at_their_borders),
        cmocka_unit_test(codec__the_greeting),
        cmocka_unit_test(codec__answers_come_from_the_other_end),
        cmocka_unit_test(codec__text_is_plain_text),
        cmocka_unit_test(codec__text_is_cleaned_and_cut),
        cmocka_unit_test(codec__counts_that_lie),
        cmocka_unit_test(codec__nothing_is_allocated_once_the_arena_has_grown),
        cmocka_unit_test(codec__no_memory_is_said),
        cmocka_unit_test(codec__large_data_is_not_copied),
        cmocka_unit_test(codec__a_frame_that_does_not_fit_leaves_the_writer),
        cmocka_unit_test(codec__fields_of_a_later_revision),
        cmocka_unit_test(codec__decoded_memory_is_bounded),
        cmocka_unit_test(codec__status_numbers),
        cmocka_unit_test(codec__the_hash_of_steps),
        cmocka_unit_test(codec__speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

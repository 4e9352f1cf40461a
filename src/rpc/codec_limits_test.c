/* rpc/codec_limits_test.c - the codec at its borders: limits of every field and head, text, counts
 * that lie, memory, frames in pieces, revisions.
 */
#include "rpc/message_test.h"

enum { FRAME_BYTES = 2 * SH_RPC_FRAME_MAX, ROOM_BYTES = 1 << 12 };

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
    assert_int_equal(sh_rpc_status_of_error(0), SHOAL_ERR_PEER);
    assert_int_equal(sh_rpc_status_of_error(sh_rpc_status_put(SHOAL_ERR_CANCELLED)),
                     SHOAL_ERR_PEER);
    assert_int_equal(sh_rpc_status_of_error(sh_rpc_status_put(SHOAL_ERR_NOMEM)), SHOAL_ERR_NOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

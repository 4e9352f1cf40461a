/* rpc/codec_test.c - every message by its golden bytes, at random, and damaged.
 *
 * A row that is added to the table is tested as soon as it has golden bytes (rpc/golden_test.h),
 * without which a test fails.
 */
#include "rpc/message_test.h"

#include "base/clock.h"
#include "base/fnv.h"

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
        cmocka_unit_test(codec__the_hash_of_steps),
        cmocka_unit_test(codec__speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

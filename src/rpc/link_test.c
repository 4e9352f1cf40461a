/* rpc/link_test.c - links over loopback: rows, acknowledgements, breaks, strangers, keys.
 */
#include "rpc/link_rig_test.h"

static void link__rows_go_over(void **state)
{
    struct sh_rpc_traffic t;
    struct sh_rpc_link_state s;
    struct pair p;

    (void)state;
    for (int writer_dials = 0; writer_dials < 2; writer_dials++) {
        pair_open(&p, writer_dials, NULL);
        assert_int_equal(p.writer.up_next, 0);
        pair_send(&p, 0, 5, 2304);
        owner_waits(&p.reader, &p.reader.n_rows, 5, "rows");
        assert_false(p.reader.out_of_order);
        assert_int_equal(p.reader.bytes, 5 * 2304);
        assert_int_equal(p.reader.n_ups, 0); // that is the writer's to hear
        sh_rpc_link_state(p.from, &s);
        assert_true(s.up && !s.down && s.epoch == 2 && s.sent == 5 && s.n_ups == 1);
        sh_rpc_link_traffic(p.from, &t);
        // Rows, the greeting on one side, the round trips measured on the dialling one.
        assert_in_range(t.frames_sent, 6, 13);
        assert_int_equal(p.writer.n_downs + p.reader.n_downs, 0);
        pair_close(&p);
    }
}

/* The reader says where it stands when the link comes up. */
static void link__begins_where_the_reader_is(void **state)
{
    struct sh_rpc_link_options w, r;
    struct shoal_error err;
    struct pair p = {0};

    (void)state;
    rig_start(&p.rig, false);
    owner_init(&p.writer);
    owner_init(&p.reader);
    p.reader.epoch = 2;
    p.reader.next = 41;
    w = link_options(&p.writer, true, 1);
    r = link_options(&p.reader, false, 1);
    must(sh_rpc_link_expect(p.rig.links, &p.to, &r, &err), &err);
    must(pair_dial(&p, &w, &p.from, &err), &err);
    owner_waits(&p.writer, &p.writer.n_ups, 1, "times up");
    assert_int_equal(p.writer.up_epoch, 2);
    assert_int_equal(p.writer.up_next, 41);
    pair_close(&p);
}

static void link__acknowledges_lazily(void **state)
{
    struct sh_rpc_link_state s;
    struct pair p;

    (void)state;
    pair_open(&p, true, NULL);
    p.reader.epoch = 2;
    // 16 MiB: two acknowledgements by bytes; by time more, where the machine is slow.
    pair_send(&p, 0, 16, 1 << 20);
    owner_waits(&p.reader, &p.reader.n_rows, 16, "rows");
    owner_waits(&p.writer, &p.writer.n_acks, 2, "acknowledgements");
    assert_int_equal(p.writer.acked_epoch, 2);
    assert_in_range(p.writer.acked, 8, 16);
    sh_rpc_link_state(p.from, &s);
    assert_int_equal(s.acked, p.writer.acked);
    pair_close(&p);
}

/* Small rows one after another do not each cost an answer. */
static void link__small_rows_cost_one_frame(void **state)
{
    const int64_t begin = sh_now_ns(&sh_clock_system);
    struct sh_rpc_link_state s;
    struct sh_rpc_traffic before, after;
    int64_t periods;
    struct pair p;

    (void)state;
    pair_open(&p, true, NULL);
    sh_rpc_link_traffic(p.from, &before);
    for (int i = 0; i < 200; i++) {
        pair_send(&p, (uint64_t)i, (uint64_t)i + 1, 2304);
        owner_waits(&p.reader, &p.reader.n_rows, i + 1, "rows");
    }
    sh_rpc_link_traffic(p.from, &after);
    sh_rpc_link_state(p.to, &s);
    periods = (sh_now_ns(&sh_clock_system) - begin) / (250 * SH_MS) + 1;
    assert_int_equal(after.frames_sent - before.frames_sent, 200);
    assert_in_range(s.n_acks, 0, periods);
    pair_close(&p);
}

/* ---- breaks ----------------------------------------------------------------------------------*/

static void link__is_dialled_again(void **state)
{
    struct sh_rpc_link_state s;
    struct pair p;

    (void)state;
    for (int which = 0; which < 4; which++) { // who dials, who breaks
        pair_open(&p, which & 1, NULL);
        pair_send(&p, 0, 3, 64);
        owner_waits(&p.reader, &p.reader.n_rows, 3, "rows");
        sh_rpc_link_break(which & 2 ? p.from : p.to);
        owner_waits(&p.writer, &p.writer.n_ups, 2, "times up");
        assert_int_equal(p.writer.up_next, 3);
        pair_send(&p, 3, 6, 64);
        owner_waits(&p.reader, &p.reader.n_rows, 6, "rows");
        assert_false(p.reader.out_of_order);
        sh_rpc_link_state(p.from, &s);
        assert_int_equal(s.n_ups, 2);
        assert_int_equal(p.writer.n_downs + p.reader.n_downs, 0);
        pair_close(&p);
    }
}

static void link__is_down_where_nobody_answers(void **state)
{
    struct sh_rpc_link_state s;
    struct sh_rpc_hidden m = rows_of(0, "row", 4);
    struct shoal_error err;
    struct pair p;

    (void)state;
    pair_open_for(&p, true, NULL, SH_SECOND);
    rig_shut(&p.rig);
    sh_rpc_link_break(p.from);
    owner_waits(&p.writer, &p.writer.n_downs, 1, "times down");
    owner_waits(&p.reader, &p.reader.n_downs, 1, "times down");
    assert_int_equal(sh_rpc_link_send(p.from, &m, &err), SHOAL_ERR_STATE);
    sh_rpc_link_state(p.from, &s);
    assert_true(s.down && !s.up);
    pair_close(&p);
    assert_int_equal(p.writer.n_downs, 1);
    assert_int_equal(p.reader.n_downs, 1);
}

/* An end that is closed says so: the other does not dial again. */
static void link__closed_is_down_over_there(void **state)
{
    struct pair p;

    (void)state;
    for (int which = 0; which < 4; which++) {
        struct owner *other;

        pair_open(&p, which & 1, NULL);
        other = which & 2 ? &p.reader : &p.writer;
        sh_rpc_link_close(which & 2 ? p.from : p.to);
        if (which & 2) {
            p.from = NULL;
        } else {
            p.to = NULL;
        }
        owner_waits(other, &other->n_downs, 1, "times down");
        assert_int_equal(other->down_st, SHOAL_ERR_PEER);
        pair_close(&p);
        assert_int_equal(p.writer.n_downs + p.reader.n_downs, 1);
    }
}

/* Rows that the owner refuses end the link, which is not dialled again. */
static void link__nonsense_ends_it(void **state)
{
    struct pair p;

    (void)state;
    pair_open(&p, true, NULL);
    p.reader.refuse = SHOAL_ERR_FORMAT;
    pair_send(&p, 0, 1, 64);
    owner_waits(&p.reader, &p.reader.n_downs, 1, "times down");
    assert_non_null(strstr(p.reader.down_why.message, "nonsense"));
    owner_waits(&p.writer, &p.writer.n_downs, 1, "times down");
    assert_int_equal(p.writer.n_ups, 1);
    pair_close(&p);
}

/* ---- strangers -------------------------------------------------------------------------------*/

static void refused(struct pair *p, const struct sh_rpc_link_options *opt, const char *reason)
{
    struct shoal_error err = {.code = SHOAL_OK};
    struct sh_rpc_link *k = NULL;

    if (!pair_dial(p, opt, &k, &err)) fail_msg("let in, expected \"%s\"", reason);
    assert_null(k);
    if (!strstr(err.message, reason)) fail_msg("\"%s\" without \"%s\"", err.message, reason);
}

static void link__needs_its_token(void **state)
{
    struct sh_rpc_link_options r, wrong;
    struct shoal_error err;
    struct owner stranger;
    struct sh_rpc_link *same = NULL;
    struct pair p = {0};

    (void)state;
    rig_start(&p.rig, false);
    owner_init(&p.writer);
    owner_init(&p.reader);
    owner_init(&stranger);
    r = link_options(&p.reader, false, 0x55);
    wrong = link_options(&stranger, true, 0x55);
    wrong.token[15] ^= 1;
    refused(&p, &wrong, "no such link");
    must(sh_rpc_link_expect(p.rig.links, &p.to, &r, &err), &err);
    refused(&p, &wrong, "no such link");
    assert_int_equal(sh_rpc_link_expect(p.rig.links, &same, &r, &err), SHOAL_ERR_STATE);
    wrong.token[15] ^= 1; // right, but at the wrong end
    wrong.writes = false;
    refused(&p, &wrong, "both ends of a link read");
    pair_close(&p);
    owner_release(&stranger);
}

static void link__is_for_one_peer(void **state)
{
    struct sh_rpc_link_options second;
    struct owner other;
    struct pair p;

    (void)state;
    pair_open(&p, true, NULL);
    owner_init(&other);
    second = link_options(&other, true, 0x55);
    refused(&p, &second, "has a connection");
    pair_send(&p, 0, 1, 64); // the first one goes on
    owner_waits(&p.reader, &p.reader.n_rows, 1, "rows");
    pair_close(&p);
    owner_release(&other);
}

static void link__tls_needs_its_key(void **state)
{
    struct sh_key key, wrong;
    struct sh_rpc_link_options opt;
    struct owner stranger;
    struct shoal_error err;
    char identity[SH_RPC_LINK_IDENTITY_TEXT];
    struct pair p;

    (void)state;
    must(sh_key_make(&key, &err), &err);
    must(sh_key_make(&wrong, &err), &err);
    owner_init(&stranger);
    pair_open(&p, false, &key);
    must(sh_rpc_link_identity(identity, &key, &err), &err);
    assert_true(sh_rpc_links_key(p.rig.links, identity, &wrong));
    assert_true(sh_key_equal(&key, &wrong));
    assert_false(sh_rpc_links_key(p.rig.links, "v1|link|0000000000000000", &wrong));
    pair_send(&p, 0, 3, 100000);
    owner_waits(&p.reader, &p.reader.n_rows, 3, "rows");
    must(sh_key_make(&wrong, &err), &err);
    opt = link_options(&stranger, false, 0x55);
    opt.key = &wrong;
    refused(&p, &opt, "key");
    opt.key = NULL; // and what is not TLS
    refused(&p, &opt, "");
    pair_close(&p);
    assert_false(p.reader.out_of_order);
    owner_release(&stranger);
}

/* A key that is expected for one link does not open another. */
static void link__a_key_is_of_its_link(void **state)
{
    struct sh_key one, two;
    struct sh_rpc_link_options first, second, mixed;
    struct sh_rpc_link *k1 = NULL, *k2 = NULL;
    struct owner o;
    struct shoal_error err;
    struct pair p = {0};

    (void)state;
    must(sh_key_make(&one, &err), &err);
    must(sh_key_make(&two, &err), &err);
    rig_start(&p.rig, true);
    owner_init(&p.writer);
    owner_init(&p.reader);
    owner_init(&o);
    first = link_options(&p.reader, false, 1);
    second = link_options(&p.reader, false, 2);
    mixed = link_options(&o, true, 1);
    first.key = &one;
    second.key = mixed.key = &two;
    must(sh_rpc_link_expect(p.rig.links, &k1, &first, &err), &err);
    must(sh_rpc_link_expect(p.rig.links, &k2, &second, &err), &err);
    refused(&p, &mixed, "no such link");
    sh_rpc_link_close(k1);
    sh_rpc_link_close(k2);
    pair_close(&p);
    owner_release(&o);
}

/* A connection by hand, greeted for links. */
struct raw {
    struct sh_rpc_conn *c;
    struct sh_thread thread;
    enum shoal_status st;
    struct shoal_error err;
};

static enum shoal_status raw_message(void *self, struct sh_rpc_conn *c,
                                     const struct sh_rpc_incoming *m, struct shoal_error *err)
{
    (void)self, (void)c, (void)m, (void)err;
    return SHOAL_OK;
}

static void *raw_run(void *self)
{
    const struct sh_rpc_handler h = {.message = raw_message};
    struct raw *r = self;

    r->st = sh_rpc_conn_run(r->c, &h, &r->err);
    return NULL;
}

static void raw_open(struct raw *r, const char *address)
{
    const struct sh_rpc_conn_options opt = {
        .features = SH_RPC_FEATURES_ALL, .purpose = SH_RPC_FOR_LINK, .silence_ns = PATIENCE_NS};
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0};
    struct sh_stream *s;
    struct sh_endpoint ep;
    struct shoal_error err;

    memset(r, 0, sizeof *r);
    must(sh_endpoint_parse(&ep, address, -1, &err), &err);
    must(sh_tcp_connect(&s, &ep, 20 * SH_SECOND, &tcp, &err), &err);
    must(sh_rpc_conn_connect(&r->c, s, &opt, &err), &err);
    must(sh_thread_start(&r->thread, "raw", raw_run, r, &err), &err);
}

static void raw_close(struct raw *r)
{
    sh_rpc_conn_cut(r->c);
    sh_thread_join(&r->thread);
    sh_rpc_conn_close(r->c, NULL);
}

static void link__rows_before_the_token(void **state)
{
    const struct sh_rpc_hidden m = rows_of(0, "row", 4);
    struct shoal_error err;
    struct raw raw;
    struct pair p;

    (void)state;
    pair_open(&p, true, NULL);
    raw_open(&raw, p.rig.address);
    must(sh_rpc_conn_send(raw.c, SH_RPC_MSG_HIDDEN, 0, &m, &err), &err);
    sh_thread_join(&raw.thread);
    assert_int_not_equal(raw.st, SHOAL_OK);
    assert_non_null(strstr(raw.err.message, "HIDDEN before LINK_HELLO"));
    assert_int_equal(p.reader.n_rows, 0);
    raw_close(&raw);
    pair_send(&p, 0, 1, 64);
    owner_waits(&p.reader, &p.reader.n_rows, 1, "rows");
    pair_close(&p);
}

/* With the token, but for a stage that is not the reader's; then no second chance. */
static void link__rows_for_another_stage(void **state)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_link_welcome welcome;
    struct sh_rpc_link_hello hello = {.next = 0};
    struct sh_rpc_ask ask = {.type = SH_RPC_MSG_LINK_HELLO,
                             .msg = &hello,
                             .answer = &welcome,
                             .arena = &arena,
                             .timeout_ns = PATIENCE_NS};
    struct sh_rpc_hidden m = rows_of(0, "row", 4);
    struct sh_rpc_link_options r;
    struct shoal_error err;
    struct raw raw;
    struct pair p = {0};

    (void)state;
    rig_start(&p.rig, false);
    owner_init(&p.writer);
    owner_init(&p.reader);
    r = link_options(&p.reader, false, 9);
    must(sh_rpc_link_expect(p.rig.links, &p.to, &r, &err), &err);
    raw_open(&raw, p.rig.address);
    memset(hello.token, 9, sizeof hello.token);
    must(sh_rpc_conn_ask(raw.c, &ask, &err), &err);
    assert_int_equal(welcome.stage.slot, 3);
    assert_int_equal(welcome.stage.generation, 7);
    m.stage = welcome.stage;
    m.stage.generation++;
    must(sh_rpc_conn_send(raw.c, SH_RPC_MSG_HIDDEN, 0, &m, &err), &err);
    owner_waits(&p.reader, &p.reader.n_downs, 1, "times down");
    assert_non_null(strstr(p.reader.down_why.message, "stage 3.8"));
    assert_int_equal(p.reader.n_rows, 0);
    raw_close(&raw);
    sh_arena_release(&arena);
    pair_close(&p);
}

/* ---- measuring -------------------------------------------------------------------------------*/

static void link__is_measured(void **state)
{
    struct sh_rpc_link_probed probed;
    struct shoal_error err;
    struct pair p;

    (void)state;
    pair_open(&p, true, NULL);
    must(sh_rpc_link_probe(p.from, 2304, 20, &probed, &err), &err);
    assert_true(probed.least_us <= probed.median_us && probed.bytes_per_s > 0);
    must(sh_rpc_link_probe(p.from, 1 << 20, 2, &probed, &err), &err);
    assert_int_equal(sh_rpc_link_probe(p.from, (1 << 20) + 1, 2, &probed, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_rpc_link_probe(p.from, 0, 0, &probed, &err), SHOAL_ERR_ARG);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(link__rows_go_over),
        cmocka_unit_test(link__begins_where_the_reader_is),
        cmocka_unit_test(link__acknowledges_lazily),
        cmocka_unit_test(link__small_rows_cost_one_frame),
        cmocka_unit_test(link__is_dialled_again),
        cmocka_unit_test(link__is_down_where_nobody_answers),
        cmocka_unit_test(link__closed_is_down_over_there),
        cmocka_unit_test(link__nonsense_ends_it),
        cmocka_unit_test(link__needs_its_token),
        cmocka_unit_test(link__is_for_one_peer),
        cmocka_unit_test(link__tls_needs_its_key),
        cmocka_unit_test(link__a_key_is_of_its_link),
        cmocka_unit_test(link__rows_before_the_token),
        cmocka_unit_test(link__rows_for_another_stage),
        cmocka_unit_test(link__is_measured),
    };
    return cmocka_run_group_tests_name("link", tests, NULL, NULL);
}

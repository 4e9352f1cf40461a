/* Connections with a peer that breaks the rules, is of another version, or has fewer features: one
 * end is a connection, the other a test that writes bytes.
 */
#include "rpc/conn_rig_test.h"

/* ---- a peer of bytes ------------------------------------------------------------------------*/

struct raw {
    struct sh_stream *s;
    bool checksum;
    uint8_t bytes[1 << 16];
};

static void write_raw(struct raw *r, const void *bytes, size_t n)
{
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
    struct shoal_error err = SHOAL_ERROR_INIT;

    MUST(sh_stream_write_full(r->s, bytes, n, &pace, &err));
}

static size_t encode_raw(struct raw *r, enum sh_rpc_type type, uint32_t request, const void *msg)
{
    struct sh_writer w = sh_writer_over(r->bytes, sizeof r->bytes);
    struct shoal_error err = SHOAL_ERROR_INIT;

    MUST(sh_rpc_encode(&w, type, request, msg, SH_RPC_REVISION, r->checksum, &err));
    return w.pos;
}

static void send_raw(struct raw *r, enum sh_rpc_type type, uint32_t request, const void *msg)
{
    write_raw(r, r->bytes, encode_raw(r, type, request, msg));
}

/* The next frame that is no BEAT, decoded; false at the end. */
static bool read_raw(struct raw *r, struct sh_rpc_head *head, bool from_client, void *msg,
                     struct sh_arena *arena)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    do {
        struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
        size_t got = 0;
        if (sh_stream_read_some(r->s, r->bytes, 1, &pace, &got, &err) || got == 0) return false;
        MUST(sh_stream_read_full(r->s, r->bytes + 1, SH_RPC_HEAD_BYTES - 1, &pace, &err));
        MUST(sh_rpc_head_get(head, r->bytes, from_client, SH_RPC_REVISION, &err));
        assert_true(head->bytes < sizeof r->bytes);
        MUST(sh_stream_read_full(r->s, r->bytes, head->bytes, &pace, &err));
    } while (head->type == SH_RPC_MSG_BEAT);
    MUST(sh_rpc_decode(msg, head, r->bytes, SH_RPC_REVISION, r->checksum && head->type > 2, arena,
                       &err));
    return true;
}

union any {
    struct sh_rpc_welcome welcome;
    struct sh_rpc_hello hello;
    struct sh_rpc_error error;
    uint8_t room[4096];
};

/* A fatal ERROR comes, and says this. */
static void expect_error(struct raw *r, bool from_client, enum shoal_status st, const char *text)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_head head;
    char message[401];
    union any m;

    assert_true(read_raw(r, &head, from_client, &m, &arena));
    assert_int_equal(head.type, SH_RPC_MSG_ERROR);
    assert_int_equal(m.error.fatal, 1);
    assert_int_equal(sh_rpc_status_get(m.error.status), st);
    sh_rpc_text_copy(message, sizeof message, m.error.message);
    if (!strstr(message, text)) print_message("'%s' lacks '%s'\n", message, text);
    assert_non_null(strstr(message, text));
    sh_arena_release(&arena);
}

static struct sh_rpc_hello a_hello(void)
{
    return (struct sh_rpc_hello){.revision_min = SH_RPC_REVISION_MIN,
                                 .revision_max = SH_RPC_REVISION,
                                 .features = SH_RPC_FEATURES_ALL & ~(uint64_t)SH_RPC_CHECKSUM,
                                 .software = sh_rpc_text_from("other 7.1")};
}

/* A server in a thread of its own; what greets it is the test. */
struct lone {
    struct raw raw;
    struct end *end;
    size_t live;
};

static void open_lone_server(struct lone *l)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_stream *s;

    l->live = sh_mem_live_bytes();
    l->raw.checksum = false;
    MUST(sh_stream_pair(&l->raw.s, &s, 65536, &err));
    l->end = new_end(s, false, 30);
}

static void greet_lone_server(struct lone *l, const struct sh_rpc_hello *hello)
{
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_head head;
    union any m;

    start_end(l->end);
    write_raw(&l->raw, SH_RPC_PREFACE, SH_RPC_PREFACE_BYTES);
    send_raw(&l->raw, SH_RPC_MSG_HELLO, 1, hello);
    assert_true(read_raw(&l->raw, &head, false, &m, &arena));
    assert_int_equal(head.type, SH_RPC_MSG_WELCOME);
    assert_int_equal(head.request, 1);
    assert_true(m.welcome.features == (hello->features & l->end->opt.features));
    sh_arena_release(&arena);
}

/* The raw end goes, the other returns, nothing is left. */
static void close_lone(struct lone *l)
{
    sh_stream_close(l->raw.s);
    sh_thread_join(&l->end->thread);
    free_end(l->end);
    assert_int_equal(sh_mem_live_bytes(), l->live);
}

/* ---- greeting -------------------------------------------------------------------------------*/

static void conn__refuses_other_protocols(void **state)
{
    static const char *const FIRST[] = {"\x0e\0\0\0\0\0\0\0\0", "GET / HTTP/1.1\r\n\r\n",
                                        "shoal\r\n\2abcdefgh", "shoal\r\r\n\1"};

    (void)state;
    for (size_t i = 0; i < sizeof FIRST / sizeof FIRST[0]; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
        struct lone l;
        size_t got = 1;
        open_lone_server(&l);
        start_end(l.end);
        write_raw(&l.raw, FIRST[i], 8);
        MUST(sh_stream_read_some(l.raw.s, l.raw.bytes, 1, &pace, &got, &err));
        assert_int_equal(got, 0); // no answer
        sh_thread_join(&l.end->thread);
        assert_int_equal(l.end->st, SHOAL_ERR_FORMAT);
        assert_non_null(strstr(l.end->err.message, "does not speak shoal's protocol"));
        assert_string_equal(l.end->err.peer, "memory:0");
        close_lone(&l);
    }
}

static void conn__refuses_bad_greetings(void **state)
{
    enum { STEP_FIRST, TOO_LONG, ENDS, SILENT, OPS, N };
    const struct sh_rpc_cancel cancel = {.from = 1};

    (void)state;
    for (int how = 0; how < N; how++) {
        struct sh_rpc_hello hello = a_hello();
        struct lone l;
        size_t n;
        open_lone_server(&l);
        if (how == SILENT) l.end->opt.greeting_ns = 20 * SH_MS;
        start_end(l.end);
        write_raw(&l.raw, SH_RPC_PREFACE, SH_RPC_PREFACE_BYTES);
        if (how == STEP_FIRST) send_raw(&l.raw, SH_RPC_MSG_CANCEL, 0, &cancel);
        if (how == TOO_LONG) {
            n = encode_raw(&l.raw, SH_RPC_MSG_HELLO, 1, &hello);
            l.raw.bytes[0] = 0xf1; // 16369: with its head a byte too many
            l.raw.bytes[1] = 0x3f;
            write_raw(&l.raw, l.raw.bytes, n);
        }
        if (how == ENDS) {
            n = encode_raw(&l.raw, SH_RPC_MSG_HELLO, 1, &hello);
            write_raw(&l.raw, l.raw.bytes, n - 1);
            sh_stream_cut(l.raw.s);
        }
        if (how == OPS) {
            n = encode_raw(&l.raw, SH_RPC_MSG_HELLO, 1, &hello);
            l.raw.bytes[n - 4] = 200; // ops that do not come
            write_raw(&l.raw, l.raw.bytes, n);
        }
        sh_thread_join(&l.end->thread);
        if (how == ENDS) assert_int_equal(l.end->st, SHOAL_ERR_PEER);
        if (how == SILENT) assert_int_equal(l.end->st, SHOAL_ERR_TIMEOUT);
        if (how == STEP_FIRST || how == OPS || how == TOO_LONG)
            assert_int_equal(l.end->st, SHOAL_ERR_FORMAT);
        assert_true(l.end->err.message[0] != '\0');
        close_lone(&l);
    }
}

/* A client of versions that this server does not have, a purpose that nobody has, or one whose
 * feature is missing: both ends hear why. */
static void conn__turns_clients_away(void **state)
{
    static const struct {
        uint16_t least, most;
        uint8_t purpose;
        uint64_t features;
        const char *text;
    } CASES[] = {
        {SH_RPC_REVISION + 1, SH_RPC_REVISION + 5, 0, 0, "there other 7.1 with 2 to 6"},
        {0, 0, 0, 0, "there other 7.1 with 0 to 0"},
        {SH_RPC_REVISION, SH_RPC_REVISION - 1, 0, 0, "no revision"},
        {1, 1, 9, 0, "no purpose 9"},
        {1, 1, SH_RPC_FOR_DATA, SH_RPC_LINKS, "feature"},
        {1, 1, SH_RPC_FOR_LINK, SH_RPC_DATA, "feature"},
        {1, 1, SH_RPC_FOR_SUMS, SH_RPC_SUMS, "feature"}, // not of this server
    };

    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct sh_rpc_hello hello = a_hello();
        struct lone l;
        hello.revision_min = CASES[i].least;
        hello.revision_max = CASES[i].most;
        hello.purpose = CASES[i].purpose;
        hello.features = CASES[i].features;
        open_lone_server(&l);
        start_end(l.end);
        write_raw(&l.raw, SH_RPC_PREFACE, SH_RPC_PREFACE_BYTES);
        send_raw(&l.raw, SH_RPC_MSG_HELLO, 1, &hello);
        expect_error(&l.raw, false, SHOAL_ERR_UNSUPPORTED, CASES[i].text);
        sh_stream_cut(l.raw.s);
        sh_thread_join(&l.end->thread);
        assert_int_equal(l.end->st, SHOAL_ERR_UNSUPPORTED);
        close_lone(&l);
    }
}

/* A later client that can do more, and speaks this revision too. */
static void conn__greets_a_later_client(void **state)
{
    struct sh_rpc_name ops[] = {{.name = sh_rpc_text_from("WARP")},
                                {.name = sh_rpc_text_from("MUL")}};
    struct sh_rpc_hello hello = a_hello();
    const struct sh_rpc_cancel cancel = {.from = 1};
    struct lone l;

    (void)state;
    hello.revision_max = 40;
    hello.features |= UINT64_C(1) << 50;
    hello.ops = ops;
    hello.n_ops = 2;
    open_lone_server(&l);
    greet_lone_server(&l, &hello);
    send_raw(&l.raw, SH_RPC_MSG_CANCEL, 0, &cancel);
    wait_log(l.end, 1);
    assert_int_equal(sh_rpc_conn_peer(l.end->c)->revision, SH_RPC_REVISION);
    assert_int_equal(sh_rpc_conn_ops(l.end->c)->n, 2);
    assert_int_equal(sh_rpc_conn_ops(l.end->c)->ops[0].op, SH_OP_COUNT);
    assert_int_equal(sh_rpc_conn_ops(l.end->c)->ops[1].op, SH_OP_MUL);
    close_lone(&l);
}

/* A client whose server is the test. */
struct asking {
    struct end *end;
    struct sh_rpc_conn *c;
    enum shoal_status st;
    struct shoal_error err;
};

static void *connect_one(void *arg)
{
    struct asking *a = arg;

    a->st = sh_rpc_conn_connect(&a->c, a->end->stream, &a->end->opt, &a->err);
    return NULL;
}

static void conn__client_refuses_servers(void **state)
{
    enum { OTHER_REVISION, UNOFFERED, NO_ANSWER, NONSENSE, TURNED_AWAY, SILENT, N };

    (void)state;
    for (int how = 0; how < N; how++) {
        struct sh_rpc_welcome m = {.revision = how == OTHER_REVISION ? 9 : 1,
                                   .features = how == UNOFFERED ? SH_RPC_SUMS : 0,
                                   .software = sh_rpc_text_from("other 9.1")};
        const struct sh_rpc_error away = {.status = sh_rpc_status_put(SHOAL_ERR_LIMIT),
                                          .fatal = 1,
                                          .message = sh_rpc_text_from("too many hosts")};
        struct sh_arena arena = SH_ARENA_INIT;
        struct sh_thread thread = SH_THREAD_INIT;
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_rpc_head head;
        struct asking a = {.st = SHOAL_OK};
        struct lone l;
        union any hello;
        open_lone_server(&l);
        a.end = l.end;
        if (how == SILENT) l.end->opt.greeting_ns = 20 * SH_MS;
        MUST(sh_thread_start(&thread, "client", connect_one, &a, &err));
        struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
        MUST(sh_stream_read_full(l.raw.s, l.raw.bytes, SH_RPC_PREFACE_BYTES, &pace, &err));
        assert_memory_equal(l.raw.bytes, SH_RPC_PREFACE, SH_RPC_PREFACE_BYTES);
        assert_true(read_raw(&l.raw, &head, true, &hello, &arena));
        assert_int_equal(head.type, SH_RPC_MSG_HELLO);
        if (how == OTHER_REVISION || how == UNOFFERED)
            send_raw(&l.raw, SH_RPC_MSG_WELCOME, head.request, &m);
        if (how == TURNED_AWAY) send_raw(&l.raw, SH_RPC_MSG_ERROR, head.request, &away);
        if (how == NONSENSE) write_raw(&l.raw, "HTTP/1.1 400 Bad Request", 24);
        if (how == NO_ANSWER) sh_stream_cut(l.raw.s);
        sh_thread_join(&thread);
        assert_null(a.c);
        if (how == OTHER_REVISION) {
            assert_int_equal(a.st, SHOAL_ERR_UNSUPPORTED);
            assert_non_null(strstr(a.err.message, "other 9.1, which wants revision 9"));
        }
        if (how == UNOFFERED || how == NONSENSE) assert_int_equal(a.st, SHOAL_ERR_FORMAT);
        if (how == NO_ANSWER) assert_int_equal(a.st, SHOAL_ERR_PEER);
        if (how == SILENT) assert_int_equal(a.st, SHOAL_ERR_TIMEOUT);
        if (how == TURNED_AWAY) {
            assert_int_equal(a.st, SHOAL_ERR_LIMIT);
            assert_string_equal(a.err.message, "memory:0: too many hosts");
        }
        assert_string_equal(a.err.peer, "memory:0");
        sh_arena_release(&arena);
        close_lone(&l);
    }
}

/* ---- rules ----------------------------------------------------------------------------------*/

/* One wrong frame after a greeting: the server's run() ends with this, and the peer hears it. */
struct wrong {
    enum sh_rpc_type type;
    uint32_t request;
    uint8_t purpose;
    uint64_t features; // of the client; 0: all but checksums
    enum shoal_status st;
    const char *text;
    uint8_t at, value; // in the payload, where not 0
};

#define NONE ((uint64_t)1 << 63) /* no feature that counts */

static const struct wrong WRONG[] = {
    // direction
    {SH_RPC_MSG_WELCOME, 1, 0, 0, SHOAL_ERR_FORMAT, "WELCOME is not for the client", 0, 0},
    {SH_RPC_MSG_RESULT, 0, 0, 0, SHOAL_ERR_FORMAT, "RESULT is not for the client", 0, 0},
    {SH_RPC_MSG_HELLO, 1, 0, 0, SHOAL_ERR_FORMAT, "HELLO after the greeting", 0, 0},
    // purpose
    {SH_RPC_MSG_WANT, 1, SH_RPC_FOR_CONTROL, 0, SHOAL_ERR_FORMAT, "does not belong", 0, 0},
    {SH_RPC_MSG_ATTACH, 1, SH_RPC_FOR_CONTROL, 0, SHOAL_ERR_FORMAT, "does not belong", 0, 0},
    {SH_RPC_MSG_STEP, 0, SH_RPC_FOR_DATA, 0, SHOAL_ERR_FORMAT, "for DATA", 0, 0},
    {SH_RPC_MSG_OPEN, 1, SH_RPC_FOR_LINK, 0, SHOAL_ERR_FORMAT, "for LINK", 0, 0},
    {SH_RPC_MSG_HIDDEN, 0, SH_RPC_FOR_DATA, 0, SHOAL_ERR_FORMAT, "for DATA", 0, 0},
    {SH_RPC_MSG_LINK_HELLO, 1, SH_RPC_FOR_CONTROL, 0, SHOAL_ERR_FORMAT, "for CONTROL", 0, 0},
    {SH_RPC_MSG_LINK_ACK, 0, SH_RPC_FOR_CONTROL, 0, SHOAL_ERR_FORMAT, "for CONTROL", 0, 0},
    {SH_RPC_MSG_SUM, 0, SH_RPC_FOR_LINK, 0, SHOAL_ERR_FORMAT, "for LINK", 0, 0},
    {SH_RPC_MSG_CANCELLED, 0, SH_RPC_FOR_CONTROL, 0, SHOAL_ERR_FORMAT, "for CONTROL", 0, 0},
    // features
    {SH_RPC_MSG_RESUME, 1, 0, NONE, SHOAL_ERR_FORMAT, "not agreed", 0, 0},
    {SH_RPC_MSG_LINK_OPEN, 1, 0, NONE, SHOAL_ERR_FORMAT, "not agreed", 0, 0},
    {SH_RPC_MSG_LINK_PROBE, 1, 0, NONE, SHOAL_ERR_FORMAT, "not agreed", 0, 0},
    {SH_RPC_MSG_CANCELLED, 0, SH_RPC_FOR_LINK, SH_RPC_LINKS, SHOAL_ERR_FORMAT, "not agreed", 0, 0},
    {SH_RPC_MSG_ATTACH, 1, 0, NONE, SHOAL_ERR_FORMAT, "does not belong", 0, 0},
    // values: HIDDEN's format, ROUTE's format, where and reader, STAGE_PUT's shards
    {SH_RPC_MSG_HIDDEN, 0, 0, NONE, SHOAL_ERR_FORMAT, "format 1", 32, SH_RPC_ROWS_F16},
    {SH_RPC_MSG_HIDDEN, 0, 0, SH_RPC_F16, SHOAL_ERR_FORMAT, "format 2", 32, SH_RPC_ROWS_Q8},
    {SH_RPC_MSG_HIDDEN, 0, 0, 0, SHOAL_ERR_FORMAT, "no format 3", 32, 3},
    {SH_RPC_MSG_ROUTE, 1, 0, NONE, SHOAL_ERR_FORMAT, "format 2", 17, SH_RPC_ROWS_Q8},
    {SH_RPC_MSG_ROUTE, 1, 0, NONE, SHOAL_ERR_FORMAT, "where 1", 8, 1},
    {SH_RPC_MSG_ROUTE, 1, 0, NONE, SHOAL_ERR_FORMAT, "reader", 30, 1},
    {SH_RPC_MSG_STAGE_PUT, 1, 0, 0, SHOAL_ERR_FORMAT, "n_shards 2", 46, 2},
    {SH_RPC_MSG_LINK_EXPECT, 1, 0, 0, SHOAL_ERR_FORMAT, "purpose 3", 8, SH_RPC_FOR_SUMS},
    {SH_RPC_MSG_LINK_OPEN, 1, 0, 0, SHOAL_ERR_FORMAT, "purpose 0 is no link's", 0, 0},
    // requests
    {SH_RPC_MSG_OPEN, 0, 0, 0, SHOAL_ERR_FORMAT, "OPEN without a request number", 0, 0},
    {SH_RPC_MSG_STEP, 5, 0, 0, SHOAL_ERR_FORMAT, "STEP with a request number", 0, 0},
    {SH_RPC_MSG_PROBED, 6, 0, 0, SHOAL_ERR_FORMAT, "request 6, which nobody made", 0, 0},
    {SH_RPC_MSG_PROBED, 0, 0, 0, SHOAL_ERR_FORMAT, "request 0, which nobody made", 0, 0},
    {SH_RPC_MSG_ERROR, 6, 0, 0, SHOAL_ERR_FORMAT, "request 6, which nobody made", 0, 0},
    // what conn itself answers, and what its handler refuses
    {SH_RPC_MSG_PROBE, 1, 0, 0, SHOAL_ERR_LIMIT, "PROBE wants", 11, 1},
    {SH_RPC_MSG_CLOSE, 1, 0, 0, SHOAL_ERR_STATE, "this end wants no more", 0, 0},
};

static void conn__refuses_what_is_wrong(void **state)
{
    static const uint64_t zeros[64];

    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        const struct wrong *x = &WRONG[i];
        struct sh_rpc_hello hello = a_hello();
        struct lone l;
        size_t n;
        hello.purpose = x->purpose;
        if (x->features) hello.features = x->features;
        open_lone_server(&l);
        greet_lone_server(&l, &hello);
        n = encode_raw(&l.raw, x->type, x->request, zeros);
        if (x->at) l.raw.bytes[SH_RPC_HEAD_BYTES + x->at] = x->value;
        write_raw(&l.raw, l.raw.bytes, n);
        wait_over(l.end);
        if (l.end->ran != x->st || !strstr(l.end->why.message, x->text))
            print_message("row %zu: %s\n", i, l.end->why.message);
        assert_int_equal(l.end->ran, x->st);
        assert_non_null(strstr(l.end->why.message, x->text));
        assert_string_equal(l.end->why.peer, "memory:0");
        expect_error(&l.raw, false, x->st, x->text);
        close_lone(&l);
    }
}

/* Frames that are none. */
static void conn__refuses_bad_frames(void **state)
{
    enum { UNKNOWN, LONG_FRAME, ZERO, CHECKSUM, BEHIND, TEXT, ENDS_IN_HEAD, ENDS_IN_PAYLOAD, N };
    static const enum shoal_status WANT[N] = {SHOAL_ERR_FORMAT, SHOAL_ERR_LIMIT,  SHOAL_ERR_FORMAT,
                                              SHOAL_ERR_FORMAT, SHOAL_ERR_FORMAT, SHOAL_ERR_FORMAT,
                                              SHOAL_ERR_PEER,   SHOAL_ERR_PEER};
    const struct sh_rpc_error m = {.message = sh_rpc_text_from("text")};

    (void)state;
    for (int how = 0; how < N; how++) {
        struct sh_rpc_hello hello = a_hello();
        struct lone l;
        size_t n;
        if (how == CHECKSUM) hello.features |= SH_RPC_CHECKSUM;
        open_lone_server(&l);
        greet_lone_server(&l, &hello);
        l.raw.checksum = how == CHECKSUM;
        n = encode_raw(&l.raw, SH_RPC_MSG_ERROR, 0, &m);
        if (how == UNKNOWN) l.raw.bytes[4] = 12;
        if (how == LONG_FRAME) l.raw.bytes[3] = 1;
        if (how == ZERO) l.raw.bytes[6] = 1;
        if (how == CHECKSUM) l.raw.bytes[n - 1] ^= 1;
        if (how == BEHIND) l.raw.bytes[0]++;
        if (how == BEHIND) n++;
        if (how == TEXT) l.raw.bytes[n - 1] = 7;
        if (how == ENDS_IN_HEAD) n = 9;
        if (how == ENDS_IN_PAYLOAD) n--;
        write_raw(&l.raw, l.raw.bytes, n);
        if (WANT[how] == SHOAL_ERR_PEER) sh_stream_cut(l.raw.s);
        wait_over(l.end);
        if (l.end->ran != WANT[how]) print_message("row %d: %s\n", how, l.end->why.message);
        assert_int_equal(l.end->ran, WANT[how]);
        if (WANT[how] != SHOAL_ERR_PEER) expect_error(&l.raw, false, WANT[how], "rpc: ");
        close_lone(&l);
    }
}

/* A server that breaks the rules towards a client: answers of another kind, that are none, to
 * nothing; and one that ends the connection. */
struct question {
    struct sh_rpc_conn *c;
    enum shoal_status st;
    struct shoal_error err;
};

static void *ask_devices(void *arg)
{
    struct question *q = arg;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_devices_are devices;

    q->st = ask(q->c, SH_RPC_MSG_DEVICES, &devices, &arena, LONG, NULL, &q->err);
    sh_arena_release(&arena);
    return NULL;
}

static void conn__client_refuses_answers(void **state)
{
    enum { OTHER_KIND, GARBLED, UNASKED, FATAL, FATAL_ANSWER, N };
    static const enum shoal_status WANT[N] = {SHOAL_ERR_FORMAT, SHOAL_ERR_FORMAT, SHOAL_ERR_FORMAT,
                                              SHOAL_ERR_NOMEM, SHOAL_ERR_NOMEM};
    const struct sh_rpc_welcome welcome = {.revision = 1};
    const struct sh_rpc_stats_are stats = {.n_stats = 0};
    const struct sh_rpc_devices_are devices = {.n_devices = 0};
    const struct sh_rpc_error fatal = {.status = sh_rpc_status_put(SHOAL_ERR_NOMEM),
                                       .fatal = 1,
                                       .message = sh_rpc_text_from("all is full")};

    (void)state;
    for (int how = 0; how < N; how++) {
        struct sh_arena arena = SH_ARENA_INIT;
        struct sh_thread thread = SH_THREAD_INIT;
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LONG));
        struct question q = {.st = SHOAL_OK};
        struct asking a = {.st = SHOAL_OK};
        struct sh_rpc_head head;
        struct lone l;
        union any any;
        size_t n;
        open_lone_server(&l);
        a.end = l.end;
        MUST(sh_thread_start(&thread, "client", connect_one, &a, &err));
        MUST(sh_stream_read_full(l.raw.s, l.raw.bytes, SH_RPC_PREFACE_BYTES, &pace, &err));
        assert_true(read_raw(&l.raw, &head, true, &any, &arena));
        send_raw(&l.raw, SH_RPC_MSG_WELCOME, head.request, &welcome);
        sh_thread_join(&thread);
        must_(a.st, &a.err, __LINE__);
        q.c = l.end->c = a.c;
        start_end(l.end);
        MUST(sh_thread_start(&thread, "ask", ask_devices, &q, &err));
        assert_true(read_raw(&l.raw, &head, true, &any, &arena));
        assert_int_equal(head.type, SH_RPC_MSG_DEVICES);
        n = encode_raw(&l.raw, SH_RPC_MSG_DEVICES_ARE, head.request, &devices);
        if (how == OTHER_KIND) n = encode_raw(&l.raw, SH_RPC_MSG_STATS_ARE, head.request, &stats);
        if (how == UNASKED)
            n = encode_raw(&l.raw, SH_RPC_MSG_DEVICES_ARE, head.request + 1, &devices);
        if (how == FATAL) n = encode_raw(&l.raw, SH_RPC_MSG_ERROR, 0, &fatal);
        if (how == FATAL_ANSWER) n = encode_raw(&l.raw, SH_RPC_MSG_ERROR, head.request, &fatal);
        if (how == GARBLED) l.raw.bytes[SH_RPC_HEAD_BYTES] = 3;
        write_raw(&l.raw, l.raw.bytes, n);
        sh_thread_join(&thread);
        wait_over(l.end);
        assert_int_equal(l.end->ran, WANT[how]);
        assert_int_equal(q.st, WANT[how]);
        if (how < FATAL) {
            expect_error(&l.raw, true, WANT[how], "rpc: ");
        } else {
            assert_non_null(strstr(l.end->why.message, "all is full"));
            assert_non_null(strstr(q.err.message, "all is full"));
        }
        sh_arena_release(&arena);
        close_lone(&l);
    }
}

/* ---- time -----------------------------------------------------------------------------------*/

static void conn__notices_silence(void **state)
{
    enum { SILENT, IN_HEAD, IN_PAYLOAD, N };
    const struct sh_rpc_cancel m = {.from = 1};

    (void)state;
    for (int how = 0; how < N; how++) {
        const struct sh_rpc_hello hello = a_hello();
        struct lone l;
        open_lone_server(&l);
        l.end->opt.silence_ns = 30 * SH_MS;
        greet_lone_server(&l, &hello);
        (void)encode_raw(&l.raw, SH_RPC_MSG_CANCEL, 0, &m);
        if (how != SILENT) write_raw(&l.raw, l.raw.bytes, how == IN_HEAD ? 3 : 20);
        wait_over(l.end);
        assert_int_equal(l.end->ran, SHOAL_ERR_TIMEOUT);
        assert_non_null(strstr(l.end->why.message, "30 ms"));
        expect_error(&l.raw, false, SHOAL_ERR_TIMEOUT, "silent");
        close_lone(&l);
    }
}

/* A byte now and then is no frame: it ends long before the last of 2000 bytes. */
static void conn__notices_dripping(void **state)
{
    const struct sh_rpc_hello hello = a_hello();
    static const uint8_t data[2000];
    const struct sh_rpc_hidden m = {.data = {data, sizeof data}};
    struct lone l;
    bool over = false;
    size_t at = 0, n;

    (void)state;
    open_lone_server(&l);
    l.end->opt.silence_ns = 200 * SH_MS;
    greet_lone_server(&l, &hello);
    n = encode_raw(&l.raw, SH_RPC_MSG_HIDDEN, 0, &m);
    while (!over && at < n) {
        write_raw(&l.raw, l.raw.bytes + at++, 1);
        sh_mutex_lock(&l.end->lock);
        if (!l.end->over) (void)sh_cond_wait(&l.end->changed, &l.end->lock, 20 * SH_MS);
        over = l.end->over;
        sh_mutex_unlock(&l.end->lock);
    }
    assert_true(over && at < n);
    assert_int_equal(l.end->ran, SHOAL_ERR_TIMEOUT);
    close_lone(&l);
}

/* ---- fewer features -------------------------------------------------------------------------*/

struct sending {
    enum sh_rpc_type type;
    uint8_t purpose;
    uint64_t needs;
};

/* What a client sends without being asked, and what it needs. */
static const struct sending SENDING[] = {
    {SH_RPC_MSG_STEP, SH_RPC_FOR_CONTROL, 0},
    {SH_RPC_MSG_HIDDEN, SH_RPC_FOR_CONTROL, 0},
    {SH_RPC_MSG_CANCEL, SH_RPC_FOR_CONTROL, 0},
    {SH_RPC_MSG_HIDDEN, SH_RPC_FOR_LINK, SH_RPC_LINKS},
    {SH_RPC_MSG_LINK_ACK, SH_RPC_FOR_LINK, SH_RPC_LINKS},
    {SH_RPC_MSG_CANCELLED, SH_RPC_FOR_LINK, SH_RPC_LINKS | SH_RPC_CANCELS},
    {SH_RPC_MSG_PUT, SH_RPC_FOR_DATA, SH_RPC_DATA},
};

/* One end is older: all of the present set, none, or all but one.  The greeting agrees on what both
 * have, what was agreed works, and what was not is refused before it is sent. */
static void check_features(uint64_t features, bool client_is_older)
{
    static const uint64_t zeros[64];
    struct shoal_error err = SHOAL_ERROR_INIT;

    for (size_t i = 0; i < sizeof SENDING / sizeof SENDING[0]; i++) {
        const struct sending *x = &SENDING[i];
        const uint64_t purpose_needs = x->purpose == SH_RPC_FOR_LINK   ? SH_RPC_LINKS
                                       : x->purpose == SH_RPC_FOR_DATA ? SH_RPC_DATA
                                                                       : 0;
        struct sh_arena arena = SH_ARENA_INIT;
        struct sh_rpc_devices_are devices;
        struct two t;
        enum shoal_status st;
        open_two(&t, PIPE);
        (client_is_older ? t.client : t.server)->opt.features = features;
        t.client->opt.purpose = (enum sh_rpc_purpose)x->purpose;
        start_end(t.server);
        st = sh_rpc_conn_connect(&t.client->c, t.client->stream, &t.client->opt, &err);
        if ((features & purpose_needs) != purpose_needs) {
            assert_int_equal(st, SHOAL_ERR_UNSUPPORTED);
            assert_non_null(strstr(err.message, "needs a feature"));
            close_two(&t);
            continue;
        }
        must_(st, &err, __LINE__);
        start_end(t.client);
        assert_true(sh_rpc_conn_peer(t.client->c)->features == features);
        st = sh_rpc_conn_send(t.client->c, x->type, 0, zeros, &err);
        if ((features & x->needs) == x->needs) {
            must_(st, &err, __LINE__);
            wait_log(t.server, 1);
        } else {
            assert_int_equal(st, SHOAL_ERR_ARG);
        }
        if (x->purpose == SH_RPC_FOR_CONTROL) {
            const struct sh_rpc_put put = {.offset = 1};
            MUST(ask(t.client->c, SH_RPC_MSG_DEVICES, &devices, &arena, LONG, NULL, &err));
            st = sh_rpc_conn_send(t.client->c, SH_RPC_MSG_PUT, 0, &put, &err);
            assert_int_equal(st, features & SH_RPC_DATA ? SHOAL_ERR_ARG : SHOAL_OK);
            if (!st) wait_log(t.server, 2);
        }
        sh_arena_release(&arena);
        leave_two(&t);
    }
}

static void conn__works_with_fewer_features(void **state)
{
    (void)state;
    for (int older = 0; older < 2; older++) {
        check_features(0, older);
        check_features(SH_RPC_FEATURES_ALL, older);
        for (int bit = 0; bit < 11; bit++) {
            const uint64_t one = UINT64_C(1) << bit;
            if (SH_RPC_FEATURES_ALL & one) check_features(SH_RPC_FEATURES_ALL & ~one, older);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conn__refuses_other_protocols),
        cmocka_unit_test(conn__refuses_bad_greetings),
        cmocka_unit_test(conn__turns_clients_away),
        cmocka_unit_test(conn__greets_a_later_client),
        cmocka_unit_test(conn__client_refuses_servers),
        cmocka_unit_test(conn__refuses_what_is_wrong),
        cmocka_unit_test(conn__refuses_bad_frames),
        cmocka_unit_test(conn__client_refuses_answers),
        cmocka_unit_test(conn__notices_silence),
        cmocka_unit_test(conn__notices_dripping),
        cmocka_unit_test(conn__works_with_fewer_features),
    };

    return cmocka_run_group_tests_name("conn hostile", tests, NULL, NULL);
}

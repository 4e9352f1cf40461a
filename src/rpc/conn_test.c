/* Connections between two ends that keep to the rules: greeting, order, asking, the end. */
#include "rpc/conn_rig_test.h"

#include <shoal/version.h>

/* ---- greeting -------------------------------------------------------------------------------*/

static void conn__greets(void **state)
{
    const char *names[SH_OP_COUNT];

    (void)state;
    sh_graph_wire_ops(names);
    for (int w = 0; w < N_WIRES; w++) {
        const uint64_t features = is_tls((enum wire)w)
                                      ? SH_RPC_FEATURES_ALL & ~(uint64_t)SH_RPC_CHECKSUM
                                      : (uint64_t)SH_RPC_FEATURES_ALL;
        struct two t;
        open_two(&t, (enum wire)w);
        t.client->opt.purpose = SH_RPC_FOR_LINK;
        greet(t.client, t.server);
        for (int i = 0; i < 2; i++) {
            const struct end *e = i ? t.client : t.server;
            const struct end *other = i ? t.server : t.client;
            const struct sh_rpc_peer *p = sh_rpc_conn_peer(t.client->c);
            if (!i) {
                struct shoal_error err = SHOAL_ERROR_INIT; // the server's own thread has greeted
                MUST(send_hidden(t.client->c, 1, 1, NULL, 0, &err));
                wait_log(t.server, 1);
                p = sh_rpc_conn_peer(t.server->c);
            }
            assert_int_equal(p->revision, SH_RPC_REVISION);
            assert_true(p->features == features);
            assert_int_equal(p->purpose, SH_RPC_FOR_LINK);
            assert_string_equal(p->software, "shoal " SHOAL_VERSION);
            assert_memory_equal(p->machine, other->opt.machine, 16);
            if (i) assert_memory_equal(p->boot, other->opt.boot, 16);
            assert_int_equal(sh_rpc_conn_ops(e->c)->n, SH_OP_COUNT);
            assert_int_equal(sh_rpc_conn_ops(e->c)->ops[3].op, 3);
            assert_string_equal(sh_rpc_conn_ops(e->c)->ops[3].name, names[3]);
            assert_true(sh_rpc_conn_has(e->c, SH_RPC_LINKS));
            assert_false(sh_rpc_conn_has(e->c, SH_RPC_SUMS));
            assert_string_equal(sh_rpc_conn_address(e->c), e->stream->peer);
        }
        leave_two(&t);
    }
}

/* ---- order and contents ---------------------------------------------------------------------*/

#define SENDERS 3
#define PER_SENDER 60

struct sender {
    struct sh_rpc_conn *c;
    uint64_t id;
    bool ok;
};

/* STEP, HIDDEN (small and large) as one flow, CANCEL as the other. */
static void *send_many(void *arg)
{
    struct sender *s = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t *bytes = sh_malloc(300000);
    struct sh_rpc_row rows[40] = {{.token = 1}};

    s->ok = bytes != NULL;
    for (uint64_t i = 0; i < PER_SENDER && s->ok; i++) {
        const uint32_t n = (uint32_t)(i % 10 == 0 ? 200000 + i : i % 4 == 0 ? 20000 : i * 3);
        enum shoal_status st;
        memset(bytes, (int)(i + s->id), n);
        st = send_step(s->c, s->id, 3 * i, rows, (uint32_t)(i % 40), &err);
        if (!st) st = send_hidden(s->c, s->id, 3 * i + 1, bytes, n, &err);
        if (!st) st = send_cancel(s->c, s->id, 3 * i + 2, &err);
        s->ok = !st;
    }
    if (!s->ok) print_message("sending: %s\n", err.message);
    sh_free(bytes);
    return NULL;
}

static void check_order(const struct end *e)
{
    uint64_t flow[SENDERS] = {0}, other[SENDERS] = {0};

    for (int i = 0; i < e->n_log; i++) {
        const struct seen *s = &e->log[i];
        uint64_t *next = s->type == SH_RPC_MSG_CANCEL ? other : flow;
        assert_true(s->epoch < SENDERS);
        if (s->type == SH_RPC_MSG_CANCEL) {
            assert_int_equal(s->number, 3 * next[s->epoch] + 2);
        } else {
            assert_int_equal(s->number, 3 * (next[s->epoch] / 2) + next[s->epoch] % 2);
        }
        next[s->epoch]++;
    }
    for (int i = 0; i < SENDERS; i++) {
        assert_int_equal(flow[i], 2 * PER_SENDER);
        assert_int_equal(other[i], PER_SENDER);
    }
}

static void conn__keeps_order(void **state)
{
    (void)state;
    for (int w = 0; w < N_WIRES; w++) {
        struct sh_thread threads[SENDERS] = {SH_THREAD_INIT};
        struct sender senders[SENDERS];
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_rpc_traffic sent, came;
        struct two t;
        if (w == NARROW) continue; // 7 bytes at a time take long, and TLS has partial writes too
        open_two(&t, (enum wire)w);
        greet(t.client, t.server);
        for (int i = 0; i < SENDERS; i++) {
            senders[i] = (struct sender){.c = t.client->c, .id = (uint64_t)i};
            MUST(sh_thread_start(&threads[i], "send", send_many, &senders[i], &err));
        }
        for (int i = 0; i < SENDERS; i++) {
            sh_thread_join(&threads[i]);
            assert_true(senders[i].ok);
        }
        wait_log(t.server, 3 * SENDERS * PER_SENDER);
        check_order(t.server);
        sh_rpc_conn_traffic(t.client->c, &sent);
        sh_rpc_conn_traffic(t.server->c, &came);
        assert_int_equal(sent.frames_sent, 3 * SENDERS * PER_SENDER);
        assert_int_equal(came.frames_received, 3 * SENDERS * PER_SENDER);
        assert_true(sent.frames_queued > 0 && sent.frames_queued <= sent.frames_sent);
        assert_true(came.bytes_received > (uint64_t)SENDERS * 6 * 200000);
        assert_true(came.silent_ns >= 0);
        leave_two(&t);
    }
}

/* A pipe of seven bytes: every frame is written and read in parts. */
static void conn__survives_partial_writes(void **state)
{
    struct sh_rpc_row rows[40] = {{.token = 1}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t bytes[3000];
    struct two t;

    (void)state;
    memset(bytes, 5, sizeof bytes);
    open_two(&t, NARROW);
    greet(t.client, t.server);
    for (uint64_t i = 0; i < 20; i++) {
        MUST(send_step(t.client->c, 0, 2 * i, rows, (uint32_t)i, &err));
        MUST(send_hidden(t.client->c, 0, 2 * i + 1, bytes, (uint32_t)(i * 150), &err));
    }
    wait_log(t.server, 40);
    for (int i = 0; i < 40; i++)
        assert_int_equal(t.server->log[i].number, i);
    leave_two(&t);
}

/* What may overtake does, once the stream is free again; the begun frame is finished first. */
static void conn__small_frames_go_ahead(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t *bytes = sh_calloc(1 << 20, 1);
    struct gate *g;
    struct two t;

    (void)state;
    open_two(&t, PIPE);
    t.client->stream = &(g = gate_open(t.client->stream))->head;
    t.client->opt.beat_ns = LONG;
    greet(t.client, t.server);
    gate_hold(g, true, 5);
    MUST(send_hidden(t.client->c, 0, 0, bytes, 100, &err)); // begun: 5 bytes of it
    MUST(send_hidden(t.client->c, 0, 1, bytes, 1 << 20, &err));
    MUST(send_hidden(t.client->c, 0, 2, bytes, 10, &err));
    MUST(send_cancel(t.client->c, 0, 3, &err));
    MUST(send_cancel(t.client->c, 0, 4, &err));
    gate_hold(g, false, 0);
    wait_log(t.server, 5);
    assert_int_equal(t.server->log[0].number, 0);
    assert_int_equal(t.server->log[1].number, 3);
    assert_int_equal(t.server->log[2].number, 4);
    assert_int_equal(t.server->log[3].number, 1);
    assert_int_equal(t.server->log[4].number, 2);
    leave_two(&t);
    sh_free(bytes);
}

/* Frames of up to 64 KiB, waited for, are one write each, and once buffers have grown nothing is
 * allocated for them at either end. */
static void conn__one_write_and_no_memory_per_frame(void **state)
{
    struct sh_rpc_row rows[40] = {{.token = 1}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t *bytes = sh_calloc(65000, 1);
    struct sh_rpc_traffic figures;
    uint64_t before = 0;
    struct gate *g;
    struct two t;

    (void)state;
    open_two(&t, PIPE);
    t.client->stream = &(g = gate_open(t.client->stream))->head;
    t.client->opt.beat_ns = t.server->opt.beat_ns = LONG;
    greet(t.client, t.server);
    for (int i = 0; i < 300; i++) {
        const int n = t.server->n_log;
        if (i == 100) {
            before = g->n_writes;
            sh_mem_fail_after(0);
        }
        if (i % 2) {
            MUST(send_step(t.client->c, 0, (uint64_t)i, rows, 40, &err));
        } else {
            MUST(send_hidden(t.client->c, 0, (uint64_t)i, bytes, i % 4 ? 400 : 65000, &err));
        }
        wait_log(t.server, n + 1);
        // The next one only when nothing waits any more.
        for (sh_rpc_conn_traffic(t.server->c, &figures); figures.frames_received <= (uint64_t)i;)
            sh_rpc_conn_traffic(t.server->c, &figures);
    }
    assert_true(sh_mem_fail_pending());
    sh_mem_fail_after(-1);
    assert_int_equal(g->n_writes - before, 200);
    sh_rpc_conn_traffic(t.client->c, &figures);
    assert_int_equal(figures.frames_queued, 0);
    leave_two(&t);
    sh_free(bytes);
}

/* ---- asking ---------------------------------------------------------------------------------*/

struct asker {
    struct sh_rpc_conn *c;
    bool ok;
};

static void *ask_many(void *arg)
{
    struct asker *a = arg;
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_devices_are devices;
    struct sh_rpc_stats_are stats;
    struct sh_rpc_ask q;

    a->ok = true;
    for (int i = 0; i < 50 && a->ok; i++) {
        a->ok = !ask(a->c, SH_RPC_MSG_DEVICES, &devices, &arena, LONG, NULL, &err) &&
                ask(a->c, SH_RPC_MSG_STATS, &stats, &arena, LONG, &q, &err) == SHOAL_ERR_NOMEM &&
                q.need == 100 && q.free == 50 && strcmp(err.message, "no room for figures") == 0;
    }
    sh_arena_release(&arena);
    return NULL;
}

static void conn__asks_from_many_threads(void **state)
{
    struct sh_thread threads[4] = {SH_THREAD_INIT};
    struct asker askers[4];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct two t;

    (void)state;
    open_two(&t, PIPE);
    greet(t.client, t.server);
    for (int i = 0; i < 4; i++) {
        askers[i] = (struct asker){.c = t.client->c};
        MUST(sh_thread_start(&threads[i], "ask", ask_many, &askers[i], &err));
    }
    for (int i = 0; i < 4; i++) {
        sh_thread_join(&threads[i]);
        assert_true(askers[i].ok);
    }
    leave_two(&t);
}

static void conn__answers_probes(void **state)
{
    static const uint32_t SIZES[] = {0, 1, 4096, 70000, SH_RPC_CHUNK_MAX};
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t *bytes = sh_calloc(SH_RPC_CHUNK_MAX, 1);
    struct two t;

    (void)state;
    for (int w = PIPE; w < N_WIRES; w++) {
        if (w == NARROW) continue;
        open_two(&t, (enum wire)w);
        greet(t.client, t.server);
        for (size_t i = 0; i < 2 * sizeof SIZES / sizeof SIZES[0]; i++) {
            const uint32_t n = SIZES[i / 2];
            struct sh_rpc_probe p = {.stamp = i, .answer_bytes = n, .data = {bytes, n}};
            struct sh_rpc_probed answer;
            struct sh_rpc_ask q = {.type = SH_RPC_MSG_PROBE,
                                   .msg = &p,
                                   .answer = &answer,
                                   .arena = &arena,
                                   .timeout_ns = LONG};
            // Either end may ask.
            MUST(sh_rpc_conn_ask(i % 2 ? t.server->c : t.client->c, &q, &err));
            assert_int_equal(answer.stamp, i);
            assert_int_equal(answer.data.n, n);
            if (n) assert_memory_equal(answer.data.ptr, bytes, n);
            sh_arena_reset(&arena);
        }
        sh_arena_release(&arena);
        leave_two(&t);
    }
    sh_free(bytes);
}

struct slow {
    struct end *server;
    struct sh_mutex lock;
    struct sh_cond changed;
    int n_progress;
};

static void on_progress(void *self, const struct sh_rpc_progress *p)
{
    struct slow *s = self;

    sh_mutex_lock(&s->lock);
    s->n_progress++;
    assert_int_equal(p->done, s->n_progress);
    sh_cond_broadcast(&s->changed);
    sh_mutex_unlock(&s->lock);
}

/* The server's side of RESET: progress, seen by the asker, then the answer. */
static void *answer_slowly(void *arg)
{
    struct slow *s = arg;
    const struct sh_rpc_reset_done done = {.epoch = 9};
    uint32_t request;

    wait_log(s->server, 1);
    request = s->server->log[0].request;
    for (uint64_t i = 1; i <= 3; i++) {
        const struct sh_rpc_progress p = {.done = i};
        if (sh_rpc_conn_send(s->server->c, SH_RPC_MSG_PROGRESS, request, &p, NULL)) return NULL;
        sh_mutex_lock(&s->lock);
        while (s->n_progress < (int)i && sh_cond_wait(&s->changed, &s->lock, LONG))
            continue;
        sh_mutex_unlock(&s->lock);
    }
    (void)!sh_rpc_conn_send(s->server->c, SH_RPC_MSG_RESET_DONE, request, &done, NULL);
    return NULL;
}

static void conn__hears_of_progress(void **state)
{
    const struct sh_rpc_reset m = {.epoch = 9};
    struct sh_rpc_reset_done answer;
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_thread thread = SH_THREAD_INIT;
    struct slow s = {.n_progress = 0};
    struct sh_rpc_ask q = {.type = SH_RPC_MSG_RESET,
                           .msg = &m,
                           .answer = &answer,
                           .arena = &arena,
                           .timeout_ns = LONG,
                           .on_progress = on_progress,
                           .self = &s};
    struct two t;

    (void)state;
    open_two(&t, PIPE);
    sh_mutex_init(&s.lock);
    sh_cond_init(&s.changed);
    s.server = t.server;
    greet(t.client, t.server);
    MUST(sh_thread_start(&thread, "slow", answer_slowly, &s, &err));
    MUST(sh_rpc_conn_ask(t.client->c, &q, &err));
    assert_int_equal(answer.epoch, 9);
    assert_int_equal(s.n_progress, 3);
    sh_thread_join(&thread);
    sh_cond_release(&s.changed);
    sh_mutex_release(&s.lock);
    sh_arena_release(&arena);
    leave_two(&t);
}

/* An answer that comes after its asker has given up is dropped, and the connection goes on. */
static void conn__forgives_late_answers(void **state)
{
    const struct sh_rpc_reset_done done = {.epoch = 1};
    const struct sh_rpc_progress progress = {.done = 1};
    struct sh_rpc_devices_are devices;
    struct sh_rpc_reset_done answer;
    struct sh_arena arena = SH_ARENA_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct two t;

    (void)state;
    open_two(&t, PIPE);
    greet(t.client, t.server);
    assert_int_equal(ask(t.client->c, SH_RPC_MSG_RESET, &answer, &arena, 1, NULL, &err),
                     SHOAL_ERR_TIMEOUT);
    assert_non_null(strstr(err.message, "RESET"));
    assert_int_equal(ask(t.client->c, SH_RPC_MSG_RESET, &answer, &arena, 1, NULL, &err),
                     SHOAL_ERR_TIMEOUT);
    wait_log(t.server, 2);
    MUST(sh_rpc_conn_send(t.server->c, SH_RPC_MSG_PROGRESS, t.server->log[0].request, &progress,
                          &err));
    MUST(sh_rpc_conn_send(t.server->c, SH_RPC_MSG_RESET_DONE, t.server->log[0].request, &done,
                          &err));
    sh_rpc_conn_refuse(t.server->c, t.server->log[1].request, SHOAL_ERR_STATE, NULL, 0, 0);
    MUST(ask(t.client->c, SH_RPC_MSG_DEVICES, &devices, &arena, LONG, NULL, &err));
    sh_arena_release(&arena);
    leave_two(&t);
}

struct hanging {
    struct sh_rpc_conn *c;
    enum shoal_status st;
    struct shoal_error err;
};

static void *ask_reset(void *arg)
{
    struct hanging *h = arg;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_rpc_reset_done answer;

    h->st = ask(h->c, SH_RPC_MSG_RESET, &answer, &arena, SH_NO_DEADLINE, NULL, &h->err);
    sh_arena_release(&arena);
    return NULL;
}

/* Everybody who asks hears of the end, whatever it is. */
static void conn__ends_asking(void **state)
{
    enum { CUT, LEAVE, PEER_CUTS, PEER_LEAVES, PEER_FAILS, N };
    static const enum shoal_status WANT[N] = {SHOAL_ERR_CANCELLED, SHOAL_ERR_CANCELLED,
                                              SHOAL_ERR_PEER, SHOAL_ERR_PEER, SHOAL_ERR_STATE};
    static const enum shoal_status RAN[N] = {SHOAL_ERR_CANCELLED, SHOAL_OK, SHOAL_OK, SHOAL_OK,
                                             SHOAL_ERR_STATE};

    (void)state;
    for (int how = 0; how < N; how++) {
        struct sh_thread thread = SH_THREAD_INIT;
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_arena arena = SH_ARENA_INIT;
        struct sh_rpc_closed closed;
        struct hanging h = {.st = SHOAL_OK};
        struct two t;
        open_two(&t, PIPE);
        greet(t.client, t.server);
        h.c = t.client->c;
        MUST(sh_thread_start(&thread, "ask", ask_reset, &h, &err));
        wait_log(t.server, 1);
        if (how == CUT) sh_rpc_conn_cut(t.client->c);
        if (how == LEAVE) sh_rpc_conn_leave(t.client->c, "enough");
        if (how == PEER_CUTS) sh_rpc_conn_cut(t.server->c);
        if (how == PEER_LEAVES) sh_rpc_conn_leave(t.server->c, "enough");
        if (how == PEER_FAILS) {
            assert_int_equal(ask(t.client->c, SH_RPC_MSG_CLOSE, &closed, &arena, LONG, NULL, &err),
                             SHOAL_ERR_STATE);
            assert_non_null(strstr(err.message, "this end wants no more"));
        }
        sh_thread_join(&thread);
        assert_int_equal(h.st, WANT[how]);
        wait_over(t.client);
        assert_int_equal(t.client->ran, RAN[how]);
        // Nothing can be sent or asked any more.
        assert_int_equal(send_cancel(t.client->c, 0, 0, &err), SHOAL_ERR_PEER);
        assert_int_equal(ask(t.client->c, SH_RPC_MSG_DEVICES, &closed, &arena, LONG, NULL, &err),
                         WANT[how]);
        wait_over(t.server);
        if (how == PEER_FAILS) assert_int_equal(t.server->ran, SHOAL_ERR_STATE);
        sh_arena_release(&arena);
        close_two(&t);
    }
}

/* What may not be sent is refused here, and nothing is sent. */
static void conn__refuses_to_send(void **state)
{
    const struct sh_rpc_devices_are devices = {.n_devices = 0};
    const struct sh_rpc_hidden odd = {.format = 7};
    const struct sh_rpc_sum sum = {.number = 1};
    const struct sh_rpc_open open = {.n_claims = 65};
    struct sh_rpc_opened opened;
    struct sh_rpc_ask q = {
        .type = SH_RPC_MSG_OPEN, .msg = &open, .answer = &opened, .timeout_ns = LONG};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_rpc_traffic figures;
    uint8_t *bytes = sh_calloc(SH_RPC_CHUNK_MAX + 1, 1);
    struct sh_rpc_hidden large = {.data = {bytes, SH_RPC_CHUNK_MAX + 1}};
    struct two t;

    (void)state;
    open_two(&t, PIPE);
    greet(t.client, t.server);
    assert_int_equal(sh_rpc_conn_send(t.client->c, SH_RPC_MSG_DEVICES_ARE, 1, &devices, &err),
                     SHOAL_ERR_ARG); // the server's
    assert_int_equal(sh_rpc_conn_send(t.client->c, SH_RPC_MSG_DEVICES, 1, &devices, &err),
                     SHOAL_ERR_ARG); // a question
    assert_int_equal(sh_rpc_conn_send(t.client->c, SH_RPC_MSG_SUM, 0, &sum, &err),
                     SHOAL_ERR_ARG); // another purpose
    assert_int_equal(sh_rpc_conn_send(t.client->c, SH_RPC_MSG_HIDDEN, 0, &odd, &err),
                     SHOAL_ERR_ARG); // no such format
    assert_int_equal(sh_rpc_conn_send(t.client->c, SH_RPC_MSG_HIDDEN, 0, &large, &err),
                     SHOAL_ERR_LIMIT);
    assert_int_equal(sh_rpc_conn_send(t.client->c, (enum sh_rpc_type)90000, 0, &odd, &err),
                     SHOAL_ERR_ARG);
    assert_int_equal(sh_rpc_conn_ask(t.client->c, &q, &err), SHOAL_ERR_LIMIT);
    q.type = SH_RPC_MSG_STEP;
    assert_int_equal(sh_rpc_conn_ask(t.client->c, &q, &err), SHOAL_ERR_ARG);
    sh_rpc_conn_traffic(t.client->c, &figures);
    assert_int_equal(figures.frames_sent, 0);
    leave_two(&t);
    sh_free(bytes);
}

/* ---- life -----------------------------------------------------------------------------------*/

static void conn__beats_while_quiet(void **state)
{
    struct two t;

    (void)state;
    for (int w = PIPE; w < N_WIRES; w += TLS_TCP) {
        open_two(&t, (enum wire)w);
        t.client->opt.beat_ns = t.server->opt.beat_ns = 2 * SH_MS;
        greet(t.client, t.server);
        sh_rpc_conn_set_ack(t.client->c, 77);
        wait_ack(t.server, 77);
        wait_ack(t.client, 0);
        sh_rpc_conn_set_ack(t.client->c, UINT64_MAX);
        wait_ack(t.server, UINT64_MAX);
        leave_two(&t);
    }
}

/* Quiet for longer than the other allows, but for the beats: nothing is lost. */
static void conn__beats_keep_it_alive(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint64_t beats;
    struct two t;

    (void)state;
    open_two(&t, PIPE);
    t.client->opt.beat_ns = t.server->opt.beat_ns = 5 * SH_MS;
    t.client->opt.silence_ns = t.server->opt.silence_ns = 20 * SH_SECOND;
    greet(t.client, t.server);
    for (int i = 0; i < 3; i++) {
        sh_rpc_conn_set_ack(t.client->c, (uint64_t)i);
        wait_ack(t.server, (uint64_t)i);
    }
    beats = t.server->beats;
    assert_true(beats >= 3);
    MUST(send_cancel(t.client->c, 0, 1, &err));
    wait_log(t.server, 1);
    leave_two(&t);
}

/* A peer that takes nothing: small frames queue up, then the connection is given up; closing does
 * not wait for it for ever. */
static void conn__gives_up_who_does_not_read(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t bytes[1000] = {0};
    struct gate *g;
    struct two t;
    int n = 0;

    (void)state;
    open_two(&t, PIPE);
    t.client->stream = &(g = gate_open(t.client->stream))->head;
    t.client->opt.queue_max = 100000;
    greet(t.client, t.server);
    gate_hold(g, true, 0);
    while (!send_hidden(t.client->c, 0, (uint64_t)n, bytes, sizeof bytes, &err) && n < 1000)
        n++;
    assert_true(n > 90 && n < 100);
    assert_int_equal(err.code, SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, "does not read"));
    wait_over(t.client);
    assert_int_equal(t.client->ran, SHOAL_ERR_LIMIT);
    assert_non_null(strstr(t.client->why.message, "does not read"));
    close_two(&t);
}

static void conn__close_does_not_hang(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t *bytes = sh_calloc(1 << 20, 1);
    struct two t;

    (void)state;
    for (int w = PIPE; w < N_WIRES; w += TLS_PIPE) { // a second each
        struct gate *g;
        open_two(&t, (enum wire)w);
        t.client->stream = &(g = gate_open(t.client->stream))->head;
        greet(t.client, t.server);
        MUST(send_cancel(t.client->c, 0, 0, &err));
        wait_log(t.server, 1);
        gate_hold(g, true, 3);
        MUST(send_cancel(t.client->c, 0, 1, &err));
        MUST(send_hidden(t.client->c, 0, 2, bytes, 1 << 20, &err));
        sh_rpc_conn_cut(t.server->c);
        wait_over(t.client); // it finds the end, with all this still to be written
        close_two(&t);
    }
    sh_free(bytes);
}

/* ---- senders that wait ----------------------------------------------------------------------*/

struct bulk {
    struct sh_rpc_conn *c;
    _Atomic int n_sent;
    enum shoal_status st;
};

static void *send_bulk(void *arg)
{
    struct bulk *b = arg;
    uint8_t *bytes = sh_calloc(100000, 1);
    const struct sh_rpc_hidden m = {.data = {bytes, 100000}};

    for (int i = 0; i < 20 && !b->st; i++) {
        b->st = sh_rpc_conn_send_wait(b->c, SH_RPC_MSG_HIDDEN, 0, &m, 250000, LONG, NULL);
        b->n_sent++;
    }
    sh_free(bytes);
    return NULL;
}

static void conn__bulk_waits_for_room(void **state)
{
    const struct sh_rpc_hidden m = {.number = 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_thread thread = SH_THREAD_INIT;
    struct sh_rpc_traffic figures = {.frames_sent = 0};
    struct bulk b = {.n_sent = 0};
    struct gate *g;
    struct two t;

    (void)state;
    open_two(&t, PIPE);
    t.client->stream = &(g = gate_open(t.client->stream))->head;
    t.client->opt.queue_max = 500000; // never reached
    greet(t.client, t.server);
    gate_hold(g, true, 0);
    b.c = t.client->c;
    MUST(sh_thread_start(&thread, "bulk", send_bulk, &b, &err));
    while (figures.frames_sent < 3) // 300000 bytes: the fourth waits
        sh_rpc_conn_traffic(t.client->c, &figures);
    assert_int_equal(
        sh_rpc_conn_send_wait(t.client->c, SH_RPC_MSG_HIDDEN, 0, &m, 250000, SH_MS, &err),
        SHOAL_ERR_TIMEOUT);
    sh_rpc_conn_traffic(t.client->c, &figures);
    assert_int_equal(figures.frames_sent, 3);
    gate_hold(g, false, 0);
    sh_thread_join(&thread);
    assert_int_equal(b.st, SHOAL_OK);
    wait_log(t.server, 20);
    leave_two(&t);
}

static void conn__bulk_hears_of_the_end(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_thread thread = SH_THREAD_INIT;
    struct sh_rpc_traffic figures = {.frames_sent = 0};
    struct bulk b = {.n_sent = 0};
    struct gate *g;
    struct two t;

    (void)state;
    open_two(&t, PIPE);
    t.client->stream = &(g = gate_open(t.client->stream))->head;
    greet(t.client, t.server);
    gate_hold(g, true, 0);
    b.c = t.client->c;
    MUST(sh_thread_start(&thread, "bulk", send_bulk, &b, &err));
    while (figures.frames_sent < 3)
        sh_rpc_conn_traffic(t.client->c, &figures);
    sh_rpc_conn_cut(t.client->c);
    sh_thread_join(&thread);
    assert_int_equal(b.st, SHOAL_ERR_PEER);
    close_two(&t);
}

/* ---- memory ---------------------------------------------------------------------------------*/

/* One life of a connection with the n-th allocation failing: all ends well, or with a reason. */
static void conn__survives_without_memory(void **state)
{
    const struct sh_rpc_row row = {.token = 1};
    int64_t n = 0;
    bool all = false;

    (void)state;
    for (; !all; n++) {
        struct sh_arena arena = SH_ARENA_INIT;
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_rpc_devices_are devices;
        uint8_t bytes[70000] = {0};
        struct two t;
        enum shoal_status st;
        open_two(&t, PIPE);
        start_end(t.server);
        sh_mem_fail_after(n);
        st = sh_rpc_conn_connect(&t.client->c, t.client->stream, &t.client->opt, &err);
        if (!st) {
            start_end(t.client);
            st = send_step(t.client->c, 0, 0, &row, 1, &err);
            if (!st) st = send_hidden(t.client->c, 0, 0, bytes, sizeof bytes, &err);
            if (!st) st = ask(t.client->c, SH_RPC_MSG_DEVICES, &devices, &arena, LONG, NULL, &err);
            sh_rpc_conn_leave(t.client->c, "done");
        }
        if (st) assert_true(err.message[0] != '\0');
        sh_thread_join(&t.client->thread);
        sh_thread_join(&t.server->thread);
        all = sh_mem_fail_pending();
        sh_mem_fail_after(-1);
        if (all) assert_int_equal(st, SHOAL_OK);
        sh_arena_release(&arena);
        close_two(&t);
    }
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conn__greets),
        cmocka_unit_test(conn__keeps_order),
        cmocka_unit_test(conn__survives_partial_writes),
        cmocka_unit_test(conn__small_frames_go_ahead),
        cmocka_unit_test(conn__one_write_and_no_memory_per_frame),
        cmocka_unit_test(conn__asks_from_many_threads),
        cmocka_unit_test(conn__answers_probes),
        cmocka_unit_test(conn__hears_of_progress),
        cmocka_unit_test(conn__forgives_late_answers),
        cmocka_unit_test(conn__ends_asking),
        cmocka_unit_test(conn__refuses_to_send),
        cmocka_unit_test(conn__beats_while_quiet),
        cmocka_unit_test(conn__beats_keep_it_alive),
        cmocka_unit_test(conn__gives_up_who_does_not_read),
        cmocka_unit_test(conn__close_does_not_hang),
        cmocka_unit_test(conn__bulk_waits_for_room),
        cmocka_unit_test(conn__bulk_hears_of_the_end),
        cmocka_unit_test(conn__survives_without_memory),
    };

    return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}

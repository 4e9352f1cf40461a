/* The remote device against servers that are wrong, slow, silent or gone, and what it sends to one
 * that is right.  Every failure must be a status with the server's address, soon, and nothing may
 * be left hanging.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "device/device.h"
#include "ggmlrpc/device.h"
#include "net/listener.h"
#include "scripted.h"

#define HASTY_NS (100 * SH_MS)
#define SOON_NS (20 * SH_SECOND)

static const struct sh_ggmlrpc_options g_opt = {
    .handshake_ns = SOON_NS, .step_ns = SOON_NS, .quiesce_ns = SOON_NS};
/* Where running out of time is what is tested. */
static const struct sh_ggmlrpc_options g_hasty = {
    .handshake_ns = HASTY_NS, .step_ns = HASTY_NS, .quiesce_ns = HASTY_NS};

static const struct sh_ggmlrpc_options *options_for(enum shoal_status want)
{
    return want == SHOAL_ERR_TIMEOUT ? &g_hasty : &g_opt;
}

/* A device over a scripted server, with a queue and a buffer. */
struct rig {
    struct scripted sc;
    struct sh_device *device;
    struct sh_queue *queue;
    struct sh_buffer *buffer;
};

static void rig_open(struct rig *r, scripted_hook *hook, const struct sh_ggmlrpc_options *opt)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    memset(r, 0, sizeof *r);
    scripted_begin(&r->sc, hook);
    if (sh_ggmlrpc_device_over(&r->device, r->sc.near, opt, &err)) fail_msg("%s", err.message);
    if (sh_queue_create(r->device, &r->queue, &err)) fail_msg("%s", err.message);
    if (sh_buffer_alloc(r->device, &r->buffer, 4096, SH_BUFFER_WEIGHTS, &err)) {
        fail_msg("%s", err.message);
    }
}

static void rig_close(struct rig *r)
{
    sh_queue_destroy(r->queue);
    sh_buffer_free(r->buffer);
    sh_device_close(r->device);
    scripted_end(&r->sc);
}

/* ---- opening --------------------------------------------------------------------------------*/

static void expect_open_fails(scripted_hook *hook, enum shoal_status want, const char *words)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device *d;
    struct scripted sc;

    scripted_begin(&sc, hook);
    assert_int_equal(sh_ggmlrpc_device_over(&d, sc.near, options_for(want), &err), want);
    assert_null(d);
    if (!strstr(err.message, words)) fail_msg("\"%s\" is not in \"%s\"", words, err.message);
    assert_non_null(strstr(err.message, "memory:"));
    assert_non_null(strstr(err.peer, "memory:"));
    scripted_end(&sc);
}

static enum scripted_action version(struct scripted *sc, unsigned c, uint8_t major, uint8_t minor)
{
    const struct sh_wire_answer a = {.major = major, .minor = minor, .patch = 3};

    if (c != SH_WIRE_HELLO) return SCRIPTED_DEFAULT;
    scripted_answer(sc, c, &a);
    return SCRIPTED_HANDLED;
}

#define HOOK(name)                                                                                 \
    static enum scripted_action name(struct scripted *sc, unsigned c,                              \
                                     const struct sh_wire_request *rq, uint64_t size)
#define UNUSED ((void)sc, (void)c, (void)rq, (void)size)

HOOK(major_6)
{
    UNUSED;
    return version(sc, c, 6, 0);
}
HOOK(major_8)
{
    UNUSED;
    return version(sc, c, 8, 0);
}
HOOK(minor_1)
{
    UNUSED;
    return version(sc, c, 7, 1);
}
HOOK(says_http)
{
    UNUSED;
    scripted_send(sc, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    scripted_drain(sc);
    return SCRIPTED_HANG_UP;
}
HOOK(says_nothing)
{
    UNUSED;
    scripted_drain(sc);
    return SCRIPTED_HANG_UP;
}
HOOK(hangs_up)
{
    UNUSED;
    return SCRIPTED_HANG_UP;
}
HOOK(old_greeting)
{
    static const uint8_t three[11] = {3, 0, 0, 0, 0, 0, 0, 0, 3, 6, 0};

    UNUSED;
    scripted_send(sc, three, sizeof three);
    return SCRIPTED_HANG_UP;
}

static enum scripted_action value_of(struct scripted *sc, unsigned c, unsigned which,
                                     uint64_t value)
{
    const struct sh_wire_answer a = {.value = value};

    if (c != which) return SCRIPTED_DEFAULT;
    scripted_answer(sc, c, &a);
    return SCRIPTED_HANDLED;
}
HOOK(no_devices)
{
    UNUSED;
    return value_of(sc, c, SH_WIRE_DEVICE_COUNT, 0);
}
HOOK(alignment_3)
{
    UNUSED;
    return value_of(sc, c, SH_WIRE_GET_ALIGNMENT, 3);
}
HOOK(alignment_huge)
{
    UNUSED;
    return value_of(sc, c, SH_WIRE_GET_ALIGNMENT, UINT64_C(1) << 63);
}
HOOK(max_size_0)
{
    UNUSED;
    return value_of(sc, c, SH_WIRE_GET_MAX_SIZE, 0);
}
HOOK(silent_after_greeting)
{
    UNUSED;
    return c == SH_WIRE_HELLO ? SCRIPTED_DEFAULT : SCRIPTED_HANDLED;
}

static void client__refuses_servers_that_are_none(void **state)
{
    (void)state;
    expect_open_fails(major_6, SHOAL_ERR_PEER, "speaks protocol 6.0.3; shoal speaks 7");
    expect_open_fails(major_8, SHOAL_ERR_PEER, "speaks protocol 8.0.3; shoal speaks 7");
    expect_open_fails(minor_1, SHOAL_ERR_PEER, "speaks protocol 7.1.3; shoal speaks 7.0");
    expect_open_fails(says_http, SHOAL_ERR_PEER, "no server of llama.cpp's RPC protocol");
    expect_open_fails(old_greeting, SHOAL_ERR_PEER, "answers a greeting with 3 bytes");
    expect_open_fails(says_nothing, SHOAL_ERR_TIMEOUT, "does not answer a greeting");
    expect_open_fails(hangs_up, SHOAL_ERR_PEER, "closed the connection");
    expect_open_fails(no_devices, SHOAL_ERR_NOT_FOUND, "has 0 devices");
    expect_open_fails(alignment_3, SHOAL_ERR_PEER, "alignment of 3");
    expect_open_fails(alignment_huge, SHOAL_ERR_PEER, "alignment of 9223372036854775808");
    expect_open_fails(max_size_0, SHOAL_ERR_PEER, "no buffers at all");
    expect_open_fails(silent_after_greeting, SHOAL_ERR_TIMEOUT, "no answer to DEVICE_COUNT");
}

static void client__names_a_server_that_is_not_there(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_listener *l;
    struct sh_device *d;
    struct sh_endpoint ep;
    char address[SH_ADDRESS_TEXT_MAX];
    int64_t n;

    (void)state;
    assert_int_equal(sh_endpoint_parse(&ep, "127.0.0.1:0", -1, NULL), SHOAL_OK);
    assert_int_equal(sh_listener_open(&l, &ep, NULL), SHOAL_OK);
    (void)snprintf(address, sizeof address, "%s", sh_listener_text(l));
    // bound but never accepting: connected, and then silence
    assert_int_equal(sh_ggmlrpc_device_open(&d, address, &g_hasty, &err), SHOAL_ERR_TIMEOUT);
    assert_non_null(strstr(err.message, address));
    sh_listener_close(l);
    assert_int_equal(sh_ggmlrpc_device_open(&d, address, &g_opt, &err), SHOAL_ERR_PEER);
    assert_non_null(strstr(err.message, address));
    assert_non_null(strstr(err.message, "refused"));
    assert_int_equal(sh_ggmlrpc_device_count(&n, address, &g_opt, &err), SHOAL_ERR_PEER);
    assert_int_equal(sh_ggmlrpc_device_open(&d, "[::1", &g_opt, &err), SHOAL_ERR_ARG);
}

/* ---- what it says and allocates -------------------------------------------------------------*/

HOOK(no_memory)
{
    const struct sh_wire_answer a = {.buffer = 0, .value = 0};

    UNUSED;
    if (c != SH_WIRE_ALLOC_BUFFER || rq->size < 5000) return SCRIPTED_DEFAULT;
    scripted_answer(sc, c, &a);
    return SCRIPTED_HANDLED;
}
HOOK(odd_bases)
{
    struct sh_wire_answer a = {.value = 17};

    UNUSED;
    if (c != SH_WIRE_BUFFER_GET_BASE || sc->step++ == 0) return SCRIPTED_DEFAULT;
    if (sc->step == 3) a.value = 0;
    if (sc->step == 4) a.value = UINT64_MAX - 31;
    scripted_answer(sc, c, &a);
    return SCRIPTED_HANDLED;
}

static void client__describes_the_device(void **state)
{
    struct sh_device_info info;
    struct rig r;

    (void)state;
    rig_open(&r, NULL, &g_opt);
    assert_int_equal(sh_device_info(r.device, &info, NULL), SHOAL_OK);
    assert_string_equal(info.name, "rpc memory:1/0");
    assert_int_equal(info.kind, SH_DEVICE_REMOTE);
    assert_int_equal(info.memory_free, 1000);
    assert_int_equal(info.memory_total, 2000);
    assert_int_equal(info.alignment, 32);
    assert_false(info.shoal_ops || info.local || info.exact);
    rig_close(&r);
}

static void client__no_memory_names_need_and_free(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buffer *b;
    struct rig r;

    (void)state;
    rig_open(&r, no_memory, &g_opt);
    assert_int_equal(sh_buffer_alloc(r.device, &b, 5000, SH_BUFFER_CACHE, &err), SHOAL_ERR_NOMEM);
    assert_null(b);
    assert_non_null(strstr(err.message, "memory:1"));
    assert_non_null(strstr(err.message, "5000 bytes"));
    assert_non_null(strstr(err.message, "1000 of 2000"));
    assert_int_equal(sh_buffer_alloc(r.device, &b, 4000, SH_BUFFER_CACHE, &err), SHOAL_OK);
    sh_buffer_free(b);
    rig_close(&r);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_BUFFER_CLEAR), 1); // weights are not cleared
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_FREE_BUFFER), 2);
}

static void client__takes_no_addresses_that_cannot_be(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buffer *b;
    struct rig r;

    (void)state;
    rig_open(&r, odd_bases, &g_opt);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sh_buffer_alloc(r.device, &b, 64, SH_BUFFER_CACHE, &err), SHOAL_ERR_PEER);
        assert_null(b);
    }
    rig_close(&r);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_FREE_BUFFER), 4);
}

/* ---- failing under way ----------------------------------------------------------------------*/

/* A read is pending when the server does something: its ticket and all later calls fail. */
static void expect_read_fails(scripted_hook *hook, enum shoal_status want, const char *words)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device_info info;
    uint8_t bytes[100];
    sh_ticket t;
    struct rig r;

    rig_open(&r, hook, options_for(want));
    memset(bytes, 1, sizeof bytes);
    assert_int_equal(sh_queue_write(r.queue, r.buffer, 0, bytes, 50, NULL, &err), SHOAL_OK);
    assert_int_equal(sh_queue_read(r.queue, r.buffer, 0, bytes, sizeof bytes, &t, &err), SHOAL_OK);
    assert_int_equal(sh_queue_wait(r.queue, t, SOON_NS, &err), want);
    if (!strstr(err.message, words)) fail_msg("\"%s\" is not in \"%s\"", words, err.message);
    assert_string_equal(err.peer, "memory:1");
    assert_non_null(strstr(err.message, "memory:1"));

    err = (struct shoal_error)SHOAL_ERROR_INIT;
    assert_int_equal(sh_queue_write(r.queue, r.buffer, 0, bytes, 50, &t, &err), want);
    assert_int_equal(sh_queue_wait(r.queue, t, SOON_NS, &err), SHOAL_OK); // ticket 0: nothing
    sh_queue_reset(r.queue);
    assert_int_equal(sh_queue_read(r.queue, r.buffer, 0, bytes, 10, &t, &err), want);
    assert_int_equal(sh_device_info(r.device, &info, &err), want);
    rig_close(&r);
}

HOOK(get_absurd_length)
{
    static const uint8_t header[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};

    UNUSED;
    if (c != SH_WIRE_GET_TENSOR) return SCRIPTED_DEFAULT;
    scripted_send(sc, header, sizeof header);
    return SCRIPTED_HANDLED;
}
HOOK(get_one_byte_less)
{
    static const uint8_t header[8] = {99};

    UNUSED;
    if (c != SH_WIRE_GET_TENSOR) return SCRIPTED_DEFAULT;
    scripted_send(sc, header, sizeof header);
    return SCRIPTED_HANDLED;
}
HOOK(get_half_an_answer)
{
    static const uint8_t bytes[58] = {100};

    UNUSED;
    if (c != SH_WIRE_GET_TENSOR) return SCRIPTED_DEFAULT;
    scripted_send(sc, bytes, sizeof bytes);
    return SCRIPTED_HANG_UP;
}
HOOK(get_half_an_answer_and_silence)
{
    static const uint8_t bytes[58] = {100};

    UNUSED;
    if (c != SH_WIRE_GET_TENSOR) return SCRIPTED_DEFAULT;
    scripted_send(sc, bytes, sizeof bytes);
    scripted_drain(sc);
    return SCRIPTED_HANG_UP;
}
HOOK(get_nothing)
{
    UNUSED;
    return c == SH_WIRE_GET_TENSOR ? SCRIPTED_HANDLED : SCRIPTED_DEFAULT;
}
HOOK(get_and_gone)
{
    UNUSED;
    return c == SH_WIRE_GET_TENSOR ? SCRIPTED_HANG_UP : SCRIPTED_DEFAULT;
}
HOOK(set_answered)
{
    static const uint8_t bytes[8] = {0};

    UNUSED;
    if (c != SH_WIRE_SET_TENSOR) return SCRIPTED_DEFAULT; // an older major answers some of these
    scripted_send(sc, bytes, sizeof bytes);
    return SCRIPTED_HANDLED;
}
HOOK(get_twice_answered)
{
    static const uint8_t bytes[216] = {[0] = 100, [108] = 100};

    UNUSED;
    if (c != SH_WIRE_GET_TENSOR) return SCRIPTED_DEFAULT;
    scripted_send(sc, bytes, sizeof bytes);
    scripted_drain(sc);
    return SCRIPTED_HANG_UP;
}

static void client__a_wrong_server_is_a_status(void **state)
{
    (void)state;
    expect_read_fails(get_absurd_length, SHOAL_ERR_PEER, "9223372036854775807 bytes");
    expect_read_fails(get_one_byte_less, SHOAL_ERR_PEER, "with 99 bytes where 100 belong");
    expect_read_fails(get_half_an_answer, SHOAL_ERR_PEER, "middle of a message");
    expect_read_fails(get_half_an_answer_and_silence, SHOAL_ERR_TIMEOUT, "too slowly");
    expect_read_fails(get_nothing, SHOAL_ERR_TIMEOUT, "no answer to GET_TENSOR within 0.1 s");
    expect_read_fails(get_and_gone, SHOAL_ERR_PEER, "closed the connection");
    expect_read_fails(set_answered, SHOAL_ERR_PEER, "bytes");
}

static void client__bytes_that_nobody_asked_for_are_noticed(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device_info info;
    uint8_t bytes[100];
    sh_ticket t;
    struct rig r;

    (void)state;
    rig_open(&r, get_twice_answered, &g_opt);
    assert_int_equal(sh_queue_read(r.queue, r.buffer, 0, bytes, sizeof bytes, &t, &err), SHOAL_OK);
    (void)!sh_queue_wait(r.queue, t, SOON_NS, &err);
    assert_int_equal(sh_device_info(r.device, &info, &err), SHOAL_ERR_PEER);
    rig_close(&r);
}

HOOK(stops_reading)
{
    UNUSED;
    if (c != SH_WIRE_SET_TENSOR) return SCRIPTED_DEFAULT;
    scripted_hold(sc);
    return SCRIPTED_HANG_UP;
}

static void client__a_server_that_stops_reading_times_out(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const size_t bytes = (size_t)4 << 20;
    uint8_t *data = sh_calloc(bytes, 1);
    struct sh_buffer *b;
    sh_ticket t;
    struct rig r;

    (void)state;
    rig_open(&r, stops_reading, &g_hasty);
    assert_int_equal(sh_buffer_alloc(r.device, &b, bytes, SH_BUFFER_WEIGHTS, &err), SHOAL_OK);
    assert_int_equal(sh_queue_write(r.queue, b, 0, data, bytes, NULL, &err), SHOAL_OK);
    assert_int_equal(sh_queue_write(r.queue, b, 0, data, bytes, &t, &err), SHOAL_OK);
    assert_int_equal(sh_queue_wait(r.queue, t, SOON_NS, &err), SHOAL_ERR_TIMEOUT);
    assert_non_null(strstr(err.message, "memory:1"));
    scripted_let_go(&r.sc);
    sh_buffer_free(b);
    rig_close(&r);
    sh_free(data);
}

HOOK(holds_the_first_write)
{
    UNUSED;
    if (c == SH_WIRE_SET_TENSOR && sc->step++ == 0) scripted_hold(sc);
    return SCRIPTED_DEFAULT;
}

/* A server that sends a large answer reads nothing meanwhile, so the answer must be taken while
 * data behind its question is still on the way. */
static void client__large_answers_and_large_data_pass_each_other(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const size_t bytes = (size_t)1 << 20; // more than the stream holds
    uint8_t *data = sh_calloc(bytes, 1), *back = sh_calloc(bytes, 1);
    struct sh_buffer *b;
    sh_ticket t;
    struct rig r;

    (void)state;
    rig_open(&r, holds_the_first_write, &g_opt);
    assert_int_equal(sh_buffer_alloc(r.device, &b, bytes, SH_BUFFER_WEIGHTS, &err), SHOAL_OK);
    // The second write keeps the sender busy, so the read and the third are handed over together.
    assert_int_equal(sh_queue_write(r.queue, b, 0, data, bytes, NULL, &err), SHOAL_OK);
    assert_int_equal(sh_queue_write(r.queue, b, 0, data, bytes, NULL, &err), SHOAL_OK);
    assert_int_equal(sh_queue_read(r.queue, b, 0, back, bytes, NULL, &err), SHOAL_OK);
    assert_int_equal(sh_queue_write(r.queue, b, 0, data, bytes, &t, &err), SHOAL_OK);
    scripted_let_go(&r.sc);
    if (sh_queue_wait(r.queue, t, SOON_NS, &err)) fail_msg("%s", err.message);
    sh_buffer_free(b);
    rig_close(&r);
    sh_free(data);
    sh_free(back);
}

static void client__a_wait_that_runs_out_leaves_the_ticket_live(void **state)
{
    struct sh_ggmlrpc_options opt = {.step_ns = 60 * SH_SECOND, .quiesce_ns = 20 * SH_MS};
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t bytes[10];
    sh_ticket t;
    struct rig r;

    (void)state;
    rig_open(&r, get_nothing, &opt);
    assert_int_equal(sh_queue_read(r.queue, r.buffer, 0, bytes, sizeof bytes, &t, &err), SHOAL_OK);
    assert_int_equal(sh_queue_wait(r.queue, t, 10 * SH_MS, &err), SHOAL_ERR_TIMEOUT);
    assert_int_equal(sh_queue_wait(r.queue, t, 10 * SH_MS, &err), SHOAL_ERR_TIMEOUT);
    sh_queue_quiesce(r.queue); // cuts: afterwards nobody writes to `bytes`
    assert_int_equal(sh_queue_wait(r.queue, t, 0, &err), SHOAL_ERR_TIMEOUT);
    assert_non_null(strstr(err.message, "did not come to rest"));
    rig_close(&r);
}

/* ---- what it sends --------------------------------------------------------------------------*/

HOOK(no_copy)
{
    const struct sh_wire_answer a = {.result = 0};

    UNUSED;
    if (c != SH_WIRE_COPY_TENSOR || sc->step++ > 0) return SCRIPTED_DEFAULT;
    scripted_answer(sc, c, &a);
    return SCRIPTED_HANDLED;
}

static void client__a_refused_copy_poisons_its_queue_until_reset(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    uint8_t bytes[10] = {0};
    sh_ticket t, u;
    struct rig r;

    (void)state;
    rig_open(&r, no_copy, &g_opt);
    assert_int_equal(sh_queue_copy(r.queue, r.buffer, 100, r.buffer, 0, 50, &t, &err), SHOAL_OK);
    assert_int_equal(sh_queue_wait(r.queue, t, SOON_NS, &err), SHOAL_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "memory:1 cannot copy"));
    assert_int_equal(sh_queue_write(r.queue, r.buffer, 0, bytes, 10, &u, &err), SHOAL_OK);
    assert_true(u > t);
    assert_int_equal(sh_queue_wait(r.queue, u, SOON_NS, &err), SHOAL_ERR_UNSUPPORTED);
    sh_queue_reset(r.queue);
    assert_int_equal(sh_queue_copy(r.queue, r.buffer, 100, r.buffer, 0, 50, &t, &err), SHOAL_OK);
    assert_int_equal(sh_queue_wait(r.queue, t, SOON_NS, &err), SHOAL_OK);
    assert_int_equal(sh_queue_copy(r.queue, r.buffer, 10, r.buffer, 0, 50, &t, &err),
                     SHOAL_ERR_ARG);
    rig_close(&r);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_SET_TENSOR), 0);
}

/* y = w x + x0, x and x0 inputs in scratch, w in external buffer 0 */
struct model {
    struct sh_graph g;
    int32_t x, x0, y;
};

static void model_init(struct model *m, int64_t rows)
{
    const struct sh_extents max = {.t = rows, .o = 1, .r = 1};
    const int64_t w[4] = {32, 16, 1, 1}, x[4] = {32, rows, 1, 1}, x0[4] = {16, rows, 1, 1};
    int32_t weight;

    sh_graph_init(&m->g, &max);
    weight = sh_leaf_plain(&m->g, SH_DTYPE_F32, w, SH_EXTENT_NONE, 0);
    sh_graph_place(&m->g, weight, 0, 0);
    m->x = sh_leaf_plain(&m->g, SH_DTYPE_F32, x, SH_EXTENT_T, 1);
    m->x0 = sh_leaf_plain(&m->g, SH_DTYPE_F32, x0, SH_EXTENT_T, 1);
    m->y = sh_op_binary(&m->g, SH_OP_ADD, sh_op_mul_mat(&m->g, weight, m->x, 0), m->x0);
    sh_graph_set_output(&m->g, m->y);
    assert_int_equal(sh_graph_status(&m->g, NULL), SHOAL_OK);
}

static struct sh_exec *prepare(struct rig *r, const struct model *m, int n_slots)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_exec *x;

    if (sh_exec_prepare(r->device, &x, &m->g, &r->buffer, 1, n_slots, &err)) {
        fail_msg("%s", err.message);
    }
    return x;
}

/* Inputs, run, result: one decoded token. */
static void run_token(struct rig *r, struct sh_exec *x, const struct model *m, int slot)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    static float in[32 * 4], out[16 * 4];
    const size_t rows = (size_t)m->g.max.t;
    sh_ticket t;

    assert_int_equal(sh_queue_write_tensor(r->queue, x, slot, m->x, 0, in, 128 * rows, NULL, &err),
                     SHOAL_OK);
    assert_int_equal(sh_queue_write_tensor(r->queue, x, slot, m->x0, 0, in, 64 * rows, NULL, &err),
                     SHOAL_OK);
    assert_int_equal(sh_queue_submit(r->queue, x, slot, &m->g.max, NULL, NULL, &err), SHOAL_OK);
    assert_int_equal(sh_queue_read_tensor(r->queue, x, slot, m->y, 0, out, 64 * rows, &t, &err),
                     SHOAL_OK);
    assert_int_equal(sh_queue_wait(r->queue, t, SOON_NS, &err), SHOAL_OK);
}

static void client__a_token_is_one_round_trip(void **state)
{
    struct sh_device_traffic before, after;
    struct sh_exec *x;
    struct model m;
    struct rig r;

    (void)state;
    rig_open(&r, NULL, &g_opt);
    model_init(&m, 1);
    x = prepare(&r, &m, 1);
    run_token(&r, x, &m, 0);
    sh_device_traffic(r.device, &before);
    for (int i = 0; i < 10; i++)
        run_token(&r, x, &m, 0);
    sh_device_traffic(r.device, &after);
    assert_int_equal(after.round_trips - before.round_trips, 10);
    assert_int_equal(after.graphs_sent - before.graphs_sent, 0);
    // two SETs of 314 + n, RECOMPUTE 13, GET 321; 8 + n back
    assert_int_equal(after.bytes_sent - before.bytes_sent, 10 * (314 + 128 + 314 + 64 + 13 + 321));
    assert_int_equal(after.bytes_received - before.bytes_received, 10 * (8 + 64));
    assert_string_equal(after.address, "memory:1");
    sh_exec_release(x);
    rig_close(&r);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_GRAPH_COMPUTE), 1);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_GRAPH_RECOMPUTE), 10);
    sh_graph_release(&m.g);
}

static void client__sends_a_graph_again_when_the_server_ran_another(void **state)
{
    struct sh_exec *x, *y;
    struct sh_buffer *b;
    struct model m, n;
    struct rig r;

    (void)state;
    rig_open(&r, NULL, &g_opt);
    model_init(&m, 1);
    model_init(&n, 4);
    x = prepare(&r, &m, 2);
    y = prepare(&r, &n, 1);
    run_token(&r, x, &m, 0); // sent
    run_token(&r, x, &m, 0);
    run_token(&r, y, &n, 0); // sent
    run_token(&r, x, &m, 0); // sent
    run_token(&r, x, &m, 1); // sent: another slot is another graph
    run_token(&r, x, &m, 1);
    assert_int_equal(sh_buffer_alloc(r.device, &b, 64, SH_BUFFER_WEIGHTS, NULL), SHOAL_OK);
    sh_buffer_free(b);
    run_token(&r, x, &m, 1); // sent: stock servers forget graphs with any buffer
    run_token(&r, x, &m, 1);
    sh_exec_release(x);
    sh_exec_release(y);
    rig_close(&r);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_GRAPH_COMPUTE), 5);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_GRAPH_RECOMPUTE), 3);
    sh_graph_release(&m.g);
    sh_graph_release(&n.g);
}

static void client__asks_sizes_once_and_heeds_the_answers(void **state)
{
    struct sh_exec *x, *y, *z;
    struct model m, n;
    struct rig r;
    uint64_t scratch[2] = {0};
    int k = 0;

    (void)state;
    rig_open(&r, NULL, &g_opt);
    model_init(&m, 1);
    model_init(&n, 4);
    x = prepare(&r, &m, 1);
    y = prepare(&r, &m, 1);
    r.sc.alloc_size = 100000;
    z = prepare(&r, &n, 1);
    sh_exec_release(x);
    sh_exec_release(y);
    x = prepare(&r, &m, 1); // takes the scratch of a released one
    sh_exec_release(x);
    sh_exec_release(z);
    rig_close(&r);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_GET_ALLOC_SIZE), 2);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_ALLOC_BUFFER), 4);
    for (int i = 0; i < r.sc.n_seen; i++) {
        if (r.sc.seen[i] != SH_WIRE_ALLOC_BUFFER || r.sc.sizes[i] == 4096) continue;
        scratch[k > 0] = r.sc.sizes[i];
        k++;
    }
    assert_true(scratch[0] > 0 && scratch[0] < 1000);
    assert_true(scratch[1] >= 100000);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_FREE_BUFFER), 4);
    sh_graph_release(&m.g);
    sh_graph_release(&n.g);
}

static void client__a_run_is_complete_when_an_answer_proves_it(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_exec *x;
    struct model m;
    sh_ticket t;
    struct rig r;

    (void)state;
    rig_open(&r, NULL, &g_opt);
    model_init(&m, 1);
    x = prepare(&r, &m, 1);
    assert_int_equal(sh_queue_submit(r.queue, x, 0, &m.g.max, NULL, &t, &err), SHOAL_OK);
    assert_int_equal(sh_queue_wait(r.queue, t, SOON_NS, &err), SHOAL_OK);
    assert_int_equal(sh_queue_wait(r.queue, t, SOON_NS, &err), SHOAL_OK);
    // released while a run is under way: its frame is still wanted
    assert_int_equal(sh_queue_submit(r.queue, x, 0, &m.g.max, NULL, &t, &err), SHOAL_OK);
    sh_exec_release(x);
    rig_close(&r);
    assert_int_equal(scripted_count(&r.sc, SH_WIRE_GET_TENSOR), 2);
    sh_graph_release(&m.g);
}

static void client__refuses_what_the_protocol_cannot_say(void **state)
{
    const struct sh_extents max = {.t = 4, .o = 4, .r = 4}, two = {.t = 2, .o = 4, .r = 4};
    const int64_t ne[4] = {32, 100, 1, 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_graph g;
    struct sh_exec *x;
    struct model m;
    int32_t table;
    struct rig r;

    (void)state;
    rig_open(&r, NULL, &g_opt);
    sh_graph_init(&g, &max);
    table = sh_leaf_plain(&g, SH_DTYPE_F32, ne, SH_EXTENT_NONE, 0);
    {
        const int32_t src[] = {table, sh_leaf_input(&g, SH_INPUT_TOKENS, 0)};
        (void)sh_op_node(&g, SH_OP_EMBED, 2, src, NULL);
    }
    assert_int_equal(sh_graph_status(&g, &err), SHOAL_OK);
    assert_int_not_equal(sh_exec_prepare(r.device, &x, &g, NULL, 0, 1, &err), SHOAL_OK);
    assert_non_null(strstr(err.message, "EMBED"));
    sh_graph_release(&g);

    model_init(&m, 4);
    x = prepare(&r, &m, 1);
    assert_int_equal(sh_queue_submit(r.queue, x, 0, &two, NULL, NULL, &err), SHOAL_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "T = 4 cannot run with 2"));
    assert_int_equal(sh_queue_submit(r.queue, x, 1, &m.g.max, NULL, NULL, &err), SHOAL_ERR_ARG);
    assert_int_equal(sh_queue_write_tensor(r.queue, x, 0, m.x, 500, &max, 20, NULL, &err),
                     SHOAL_ERR_ARG);
    sh_exec_release(x);
    sh_graph_release(&m.g);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client__refuses_servers_that_are_none),
        cmocka_unit_test(client__names_a_server_that_is_not_there),
        cmocka_unit_test(client__describes_the_device),
        cmocka_unit_test(client__no_memory_names_need_and_free),
        cmocka_unit_test(client__takes_no_addresses_that_cannot_be),
        cmocka_unit_test(client__a_wrong_server_is_a_status),
        cmocka_unit_test(client__bytes_that_nobody_asked_for_are_noticed),
        cmocka_unit_test(client__a_server_that_stops_reading_times_out),
        cmocka_unit_test(client__large_answers_and_large_data_pass_each_other),
        cmocka_unit_test(client__a_wait_that_runs_out_leaves_the_ticket_live),
        cmocka_unit_test(client__a_refused_copy_poisons_its_queue_until_reset),
        cmocka_unit_test(client__a_token_is_one_round_trip),
        cmocka_unit_test(client__sends_a_graph_again_when_the_server_ran_another),
        cmocka_unit_test(client__asks_sizes_once_and_heeds_the_answers),
        cmocka_unit_test(client__a_run_is_complete_when_an_answer_proves_it),
        cmocka_unit_test(client__refuses_what_the_protocol_cannot_say),
    };

    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}

/* Weights on their way to a server: what it is asked, what it is sent, and what happens when the
 * way is cut.  Against a scripted server, against one with a cache, and without a network.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fnv.h"
#include "base/mem.h"
#include "device/upload.h"
#include "fake_device.h"
#include "ggmlrpc/device.h"
#include "scripted.h"

#define SOON_NS (20 * SH_SECOND)
#define MIB ((size_t)1 << 20)

enum { ITEMS = 8 };

/* Some large, some small; the first is as large as one may be without being asked for. */
static const size_t g_bytes[ITEMS] = {10 << 20, (10 << 20) + 1, 100,     11 << 20,
                                      0,        (10 << 20) + 7, 1 << 20, (10 << 20) + 5};

static bool is_large(size_t i)
{
    return g_bytes[i] > 10 * MIB;
}

struct weights {
    uint8_t *bytes; /* of all */
    size_t total;
    struct sh_upload_item item[ITEMS];
    uint64_t hash[ITEMS];
};

static void weights_make(struct weights *w, struct sh_buffer *buffer)
{
    uint64_t seed = 3;
    size_t at = 0;

    w->total = 0;
    for (size_t i = 0; i < ITEMS; i++)
        w->total += g_bytes[i];
    w->bytes = sh_malloc(w->total);
    for (size_t i = 0; i < w->total; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1;
        w->bytes[i] = (uint8_t)(seed >> 40);
    }
    for (size_t i = 0; i < ITEMS; i++) {
        w->item[i] = (struct sh_upload_item){
            .buffer = buffer, .offset = at, .src = w->bytes + at, .bytes = g_bytes[i]};
        w->hash[i] = sh_fnv(SH_FNV_START, w->bytes + at, g_bytes[i]);
        at += g_bytes[i];
    }
}

static size_t weights_total(void)
{
    size_t n = 0;

    for (size_t i = 0; i < ITEMS; i++)
        n += g_bytes[i];
    return n;
}

struct watcher {
    size_t last;
    bool fell, stop;
    size_t stop_at; /* 0: never */
};

static void watch(void *self, size_t done)
{
    struct watcher *w = self;

    w->fell = w->fell || done < w->last;
    w->last = done;
    if (w->stop_at && done >= w->stop_at) w->stop = true;
}

static bool stops(void *self)
{
    return ((struct watcher *)self)->stop;
}

static enum shoal_status upload(struct sh_queue *q, const struct weights *w,
                                struct watcher *watcher, struct shoal_error *err)
{
    const struct sh_upload up = {
        .items = w->item, .n_items = ITEMS, .progress = watch, .stop = stops, .self = watcher};

    return sh_queue_upload(q, &up, err);
}

/* ---- a scripted server ----------------------------------------------------------------------*/

/* What the server has, and what came; indexed by item. */
struct script {
    struct scripted sc; /* first: hooks get a pointer to it */
    const struct weights *w;
    unsigned has; /* bit i: item i */
    int asked[ITEMS], sent[ITEMS], flagged[ITEMS], strange;
    int hang_up_after; /* questions; 0: never */
    int n_questions;
    bool hold;
};

static int item_at(const struct script *s, const struct sh_wire_request *rq, uint64_t bytes)
{
    // The first buffer begins at its token shifted, as the script answers.
    const uint64_t at = rq->tensor.data + rq->offset - (UINT64_C(1) << 44);

    for (int i = 0; i < ITEMS; i++)
        if (s->w->item[i].offset == at && g_bytes[i] == bytes) return i;
    return -1;
}

static enum scripted_action script_hook(struct scripted *sc, unsigned c,
                                        const struct sh_wire_request *rq, uint64_t size)
{
    struct script *s = (struct script *)(void *)sc;
    struct sh_wire_answer a = {.result = 0};
    int i;

    if (c == SH_WIRE_SET_TENSOR) {
        i = item_at(s, rq, size - SH_WIRE_SET_BYTES);
        if (i < 0) {
            s->strange++;
        } else {
            s->sent[i]++;
            s->flagged[i] += rq->value == 1;
        }
        return SCRIPTED_HANDLED;
    }
    if (c != SH_WIRE_SET_TENSOR_HASH) return SCRIPTED_DEFAULT;
    if (s->hold) {
        scripted_hold(sc);
        return SCRIPTED_HANG_UP;
    }
    if (++s->n_questions == s->hang_up_after) return SCRIPTED_HANG_UP;
    i = item_at(s, rq, rq->tensor.ne[0]);
    if (i < 0 || rq->hash != s->w->hash[i]) {
        s->strange++;
    } else {
        s->asked[i]++;
        a.result = (s->has >> i & 1) != 0;
    }
    scripted_answer(sc, c, &a);
    return SCRIPTED_HANDLED;
}

struct rig {
    struct script script;
    struct weights w;
    struct sh_device *device;
    struct sh_queue *queue;
    struct sh_buffer *buffer;
    struct watcher watcher;
};

static void rig_open(struct rig *r, enum sh_ggmlrpc_cache cache)
{
    const struct sh_ggmlrpc_options opt = {
        .handshake_ns = SOON_NS, .step_ns = SOON_NS, .quiesce_ns = SOON_NS, .cache = cache};
    struct shoal_error err = SHOAL_ERROR_INIT;

    memset(r, 0, sizeof *r);
    scripted_begin(&r->script.sc, script_hook);
    if (sh_ggmlrpc_device_over(&r->device, r->script.sc.near, &opt, &err))
        fail_msg("%s", err.message);
    if (sh_queue_create(r->device, &r->queue, &err)) fail_msg("%s", err.message);
    if (sh_buffer_alloc(r->device, &r->buffer, weights_total(), SH_BUFFER_WEIGHTS, &err))
        fail_msg("%s", err.message);
    weights_make(&r->w, r->buffer);
    r->script.w = &r->w;
}

static void rig_close(struct rig *r)
{
    sh_queue_destroy(r->queue);
    sh_buffer_free(r->buffer);
    sh_device_close(r->device);
    scripted_end(&r->script.sc);
    sh_free(r->w.bytes);
    assert_int_equal(r->script.strange, 0);
}

static void upload__asks_for_large_ones_and_sends_what_lacks(void **state)
{
    static const unsigned HAS[] = {0, ~0U, 1U << 3 | 1U << 7};
    struct rig r;

    (void)state;
    for (size_t k = 0; k < sizeof HAS / sizeof HAS[0]; k++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        rig_open(&r, SH_GGMLRPC_CACHE_ON);
        r.script.has = HAS[k];
        if (upload(r.queue, &r.w, &r.watcher, &err)) fail_msg("%s", err.message);
        assert_false(r.watcher.fell);
        assert_int_equal(r.watcher.last, r.w.total);
        rig_close(&r);
        for (size_t i = 0; i < ITEMS; i++) {
            const bool found = is_large(i) && (HAS[k] >> i & 1) != 0;
            assert_int_equal(r.script.asked[i], is_large(i));
            assert_int_equal(r.script.sent[i], !found && g_bytes[i] > 0);
            assert_int_equal(r.script.flagged[i], is_large(i) && !found);
        }
    }
}

static void upload__asks_nothing_where_it_should_not(void **state)
{
    static const enum sh_ggmlrpc_cache HOW[] = {SH_GGMLRPC_CACHE_OFF, SH_GGMLRPC_CACHE_AUTO};
    struct rig r;

    (void)state;
    for (size_t k = 0; k < 2; k++) { // auto: memory is this machine
        rig_open(&r, HOW[k]);
        r.script.has = ~0U;
        assert_int_equal(upload(r.queue, &r.w, &r.watcher, NULL), SHOAL_OK);
        rig_close(&r);
        for (size_t i = 0; i < ITEMS; i++) {
            assert_int_equal(r.script.asked[i], 0);
            assert_int_equal(r.script.sent[i], g_bytes[i] > 0);
            assert_int_equal(r.script.flagged[i], 0);
        }
    }
}

static void upload__a_server_that_leaves_is_a_status(void **state)
{
    struct rig r;

    (void)state;
    for (int n = 1; n <= 4; n++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        rig_open(&r, SH_GGMLRPC_CACHE_ON);
        r.script.hang_up_after = n;
        assert_int_equal(upload(r.queue, &r.w, &r.watcher, &err), SHOAL_ERR_PEER);
        assert_non_null(strstr(err.message, "memory:"));
        // A lost server takes nothing more.
        assert_int_equal(upload(r.queue, &r.w, &r.watcher, &err), SHOAL_ERR_PEER);
        rig_close(&r);
    }
}

static void upload__stops_where_it_is(void **state)
{
    struct rig r;

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        rig_open(&r, SH_GGMLRPC_CACHE_ON);
        r.watcher.stop = k == 0;
        r.watcher.stop_at = k == 1 ? 1 : 20 * MIB;
        assert_int_equal(upload(r.queue, &r.w, &r.watcher, &err), SHOAL_ERR_CANCELLED);
        rig_close(&r);
    }
    // Also while a question is not answered.
    rig_open(&r, SH_GGMLRPC_CACHE_ON);
    r.script.hold = true;
    r.watcher.stop_at = 1;
    assert_int_equal(upload(r.queue, &r.w, &r.watcher, NULL), SHOAL_ERR_CANCELLED);
    scripted_let_go(&r.script.sc);
    rig_close(&r);
}

/* ---- a server with a cache ------------------------------------------------------------------*/

struct served {
    struct fake_device fake;
    struct sh_ggmlrpc_server *server;
    struct sh_stream *near, *far;
    pthread_t thread;
    char dir[64];
};

static void *serve(void *arg)
{
    struct served *s = arg;

    (void)!sh_ggmlrpc_server_serve(s->server, s->far, NULL);
    return NULL;
}

static void served_open(struct served *s)
{
    struct sh_ggmlrpc_server_options opt = {.cache_bytes_max = 1 << 30, .memory_max = 1 << 30};
    struct shoal_error err = SHOAL_ERROR_INIT;

    peer_log_begin();
    memset(s, 0, sizeof *s);
    fake_device_init(&s->fake);
    (void)snprintf(s->dir, sizeof s->dir, "/tmp/shoal-upload-test-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    opt.device = fake_device_of(&s->fake);
    opt.cache_dir = s->dir;
    if (sh_ggmlrpc_server_create(&s->server, &opt, &err)) fail_msg("%s", err.message);
}

static void served_close(struct served *s, const struct weights *w)
{
    char path[128];

    sh_ggmlrpc_server_destroy(s->server);
    fake_device_release(&s->fake);
    for (size_t i = 0; i < ITEMS; i++) {
        (void)snprintf(path, sizeof path, "%s/%016" PRIx64, s->dir, w->hash[i]);
        assert_int_equal(unlink(path) == 0, is_large(i));
    }
    assert_int_equal(rmdir(s->dir), 0);
}

/* Upload over a new connection and read everything back; returns the bytes sent. */
static uint64_t upload_once(struct served *s, struct weights *w)
{
    const struct sh_ggmlrpc_options opt = {.cache = SH_GGMLRPC_CACHE_ON};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_device_traffic traffic;
    struct watcher watcher = {0};
    struct sh_device *device;
    struct sh_buffer *buffer;
    struct sh_queue *queue;
    uint8_t *got;
    sh_ticket t;

    assert_int_equal(sh_stream_pair(&s->near, &s->far, (size_t)256 << 10, NULL), SHOAL_OK);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
    if (sh_ggmlrpc_device_over(&device, s->near, &opt, &err)) fail_msg("%s", err.message);
    if (sh_queue_create(device, &queue, &err)) fail_msg("%s", err.message);
    if (sh_buffer_alloc(device, &buffer, weights_total(), SH_BUFFER_WEIGHTS, &err))
        fail_msg("%s", err.message);
    weights_make(w, buffer);
    if (upload(queue, w, &watcher, &err)) fail_msg("%s", err.message);
    assert_int_equal(watcher.last, w->total);
    sh_device_traffic(device, &traffic);
    got = sh_malloc(w->total);
    if (sh_queue_read(queue, buffer, 0, got, w->total, &t, &err)) fail_msg("%s", err.message);
    if (sh_queue_wait(queue, t, SOON_NS, &err)) fail_msg("%s", err.message);
    assert_memory_equal(got, w->bytes, w->total);
    sh_free(got);
    sh_free(w->bytes);
    sh_queue_destroy(queue);
    sh_buffer_free(buffer);
    sh_device_close(device);
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    sh_ggmlrpc_server_cache_flush(s->server);
    return traffic.bytes_sent;
}

static void upload__sends_large_ones_once(void **state)
{
    struct weights w;
    struct served s;
    size_t small = 0;

    (void)state;
    for (size_t i = 0; i < ITEMS; i++)
        small += is_large(i) ? 0 : g_bytes[i];
    served_open(&s);
    assert_true(upload_once(&s, &w) > weights_total());
    for (int i = 0; i < 2; i++) {
        const uint64_t sent = upload_once(&s, &w);
        if (sent > small + 10000) fail_msg("%" PRIu64 " bytes were sent", sent);
    }
    served_close(&s, &w);
}

/* ---- a device that only writes --------------------------------------------------------------*/

static void upload__is_written_where_that_is_all(void **state)
{
    struct watcher watcher = {0};
    struct fake_device fake;
    struct sh_device *d;
    struct sh_buffer *buffer, *other;
    struct sh_queue *queue;
    struct weights w;
    uint8_t *got;
    sh_ticket t;

    (void)state;
    fake_device_init(&fake);
    d = fake_device_of(&fake);
    assert_int_equal(sh_queue_create(d, &queue, NULL), SHOAL_OK);
    assert_int_equal(sh_buffer_alloc(d, &buffer, weights_total(), SH_BUFFER_WEIGHTS, NULL),
                     SHOAL_OK);
    assert_int_equal(sh_buffer_alloc(d, &other, 10, SH_BUFFER_WEIGHTS, NULL), SHOAL_OK);
    weights_make(&w, buffer);
    assert_int_equal(upload(queue, &w, &watcher, NULL), SHOAL_OK);
    assert_int_equal(watcher.last, w.total);
    got = sh_malloc(w.total);
    assert_int_equal(sh_queue_read(queue, buffer, 0, got, w.total, &t, NULL), SHOAL_OK);
    assert_int_equal(sh_queue_wait(queue, t, SOON_NS, NULL), SHOAL_OK);
    assert_memory_equal(got, w.bytes, w.total);
    sh_free(got);

    watcher = (struct watcher){.stop_at = 30 * MIB};
    assert_int_equal(upload(queue, &w, &watcher, NULL), SHOAL_ERR_CANCELLED);
    assert_true(watcher.last >= 30 * MIB && watcher.last < w.total);
    w.item[4].buffer = other; // nothing: it fits
    w.item[4].offset = 0;
    w.item[6].buffer = other; // does not
    assert_int_equal(upload(queue, &w, &watcher, NULL), SHOAL_ERR_ARG);
    sh_free(w.bytes);
    sh_queue_destroy(queue);
    sh_buffer_free(buffer);
    sh_buffer_free(other);
    fake_device_release(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(upload__asks_for_large_ones_and_sends_what_lacks),
        cmocka_unit_test(upload__asks_nothing_where_it_should_not),
        cmocka_unit_test(upload__a_server_that_leaves_is_a_status),
        cmocka_unit_test(upload__stops_where_it_is),
        cmocka_unit_test(upload__sends_large_ones_once),
        cmocka_unit_test(upload__is_written_where_that_is_all),
    };

    return cmocka_run_group_tests_name("upload", tests, NULL, NULL);
}

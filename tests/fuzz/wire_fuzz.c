/* Fuzz target: any bytes as a client's session with a server over the CPU device: framing,
 * commands, the decoder of graphs, the validator, and running what they let through.
 *
 * The bytes are decisions (wire_frames.h).  The session runs in the calling thread over a stream
 * that makes a frame whenever the server wants to read one, so a run is repeatable.  Memory and
 * the time of a graph are limited.  Afterwards the server must have everything back, and a failed
 * session a reason.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "cpu/device.h"
#include "ggmlrpc/server.h"
#include "wire_frames.h"

#define MEMORY_MAX ((size_t)256 << 10)
#define DEVICE_MEMORY_MAX ((size_t)64 << 20)
#define FRAMES_MAX 64 /* of a session */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the stream -----------------------------------------------------------------------------*/

struct client {
    struct sh_stream head;
    struct frames frames;
    size_t sent; /* of the frame */
    int n_frames;
    uint8_t answer[64];
    size_t n_answer;
};

static struct client *client_of(struct sh_stream *s)
{
    return (struct client *)(void *)s;
}

static void client_close(struct sh_stream *s)
{
    (void)s; // the caller's memory
}

static enum shoal_status client_read(struct sh_stream *s, void *dst, size_t n, size_t *got,
                                     bool *end, struct shoal_error *err)
{
    struct client *c = client_of(s);
    struct frames *f = &c->frames;

    (void)err;
    *got = 0;
    *end = false;
    if (c->sent == f->n) {
        if (c->n_answer > 0) frames_answered(f, c->answer, c->n_answer);
        c->n_answer = c->sent = 0;
        if (c->n_frames++ == FRAMES_MAX || !frames_next(f)) {
            f->n = 0;
            *end = true;
            return SHOAL_OK;
        }
    }
    *got = n < f->n - c->sent ? n : f->n - c->sent;
    memcpy(dst, f->bytes + c->sent, *got);
    c->sent += *got;
    return SHOAL_OK;
}

static enum shoal_status client_writev(struct sh_stream *s, const struct iovec *v, int n,
                                       size_t *put, struct shoal_error *err)
{
    struct client *c = client_of(s);

    (void)err;
    *put = 0;
    for (int i = 0; i < n; i++) {
        const volatile uint8_t *bytes = v[i].iov_base;
        for (size_t k = 0; k < v[i].iov_len; k++) {
            const uint8_t byte = bytes[k]; // must be there, kept or not
            if (c->n_answer < sizeof c->answer) c->answer[c->n_answer++] = byte;
        }
        *put += v[i].iov_len;
    }
    return SHOAL_OK;
}

static enum shoal_status client_wait(struct sh_stream *s, enum sh_stream_event event,
                                     int64_t timeout_ns, struct shoal_error *err)
{
    (void)s;
    (void)event;
    (void)timeout_ns;
    (void)err;
    return SHOAL_OK;
}

static bool client_hung_up(struct sh_stream *s)
{
    (void)s;
    return false;
}

static void client_cut(struct sh_stream *s)
{
    (void)s;
}

static const struct sh_stream_ops CLIENT_OPS = {.close = client_close,
                                                .read = client_read,
                                                .writev = client_writev,
                                                .wait = client_wait,
                                                .hung_up = client_hung_up,
                                                .cut = client_cut};

/* ---- the server -----------------------------------------------------------------------------*/

/* One device and one server for all sessions: nothing of a session may be left in them. */
static struct sh_ggmlrpc_server *open_server(void)
{
    static struct sh_device *device;
    static struct sh_ggmlrpc_server *server;
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = DEVICE_MEMORY_MAX};
    struct sh_ggmlrpc_server_options opt = {
        .memory_max = MEMORY_MAX, .buffers_max = 8, .graph_ns = SH_SECOND};

    if (server) return server;
    if (sh_cpu_device_open(&device, &cpu, NULL)) abort();
    opt.device = device;
    if (sh_ggmlrpc_server_create(&server, &opt, NULL)) abort();
    return server;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct client client;
    struct sh_ggmlrpc_server *server = open_server();
    struct sh_ggmlrpc_server_stats stats;
    struct shoal_error err = SHOAL_ERROR_INIT;
    const size_t before = sh_mem_live_bytes();

    memset(&client, 0, sizeof client);
    client.head.ops = &CLIENT_OPS;
    client.head.clock = &sh_clock_system;
    frames_begin(&client.frames, data, size);
    if (sh_ggmlrpc_server_serve(server, &client.head, &err) && err.message[0] == '\0') abort();
    sh_ggmlrpc_server_stats(server, &stats);
    if (stats.memory_used != 0 || stats.n_connections != 0) abort();
    if (sh_mem_live_bytes() > before) abort();
    return 0;
}

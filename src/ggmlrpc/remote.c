/* ggmlrpc/remote.c - opening a remote device, what it says of itself, its buffers. */
#include "ggmlrpc/remote_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/tcp.h"

#define ALIGNMENT_MAX ((uint64_t)1 << 20)

/* ---- greeting -------------------------------------------------------------------------------*/

/* The first exchange, before the threads exist.  A server that is none is most likely met here. */
static enum shoal_status greet(struct sh_stream *s, int64_t handshake_ns, struct shoal_error *err)
{
    const struct sh_wire_request rq = {.device = 0};
    uint8_t bytes[SH_WIRE_REQUEST_HEADER + SH_WIRE_CAPS_BYTES + SH_WIRE_ANSWER_BYTES_MAX];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, handshake_ns));
    struct sh_wire_answer a = {.major = 0};
    struct sh_reader r;
    uint64_t size;
    enum shoal_status st;

    sh_wire_request_put(&w, SH_WIRE_HELLO, &rq, 0);
    st = sh_stream_write_full(s, bytes, w.pos, &pace, err);
    if (!st) st = sh_stream_read_full(s, bytes, SH_WIRE_ANSWER_HEADER, &pace, err);
    if (st == SHOAL_ERR_TIMEOUT) {
        st = sh_fail(err, st, "%s does not answer a greeting within %.1f s", s->peer,
                     (double)handshake_ns / (double)SH_SECOND);
    }
    if (st) return st;
    r = sh_reader_over(bytes, SH_WIRE_ANSWER_HEADER);
    size = sh_read_u64(&r);
    if (size != (uint64_t)sh_wire_command_info(SH_WIRE_HELLO)->answer_bytes) {
        return sh_fail(err, SHOAL_ERR_PEER,
                       "%s answers a greeting with %" PRIu64
                       " bytes: no server of llama.cpp's RPC protocol, major 4 or later",
                       s->peer, size);
    }
    st = sh_stream_read_full(s, bytes, (size_t)size, &pace, err);
    if (st) return st;
    r = sh_reader_over(bytes, (size_t)size);
    sh_wire_answer_get(&r, SH_WIRE_HELLO, &a);
    if (a.major != SH_WIRE_MAJOR || a.minor > SH_WIRE_MINOR) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s speaks protocol %u.%u.%u; shoal speaks %d.%d",
                       s->peer, (unsigned)a.major, (unsigned)a.minor, (unsigned)a.patch,
                       SH_WIRE_MAJOR, SH_WIRE_MINOR);
    }
    return SHOAL_OK;
}

/* Ask a question whose request is a few numbers. */
static enum shoal_status ask(struct remote_device *d, enum sh_wire_command command,
                             const struct sh_wire_request *rq, struct sh_wire_answer *a,
                             struct shoal_error *err)
{
    struct link_request *r = link_new(d->link, command, rq, 0, err);

    if (!r) return err->code;
    return link_call(d->link, r, a, err);
}

static enum shoal_status ask_limits(struct remote_device *d, struct shoal_error *err)
{
    const struct sh_wire_request rq = {.device = d->opt.device_index};
    struct sh_wire_answer a = {.value = 0};
    enum shoal_status st = ask(d, SH_WIRE_DEVICE_COUNT, &rq, &a, err);

    if (st) return st;
    if (d->opt.device_index >= a.value) {
        return sh_fail(err, SHOAL_ERR_NOT_FOUND, "%s has %" PRIu64 " devices, none with number %u",
                       d->address, a.value, (unsigned)d->opt.device_index);
    }
    st = ask(d, SH_WIRE_GET_ALIGNMENT, &rq, &a, err);
    if (st) return st;
    if (a.value == 0 || a.value > ALIGNMENT_MAX || (a.value & (a.value - 1)) != 0) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s wants an alignment of %" PRIu64 " bytes",
                       d->address, a.value);
    }
    d->alignment = (size_t)a.value;
    st = ask(d, SH_WIRE_GET_MAX_SIZE, &rq, &a, err);
    if (st) return st;
    if (a.value == 0) {
        return sh_fail(err, SHOAL_ERR_PEER, "%s allows no buffers at all", d->address);
    }
    d->buffer_bytes_max = (size_t)a.value;
    return SHOAL_OK;
}

/* ---- device ---------------------------------------------------------------------------------*/

static void remote_close(struct sh_device *dev)
{
    struct remote_device *d = remote_of(dev);

    for (int i = 0; i < d->n_spare; i++)
        remote_place_free(d, &d->spare[i]);
    link_close(d->link);
    sh_mutex_release(&d->sizes_lock);
    sh_free(d->sizes);
    sh_free(d);
}

static enum shoal_status remote_info(struct sh_device *dev, struct sh_device_info *out,
                                     struct shoal_error *err)
{
    struct remote_device *d = remote_of(dev);
    const struct sh_wire_request rq = {.device = d->opt.device_index};
    struct sh_wire_answer a = {.value = 0};
    struct shoal_error local = SHOAL_ERROR_INIT;
    enum shoal_status st = ask(d, SH_WIRE_GET_DEVICE_MEMORY, &rq, &a, err ? err : &local);

    if (st) return st;
    (void)snprintf(out->name, sizeof out->name, "rpc %.48s/%u", d->address,
                   (unsigned)d->opt.device_index);
    (void)snprintf(out->description, sizeof out->description,
                   "device %u of the llama.cpp RPC server at %.48s", (unsigned)d->opt.device_index,
                   d->address);
    out->kind = SH_DEVICE_REMOTE;
    out->memory_free = (size_t)a.memory_free;
    out->memory_total = (size_t)a.memory_total;
    out->alignment = d->alignment;
    out->buffer_bytes_max = d->buffer_bytes_max;
    out->shoal_ops = false;
    out->exact = d->opt.exact;
    out->local = false;
    return SHOAL_OK;
}

static void remote_traffic(struct sh_device *dev, struct sh_device_traffic *out)
{
    struct remote_device *d = remote_of(dev);

    (void)snprintf(out->address, sizeof out->address, "%s", d->address);
    out->bytes_sent = atomic_load(&d->link->stream->bytes_written);
    out->bytes_received = atomic_load(&d->link->stream->bytes_read);
    link_lock(d->link);
    out->round_trips = d->link->round_trips;
    out->graphs_sent = d->link->graphs_sent;
    link_unlock(d->link);
}

/* ---- buffers --------------------------------------------------------------------------------*/

static enum shoal_status fail_memory(struct remote_device *d, size_t bytes, struct shoal_error *err)
{
    const struct sh_wire_request rq = {.device = d->opt.device_index};
    struct sh_wire_answer a = {.value = 0};
    enum shoal_status st = ask(d, SH_WIRE_GET_DEVICE_MEMORY, &rq, &a, err);

    if (st) return st;
    if (bytes > d->buffer_bytes_max && bytes <= a.memory_free) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "%s allows buffers of %zu bytes, not %zu", d->address,
                     d->buffer_bytes_max, bytes);
        sh_error_set_peer(err, d->address);
        return st;
    }
    st = sh_fail(err, SHOAL_ERR_NOMEM,
                 "%s has no memory for a buffer of %zu bytes: %" PRIu64 " of %" PRIu64 " are free",
                 d->address, bytes, a.memory_free, a.memory_total);
    sh_error_set_peer(err, d->address);
    return st;
}

enum shoal_status remote_place_alloc(struct remote_device *d, size_t bytes,
                                     struct remote_place *out, struct shoal_error *err)
{
    struct shoal_error local = SHOAL_ERROR_INIT;
    struct sh_wire_request rq = {.device = d->opt.device_index, .size = bytes ? bytes : 1};
    struct sh_wire_answer a = {.value = 0};
    uint64_t size;
    enum shoal_status st;

    if (!err) err = &local;
    *out = (struct remote_place){.token = 0};
    st = ask(d, SH_WIRE_ALLOC_BUFFER, &rq, &a, err);
    if (st) return st;
    if (a.buffer == 0) return fail_memory(d, bytes, err);
    size = a.value;
    rq.buffer = a.buffer;
    st = ask(d, SH_WIRE_BUFFER_GET_BASE, &rq, &a, err);
    if (st) return st;
    *out = (struct remote_place){.token = rq.buffer, .base = a.value, .bytes = bytes};
    if (size < bytes || a.value == 0 || a.value % d->alignment != 0 ||
        a.value > UINT64_MAX - size) {
        st = sh_fail(err, SHOAL_ERR_PEER,
                     "%s gives %" PRIu64 " bytes at 0x%" PRIx64 " for a buffer of %zu bytes",
                     d->address, size, a.value, bytes);
        remote_place_free(d, out);
        *out = (struct remote_place){.token = 0};
    }
    return st;
}

void remote_place_free(struct remote_device *d, const struct remote_place *p)
{
    const struct sh_wire_request rq = {.buffer = p->token};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct link_request *r;

    if (p->token == 0) return;
    r = link_new(d->link, SH_WIRE_FREE_BUFFER, &rq, 0, &err);
    if (!r) return; // the connection is gone, and the memory with it
    link_lock(d->link);
    d->last_exec = NULL; // stock servers forget their graph with any buffer
    link_post_locked(d->link, r);
    link_unlock(d->link);
}

static enum shoal_status zero(struct remote_device *d, const struct remote_place *p,
                              struct shoal_error *err)
{
    const struct sh_wire_request rq = {.buffer = p->token, .value = 0};
    struct link_request *r = link_new(d->link, SH_WIRE_BUFFER_CLEAR, &rq, 0, err);

    if (!r) return err->code;
    link_post(d->link, r);
    return SHOAL_OK;
}

static enum shoal_status remote_buffer_alloc(struct sh_device *dev, struct sh_buffer **out,
                                             size_t bytes, enum sh_buffer_usage usage,
                                             struct shoal_error *err)
{
    struct remote_device *d = remote_of(dev);
    struct shoal_error local = SHOAL_ERROR_INIT;
    struct remote_buffer *b;
    enum shoal_status st;

    if (!err) err = &local;
    if (bytes > d->buffer_bytes_max) return fail_memory(d, bytes, err);
    b = sh_calloc(1, sizeof *b);
    if (!b) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a buffer of %s", d->address);
    st = remote_place_alloc(d, bytes, &b->place, err);
    if (!st && usage != SH_BUFFER_WEIGHTS) st = zero(d, &b->place, err);
    if (st) {
        remote_place_free(d, &b->place);
        sh_free(b);
        return st;
    }
    b->head = (struct sh_buffer_head){.device = dev, .bytes = bytes};
    *out = (struct sh_buffer *)(void *)b;
    return SHOAL_OK;
}

static void remote_buffer_free(struct sh_buffer *buffer)
{
    struct remote_buffer *b = remote_buffer_of(buffer);

    remote_place_free(remote_of(b->head.device), &b->place);
    sh_free(b);
}

void remote_bytes_record(const struct remote_place *p, size_t offset, uint32_t n,
                         struct sh_wire_tensor *out)
{
    memset(out, 0, sizeof *out);
    out->id = 1;
    out->type = SH_DTYPE_I8;
    out->buffer = p->token;
    out->data = p->base + offset;
    out->nb[0] = 1;
    out->ne[0] = n;
    for (int i = 1; i < SH_WIRE_DIMS; i++) {
        out->ne[i] = 1;
        out->nb[i] = n;
    }
}

/* ---- opening --------------------------------------------------------------------------------*/

static const struct sh_device_ops g_remote_ops = {
    .close = remote_close,
    .info = remote_info,
    .traffic = remote_traffic,
    .buffer_alloc = remote_buffer_alloc,
    .buffer_import = NULL,
    .buffer_free = remote_buffer_free,
    .queue_create = remote_queue_create,
    .queue_destroy = remote_queue_destroy,
    .prepare = remote_prepare,
    .exec_release = remote_exec_release,
    .write = remote_write,
    .upload = remote_upload,
    .read = remote_read,
    .fill = remote_fill,
    .copy = remote_copy,
    .write_tensor = remote_write_tensor,
    .read_tensor = remote_read_tensor,
    .submit = remote_submit,
    .wait = remote_wait,
    .cancel = remote_cancel,
    .reset = remote_reset,
    .quiesce = remote_quiesce,
};

static struct sh_ggmlrpc_options with_defaults(const struct sh_ggmlrpc_options *opt)
{
    struct sh_ggmlrpc_options o = {.device_index = 0};

    if (opt) o = *opt;
    if (o.ask_above == 0) o.ask_above = (size_t)10 << 20;
    if (o.connect_ns == 0) o.connect_ns = 5 * SH_SECOND;
    if (o.handshake_ns == 0) o.handshake_ns = 5 * SH_SECOND;
    if (o.step_ns == 0) o.step_ns = 120 * SH_SECOND;
    if (o.quiesce_ns == 0) o.quiesce_ns = 5 * SH_SECOND;
    return o;
}

/* Between processes of one machine, sending is faster than hashing and reading a disk. */
static bool is_this_machine(const char *peer)
{
    struct sh_address list[SH_ADDRESSES_MAX];
    struct sh_endpoint ep;
    int n;

    // The text of a TCP peer is a numeric address: nobody is asked for a name.
    if (strncmp(peer, "memory:", 7) == 0 || sh_endpoint_parse(&ep, peer, -1, NULL)) return true;
    return !sh_address_resolve(list, &n, &ep, false, NULL) && sh_address_is_loopback(&list[0]);
}

static struct remote_device *
new_device(struct sh_stream *stream, const struct sh_ggmlrpc_options *opt, struct shoal_error *err)
{
    struct remote_device *d = sh_calloc(1, sizeof *d);

    if (!d) {
        (void)sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a remote device");
        return NULL;
    }
    d->head.ops = &g_remote_ops;
    d->opt = *opt;
    d->asks = opt->cache == SH_GGMLRPC_CACHE_ON ||
              (opt->cache == SH_GGMLRPC_CACHE_AUTO && !is_this_machine(stream->peer));
    (void)snprintf(d->address, sizeof d->address, "%s", stream->peer);
    sh_mutex_init(&d->sizes_lock);
    return d;
}

/* The first answers have less time than later ones. */
static enum shoal_status open_device(struct remote_device **out, struct sh_stream *stream,
                                     const struct sh_ggmlrpc_options *opt, struct shoal_error *err)
{
    struct remote_device *d = NULL;
    char peer[SH_ADDRESS_TEXT_MAX];
    enum shoal_status st;

    *out = NULL;
    (void)snprintf(peer, sizeof peer, "%s", stream->peer);
    st = greet(stream, opt->handshake_ns, err);
    if (st) goto done;
    d = new_device(stream, opt, err);
    if (!d) {
        st = SHOAL_ERR_NOMEM;
        goto done;
    }
    st = link_open(&d->link, stream, opt->handshake_ns, err);
    stream = NULL; // the link's, or closed
    if (!st) st = ask_limits(d, err);
    if (st) goto done;
    link_set_step(d->link, opt->step_ns);
    *out = d;
    d = NULL;

done:
    if (st) sh_error_set_peer(err, peer);
    if (d) remote_close((struct sh_device *)(void *)d);
    sh_stream_close(stream);
    return st;
}

enum shoal_status sh_ggmlrpc_device_over(struct sh_device **out, struct sh_stream *stream,
                                         const struct sh_ggmlrpc_options *opt,
                                         struct shoal_error *err)
{
    const struct sh_ggmlrpc_options o = with_defaults(opt);
    struct shoal_error local = SHOAL_ERROR_INIT;
    struct remote_device *d;
    enum shoal_status st = open_device(&d, stream, &o, err ? err : &local);

    *out = (struct sh_device *)(void *)d;
    return st;
}

static enum shoal_status connect_to(struct sh_stream **out, const char *address,
                                    const struct sh_ggmlrpc_options *opt, struct shoal_error *err)
{
    const struct sh_tcp_options tcp = {.user_timeout_ms = 0}; // a server may compute for minutes
    struct sh_endpoint ep;
    enum shoal_status st = sh_endpoint_parse(&ep, address, SH_WIRE_PORT, err);

    *out = NULL;
    if (st) return st;
    return sh_tcp_connect(out, &ep, opt->connect_ns, &tcp, err);
}

enum shoal_status sh_ggmlrpc_device_open(struct sh_device **out, const char *address,
                                         const struct sh_ggmlrpc_options *opt,
                                         struct shoal_error *err)
{
    const struct sh_ggmlrpc_options o = with_defaults(opt);
    struct sh_stream *stream;
    enum shoal_status st = connect_to(&stream, address, &o, err);

    *out = NULL;
    return st ? st : sh_ggmlrpc_device_over(out, stream, &o, err);
}

enum shoal_status sh_ggmlrpc_device_count(int64_t *out, const char *address,
                                          const struct sh_ggmlrpc_options *opt,
                                          struct shoal_error *err)
{
    const struct sh_ggmlrpc_options o = with_defaults(opt);
    const struct sh_wire_request rq = {.device = 0};
    struct shoal_error local = SHOAL_ERROR_INIT;
    struct sh_wire_answer a = {.value = 0};
    struct link_request *r;
    struct sh_stream *stream;
    struct link *link;
    enum shoal_status st;

    *out = 0;
    if (!err) err = &local;
    st = connect_to(&stream, address, &o, err);
    if (st) return st;
    st = greet(stream, o.handshake_ns, err);
    if (st) {
        sh_stream_close(stream);
        return st;
    }
    st = link_open(&link, stream, o.handshake_ns, err);
    if (st) return st;
    r = link_new(link, SH_WIRE_DEVICE_COUNT, &rq, 0, err);
    st = r ? link_call(link, r, &a, err) : err->code;
    if (!st) *out = (int64_t)a.value;
    link_close(link);
    return st;
}

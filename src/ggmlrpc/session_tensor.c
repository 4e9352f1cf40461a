/* ggmlrpc/session_tensor.c - the commands on buffers and on the bytes of tensors.
 *
 * A record that names a tensor is checked whole (record.h); then offset and size must lie inside
 * the tensor, not only inside its buffer.
 */
#include "ggmlrpc/session_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fnv.h"
#include "base/log.h"
#include "base/mem.h"
#include "ggmlrpc/record.h"

/* ---- questions ------------------------------------------------------------------------------*/

static enum shoal_status answer_value(struct sh_session *s, uint64_t value, struct shoal_error *err)
{
    const struct sh_wire_answer a = {.value = value};

    return sh_session_answer(s, &a, err);
}

enum shoal_status sh_session_device_count(struct sh_session *s, uint64_t size,
                                          struct shoal_error *err)
{
    (void)size;
    return answer_value(s, 1, err);
}

enum shoal_status sh_session_get_alignment(struct sh_session *s, uint64_t size,
                                           struct shoal_error *err)
{
    (void)size;
    return answer_value(s, s->server->info.alignment, err);
}

static uint64_t buffer_bytes_max(const struct sh_session *s)
{
    const uint64_t max = s->server->info.buffer_bytes_max;

    return max < SH_SPACE_BUFFER_BYTES_MAX ? max : SH_SPACE_BUFFER_BYTES_MAX;
}

enum shoal_status sh_session_get_max_size(struct sh_session *s, uint64_t size,
                                          struct shoal_error *err)
{
    (void)size;
    return answer_value(s, buffer_bytes_max(s), err);
}

enum shoal_status sh_session_get_device_memory(struct sh_session *s, uint64_t size,
                                               struct shoal_error *err)
{
    const size_t left = sh_session_left(s, SH_QUOTA_BUFFERS);
    struct sh_wire_answer a = {.memory_total = s->server->opt.client_memory_max};
    struct sh_device_info info;
    enum shoal_status st = sh_device_info(s->server->opt.device, &info, err);

    (void)size;
    if (st) return st;
    a.memory_free = info.memory_free < left ? info.memory_free : left;
    return sh_session_answer(s, &a, err);
}

enum shoal_status sh_session_get_alloc_size(struct sh_session *s, uint64_t size,
                                            struct shoal_error *err)
{
    struct sh_tensor shape;
    size_t bytes, unused;
    enum shoal_status st = sh_record_shape(&s->rq.tensor, &shape, &bytes, err);

    (void)size;
    for (int i = 0; i < SH_WIRE_SRC && !st; i++) {
        if (s->rq.src[i].id != 0) st = sh_record_shape(&s->rq.src[i], &shape, &unused, err);
    }
    if (st) return st;
    // No kernel of ours wants room behind a result, whatever its sources.
    return answer_value(s, bytes, err);
}

/* ---- buffers --------------------------------------------------------------------------------*/

static struct sh_space_buffer *find_buffer(struct sh_session *s, struct shoal_error *err)
{
    struct sh_space_buffer *b = sh_space_find(&s->space, s->rq.buffer);

    if (!b) {
        (void)sh_fail(err, SHOAL_ERR_FORMAT, "buffer 0x%" PRIx64 " does not exist", s->rq.buffer);
    }
    return b;
}

/* Allocate within the limits, or say why not; memory that was claimed is given back. */
static enum shoal_status allocate(struct sh_session *s, uint64_t bytes,
                                  struct sh_space_buffer **out, struct shoal_error *err)
{
    struct sh_buffer *b = NULL;
    enum shoal_status st;

    *out = NULL;
    if (bytes == 0 || bytes > buffer_bytes_max(s)) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "a buffer of %" PRIu64 " bytes (1 to %" PRIu64 ")",
                       bytes, buffer_bytes_max(s));
    }
    if (s->space.n_live >= s->server->opt.buffers_max) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "more than %d buffers", s->server->opt.buffers_max);
    }
    if (!sh_session_take(s, SH_QUOTA_BUFFERS, bytes)) {
        return sh_fail(err, SHOAL_ERR_NOMEM, "%" PRIu64 " bytes, %zu are free", bytes,
                       sh_session_left(s, SH_QUOTA_BUFFERS));
    }
    st = sh_buffer_alloc(s->server->opt.device, &b, bytes, SH_BUFFER_COMPUTE, err);
    if (!st) st = sh_space_add(&s->space, b, out, err);
    if (st) {
        sh_buffer_free(b);
        sh_session_give(s, SH_QUOTA_BUFFERS, bytes);
    }
    return st;
}

enum shoal_status sh_session_alloc_buffer(struct sh_session *s, uint64_t size,
                                          struct shoal_error *err)
{
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_wire_answer a = {.buffer = 0};
    struct sh_space_buffer *b;

    (void)size;
    (void)err;
    if (allocate(s, s->rq.size, &b, &why) == SHOAL_OK) {
        if (s->used[SH_QUOTA_BUFFERS] > s->peak[SH_QUOTA_BUFFERS]) {
            s->peak[SH_QUOTA_BUFFERS] = s->used[SH_QUOTA_BUFFERS];
        }
        a.buffer = b->token;
        a.value = b->bytes;
    } else {
        (void)snprintf(s->refused, sizeof s->refused, "%.100s", why.message);
    }
    return sh_session_answer(s, &a, err);
}

enum shoal_status sh_session_buffer_get_base(struct sh_session *s, uint64_t size,
                                             struct shoal_error *err)
{
    const struct sh_space_buffer *b = find_buffer(s, err);

    (void)size;
    return b ? answer_value(s, b->base, err) : SHOAL_ERR_FORMAT;
}

enum shoal_status sh_session_free_buffer(struct sh_session *s, uint64_t size,
                                         struct shoal_error *err)
{
    struct sh_space_buffer *b = find_buffer(s, err);
    enum shoal_status st;

    (void)size;
    if (!b) return SHOAL_ERR_FORMAT;
    st = sh_session_wait(s, s->last, err);
    if (st) return st;
    sh_session_drop_graphs(s, b->token);
    sh_buffer_free(b->buffer);
    sh_session_give(s, SH_QUOTA_BUFFERS, b->bytes);
    sh_space_remove(&s->space, b);
    return SHOAL_OK;
}

static enum shoal_status fill(struct sh_session *s, const struct sh_space_buffer *b, size_t offset,
                              size_t bytes, struct shoal_error *err)
{
    sh_ticket t;
    enum shoal_status st = sh_queue_fill(s->queue, b->buffer, offset, s->rq.value, bytes, &t, err);

    if (t != 0) s->last = t;
    return st;
}

enum shoal_status sh_session_buffer_clear(struct sh_session *s, uint64_t size,
                                          struct shoal_error *err)
{
    struct sh_space_buffer *b = find_buffer(s, err);

    (void)size;
    if (!b) return SHOAL_ERR_FORMAT;
    return fill(s, b, 0, b->bytes, err);
}

/* ---- tensors --------------------------------------------------------------------------------*/

struct span {
    struct sh_space_buffer *where;
    struct sh_tensor shape;
    size_t offset, bytes; // of the tensor inside its buffer
};

/* A record that must have a place here. */
static enum shoal_status locate(const struct sh_session *s, const struct sh_wire_tensor *r,
                                struct span *out, struct shoal_error *err)
{
    enum shoal_status st = sh_record_shape(r, &out->shape, &out->bytes, err);

    if (!st) {
        st = sh_record_place(r, &out->shape, out->bytes, &s->space, &out->where, &out->offset, err);
    }
    if (st) return st;
    if (!out->where) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "buffer 0x%" PRIx64 " does not exist", r->buffer);
    }
    return SHOAL_OK;
}

/* `size` bytes at `offset` of the tensor that the request names. */
static enum shoal_status locate_part(const struct sh_session *s, uint64_t size, struct span *out,
                                     struct shoal_error *err)
{
    const uint64_t offset = s->rq.offset;
    enum shoal_status st = locate(s, &s->rq.tensor, out, err);

    if (st) return st;
    if (!sh_range_ok(offset, size, out->bytes)) {
        return sh_fail(err, SHOAL_ERR_FORMAT,
                       "%" PRIu64 " bytes at offset %" PRIu64 " of a tensor of %zu bytes", size,
                       offset, out->bytes);
    }
    out->offset += offset;
    return SHOAL_OK;
}

/* Room in the staging ring, waiting for older pieces as needed. */
static enum shoal_status staging_room(struct sh_session *s, size_t bytes, uint8_t **out,
                                      struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    if (!s->staging.ring) {
        st = sh_session_take_work(s, SH_STAGING_BYTES, "data that comes", err);
        if (st) return st;
    }
    for (;;) {
        st = sh_staging_room(&s->staging, bytes, out, err);
        if (st || *out) return st;
        st = sh_session_wait(s, sh_staging_oldest(&s->staging), err);
        if (st) return st;
    }
}

/* The next n bytes of a tensor, which lie in the ring, on their way to the device. */
static enum shoal_status write_piece(struct sh_session *s, struct span *at, uint8_t *piece,
                                     size_t n, struct shoal_error *err)
{
    sh_ticket t;
    enum shoal_status st =
        sh_queue_write(s->queue, at->where->buffer, at->offset, piece, n, &t, err);

    if (st) return st;
    if (t != 0) {
        sh_staging_commit(&s->staging, piece, n, t);
        s->last = t;
    }
    at->offset += n;
    return SHOAL_OK;
}

static size_t piece_of(uint64_t left)
{
    return left < SH_STAGING_PIECE_BYTES ? (size_t)left : SH_STAGING_PIECE_BYTES;
}

/* ---- data in, and the cache -----------------------------------------------------------------*/

/* Where the bytes of the request begin, as the client counts. */
static uint64_t address_of(const struct sh_session *s)
{
    return s->rq.tensor.data + s->rq.offset;
}

/* Remember that the cache lacks these bytes; a SET of them may follow. */
static void remember_asked(struct sh_session *s, uint64_t address, uint64_t hash)
{
    s->asked[s->n_asked++ % SH_SESSION_ASKED_MAX] =
        (struct session_asked){.address = address, .hash = hash};
}

/* Only what was asked for a moment ago is stored, and only under that hash. */
static struct sh_cache_put *begin_put(const struct sh_session *s, uint64_t bytes)
{
    const unsigned n = s->n_asked < SH_SESSION_ASKED_MAX ? s->n_asked : SH_SESSION_ASKED_MAX;
    const uint64_t address = address_of(s);

    if (s->rq.value == 0 || !s->server->cache) return NULL;
    for (unsigned i = 1; i <= n; i++) {
        const struct session_asked *a = &s->asked[(s->n_asked - i) % SH_SESSION_ASKED_MAX];
        if (a->address == address) return sh_cache_put_begin(s->server->cache, a->hash, bytes);
    }
    return NULL;
}

enum shoal_status sh_session_set_tensor(struct sh_session *s, uint64_t size,
                                        struct shoal_error *err)
{
    uint64_t left = size - SH_WIRE_SET_BYTES;
    struct sh_cache_put *put = NULL;
    struct span at;
    enum shoal_status st = locate_part(s, left, &at, err);

    if (!st) put = begin_put(s, left);
    while (!st && left > 0) {
        const size_t n = piece_of(left);
        struct sh_pace pace;
        uint8_t *piece;
        st = staging_room(s, n, &piece, err);
        if (st) break;
        pace = sh_session_pace(s);
        st = sh_session_receive(s, piece, n, &pace, err);
        if (!st) st = write_piece(s, &at, piece, n, err);
        if (!st)
            sh_cache_put_bytes(put, piece, n); // nobody reuses the piece before this thread does
        left -= n;
    }
    if (st) {
        sh_cache_put_abort(put);
    } else {
        sh_cache_put_end(put);
    }
    return st;
}

/* A question whether the cache has something, and what comes of it. */
struct question {
    struct span at; /* where the bytes go; moves on */
    uint64_t begin; /* the same as the client counts */
    uint64_t hash;
    struct sh_cache_entry entry;
    bool found;
};

/* The question in s->rq, checked; its entry is opened if there is one that fits. */
static enum shoal_status open_question(struct sh_session *s, struct question *q,
                                       struct shoal_error *err)
{
    enum shoal_status st;

    *q = (struct question){.begin = address_of(s), .hash = s->rq.hash, .entry = {.fd = -1}};
    st = locate_part(s, 0, &q->at, err);
    if (st) return st;
    q->found = s->server->cache &&
               sh_cache_find(s->server->cache, q->hash, q->at.bytes - s->rq.offset, &q->entry);
    return SHOAL_OK;
}

/* Do the bytes of a new question touch those of earlier ones?  Then it must wait its turn. */
static bool overlaps(const struct question *q, int n, const struct question *more)
{
    for (int i = 0; i < n; i++) {
        if (q[i].begin < more->begin + more->entry.bytes &&
            more->begin < q[i].begin + q[i].entry.bytes) {
            return true;
        }
    }
    return false;
}

/* Further questions that are in the inbox already; one that is odd in any way is left there. */
static int take_questions(struct sh_session *s, struct question *q, int n)
{
    const size_t frame = SH_WIRE_REQUEST_HEADER + SH_WIRE_HASH_BYTES;

    while (n < SH_FNV_CHAINS_MAX && s->inbox_end - s->inbox_at >= frame) {
        struct sh_reader r = sh_reader_over(s->inbox + s->inbox_at, frame);
        if (sh_read_u8(&r) != SH_WIRE_SET_TENSOR_HASH || sh_read_u64(&r) != SH_WIRE_HASH_BYTES)
            break;
        sh_wire_request_get(&r, SH_WIRE_SET_TENSOR_HASH, &s->rq);
        if (open_question(s, &q[n], NULL)) break;
        if (overlaps(q, n, &q[n])) {
            sh_cache_entry_close(&q[n].entry);
            break;
        }
        s->inbox_at += frame;
        n++;
    }
    return n;
}

/* One piece: the next `each` bytes of every question. */
static enum shoal_status write_cached(struct sh_session *s, struct question *const *all, int n,
                                      size_t each, struct shoal_error *err)
{
    struct sh_cache_entry *entry[SH_FNV_CHAINS_MAX];
    bool ok[SH_FNV_CHAINS_MAX];
    sh_ticket last = 0;
    uint8_t *piece;
    enum shoal_status st = staging_room(s, each * (size_t)n, &piece, err);

    if (st) return st;
    for (int i = 0; i < n; i++)
        entry[i] = &all[i]->entry;
    sh_cache_read_each(entry, n, piece, each, ok);
    for (int i = 0; i < n && !st; i++) {
        sh_ticket t = 0;
        all[i]->found = ok[i];
        if (!ok[i]) continue;
        st = sh_queue_write(s->queue, all[i]->at.where->buffer, all[i]->at.offset,
                            piece + (size_t)i * each, each, &t, err);
        all[i]->at.offset += each;
        if (t != 0) last = t;
    }
    if (last != 0) {
        sh_staging_commit(&s->staging, piece, each * (size_t)n, last);
        s->last = last;
    }
    return st;
}

/* Write the entries that were found to their tensors, side by side.  Those that turn out to be
 * damaged are not found after all, and what is in the tensor then is to be sent. */
static enum shoal_status write_found(struct sh_session *s, struct question *q, int n,
                                     struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    while (!st) {
        struct question *busy[SH_FNV_CHAINS_MAX];
        size_t each = SH_STAGING_PIECE_BYTES;
        int n_busy = 0;
        for (int i = 0; i < n; i++) {
            const uint64_t left = q[i].entry.bytes - q[i].entry.at;
            if (!q[i].found || left == 0) continue;
            if (left < each) each = (size_t)left;
            busy[n_busy++] = &q[i];
        }
        if (n_busy == 0) break;
        if (each > SH_STAGING_PIECE_BYTES / (size_t)n_busy)
            each = SH_STAGING_PIECE_BYTES / (size_t)n_busy;
        st = write_cached(s, busy, n_busy, each, err);
    }
    for (int i = 0; i < n; i++) {
        if (q[i].entry.fd < 0) continue;
        if (st) {
            sh_cache_entry_close(&q[i].entry);
        } else {
            q[i].found = sh_cache_read_end(s->server->cache, &q[i].entry);
            if (q[i].found) s->cache_bytes += q[i].entry.bytes;
        }
    }
    return st;
}

enum shoal_status sh_session_set_tensor_hash(struct sh_session *s, uint64_t size,
                                             struct shoal_error *err)
{
    struct question q[SH_FNV_CHAINS_MAX];
    enum shoal_status st = open_question(s, &q[0], err);
    int n = 1;

    (void)size;
    if (st) return st;
    if (q[0].found) n = take_questions(s, q, n);
    st = write_found(s, q, n, err);
    for (int i = 0; i < n && !st; i++) {
        const struct sh_wire_answer a = {.result = q[i].found};
        if (!q[i].found && s->server->cache) remember_asked(s, q[i].begin, q[i].hash);
        st = sh_session_answer(s, &a, err);
    }
    return st;
}

/* Send a piece, the first one behind its header. */
static enum shoal_status send_piece(struct sh_session *s, const uint64_t *total, uint8_t *piece,
                                    size_t bytes, struct shoal_error *err)
{
    uint8_t header[SH_WIRE_ANSWER_HEADER];
    struct sh_writer w = sh_writer_over(header, sizeof header);
    struct sh_pace pace = sh_session_pace(s);
    struct iovec v[2] = {{.iov_base = header, .iov_len = 0}, {.iov_base = piece, .iov_len = bytes}};

    if (total) {
        sh_write_u64(&w, *total);
        v[0].iov_len = sizeof header;
    }
    return sh_stream_writev_full(s->stream, v, 2, &pace, err);
}

static enum shoal_status have_outbox(struct sh_session *s, struct shoal_error *err)
{
    enum shoal_status st;

    if (s->outbox) return SHOAL_OK;
    st = sh_session_take_work(s, SH_SESSION_OUTBOX_BYTES, "data that goes", err);
    if (st) return st;
    s->outbox = sh_malloc(SH_SESSION_OUTBOX_BYTES);
    return s->outbox ? SHOAL_OK : sh_fail(err, SHOAL_ERR_NOMEM, "no memory for an answer");
}

/* Pieces alternate between two places: one is read from the device while the other is sent. */
enum shoal_status sh_session_get_tensor(struct sh_session *s, uint64_t size,
                                        struct shoal_error *err)
{
    const uint64_t total = s->rq.size;
    uint64_t asked = 0, sent = 0;
    sh_ticket tickets[2] = {0, 0};
    struct span at;
    enum shoal_status st = locate_part(s, total, &at, err);

    (void)size;
    if (st) return st;
    st = have_outbox(s, err);
    if (st) return st;
    if (total == 0) return send_piece(s, &total, s->outbox, 0, err);
    while (sent < total) {
        size_t n;
        int i;
        while (asked < total && asked - sent < 2 * SH_STAGING_PIECE_BYTES) {
            i = (int)(asked / SH_STAGING_PIECE_BYTES % 2);
            n = total - asked < SH_STAGING_PIECE_BYTES ? (size_t)(total - asked)
                                                       : SH_STAGING_PIECE_BYTES;
            st = sh_queue_read(s->queue, at.where->buffer, at.offset + (size_t)asked,
                               s->outbox + (size_t)i * SH_STAGING_PIECE_BYTES, n, &tickets[i], err);
            if (st) return st;
            if (tickets[i] != 0) s->last = tickets[i];
            asked += n;
        }
        i = (int)(sent / SH_STAGING_PIECE_BYTES % 2);
        n = total - sent < SH_STAGING_PIECE_BYTES ? (size_t)(total - sent) : SH_STAGING_PIECE_BYTES;
        st = sh_session_wait(s, tickets[i], err);
        if (st) return st;
        st = send_piece(s, sent == 0 ? &total : NULL,
                        s->outbox + (size_t)i * SH_STAGING_PIECE_BYTES, n, err);
        if (st) return st;
        sent += n;
    }
    s->unanswered = false;
    return SHOAL_OK;
}

enum shoal_status sh_session_copy_tensor(struct sh_session *s, uint64_t size,
                                         struct shoal_error *err)
{
    struct sh_wire_answer a = {.result = 0};
    struct span src, dst;
    enum shoal_status st = locate(s, &s->rq.tensor, &src, err);
    bool overlap;

    (void)size;
    if (!st) st = locate(s, &s->rq.dst, &dst, err);
    if (st) return st;
    if (src.shape.dtype != dst.shape.dtype || !sh_tensor_same_shape(&src.shape, &dst.shape) ||
        memcmp(src.shape.nb, dst.shape.nb, sizeof src.shape.nb) != 0) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "source and target differ in type, shape or strides");
    }
    overlap = src.where == dst.where && src.offset < dst.offset + dst.bytes &&
              dst.offset < src.offset + src.bytes;
    // Bytes between strided rows belong to others: such a copy is left to the client.
    if (sh_tensor_contiguous(&src.shape) && !overlap) {
        sh_ticket t;
        st = sh_queue_copy(s->queue, dst.where->buffer, dst.offset, src.where->buffer, src.offset,
                           src.bytes, &t, err);
        if (st) return st;
        if (t != 0) s->last = t;
        a.result = 1;
    }
    return sh_session_answer(s, &a, err);
}

/* Rows need no padding here, so there is nothing to initialise. */
enum shoal_status sh_session_init_tensor(struct sh_session *s, uint64_t size,
                                         struct shoal_error *err)
{
    struct span at;

    (void)size;
    return locate(s, &s->rq.tensor, &at, err);
}

enum shoal_status sh_session_memset_tensor(struct sh_session *s, uint64_t size,
                                           struct shoal_error *err)
{
    struct span at;
    enum shoal_status st = locate_part(s, s->rq.size, &at, err);

    (void)size;
    if (st) return st;
    return fill(s, at.where, at.offset, (size_t)s->rq.size, err);
}

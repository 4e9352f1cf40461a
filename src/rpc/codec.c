/* rpc/codec.c - see codec.h: heads, frames, and the one loop over fields in each direction.
 *
 * Writing goes over a message twice: once for limits and the length that the head needs, once for
 * the bytes.  Reading goes over it once; a list is allocated after its count was held against the
 * bytes that are left.
 */
#include "rpc/codec.h"

#include "base/crc32c.h"
#include "base/fnv.h"
#include "base/mem.h"
#include "rpc/codec_priv.h"

/* ---- numbers ---------------------------------------------------------------------------------*/

static uint64_t load(const void *p, size_t bytes)
{
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;

    switch (bytes) {
    case 1:
        return *(const uint8_t *)p;
    case 2:
        memcpy(&u16, p, sizeof u16);
        return u16;
    case 4:
        memcpy(&u32, p, sizeof u32);
        return u32;
    default:
        memcpy(&u64, p, sizeof u64);
        return u64;
    }
}

static void store(void *p, uint64_t v, size_t bytes)
{
    const uint16_t u16 = (uint16_t)v;
    const uint32_t u32 = (uint32_t)v;

    switch (bytes) {
    case 1:
        *(uint8_t *)p = (uint8_t)v;
        break;
    case 2:
        memcpy(p, &u16, sizeof u16);
        break;
    case 4:
        memcpy(p, &u32, sizeof u32);
        break;
    default:
        memcpy(p, &v, sizeof v);
        break;
    }
}

/* The parts of a field of variable length. */
static struct sh_rpc_text text_at(const void *s, const struct sh_rpc_field *f)
{
    struct sh_rpc_text t;

    memcpy(&t, (const uint8_t *)s + f->offset, sizeof t);
    return t;
}

static struct sh_rpc_bytes bytes_at(const void *s, const struct sh_rpc_field *f)
{
    struct sh_rpc_bytes b;

    memcpy(&b, (const uint8_t *)s + f->offset, sizeof b);
    return b;
}

static const uint8_t *list_at(const void *s, const struct sh_rpc_field *f, uint32_t *n)
{
    const void *list;

    memcpy(&list, (const uint8_t *)s + f->offset, sizeof list);
    memcpy(n, (const uint8_t *)s + f->count_offset, sizeof *n);
    return list;
}

/* ---- writing ---------------------------------------------------------------------------------*/

static enum shoal_status too_many(const struct sh_rpc_layout *l, const struct sh_rpc_field *f,
                                  uint32_t n, const char *what, struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_LIMIT, "rpc: %s: %s has %u %s, at most %u", l->name, f->name,
                   (unsigned)n, what, (unsigned)f->max);
}

static enum shoal_status measure_field(size_t *bytes, const struct sh_rpc_layout *l,
                                       const struct sh_rpc_field *f, const void *s,
                                       uint16_t revision, struct shoal_error *err)
{
    const struct sh_rpc_layout *record;
    enum shoal_status st = SHOAL_OK;
    const uint8_t *list;
    size_t more;
    uint32_t n;

    switch (f->kind) {
    case SH_RPC_KIND_TEXT:
        n = text_at(s, f).n;
        if (n > f->max) return too_many(l, f, n, "bytes", err);
        if (!sh_rpc_text_ok(text_at(s, f).ptr, n)) {
            return sh_fail(err, SHOAL_ERR_ARG, "rpc: %s: %s is no plain text", l->name, f->name);
        }
        *bytes += n;
        break;
    case SH_RPC_KIND_BYTES:
        n = bytes_at(s, f).n;
        if (n > f->max) return too_many(l, f, n, "bytes", err);
        *bytes += n;
        break;
    case SH_RPC_KIND_LIST:
        record = f->record();
        list = list_at(s, f, &n);
        if (n > f->max) return too_many(l, f, n, "entries", err);
        more = sh_rpc_layout_min(record, revision);
        if (more == sh_rpc_layout_max(record, revision)) { // all alike
            *bytes += n * more;
            break;
        }
        for (uint32_t i = 0; i < n && !st; i++) {
            st = sh_rpc_layout_measure(&more, record, list + i * record->struct_bytes, revision,
                                       err);
            if (!st) *bytes += more;
        }
        break;
    default:
        break;
    }
    return st;
}

/* Sums stay far below SIZE_MAX: a list has at most 65536 entries, and a frame that grows past its
 * limit is found by the caller. */
enum shoal_status sh_rpc_layout_measure(size_t *bytes, const struct sh_rpc_layout *l, const void *s,
                                        uint16_t revision, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    *bytes = sh_rpc_layout_min(l, revision);
    for (int i = 0; i < l->n_fields && !st; i++) {
        if (l->fields[i].since <= revision)
            st = measure_field(bytes, l, &l->fields[i], s, revision, err);
    }
    return st;
}

/* What was written since `begun` becomes a piece. */
void sh_rpc_sink_end(struct sh_rpc_sink *to)
{
    struct sh_rpc_pieces *p = to->pieces;

    if (!p || to->w->pos == to->begun) return;
    p->iov[p->n++] =
        (struct iovec){.iov_base = to->w->ptr + to->begun, .iov_len = to->w->pos - to->begun};
    to->begun = to->w->pos;
}

static void put_bytes(struct sh_rpc_sink *to, struct sh_rpc_bytes b)
{
    union {
        const void *from;
        void *to;
    } data = {.from = b.ptr};

    sh_write_u32(to->w, b.n);
    // One place stays for what follows, one for the end.
    if (!to->pieces || b.n <= SH_RPC_COPY_MAX || to->pieces->n + 3 > SH_RPC_PIECES_MAX) {
        sh_write_bytes(to->w, b.ptr, b.n);
        return;
    }
    sh_rpc_sink_end(to);
    to->pieces->iov[to->pieces->n++] = (struct iovec){.iov_base = data.to, .iov_len = b.n};
}

static void put_field(struct sh_rpc_sink *to, const struct sh_rpc_field *f, const void *s,
                      uint16_t revision)
{
    const uint8_t *at = (const uint8_t *)s + f->offset;
    const struct sh_rpc_layout *record;
    struct sh_rpc_handle h;
    struct sh_rpc_text t;
    const uint8_t *list;
    uint32_t n;

    switch (f->kind) {
    case SH_RPC_KIND_ID:
    case SH_RPC_KIND_HASH:
        sh_write_bytes(to->w, at, sh_rpc_kind_bytes(f->kind));
        break;
    case SH_RPC_KIND_HANDLE:
        memcpy(&h, at, sizeof h);
        sh_write_u32(to->w, h.slot);
        sh_write_u32(to->w, h.generation);
        break;
    case SH_RPC_KIND_TEXT:
        t = text_at(s, f);
        sh_write_u16(to->w, (uint16_t)t.n);
        sh_write_bytes(to->w, t.ptr, t.n);
        break;
    case SH_RPC_KIND_BYTES:
        put_bytes(to, bytes_at(s, f));
        break;
    case SH_RPC_KIND_LIST:
        record = f->record();
        list = list_at(s, f, &n);
        sh_write_u32(to->w, n);
        for (uint32_t i = 0; i < n; i++)
            sh_rpc_layout_put(to, record, list + i * record->struct_bytes, revision);
        break;
    default:
        n = (uint32_t)sh_rpc_kind_bytes(f->kind);
        sh_write_le(to->w, load(at, n), n);
        break;
    }
}

void sh_rpc_layout_put(struct sh_rpc_sink *to, const struct sh_rpc_layout *l, const void *s,
                       uint16_t revision)
{
    for (int i = 0; i < l->n_fields; i++) {
        if (l->fields[i].since <= revision) put_field(to, &l->fields[i], s, revision);
    }
}

/* Payload bytes of a message that may be sent. */
static enum shoal_status measure(size_t *bytes, enum sh_rpc_type type, const void *msg,
                                 uint16_t revision, struct shoal_error *err)
{
    const struct sh_rpc_info *info = sh_rpc_info(type);
    enum shoal_status st;

    if (!info || info->since > revision) {
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: no message %u in revision %u", (unsigned)type,
                       (unsigned)revision);
    }
    st = sh_rpc_layout_measure(bytes, sh_rpc_message_layout(type), msg, revision, err);
    if (!st && *bytes > SH_RPC_FRAME_MAX) {
        st = sh_fail(err, SHOAL_ERR_LIMIT, "rpc: %s: %zu bytes, at most %u", info->name, *bytes,
                     SH_RPC_FRAME_MAX);
    }
    return st;
}

size_t sh_rpc_frame_bytes(enum sh_rpc_type type, const void *msg, uint16_t revision)
{
    size_t bytes;

    if (measure(&bytes, type, msg, revision, NULL)) return 0;
    return SH_RPC_HEAD_BYTES + bytes;
}

/* Write the frame to `to`; on failure the writer is as it was. */
static enum shoal_status put_frame(struct sh_rpc_sink *to, enum sh_rpc_type type, uint32_t request,
                                   const void *msg, uint16_t revision, size_t payload,
                                   struct shoal_error *err)
{
    const struct sh_writer before = *to->w;

    sh_write_u32(to->w, (uint32_t)payload);
    sh_write_u16(to->w, (uint16_t)type);
    sh_write_u16(to->w, 0);
    sh_write_u32(to->w, request);
    sh_write_u32(to->w, 0); // checksum
    sh_rpc_layout_put(to, sh_rpc_message_layout(type), msg, revision);
    if (!to->w->bad) return SHOAL_OK;
    *to->w = before;
    return sh_fail(err, SHOAL_ERR_LIMIT, "rpc: %s: no room for %zu bytes in %zu",
                   sh_rpc_info(type)->name, SH_RPC_HEAD_BYTES + payload, before.size - before.pos);
}

static void put_checksum(uint8_t *head, uint32_t crc)
{
    struct sh_writer w = sh_writer_over(head + SH_RPC_CHECKSUM_AT, sizeof crc);

    sh_write_u32(&w, crc);
}

enum shoal_status sh_rpc_encode(struct sh_writer *w, enum sh_rpc_type type, uint32_t request,
                                const void *msg, uint16_t revision, bool checksum,
                                struct shoal_error *err)
{
    struct sh_rpc_sink to = {.w = w};
    enum shoal_status st;
    size_t payload;
    uint8_t *head = w->ptr + w->pos;

    st = measure(&payload, type, msg, revision, err);
    if (!st) st = put_frame(&to, type, request, msg, revision, payload, err);
    if (st || !checksum) return st;
    put_checksum(
        head, sh_crc32c(sh_crc32c(0, head, SH_RPC_CHECKSUM_AT), head + SH_RPC_HEAD_BYTES, payload));
    return SHOAL_OK;
}

enum shoal_status sh_rpc_encode_pieces(struct sh_rpc_pieces *out, struct sh_writer *w,
                                       enum sh_rpc_type type, uint32_t request, const void *msg,
                                       uint16_t revision, bool checksum, struct shoal_error *err)
{
    struct sh_rpc_sink to = {.w = w, .pieces = out, .begun = w->pos};
    enum shoal_status st;
    size_t payload;
    uint8_t *head = w->ptr + w->pos;
    uint32_t crc;

    *out = (struct sh_rpc_pieces){.n = 0};
    st = measure(&payload, type, msg, revision, err);
    if (!st) st = put_frame(&to, type, request, msg, revision, payload, err);
    if (st) {
        *out = (struct sh_rpc_pieces){.n = 0};
        return st;
    }
    sh_rpc_sink_end(&to);
    out->bytes = SH_RPC_HEAD_BYTES + payload;
    if (!checksum) return SHOAL_OK;
    crc = sh_crc32c(0, head, SH_RPC_CHECKSUM_AT);
    for (int i = 0; i < out->n; i++) {
        const size_t skip = i == 0 ? SH_RPC_HEAD_BYTES : 0;
        crc = sh_crc32c(crc, (const uint8_t *)out->iov[i].iov_base + skip,
                        out->iov[i].iov_len - skip);
    }
    put_checksum(head, crc);
    return SHOAL_OK;
}

/* ---- reading ---------------------------------------------------------------------------------*/

struct decoding {
    struct sh_reader *r;
    struct sh_arena *arena;
    size_t room; /* bytes of lists that may still be allocated */
    uint16_t revision;
    struct shoal_error *err;
};

static enum shoal_status get_fields(struct decoding *d, const struct sh_rpc_layout *l, void *s);

static enum shoal_status too_short(struct decoding *d, const struct sh_rpc_layout *l,
                                   const struct sh_rpc_field *f)
{
    return sh_fail(d->err, SHOAL_ERR_FORMAT, "rpc: %s: the frame ends inside %s", l->name, f->name);
}

static enum shoal_status get_text(struct decoding *d, const struct sh_rpc_layout *l,
                                  const struct sh_rpc_field *f, void *at)
{
    struct sh_rpc_text t = {.n = sh_read_u16(d->r)};

    if (t.n > f->max) return too_many(l, f, t.n, "bytes", d->err);
    t.ptr = (const char *)sh_read_bytes(d->r, t.n);
    if (d->r->bad) return too_short(d, l, f);
    if (!sh_rpc_text_ok(t.ptr, t.n)) {
        return sh_fail(d->err, SHOAL_ERR_FORMAT, "rpc: %s: %s is no plain text", l->name, f->name);
    }
    memcpy(at, &t, sizeof t);
    return SHOAL_OK;
}

static enum shoal_status get_bytes(struct decoding *d, const struct sh_rpc_layout *l,
                                   const struct sh_rpc_field *f, void *at)
{
    struct sh_rpc_bytes b = {.n = sh_read_u32(d->r)};

    if (b.n > f->max) return too_many(l, f, b.n, "bytes", d->err);
    b.ptr = sh_read_bytes(d->r, b.n);
    if (d->r->bad) return too_short(d, l, f);
    memcpy(at, &b, sizeof b);
    return SHOAL_OK;
}

static enum shoal_status get_list(struct decoding *d, const struct sh_rpc_layout *l,
                                  const struct sh_rpc_field *f, void *s)
{
    const struct sh_rpc_layout *record = f->record();
    const uint32_t n = sh_read_u32(d->r);
    enum shoal_status st = SHOAL_OK;
    uint8_t *list = NULL;
    size_t least, bytes;

    if (n > f->max) return too_many(l, f, n, "entries", d->err);
    if (d->r->bad || !sh_mul_ok(n, sh_rpc_layout_min(record, d->revision), &least) ||
        least > sh_reader_left(d->r)) {
        return too_short(d, l, f);
    }
    if (n == 0) return SHOAL_OK;
    if (!sh_mul_ok(n, record->struct_bytes, &bytes) || bytes > d->room) {
        return sh_fail(d->err, SHOAL_ERR_LIMIT, "rpc: %s: %s: %u entries take too much memory",
                       l->name, f->name, (unsigned)n);
    }
    d->room -= bytes;
    list = sh_arena_calloc(d->arena, n, record->struct_bytes);
    if (!list) {
        return sh_fail(d->err, SHOAL_ERR_NOMEM, "rpc: %s: %s: no memory for %u entries", l->name,
                       f->name, (unsigned)n);
    }
    for (uint32_t i = 0; i < n && !st; i++)
        st = get_fields(d, record, list + i * record->struct_bytes);
    memcpy((uint8_t *)s + f->offset, &list, sizeof list);
    memcpy((uint8_t *)s + f->count_offset, &n, sizeof n);
    return st;
}

static enum shoal_status get_field(struct decoding *d, const struct sh_rpc_layout *l,
                                   const struct sh_rpc_field *f, void *s)
{
    uint8_t *at = (uint8_t *)s + f->offset;
    const size_t n = sh_rpc_kind_bytes(f->kind);
    struct sh_rpc_handle h;
    const uint8_t *from;

    switch (f->kind) {
    case SH_RPC_KIND_TEXT:
        return get_text(d, l, f, at);
    case SH_RPC_KIND_BYTES:
        return get_bytes(d, l, f, at);
    case SH_RPC_KIND_LIST:
        return get_list(d, l, f, s);
    case SH_RPC_KIND_ID:
    case SH_RPC_KIND_HASH:
        from = sh_read_bytes(d->r, n);
        if (from) memcpy(at, from, n);
        break;
    case SH_RPC_KIND_HANDLE:
        h.slot = sh_read_u32(d->r);
        h.generation = sh_read_u32(d->r);
        memcpy(at, &h, sizeof h);
        break;
    default:
        store(at, sh_read_le(d->r, n), n);
        break;
    }
    return d->r->bad ? too_short(d, l, f) : SHOAL_OK;
}

/* Calls itself through lists, as deep as the table nests them: two levels. */
static enum shoal_status get_fields(struct decoding *d, const struct sh_rpc_layout *l, void *s)
{
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i < l->n_fields && !st; i++) {
        if (l->fields[i].since <= d->revision) st = get_field(d, l, &l->fields[i], s);
    }
    return st;
}

enum shoal_status sh_rpc_layout_get(void *s, const struct sh_rpc_layout *l, struct sh_reader *r,
                                    uint16_t revision, struct sh_arena *arena,
                                    struct shoal_error *err)
{
    struct decoding d = {
        .r = r, .arena = arena, .room = SH_RPC_DECODED_MAX, .revision = revision, .err = err};
    enum shoal_status st;

    st = get_fields(&d, l, s);
    if (!st && sh_reader_left(r) > 0) {
        st = sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s: %zu bytes behind the last field", l->name,
                     sh_reader_left(r));
    }
    return st;
}

static enum shoal_status check_head(const struct sh_rpc_head *h, uint16_t zero, bool from_client,
                                    uint16_t revision, struct shoal_error *err)
{
    const struct sh_rpc_info *info = sh_rpc_info(h->type);

    if (!info || info->since > revision) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: there is no message %u", (unsigned)h->type);
    }
    if (zero != 0) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s: %u in the head, where zero is due",
                       info->name, (unsigned)zero);
    }
    if (info->from != 'B' && (info->from == 'C') != from_client) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s is not for the %s to send", info->name,
                       from_client ? "client" : "server");
    }
    if (h->bytes > sh_rpc_payload_max(h->type, revision)) {
        return sh_fail(err, SHOAL_ERR_LIMIT, "rpc: %s of %u bytes, at most %zu", info->name,
                       (unsigned)h->bytes, sh_rpc_payload_max(h->type, revision));
    }
    if (h->bytes < sh_rpc_payload_min(h->type, revision)) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s of %u bytes, at least %zu", info->name,
                       (unsigned)h->bytes, sh_rpc_payload_min(h->type, revision));
    }
    return SHOAL_OK;
}

enum shoal_status sh_rpc_head_get(struct sh_rpc_head *out, const uint8_t bytes[SH_RPC_HEAD_BYTES],
                                  bool from_client, uint16_t revision, struct shoal_error *err)
{
    struct sh_reader r = sh_reader_over(bytes, SH_RPC_HEAD_BYTES);
    uint16_t zero;

    *out = (struct sh_rpc_head){.bytes = sh_read_u32(&r)};
    out->type = sh_read_u16(&r);
    zero = sh_read_u16(&r);
    out->request = sh_read_u32(&r);
    out->checksum = sh_read_u32(&r);
    memcpy(out->raw, bytes, sizeof out->raw);
    return check_head(out, zero, from_client, revision, err);
}

enum shoal_status sh_rpc_decode(void *msg, const struct sh_rpc_head *head, const uint8_t *payload,
                                uint16_t revision, bool checksum, struct sh_arena *arena,
                                struct shoal_error *err)
{
    const struct sh_rpc_layout *l = sh_rpc_message_layout(head->type);
    struct sh_reader r = sh_reader_over(payload, head->bytes);
    uint32_t want = 0;

    SH_ASSERT(l); // the head was accepted
    memset(msg, 0, l->struct_bytes);
    if (checksum) {
        want = sh_crc32c(0, head->raw, sizeof head->raw);
        want = sh_crc32c(want, payload, head->bytes);
    }
    if (head->checksum != want) {
        return sh_fail(err, SHOAL_ERR_FORMAT, "rpc: %s: checksum %08x, expected %08x", l->name,
                       (unsigned)head->checksum, (unsigned)want);
    }
    return sh_rpc_layout_get(msg, l, &r, revision, arena, err);
}

uint64_t sh_rpc_step_hash(uint64_t before, const uint8_t *payload, size_t n)
{
    if (n <= SH_RPC_STEP_HASHED_AT) return before; // no STEP is so short
    return sh_fnv(before, payload + SH_RPC_STEP_HASHED_AT, n - SH_RPC_STEP_HASHED_AT);
}

/* tests/fuzz/wire_frames.c - commands. */
#include "wire_frames.h"

#include <string.h>

#include "base/mem.h"

#define DATA_MAX 4096

/* ---- decisions ------------------------------------------------------------------------------*/

unsigned frames_pick(struct frames *f, unsigned n)
{
    return sh_read_u8(&f->script) % n;
}

int64_t frames_extent(struct frames *f)
{
    static const uint16_t EXTENTS[] = {1, 2, 3, 4, 5, 8, 16, 32, 33, 64, 96, 128, 256, 7, 0, 300};

    return EXTENTS[frames_pick(f, sizeof EXTENTS / sizeof EXTENTS[0])];
}

enum sh_dtype frames_type(struct frames *f)
{
    static const uint8_t TYPES[] = {
#define X(name, id, text, len, bytes, partner) id,
        SH_DTYPES(X)
#undef X
    };

    return (enum sh_dtype)TYPES[frames_pick(f, sizeof TYPES)];
}

const struct frames_buffer *frames_buffer(struct frames *f)
{
    static const struct frames_buffer none;

    return f->n_buffers ? &f->buffers[frames_pick(f, (unsigned)f->n_buffers)] : &none;
}

/* A number as hostile clients choose it. */
static uint64_t any_number(struct frames *f)
{
    static const uint64_t FAVOURITES[] = {0,
                                          1,
                                          4,
                                          UINT64_MAX,
                                          UINT64_MAX - 3,
                                          INT64_MAX,
                                          (uint64_t)INT64_MAX + 1,
                                          UINT32_MAX,
                                          (uint64_t)UINT32_MAX + 1,
                                          INT32_MAX,
                                          (uint64_t)1 << 40,
                                          65536};
    const unsigned n = sizeof FAVOURITES / sizeof FAVOURITES[0];
    const unsigned which = frames_pick(f, n + 3);

    if (which < n) return FAVOURITES[which];
    if (which == n) return sh_read_u8(&f->script);
    return which == n + 1 ? sh_read_u16(&f->script) : sh_read_u64(&f->script);
}

/* ---- records --------------------------------------------------------------------------------*/

static void bend_one(struct frames *f, struct sh_wire_tensor *t)
{
    const unsigned field = frames_pick(f, 36);

    if (field < 4) {
        t->ne[field] = (uint32_t)any_number(f);
    } else if (field < 8) {
        t->nb[field - 4] = (uint32_t)any_number(f);
    } else if (field < 18) {
        t->src[field - 8] = any_number(f);
    } else if (field < 28) {
        t->params[field - 18] = (int32_t)any_number(f);
    } else {
        switch (field) {
        case 28:
            t->id = any_number(f);
            break;
        case 29:
            t->type = (uint32_t)any_number(f);
            break;
        case 30:
            t->buffer = any_number(f);
            break;
        case 31:
            t->op = (uint32_t)any_number(f);
            break;
        case 32:
            t->view_src = any_number(f);
            break;
        case 33:
            t->view_offs = any_number(f);
            break;
        case 34:
            t->data += any_number(f);
            break;
        default:
            t->nb[1] = t->nb[0]; // rows that overlap
            break;
        }
    }
}

void frames_bend(struct frames *f, struct sh_wire_tensor *t)
{
    const unsigned how = sh_read_u8(&f->script);

    for (unsigned i = 0; i < 2 && how >= 0xd0 + i * 0x20; i++)
        bend_one(f, t);
}

void frames_record(struct frames *f, struct sh_wire_tensor *out)
{
    const struct frames_buffer *b = frames_buffer(f);
    const enum sh_dtype type = frames_type(f);
    const struct sh_dtype_info *info = sh_dtype_info(type);
    const int64_t len = info->block_len;
    const int64_t ne[2] = {(frames_extent(f) + len - 1) / len * len, frames_extent(f)};

    memset(out, 0, sizeof *out);
    out->id = 1;
    out->type = (uint32_t)type;
    out->buffer = b->token;
    out->data = b->base + (uint64_t)32 * frames_pick(f, 32);
    out->ne[0] = (uint32_t)ne[0];
    out->ne[1] = (uint32_t)ne[1];
    out->ne[2] = out->ne[3] = 1;
    out->nb[0] = (uint32_t)info->block_bytes;
    out->nb[1] = (uint32_t)(info->block_bytes * (size_t)(ne[0] / len));
    out->nb[2] = out->nb[3] = out->nb[1] * out->ne[1];
    frames_bend(f, out);
}

/* ---- data -----------------------------------------------------------------------------------*/

/* n bytes that are something: script, small integers, small floats. */
static void put_data(struct frames *f, struct sh_writer *w, size_t n)
{
    const unsigned how = frames_pick(f, 6), k = sh_read_u8(&f->script);

    for (size_t i = 0; i < n; i += 4) {
        const float x = ((float)(i / 4 % 17) - 8) / (float)(1 + k);
        uint8_t v[4] = {0};
        uint32_t u = (uint32_t)(k ? i / 4 % k : i / 4);
        if (how == 0) u = k;
        if (how == 1) memcpy(&u, &x, 4);
        if (how == 2) u = sh_read_u32(&f->script);
        if (how == 3) u = 0x3c003c00u + k; // halves near 1
        if (how == 4 && i / 4 % 2) u = 0;  // 64-bit numbers
        memcpy(v, &u, 4);
        sh_write_bytes(w, v, n - i < 4 ? n - i : 4);
    }
}

/* ---- commands -------------------------------------------------------------------------------*/

static void put_set(struct frames *f, struct sh_writer *w, struct sh_wire_request *rq)
{
    size_t n = sh_read_u16(&f->script) % DATA_MAX;
    const bool whole = frames_pick(f, 4) != 0;

    frames_record(f, &rq->tensor);
    if (whole) {
        n = (size_t)rq->tensor.nb[1] * rq->tensor.ne[1] % DATA_MAX;
    } else {
        rq->offset = any_number(f);
    }
    sh_wire_request_put(w, SH_WIRE_SET_TENSOR, rq, n);
    put_data(f, w, n);
}

static void put_range(struct frames *f, struct sh_writer *w, unsigned command,
                      struct sh_wire_request *rq)
{
    frames_record(f, &rq->tensor);
    rq->size = (uint64_t)rq->tensor.nb[1] * rq->tensor.ne[1];
    if (frames_pick(f, 8) == 7) rq->size = any_number(f);
    if (frames_pick(f, 8) == 7) rq->offset = any_number(f);
    rq->value = (uint8_t)frames_pick(f, 3);
    rq->hash = any_number(f);
    sh_wire_request_put(w, (enum sh_wire_command)command, rq, 0);
}

static void put_copy(struct frames *f, struct sh_writer *w, struct sh_wire_request *rq)
{
    frames_record(f, &rq->tensor);
    rq->dst = rq->tensor;
    rq->dst.data += (uint64_t)32 * frames_pick(f, 64);
    frames_bend(f, &rq->dst);
    sh_wire_request_put(w, SH_WIRE_COPY_TENSOR, rq, 0);
}

static void put_alloc_size(struct frames *f, struct sh_writer *w, struct sh_wire_request *rq)
{
    frames_record(f, &rq->tensor);
    for (unsigned i = frames_pick(f, 4); i > 0; i--)
        frames_record(f, &rq->src[i]);
    sh_wire_request_put(w, SH_WIRE_GET_ALLOC_SIZE, rq, 0);
}

static void put_alloc(struct frames *f, struct sh_writer *w, struct sh_wire_request *rq)
{
    static const uint16_t SIZES[] = {4096, 20000, 33, 1, 0};
    const unsigned which = frames_pick(f, 8);

    rq->size = which < 5 ? SIZES[which] : any_number(f);
    f->wanted = rq->size;
    sh_wire_request_put(w, SH_WIRE_ALLOC_BUFFER, rq, 0);
}

static void put_free(struct frames *f, struct sh_writer *w, struct sh_wire_request *rq)
{
    const unsigned which = f->n_buffers ? frames_pick(f, (unsigned)f->n_buffers) : 0;

    rq->buffer = f->n_buffers ? f->buffers[which].token : any_number(f);
    if (f->n_buffers && frames_pick(f, 8) < 6) f->buffers[which] = f->buffers[--f->n_buffers];
    sh_wire_request_put(w, SH_WIRE_FREE_BUFFER, rq, 0);
}

/* Whatever the size and the bytes say. */
static void put_raw(struct frames *f, struct sh_writer *w)
{
    const size_t n = frames_pick(f, 64);

    sh_write_u8(w, sh_read_u8(&f->script));
    sh_write_u64(w, frames_pick(f, 2) ? any_number(f) : n);
    for (size_t i = 0; i < n; i++)
        sh_write_u8(w, sh_read_u8(&f->script));
}

static void put_graph(struct frames *f, struct sh_writer *w)
{
    struct sh_writer size;

    sh_write_u8(w, SH_WIRE_GRAPH_COMPUTE);
    sh_write_u64(w, 0);
    sh_write_u32(w, frames_pick(f, 64) == 63);
    frames_graph(f, w);
    if (w->bad) return;
    size = sh_writer_over(f->bytes + 1, 8);
    sh_write_u64(&size, w->pos - SH_WIRE_REQUEST_HEADER);
    memcpy(f->graph, f->bytes, w->pos);
    f->n_graph = w->pos;
}

static void put_question(struct frames *f, struct sh_writer *w, struct sh_wire_request *rq)
{
    static const uint8_t QUESTIONS[] = {SH_WIRE_DEVICE_COUNT, SH_WIRE_GET_ALIGNMENT,
                                        SH_WIRE_GET_MAX_SIZE, SH_WIRE_GET_DEVICE_MEMORY,
                                        SH_WIRE_BUFFER_GET_BASE};

    rq->buffer = frames_buffer(f)->token;
    rq->device = frames_pick(f, 16) == 15;
    f->command = QUESTIONS[frames_pick(f, sizeof QUESTIONS)];
    sh_wire_request_put(w, (enum sh_wire_command)f->command, rq, 0);
}

static void put_damage(struct frames *f)
{
    f->n_damage = 1 + (int)frames_pick(f, FRAMES_DAMAGE_MAX);
    for (int i = 0; i < f->n_damage; i++) {
        f->damage[i].at = sh_read_u16(&f->script);
        f->damage[i].flip = sh_read_u8(&f->script);
    }
}

enum choice {
    GRAPH,
    AGAIN,
    SET,
    GET,
    RECOMPUTE,
    ALLOC,
    FREE,
    CLEAR,
    MEMSET,
    COPY,
    INIT,
    HASH,
    SIZE,
    QUESTION,
    RAW,
    DAMAGE
};

static void put_command(struct frames *f, struct sh_writer *w, enum choice what)
{
    static struct sh_wire_request rq;
    static const uint8_t NUMBERS[] = {
        [GET] = SH_WIRE_GET_TENSOR,     [RECOMPUTE] = SH_WIRE_GRAPH_RECOMPUTE,
        [CLEAR] = SH_WIRE_BUFFER_CLEAR, [MEMSET] = SH_WIRE_MEMSET_TENSOR,
        [INIT] = SH_WIRE_INIT_TENSOR,   [HASH] = SH_WIRE_SET_TENSOR_HASH,
        [ALLOC] = SH_WIRE_ALLOC_BUFFER};

    memset(&rq, 0, sizeof rq);
    f->command = what < sizeof NUMBERS ? NUMBERS[what] : 0xff;
    switch (what) {
    case GRAPH:
        put_graph(f, w);
        break;
    case AGAIN:
        sh_write_bytes(w, f->graph, f->n_graph);
        break;
    case SET:
        put_set(f, w, &rq);
        break;
    case GET:
    case MEMSET:
    case HASH:
    case INIT:
        put_range(f, w, NUMBERS[what], &rq);
        break;
    case RECOMPUTE:
        sh_wire_request_put(w, SH_WIRE_GRAPH_RECOMPUTE, &rq, 0);
        break;
    case ALLOC:
        put_alloc(f, w, &rq);
        break;
    case FREE:
        put_free(f, w, &rq);
        break;
    case CLEAR:
        rq.buffer = frames_buffer(f)->token;
        rq.value = sh_read_u8(&f->script);
        sh_wire_request_put(w, SH_WIRE_BUFFER_CLEAR, &rq, 0);
        break;
    case COPY:
        put_copy(f, w, &rq);
        break;
    case SIZE:
        put_alloc_size(f, w, &rq);
        break;
    case QUESTION:
        put_question(f, w, &rq);
        break;
    case RAW:
        put_raw(f, w);
        break;
    case DAMAGE:
        put_damage(f);
        break;
    }
}

/* Greeting, two buffers and their bases; false when that is done. */
static bool put_opening(struct frames *f, struct sh_writer *w)
{
    static struct sh_wire_request rq;

    memset(&rq, 0, sizeof rq);
    if (f->stage == 0) {
        f->command = SH_WIRE_HELLO;
    } else if (!f->has_base) {
        rq.buffer = f->buffers[f->n_buffers - 1].token;
        f->command = SH_WIRE_BUFFER_GET_BASE;
    } else if (f->stage < 3) {
        rq.size = f->wanted = f->stage == 1 ? 48 << 10 : 8 << 10;
        f->command = SH_WIRE_ALLOC_BUFFER;
    } else {
        return false;
    }
    f->stage += f->has_base && f->stage < 3;
    sh_wire_request_put(w, (enum sh_wire_command)f->command, &rq, 0);
    return true;
}

/* ---- the session ----------------------------------------------------------------------------*/

void frames_begin(struct frames *f, const uint8_t *script, size_t n)
{
    memset(f, 0, sizeof *f);
    f->script = sh_reader_over(script, n);
    f->has_base = true;
    if (n > 0 && script[0] == 0xff) f->stage = 3; // begins without a greeting
}

bool frames_next(struct frames *f)
{
    static const uint8_t CHOICES[] = {GRAPH, GRAPH,     GRAPH, GRAPH,  GRAPH, GRAPH, GRAPH,
                                      SET,   SET,       SET,   GET,    AGAIN, FREE,  RECOMPUTE,
                                      ALLOC, RECOMPUTE, CLEAR, MEMSET, COPY,  INIT,  HASH,
                                      SIZE,  QUESTION,  RAW,   DAMAGE};
    struct sh_writer w = sh_writer_over(f->bytes, sizeof f->bytes);

    f->n = 0;
    if (!put_opening(f, &w)) {
        while (w.pos == 0 && !w.bad && sh_reader_left(&f->script) > 0)
            put_command(f, &w, (enum choice)CHOICES[frames_pick(f, sizeof CHOICES)]);
    }
    if (w.bad || w.pos == 0) return false;
    f->n = w.pos;
    for (int i = 0; i < f->n_damage; i++)
        f->bytes[f->damage[i].at % f->n] ^= f->damage[i].flip;
    f->n_damage = 0;
    return true;
}

void frames_answered(struct frames *f, const uint8_t *bytes, size_t n)
{
    struct sh_reader r = sh_reader_over(bytes, n);
    struct sh_wire_answer a = {.buffer = 0};

    (void)sh_read_u64(&r);
    if (f->command != SH_WIRE_ALLOC_BUFFER && f->command != SH_WIRE_BUFFER_GET_BASE) return;
    sh_wire_answer_get(&r, (enum sh_wire_command)f->command, &a);
    if (r.bad) return;
    if (f->command == SH_WIRE_BUFFER_GET_BASE) {
        if (!f->has_base) f->buffers[f->n_buffers - 1].base = a.value;
        f->has_base = true;
    } else if (a.buffer != 0 && f->n_buffers < FRAMES_BUFFERS_MAX) {
        f->buffers[f->n_buffers++] = (struct frames_buffer){.token = a.buffer, .bytes = f->wanted};
        f->has_base = false;
    }
}

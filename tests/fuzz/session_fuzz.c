/* Fuzz target: a client of a worker that says anything, in frames that decode.
 *
 * The first byte chooses features.  Then the client opens a session, sends a weight, and puts two
 * small stages: one that embeds ids and has KV memory, one whose rows are the logits.  What follows
 * are messages: a byte picks one, the next say how far it is put right (a STEP that follows, rows
 * that belong to it, a graph that is changed only here and there), the rest fill its fields.
 *
 * Whatever is said, the worker is in order afterwards: no session, no connection, no byte set
 * aside.
 */
#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "base/mem.h"
#include "base/thread.h"
#include "blob/sha256.h"
#include "cpu/device.h"
#include "rpc/claim.h"
#include "rpc/graph_wire.h"
#include "rpc/server.h"

enum { WIDTH = 16, IDS = 32, ROWS = 8, PAGES = 2, POSITIONS = 128, SLOTS = 2, GRAPH_MAX = 4096 };
enum { MESSAGES_MAX = 60, MEMORY = 64 << 20 };
#define LIMIT_NS (60 * SH_SECOND)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool ok)
{
    if (!ok) abort();
}

/* ---- the worker, made once ------------------------------------------------------------------*/

struct put {
    struct sh_rpc_stage_put m;
    struct sh_rpc_claim claim;
    uint8_t bytes[GRAPH_MAX];
};

static struct {
    bool made;
    struct sh_device *device;
    struct sh_ledger *ledger;
    struct sh_blobs *blobs;
    struct sh_rpc_server *server;
    float weight[IDS * WIDTH];
    struct sh_rpc_weight entry;
    struct sh_rpc_group group;
    struct put put[2];
} g;

static const struct sh_step_limits g_limits = {.n_seqs = 2,
                                               .n_groups = 1,
                                               .n_positions = POSITIONS,
                                               .rows_max = ROWS,
                                               .wanted_max = ROWS,
                                               .pages = {PAGES}};

/* x + attention of x to all that was put so far. */
static int32_t attend(struct sh_graph *gr, int32_t x)
{
    const struct sh_attn_attr attr = {.scale = 0.25f, .n_kv_heads = 1};
    const int32_t rows = sh_leaf_input(gr, SH_INPUT_ROWS, 0);
    const int32_t table = sh_leaf_table(gr, 0, POSITIONS / 64, 2);
    int32_t k = sh_leaf_cache(gr, SH_LEAF_CACHE_K, 0, 0, SH_DTYPE_F16, WIDTH, PAGES);
    int32_t v = sh_leaf_cache(gr, SH_LEAF_CACHE_V, 0, 0, SH_DTYPE_F16, WIDTH, PAGES);
    const int32_t q = sh_op_reshape(gr, x, 3, (const int64_t[3]){WIDTH, 1, ROWS});
    int32_t y;

    k = sh_op_cache_put(gr, k, x, rows, table);
    v = sh_op_cache_put(gr, v, x, rows, table);
    y = sh_op_cache_attn(gr, q, k, v, rows, table, -1, &attr);
    y = sh_op_reshape(gr, y, 2, (const int64_t[2]){WIDTH, ROWS});
    return sh_op_binary(gr, SH_OP_ADD, x, y);
}

static void build(struct sh_graph *gr, bool first)
{
    const struct sh_extents max = {.t = ROWS, .o = ROWS, .r = 2};
    const int64_t ne[SH_MAX_DIMS] = {WIDTH, IDS, 1, 1};

    sh_graph_init(gr, &max);
    if (first) {
        const int32_t src[3] = {sh_leaf_weight(gr, "ids", SH_DTYPE_F32, ne, NULL),
                                sh_leaf_input(gr, SH_INPUT_TOKENS, 0),
                                sh_leaf_input(gr, SH_INPUT_EMBD, WIDTH)};
        sh_graph_set_output(gr, attend(gr, sh_op_node(gr, SH_OP_EMBED, 3, src, NULL)));
    } else {
        const int32_t x = attend(gr, sh_leaf_input(gr, SH_INPUT_HIDDEN, WIDTH));
        sh_graph_set_output(gr, sh_op_get_rows(gr, x, sh_leaf_input(gr, SH_INPUT_OUT, 0)));
    }
}

static void make_put(struct put *p, bool first)
{
    struct sh_writer w = sh_writer_over(p->bytes, sizeof p->bytes);
    struct sh_graph gr;
    struct sh_rpc_claim_of of = {
        .graph = &gr, .limits = &g_limits, .n_slots = SLOTS, .first = first, .last = !first};

    build(&gr, first);
    demand(!sh_graph_wire_put(&w, &gr, NULL) && !sh_rpc_claim_count(&p->claim, &of, NULL));
    p->m = (struct sh_rpc_stage_put){.index = first ? 0 : 1,
                                     .first = first,
                                     .last = !first,
                                     .n_slots = SLOTS,
                                     .n_seqs = g_limits.n_seqs,
                                     .n_positions = POSITIONS,
                                     .rows_max = ROWS,
                                     .wanted_max = ROWS,
                                     .n_shards = 1,
                                     .groups = &g.group,
                                     .n_groups = 1,
                                     .weights = &g.entry,
                                     .n_weights = first,
                                     .graph = {p->bytes, (uint32_t)w.pos}};
    sh_graph_release(&gr);
}

static void make_worker(void)
{
    const struct sh_cpu_options cpu = {.n_threads = 1, .memory_max = MEMORY};
    struct sh_rpc_server_options opt = {.n_devices = 1, .devices = &g.device};
    struct sh_sha256 hash;

    for (size_t i = 0; i < IDS * WIDTH; i++)
        g.weight[i] = (float)(i % 13) * 0.125f - 0.75f;
    demand(!sh_sha256_of(&hash, g.weight, sizeof g.weight, NULL));
    g.entry = (struct sh_rpc_weight){.name = sh_rpc_text_from("ids"),
                                     .dtype = SH_DTYPE_F32,
                                     .ne0 = WIDTH,
                                     .ne1 = IDS,
                                     .ne2 = 1,
                                     .ne3 = 1,
                                     .bytes = sizeof g.weight,
                                     .axis = -1};
    memcpy(g.entry.sha256, hash.bytes, sizeof g.entry.sha256);
    g.group.pages = PAGES;
    make_put(&g.put[0], true);
    make_put(&g.put[1], false);
    demand(!sh_cpu_device_open(&g.device, &cpu, NULL));
    demand(!sh_ledger_create(&g.ledger, MEMORY, NULL) && !sh_blobs_create(&g.blobs, NULL, NULL));
    opt.ledger = g.ledger;
    opt.blobs = g.blobs;
    demand(!sh_rpc_server_create(&g.server, &opt, NULL));
    g.made = true;
}

/* ---- a client -------------------------------------------------------------------------------*/

struct client {
    struct sh_reader in; /* the fuzzer's */
    struct sh_stream *mine, *theirs;
    struct sh_thread serving;
    struct sh_arena arena;
    uint32_t request;
    uint64_t epoch, next, hash;
    bool lost;
};

static void *serve(void *arg)
{
    const struct sh_rpc_client who = {.loopback = true};
    struct client *c = arg;

    (void)sh_rpc_server_serve(g.server, c->theirs, &who, NULL);
    return NULL;
}

static void send_bytes(struct client *c, const void *bytes, size_t n)
{
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LIMIT_NS));

    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    if (!c->lost) c->lost = sh_stream_write_full(c->mine, bytes, n, &pace, NULL) != SHOAL_OK;
}

static uint64_t send_message(struct client *c, enum sh_rpc_type type, const void *msg)
{
    const size_t n = sh_rpc_frame_bytes(type, msg, SH_RPC_REVISION);
    uint8_t *frame = sh_malloc(n + 1);
    struct sh_writer w = sh_writer_over(frame, n);
    uint64_t hash = 0;

    demand(frame != NULL);
    if (n && !sh_rpc_encode(&w, type, sh_rpc_info(type)->answer ? ++c->request : 0, msg,
                            SH_RPC_REVISION, false, NULL)) {
        if (type == SH_RPC_MSG_STEP)
            hash = sh_rpc_step_hash(c->hash, frame + SH_RPC_HEAD_BYTES, n - SH_RPC_HEAD_BYTES);
        send_bytes(c, frame, n);
    }
    sh_free(frame);
    return hash;
}

static bool receive(struct client *c, void *dst, size_t n)
{
    struct sh_pace pace = sh_pace_until(sh_deadline_in(&sh_clock_system, LIMIT_NS));

    sh_pace_start(&pace, sh_now_ns(&sh_clock_system));
    return n == 0 || sh_stream_read_full(c->mine, dst, n, &pace, NULL) == SHOAL_OK;
}

/* Read until an answer of this type comes; nothing else may end the beginning. */
static void await_answer(struct client *c, enum sh_rpc_type type)
{
    uint8_t head[SH_RPC_HEAD_BYTES], *payload;
    struct sh_rpc_head h = {.type = 0};

    while (h.type != type) {
        demand(receive(c, head, sizeof head));
        demand(!sh_rpc_head_get(&h, head, false, SH_RPC_REVISION, NULL));
        payload = sh_malloc((size_t)h.bytes + 1);
        demand(payload && receive(c, payload, h.bytes));
        sh_free(payload);
        demand(h.type != SH_RPC_MSG_ERROR);
    }
}

static void greet(struct client *c, uint64_t features)
{
    struct sh_rpc_name list[SH_OP_COUNT];
    const char *names[SH_OP_COUNT];
    const struct sh_rpc_hello hello = {.revision_min = SH_RPC_REVISION_MIN,
                                       .revision_max = SH_RPC_REVISION,
                                       .features = features,
                                       .software = sh_rpc_text_from("fuzz"),
                                       .ops = list,
                                       .n_ops = SH_OP_COUNT};

    sh_graph_wire_ops(names);
    for (int i = 0; i < SH_OP_COUNT; i++)
        list[i].name = sh_rpc_text_from(names[i]);
    send_bytes(c, SH_RPC_PREFACE, SH_RPC_PREFACE_BYTES);
    send_message(c, SH_RPC_MSG_HELLO, &hello);
    await_answer(c, SH_RPC_MSG_WELCOME);
}

static void open_session(struct client *c)
{
    const struct sh_rpc_claim claim = {.weights = sizeof g.weight, .cache = 4 << 20};
    const struct sh_rpc_open open = {.claims = &claim, .n_claims = 1};
    const struct sh_rpc_want want = {.weights = &g.entry, .n_weights = 1};
    struct sh_rpc_put put = {.data = {(const uint8_t *)g.weight, sizeof g.weight}};
    struct sh_rpc_put_end end;

    memcpy(put.sha256, g.entry.sha256, sizeof put.sha256);
    memcpy(end.sha256, g.entry.sha256, sizeof end.sha256);
    send_message(c, SH_RPC_MSG_OPEN, &open);
    send_message(c, SH_RPC_MSG_WANT, &want);
    send_message(c, SH_RPC_MSG_PUT, &put);
    send_message(c, SH_RPC_MSG_PUT_END, &end);
    await_answer(c, SH_RPC_MSG_PUT_DONE);
    for (int i = 0; i < 2; i++) {
        send_message(c, SH_RPC_MSG_STAGE_PUT, &g.put[i].m);
        await_answer(c, SH_RPC_MSG_STAGE_READY);
    }
}

/* ---- any message ----------------------------------------------------------------------------*/

static uint64_t number(struct client *c)
{
    static const uint64_t EDGES[] = {INT32_MAX,  (uint64_t)INT32_MIN, UINT32_MAX, INT64_MAX,
                                     UINT64_MAX, (uint64_t)1 << 63,   65536,      128,
                                     64,         (uint64_t)1 << 32,   127,        100000};
    const uint8_t b = sh_read_u8(&c->in);

    if (b < 0x60) return b % 4;
    if (b < 0xa0) return b - 0x60u;
    if (b < 0xd0) return sh_read_u16(&c->in);
    if (b < 0xe8) return (uint64_t)0 - (b & 15u);
    return EDGES[(b - 0xe8u) % (sizeof EDGES / sizeof EDGES[0])];
}

static uint32_t count(struct client *c, uint32_t max)
{
    const uint32_t n = sh_read_u8(&c->in) % 5;

    return n < max ? n : max;
}

static const uint8_t *some_bytes(struct client *c, size_t n)
{
    uint8_t *p = sh_arena_calloc(&c->arena, n + 1, 1);

    demand(p != NULL);
    for (size_t i = 0; i < n && sh_reader_left(&c->in) > 0; i++)
        p[i] = sh_read_u8(&c->in);
    return p;
}

static struct sh_rpc_text some_text(struct client *c)
{
    char *s = sh_arena_calloc(&c->arena, 40, 1);
    const char *raw = (const char *)some_bytes(c, count(c, 8));

    demand(s != NULL);
    return sh_rpc_text_clean(s, 40, raw);
}

static struct sh_rpc_handle some_handle(struct client *c)
{
    const uint8_t b = sh_read_u8(&c->in);

    if (b >= 0xf0) return (struct sh_rpc_handle){(uint32_t)number(c), (uint32_t)number(c)};
    return (struct sh_rpc_handle){b & 1, b < 0xc0 ? 1 : b % 4};
}

/* A member of a message by its kind; `t` is its type. */
#define FILL_U8(name, record, max) m->name = (uint8_t)number(c);
#define FILL_U16(name, record, max) m->name = (uint16_t)number(c);
#define FILL_U32(name, record, max) m->name = (uint32_t)number(c);
#define FILL_U64(name, record, max) m->name = number(c);
#define FILL_I32(name, record, max) m->name = (int32_t)(uint32_t)number(c);
#define FILL_I64(name, record, max) m->name = (int64_t)number(c);
#define FILL_F32(name, record, max) m->name = (float)(int64_t)number(c);
#define FILL_F64(name, record, max) m->name = (double)(int64_t)number(c) / 4;
#define FILL_ID(name, record, max) memcpy(m->name, some_bytes(c, 16), 16);
#define FILL_HASH(name, record, max) memcpy(m->name, some_bytes(c, 32), 32);
#define FILL_HANDLE(name, record, max) m->name = some_handle(c);
#define FILL_TEXT(name, record, max) m->name = some_text(c);
#define FILL_BYTES(name, record, max)                                                              \
    m->name.n = count(c, max) * sh_read_u8(&c->in);                                                \
    m->name.ptr = some_bytes(c, m->name.n);
#define FILL_LIST(name, record, max)                                                               \
    {                                                                                              \
        struct sh_rpc_##record *list = sh_arena_calloc(&c->arena, 5, sizeof *list);                \
        demand(list != NULL);                                                                      \
        m->n_##name = count(c, max);                                                               \
        for (uint32_t i = 0; i < m->n_##name; i++)                                                 \
            fill_##record(c, &list[i]);                                                            \
        m->name = list;                                                                            \
    }
#define FILL(kind, name, record, max, since) FILL_##kind(name, record, max)

#define X(name, FIELDS)                                                                            \
    static void fill_##name(struct client *c, struct sh_rpc_##name *m)                             \
    {                                                                                              \
        FIELDS(FILL)                                                                               \
    }
SH_RPC_RECORDS(X)
#undef X
#define X(number, name, NAME, from, answer, since)                                                 \
    static void fill_msg_##name(struct client *c, void *any)                                       \
    {                                                                                              \
        struct sh_rpc_##name *m = any;                                                             \
        SH_RPC_##NAME##_FIELDS(FILL)                                                               \
    }
SH_RPC_MESSAGES(X)
#undef X

static const struct {
    enum sh_rpc_type type;
    void (*fill)(struct client *c, void *msg);
} MESSAGES[] = {
#define X(number, name, NAME, from, answer, since) {SH_RPC_MSG_##NAME, fill_msg_##name},
    SH_RPC_MESSAGES(X)
#undef X
};

static void say_anything(struct client *c)
{
    const size_t n = sizeof MESSAGES / sizeof MESSAGES[0];
    const size_t i = sh_read_u8(&c->in) % n;
    const struct sh_rpc_info *info = sh_rpc_info(MESSAGES[i].type);
    void *m = sh_arena_calloc(&c->arena, 1, info->struct_bytes);

    demand(m != NULL);
    MESSAGES[i].fill(c, m);
    if (info->from != 'S') (void)send_message(c, MESSAGES[i].type, m);
}

/* ---- messages that are nearly right ---------------------------------------------------------*/

static struct sh_rpc_handle stage_of(unsigned i)
{
    return (struct sh_rpc_handle){i & 1, 1};
}

/* A step that follows the last one; `wrong` bits spoil it. */
static void say_step(struct client *c)
{
    const uint8_t wrong = sh_read_u8(&c->in);
    struct sh_rpc_step m = {.epoch = c->epoch, .number = c->next};
    struct sh_rpc_row rows[ROWS] = {{0}};
    struct sh_rpc_edit edits[3] = {{.index = 0}, {.index = 1, .page = 1}, {0}};
    struct sh_rpc_seq seq = {.state_read = -1, .state_write = -1};
    const uint8_t shape = sh_read_u8(&c->in), at = sh_read_u8(&c->in);

    seq.n_rows = 1 + (shape & 7);
    for (int i = 0; i < seq.n_rows; i++) {
        rows[i] = (struct sh_rpc_row){.token = (at + i) % IDS, .pos = at % 120 + i};
        rows[i].last = rows[i].pos;
        rows[i].want = (uint8_t)((shape >> 3) & 3);
        rows[i].top_k = 3;
    }
    m.n_embd = !(shape & 0x60) ? 2 : 0;
    if (m.n_embd) rows[0].token = -1 - (at & 1);
    if (wrong & 1) fill_edit(c, &edits[2]);
    if (wrong & 2) fill_row(c, &rows[at & 7]);
    if (wrong & 4) fill_seq(c, &seq);
    m.edits = edits;
    m.n_edits = wrong & 1 ? 3 : 2;
    m.rows = rows;
    m.n_rows = (uint32_t)(wrong & 4 ? at & 7 : seq.n_rows);
    m.seqs = &seq;
    m.n_seqs = 1;
    m.ack = shape & 0x80 ? number(c) : c->next;
    if (wrong & 8) m.number = number(c);
    if (wrong & 16) m.epoch = number(c);
    m.hash = 1;
    for (unsigned i = 0; i < 2; i++) { // the hash does not cover itself
        uint64_t hash;
        struct client quiet = *c;
        m.stage = stage_of(i);
        quiet.lost = true;
        hash = send_message(&quiet, SH_RPC_MSG_STEP, &m);
        m.hash = wrong & 32 ? number(c) : hash;
        if (!(wrong & (i ? 64 : 128))) (void)send_message(c, SH_RPC_MSG_STEP, &m);
        if (i == 1 && wrong == 0) c->hash = hash;
    }
    if (wrong == 0) c->next++;
}

static void say_rows(struct client *c)
{
    static const float ROW[ROWS * WIDTH] = {1, 2, 3};
    const uint8_t wrong = sh_read_u8(&c->in), n = 1 + (sh_read_u8(&c->in) & 7);
    struct sh_rpc_hidden m = {.stage = stage_of(wrong & 1 ? 0 : 1),
                              .epoch = c->epoch,
                              .number = c->next - (c->next > 0) - (wrong >> 1 & 1),
                              .first_row = (uint32_t)(wrong >> 2 & 1),
                              .n_rows = n,
                              .data = {(const uint8_t *)ROW, n * (uint32_t)sizeof(float) * WIDTH}};

    if (wrong & 8) m.status = (uint32_t)number(c);
    if (wrong & 16) m.first_row = (uint32_t)number(c);
    if (wrong & 32) m.n_rows = (uint32_t)number(c);
    if (wrong & 64) m.format = (uint8_t)number(c);
    if (wrong & 128) m.data.n = (uint32_t)number(c) % (uint32_t)sizeof ROW;
    if (m.status) m.data.n = m.n_rows = 0;
    (void)send_message(c, SH_RPC_MSG_HIDDEN, &m);
}

static void say_stage_put(struct client *c)
{
    const uint8_t how = sh_read_u8(&c->in);
    struct sh_rpc_stage_put m = g.put[how & 1].m;
    uint8_t *graph = sh_arena_calloc(&c->arena, GRAPH_MAX, 1);
    int64_t *const limits[] = {&m.n_positions, &m.rows_max, &m.wanted_max};
    struct sh_rpc_group group = g.group;

    demand(graph != NULL);
    memcpy(graph, m.graph.ptr, m.graph.n);
    m.graph.ptr = graph;
    m.groups = &group;
    for (unsigned i = 0; i < (how >> 1 & 3u); i++)
        graph[sh_read_u16(&c->in) % m.graph.n] = sh_read_u8(&c->in);
    if (how & 8) *limits[how % 3] = (int64_t)number(c);
    if (how & 16) m.n_slots = (uint32_t)number(c);
    if (how & 32) group.pages = (int64_t)number(c);
    if (how & 64) m.n_seqs = (int32_t)(uint32_t)number(c);
    if (how & 128) m.first = !m.first;
    (void)send_message(c, SH_RPC_MSG_STAGE_PUT, &m);
}

static void say_reset(struct client *c)
{
    const struct sh_rpc_reset m = {.epoch = c->epoch + 1};

    (void)send_message(c, SH_RPC_MSG_RESET, &m);
    c->epoch++;
    c->next = 0;
    c->hash = SH_FNV_START;
}

static void converse(struct client *c)
{
    for (int i = 0; i < MESSAGES_MAX && sh_reader_left(&c->in) > 0 && !c->lost; i++) {
        const uint8_t what = sh_read_u8(&c->in);
        if (what < 0x60) {
            say_step(c);
        } else if (what < 0x90) {
            say_rows(c);
        } else if (what < 0xa8) {
            say_stage_put(c);
        } else if (what < 0xb8) {
            say_reset(c);
        } else {
            say_anything(c);
        }
        sh_arena_reset(&c->arena);
    }
}

/* All that the worker says until it is done, or has enough. */
static void read_to_the_end(struct client *c)
{
    uint8_t head[SH_RPC_HEAD_BYTES], *payload;
    struct sh_rpc_head h = {.type = 0};
    bool fatal = false;

    while (!fatal && receive(c, head, sizeof head)) {
        demand(!sh_rpc_head_get(&h, head, false, SH_RPC_REVISION, NULL));
        payload = sh_malloc((size_t)h.bytes + 1);
        demand(payload && receive(c, payload, h.bytes));
        fatal = h.type == SH_RPC_MSG_ERROR && payload[4];
        sh_free(payload);
    }
}

static void expect_order(void)
{
    struct sh_rpc_server_stats f;

    sh_rpc_server_revoke(g.server, ""); // what is still kept
    sh_rpc_server_stats(g.server, &f);
    demand(f.n_sessions == 0 && f.n_detached == 0 && f.n_connections == 0 && f.memory_used == 0);
    demand(sh_ledger_left(g.ledger) == sh_ledger_max(g.ledger));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client c = {.in = sh_reader_over(data, size), .hash = SH_FNV_START};
    const struct sh_rpc_bye bye = {.reason = sh_rpc_text_from("done")};
    uint64_t features = SH_RPC_OWN_FILES;

    if (size == 0) return 0;
    if (!g.made) make_worker();
    features |= (uint64_t)sh_read_u8(&c.in) << 1 & (SH_RPC_RESUME | SH_RPC_LINKS | SH_RPC_RELAY);
    demand(!sh_stream_pair(&c.mine, &c.theirs, 1 << 20, NULL));
    demand(!sh_thread_start(&c.serving, "serve", serve, &c, NULL));
    greet(&c, features);
    open_session(&c);
    converse(&c);
    (void)send_message(&c, SH_RPC_MSG_BYE, &bye);
    read_to_the_end(&c);
    sh_stream_close(c.mine);
    sh_thread_join(&c.serving);
    sh_arena_release(&c.arena);
    expect_order();
    return 0;
}

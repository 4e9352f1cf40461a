/* tests/host/workers_test.c - models over workers give the bits of an unsplit run, whatever the
 * split, the chunks and the neighbours; and cost the frames that they should.
 */
#include "cluster.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cpu/device.h"
#include "device/paced.h"
#include "engine/engine.h"

/* ---- bits -----------------------------------------------------------------------------------*/

static const int64_t LAYERS[CLUSTER_WORKERS][CLUSTER_WORKERS] = {
    {5}, {2, 3}, {3, 1, 1}, {1, 2, 1, 1}};

static void check_split(const struct cluster *c, int n, int64_t chunk, bool relay, const char *what)
{
    struct sh_host_options o = cluster_options(c, n);
    char text[96];

    o.n_layers_given = n;
    o.layers = LAYERS[n - 1];
    o.relay = relay;
    snprintf(text, sizeof text, "%s over %d workers, chunks of %lld%s", what, n, (long long)chunk,
             relay ? ", relayed" : "");
    cluster_check(c, &o, chunk, text);
}

// Chunks of 7 keep as many steps in flight as the pipeline takes, larger ones two and one.
static void workers__every_split_gives_the_same_bits(void **state)
{
    static const int64_t CHUNKS[] = {1, 7, 64, 0};
    struct cluster c;

    (void)state;
    cluster_open(&c, CLUSTER_WORKERS, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_Q8_0, 5);
    for (int n = 1; n <= CLUSTER_WORKERS; n++) {
        for (int i = 0; i < 4; i++)
            check_split(&c, n, CHUNKS[i], i % 2, "llama");
    }
    cluster_close(&c);
}

/* The pipeline driven by hand: `rows` per step, `flight` steps under way. */
static void submit_rows(struct sh_pipeline *p, const int32_t *ids, int32_t pos, int32_t n,
                        uint64_t number)
{
    const struct sh_step_seq seq = {.n_rows = n, .state_read = -1, .state_write = -1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_prelude map[8];
    struct sh_row rows[64];
    struct sh_step step = {
        .number = number, .prelude = map, .rows = rows, .n_rows = n, .seqs = &seq, .n_seqs = 1};

    for (int32_t i = 0; i < n; i++) {
        rows[i] = (struct sh_row){
            .token = ids[pos + i], .pos = pos + i, .last = pos + i, .want = SH_WANT_LOGITS};
        if ((pos + i) % 64 != 0) continue;
        map[step.n_prelude++] = (struct sh_prelude){
            .kind = SH_PRELUDE_MAP, .index = (pos + i) / 64, .page = (pos + i) / 64};
    }
    if (sh_pipeline_ops(p)->submit(p, &step, &err)) fail_msg("%s", err.message);
}

static void take_rows(struct sh_pipeline *p, float *logits, int32_t v)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_pipeline_result r;

    if (sh_pipeline_ops(p)->result(p, 60 * SH_SECOND, &r, &err)) fail_msg("%s", err.message);
    for (int32_t i = 0; i < r.n_results; i++)
        memcpy(logits + (int64_t)i * v, r.results[i].logits, (size_t)v * sizeof *logits);
    sh_pipeline_ops(p)->release(p, &r);
}

static void drive(struct sh_host *h, const int32_t *ids, int32_t rows, int flight, float *logits,
                  int32_t v)
{
    struct sh_pipeline *p = sh_host_pipeline(h);
    uint64_t number = 0;
    int32_t out = 0;

    for (int32_t at = 0; out < CLUSTER_IDS;) {
        const int32_t left = CLUSTER_IDS - at, n = left < rows ? left : rows;
        const int under_way = (at + rows - 1) / rows - out / rows;
        if (n > 0 && under_way < flight) {
            submit_rows(p, ids, at, n, number++);
            at += n;
            continue;
        }
        take_rows(p, logits + (int64_t)out * v, v);
        out += rows;
    }
}

static void workers__any_number_of_steps_in_flight(void **state)
{
    enum { V = 96, ROWS = 5 };
    float *want = rig_logits(CLUSTER_IDS), *have = rig_logits(CLUSTER_IDS);
    int32_t ids[CLUSTER_IDS];
    struct cluster c;
    char text[64];

    (void)state;
    cluster_open(&c, CLUSTER_WORKERS, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_Q8_0, 5);
    rig_ids(ids, CLUSTER_IDS, 11, V);
    for (int n = 0; n <= CLUSTER_WORKERS; n++) {
        for (int flight = 1; flight <= n + 1; flight++) {
            struct sh_host_options o = cluster_options(&c, n);
            struct sh_host *h;
            o.relay = flight % 2;
            h = cluster_host(&o);
            drive(h, ids, ROWS, flight, n ? have : want, V);
            snprintf(text, sizeof text, "%d workers, %d steps in flight", n, flight);
            if (n) rig_expect_equal(text, have, want, CLUSTER_IDS, V);
            sh_host_close(h);
        }
    }
    cluster_close(&c);
    sh_free(want);
    sh_free(have);
}

static void workers__every_kind_of_model(void **state)
{
    struct cluster c;

    (void)state;
    cluster_open(&c, 3, NULL);
    for (int kind = 0; kind < TM_KIND_COUNT; kind++) {
        cluster_model(&c, (enum tm_kind)kind, SH_DTYPE_F32, 5);
        check_split(&c, 2, 40, kind % 2, tm_name((enum tm_kind)kind));
        check_split(&c, 3, 1, (kind + 1) % 2, tm_name((enum tm_kind)kind));
    }
    cluster_close(&c);
}

static void workers__golden_models(void **state)
{
    static const char *const NAMES[] = {"llama-dense", "llama-dense-q4_0", "llama-moe",
                                        "llama-dense-mxfp4"};
    static const int64_t layers[] = {1, 1};
    struct cluster c;
    char path[96];

    (void)state;
    cluster_open(&c, 2, NULL);
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        struct sh_host_options o;
        snprintf(path, sizeof path, "tests/data/models/%s.gguf", NAMES[i]);
        cluster_use(&c, path);
        o = cluster_options(&c, 2);
        o.n_layers_given = 2;
        o.layers = layers;
        cluster_check(&c, &o, 33, NAMES[i]);
    }
    cluster_close(&c);
}

// Ends that lack what is optional find other ways, with the same bits.
static void workers__fewer_features(void **state)
{
    static const uint64_t FEATURES[] = {SH_RPC_CHECKSUM, SH_RPC_RESUME,
                                        SH_RPC_FEATURES_ALL & ~(uint64_t)SH_RPC_DATA,
                                        SH_RPC_FEATURES_ALL & ~(uint64_t)SH_RPC_LINKS,
                                        SH_RPC_FEATURES_ALL & ~(uint64_t)SH_RPC_OWN_FILES};
    struct sh_worker_options opt = {.models = "tests/data/models"};
    static const int64_t layers[] = {1, 1};
    struct cluster c;
    char text[64];

    (void)state;
    cluster_open(&c, 2, &opt);
    cluster_use(&c, "tests/data/models/llama-dense-q8_0.gguf");
    for (size_t i = 0; i < sizeof FEATURES / sizeof FEATURES[0]; i++) {
        struct sh_host_options o = cluster_options(&c, 2);
        o.n_layers_given = 2;
        o.layers = layers;
        o.features = FEATURES[i];
        snprintf(text, sizeof text, "features %llx", (unsigned long long)FEATURES[i]);
        cluster_check(&c, &o, 20, text);
    }
    cluster_close(&c);
}

/* ---- neighbours -----------------------------------------------------------------------------*/

// Two workers, a server of llama.cpp's protocol (the third worker), and this process.
static void workers__beside_servers_and_this_machine(void **state)
{
    static const int64_t layers[] = {1, 1, 2, 1};
    struct cluster c;

    (void)state;
    cluster_open(&c, 3, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_F32, 5);
    for (int chunk = 1; chunk <= 50; chunk += 49) {
        struct sh_host_options o = cluster_options(&c, 2);
        o.n_servers = 1;
        o.servers = &c.servers[2];
        o.with_local = true;
        o.n_layers_given = 4;
        o.layers = layers;
        cluster_check(&c, &o, chunk, "two workers, a server and this machine");
        o.n_layers_given = 0;
        cluster_check(&c, &o, chunk, "the same by free memory");
    }
    cluster_close(&c);
}

struct guest {
    const struct cluster *c;
    int n;
    int64_t chunk;
    struct sh_thread thread;
};

static void *be_guest(void *arg)
{
    const struct guest *g = arg;

    for (int i = 0; i < 3; i++)
        check_split(g->c, g->n, g->chunk, i % 2, "one of two hosts");
    return NULL;
}

static void workers__two_hosts_at_once(void **state)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct cluster c;
    struct guest g[2];

    (void)state;
    cluster_open(&c, 3, NULL);
    cluster_model(&c, TM_EXPERTS, SH_DTYPE_F32, 5);
    for (int i = 0; i < 2; i++) {
        g[i] = (struct guest){.c = &c, .n = 2 + i, .chunk = 5 + 20 * i, .thread = SH_THREAD_INIT};
        if (sh_thread_start(&g[i].thread, "guest", be_guest, &g[i], &err))
            fail_msg("%s", err.message);
    }
    for (int i = 0; i < 2; i++)
        sh_thread_join(&g[i].thread);
    cluster_close(&c);
}

/* ---- tokens ---------------------------------------------------------------------------------*/

enum { TOKENS = 40, PROMPT = 60 };

struct cost { /* per worker, over some tokens */
    uint64_t frames_out, frames_in, bytes_out, bytes_in;
};

static void take_cost(struct sh_host *h, struct cost *at)
{
    struct sh_host_network n;

    for (int i = 0; i < sh_host_n_peers(h); i++) {
        sh_host_network(h, i, &n);
        at[i] = (struct cost){n.frames_sent, n.frames_received, n.bytes_sent, n.bytes_received};
    }
}

// Generate; tokens are sampled where the model ends.
static void generate(struct sh_engine *e, const int32_t *prompt, int64_t n_prompt, int32_t *tokens,
                     int n)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_feed f = {.ids = prompt, .n = n_prompt, .sample = true};

    for (int i = 0; i < n; i++) {
        if (sh_engine_feed(e, &f, &tokens[i], &err)) fail_msg("%s", err.message);
        f.ids = &tokens[i];
        f.n = 1;
    }
}

static struct sh_engine *engine_of(struct sh_host *h, uint32_t seed)
{
    const struct sh_sampler_params sampler = SH_SAMPLER_DEFAULTS;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_engine *e;

    if (sh_engine_create(&e, sh_host_pipeline(h), sh_host_n_ctx(h), &err))
        fail_msg("%s", err.message);
    sh_engine_set_sampler(e, &sampler, seed);
    return e;
}

// Sampled tokens are the same as those of an unsplit run, with the same draws.
static void workers__tokens_are_sampled_at_the_end(void **state)
{
    int32_t ids[PROMPT], want[TOKENS], have[TOKENS];
    struct cluster c;

    (void)state;
    cluster_open(&c, 3, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_F16, 5);
    rig_ids(ids, PROMPT, 3, 96);
    for (int n = 0; n <= 3; n++) {
        const struct sh_host_options o = cluster_options(&c, n);
        struct sh_host *h = cluster_host(&o);
        struct sh_engine *e = engine_of(h, 17);
        generate(e, ids, PROMPT, n ? have : want, TOKENS);
        if (n) assert_memory_equal(have, want, sizeof want);
        sh_engine_destroy(e);
        sh_host_close(h);
    }
    cluster_close(&c);
}

/* One STEP to every worker, one RESULT from the last.  Where rows pass through the host, one HIDDEN
 * more out of each worker and into the next.  No byte grows with the context. */
static void check_cost(const struct cluster *c, bool relay)
{
    struct cost a[3], b[3], z[3];
    struct sh_host_options o = cluster_options(c, 3);
    int32_t ids[PROMPT], tokens[TOKENS];
    struct sh_remote_route route;
    struct sh_engine *e;
    struct sh_host *h;

    o.relay = relay;
    h = cluster_host(&o);
    e = engine_of(h, 5);
    rig_ids(ids, PROMPT, 4, 96);
    // The recent tokens that the sampler looks at are 64 from here on.
    generate(e, ids, PROMPT, tokens, TOKENS);
    take_cost(h, a);
    generate(e, &tokens[TOKENS - 1], 1, tokens, TOKENS);
    take_cost(h, b);
    generate(e, &tokens[TOKENS - 1], 1, tokens, TOKENS);
    take_cost(h, z);
    for (int i = 0; i < 3; i++) {
        const bool here = relay || (sh_host_route(h, i, &route) && !route.direct);
        const bool before = i > 0 && (relay || (sh_host_route(h, i - 1, &route) && !route.direct));
        assert_int_equal(b[i].frames_out - a[i].frames_out, TOKENS * (1 + before));
        assert_int_equal(b[i].frames_in - a[i].frames_in, TOKENS * (i == 2 || here));
        // Beats come now and then, and a page is mapped once in 64 tokens.
        assert_in_range(z[i].bytes_out - b[i].bytes_out, 1, b[i].bytes_out - a[i].bytes_out + 2000);
        assert_in_range(z[i].bytes_in - b[i].bytes_in, 0, b[i].bytes_in - a[i].bytes_in + 2000);
    }
    sh_engine_destroy(e);
    sh_host_close(h);
}

static void workers__frames_of_a_token(void **state)
{
    struct cluster c;

    (void)state;
    cluster_open(&c, 3, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_Q8_0, 3);
    check_cost(&c, true);
    check_cost(&c, false);
    cluster_close(&c);
}

// Neither here nor on the workers, which live in this process.  Now and then a queue grows, to what
// is then kept: far less often than once in a token.
static void workers__a_token_allocates_nothing(void **state)
{
    int32_t ids[PROMPT], tokens[TOKENS];
    struct cluster c;

    (void)state;
    cluster_open(&c, 3, NULL);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_Q8_0, 3);
    rig_ids(ids, PROMPT, 4, 96);
    for (int relay = 0; relay < 2; relay++) {
        struct sh_host_options o = cluster_options(&c, 3);
        struct sh_engine *e;
        struct sh_host *h;
        o.relay = relay;
        h = cluster_host(&o);
        e = engine_of(h, 5);
        generate(e, ids, PROMPT, tokens, TOKENS);
        sh_mem_fail_after(TOKENS / 4);
        generate(e, &tokens[TOKENS - 1], 1, tokens, TOKENS);
        assert_true(sh_mem_fail_pending());
        sh_mem_fail_after(-1);
        sh_engine_destroy(e);
        sh_host_close(h);
    }
    cluster_close(&c);
}

/* ---- a step that takes too long -------------------------------------------------------------*/

// It fails with a sentence that names worker, stage and step; the next one, in time, is right.
static void check_slow(int slow_one, bool relay)
{
    const struct sh_paced_options pace = {.row_ns = 20 * SH_MS};
    const struct sh_cpu_options cpu = {.n_threads = 1};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_worker_options slow = {.device = NULL};
    struct sh_device *inner;
    static const int64_t layers[] = {1, 2};
    int32_t ids[PROMPT], token;
    char place[32];
    struct sh_feed f = {.ids = ids, .n = PROMPT, .sample = true};
    struct sh_host_options o;
    struct sh_engine *e;
    struct sh_host *h;
    struct cluster c;

    if (sh_cpu_device_open(&inner, &cpu, &err) ||
        sh_paced_device_open(&slow.device, inner, &pace, &err)) {
        fail_msg("%s", err.message);
    }
    cluster_open(&c, 2, NULL);
    cluster_stop(&c, slow_one);
    cluster_start(&c, slow_one, &slow);
    cluster_model(&c, TM_LLAMA, SH_DTYPE_F32, 3);
    o = cluster_options(&c, 2);
    o.n_layers_given = 2;
    o.layers = layers;
    o.relay = relay;
    o.step_timeout_ms = 400; // a row takes 20 ms, the prompt 1.2 s
    h = cluster_host(&o);
    e = engine_of(h, 1);
    rig_ids(ids, PROMPT, 3, 96);
    f.chunk = PROMPT;
    assert_int_equal(sh_engine_feed(e, &f, &token, &err), SHOAL_ERR_TIMEOUT);
    snprintf(place, sizeof place, "stage %d, step 0", slow_one);
    if (!strstr(err.message, c.list[slow_one].address) || !strstr(err.message, place))
        fail_msg("%s", err.message);
    f.n = 1;
    f.chunk = 0;
    if (sh_engine_feed(e, &f, &token, &err)) fail_msg("%s", err.message);
    sh_engine_destroy(e);
    sh_host_close(h);
    cluster_close(&c);
    sh_device_close(slow.device);
    sh_device_close(inner);
}

static void workers__a_step_over_its_time(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        check_slow(i % 2, i / 2);
}

/* ---- many epochs, and ends ------------------------------------------------------------------*/

static void workers__begin_anew(void **state)
{
    const struct sh_sampler_params sampler = SH_SAMPLER_DEFAULTS;
    struct shoal_error err = SHOAL_ERROR_INIT;
    int32_t ids[PROMPT], want[TOKENS], have[TOKENS];
    struct sh_host_options o;
    struct cluster c;
    struct sh_engine *e;
    struct sh_host *h;

    (void)state;
    cluster_open(&c, 2, NULL);
    cluster_model(&c, TM_HYBRID, SH_DTYPE_F32, 4);
    o = cluster_options(&c, 2);
    h = cluster_host(&o);
    rig_ids(ids, PROMPT, 8, 96);
    e = engine_of(h, 2);
    for (int i = 0; i < 4; i++) {
        if (sh_engine_clear(e, &err)) fail_msg("%s", err.message); // a new epoch
        sh_engine_set_sampler(e, &sampler, 2);
        generate(e, ids, PROMPT - i % 2, i ? have : want, TOKENS);
        if (i == 2) assert_memory_equal(have, want, sizeof want);
    }
    sh_engine_destroy(e);
    sh_host_close(h);
    cluster_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(workers__every_split_gives_the_same_bits),
        cmocka_unit_test(workers__any_number_of_steps_in_flight),
        cmocka_unit_test(workers__every_kind_of_model),
        cmocka_unit_test(workers__golden_models),
        cmocka_unit_test(workers__fewer_features),
        cmocka_unit_test(workers__beside_servers_and_this_machine),
        cmocka_unit_test(workers__two_hosts_at_once),
        cmocka_unit_test(workers__tokens_are_sampled_at_the_end),
        cmocka_unit_test(workers__frames_of_a_token),
        cmocka_unit_test(workers__a_token_allocates_nothing),
        cmocka_unit_test(workers__a_step_over_its_time),
        cmocka_unit_test(workers__begin_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

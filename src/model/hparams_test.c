/* model/hparams_test.c - hyper-parameters: what is read, the defaults, and a sentence with key and
 * value for whatever is wrong.
 */
#include "model/hparams.h"

#include "model/tiny_test.h"

struct read { /* what came out */
    struct tiny t;
    struct sh_arena arena;
    struct sh_hparams hp;
    struct shoal_error err;
    enum shoal_status st;
};

static void begin(struct read *r)
{
    memset(r, 0, sizeof *r);
    tiny_llama(&r->t, 3);
}

static void run(struct read *r)
{
    tiny_open(&r->t);
    r->st = sh_hparams_read(&r->hp, r->t.file, SH_STR_LIT("llama"), &r->arena, &r->err);
    tiny_close(&r->t);
}

static void end(struct read *r)
{
    sh_arena_release(&r->arena);
}

static void expect_ok(struct read *r)
{
    run(r);
    if (r->st) fail_msg("%s", r->err.message);
}

static void expect_refused(struct read *r, const char *message)
{
    run(r);
    assert_int_equal(r->st, SHOAL_ERR_FORMAT);
    assert_string_equal(r->err.message, message);
    end(r);
}

static void expect_float(float have, double want)
{
    if (have != (float)want) fail_msg("%.9g, expected %.9g", (double)have, want);
}

static void hparams__a_small_llama(void **state)
{
    struct read r;

    (void)state;
    begin(&r);
    expect_ok(&r);
    assert_int_equal(r.hp.n_layers, 3);
    assert_int_equal(r.hp.width, TINY_WIDTH);
    assert_int_equal(r.hp.n_ctx_train, 1024);
    assert_int_equal(r.hp.head_k, TINY_HEAD);
    assert_int_equal(r.hp.head_v, TINY_HEAD);
    assert_int_equal(r.hp.n_rot, TINY_HEAD); // its default
    expect_float(r.hp.eps_rms, 1e-5);
    for (int il = 0; il < 3; il++) {
        assert_int_equal(r.hp.layer[il].n_head, TINY_HEADS);
        assert_int_equal(r.hp.layer[il].n_head_kv, TINY_KV);
        assert_int_equal(r.hp.layer[il].n_ff, TINY_FF);
    }
    assert_int_equal(r.hp.n_expert, 0);
    assert_true(r.hp.rope_finetuned);
    expect_float(r.hp.rope.freq_base, 10000);
    expect_float(r.hp.rope.freq_scale, 1);
    expect_float(r.hp.rope.attn_factor, 1);
    expect_float(r.hp.rope.ext_factor, 0);
    expect_float(r.hp.rope.beta_fast, 32);
    expect_float(r.hp.rope.beta_slow, 1);
    assert_int_equal(r.hp.rope.n_dims, TINY_HEAD);
    assert_int_equal(r.hp.rope.n_ctx_orig, 1024);
    end(&r);
}

static void hparams__defaults_follow_other_keys(void **state)
{
    struct read r;

    (void)state;
    begin(&r);
    tiny_no_key(&r.t, "llama.attention.head_count_kv");
    tiny_no_key(&r.t, "llama.attention.key_length");
    tiny_int(&r.t, "llama.attention.value_length", 0); // as good as absent
    tiny_int(&r.t, "llama.attention.head_count", 4);
    tiny_int(&r.t, "llama.nextn_predict_layers", 1);
    tiny_int(&r.t, "llama.rope.dimension_count", 0);
    expect_ok(&r);
    assert_int_equal(r.hp.n_layers, 2);
    assert_int_equal(r.hp.layer[0].n_head_kv, 4);
    assert_int_equal(r.hp.head_k, TINY_WIDTH / 4);
    assert_int_equal(r.hp.head_v, TINY_WIDTH / 4);
    assert_int_equal(r.hp.n_rot, TINY_WIDTH / 4);
    end(&r);
}

static void hparams__per_layer_values(void **state)
{
    struct read r;

    (void)state;
    begin(&r);
    tiny_ints(&r.t, "llama.attention.head_count", 3, (const int64_t[]){6, 2, 4});
    tiny_ints(&r.t, "llama.attention.head_count_kv", 3, (const int64_t[]){3, 0, 1});
    tiny_ints(&r.t, "llama.feed_forward_length", 4, (const int64_t[]){10, 20, 30, 40});
    expect_ok(&r);
    assert_int_equal(r.hp.layer[1].n_head, 2);
    assert_int_equal(r.hp.layer[1].n_head_kv, 0); // no attention
    assert_int_equal(r.hp.layer[2].n_head_kv, 1);
    assert_int_equal(r.hp.layer[2].n_ff, 30);
    end(&r);
}

static void hparams__rope_scaling(void **state)
{
    static const struct {
        const char *type;
        double factor, own, scale, ext, attn;
    } CASE[] = {{NULL, 4, 0, 0.25, 0, 1},   {"linear", 8, 0, 0.125, 0, 1},
                {"none", 4, 0, 1, 0, 1},    {"linear", 0, 0, 1, 0, 1},
                {"linear", -2, 0, 1, 0, 1}, {"longrope", 4, 1.2, 0.25, 0, 1.2},
                {"yarn", 4, 0, 0.25, 1, 1}, {"yarn", 4, 1.5, 0.25, 1, 1.5},
                {"yarn", 1, 0, 1, 1, 1}};
    struct read r;

    (void)state;
    for (size_t i = 0; i < sizeof CASE / sizeof CASE[0]; i++) {
        begin(&r);
        if (CASE[i].type) tiny_text(&r.t, "llama.rope.scaling.type", CASE[i].type);
        tiny_float(&r.t, "llama.rope.scaling.factor", CASE[i].factor);
        if (CASE[i].own != 0) tiny_float(&r.t, "llama.rope.scaling.attn_factor", CASE[i].own);
        tiny_int(&r.t, "llama.rope.scaling.original_context_length", 256);
        expect_ok(&r);
        expect_float(r.hp.rope.freq_scale, CASE[i].scale);
        expect_float(r.hp.rope.ext_factor, CASE[i].ext);
        // The op multiplies by 1 + ln(factor)/10 by itself: the net magnitude is that of the file.
        assert_true(r.hp.rope.attn_factor > (float)CASE[i].attn * 0.999999f);
        assert_true(r.hp.rope.attn_factor < (float)CASE[i].attn * 1.000001f);
        assert_int_equal(r.hp.rope.n_ctx_orig, 256);
        end(&r);
    }
    begin(&r);
    tiny_float(&r.t, "llama.rope.scale_linear", 2); // the old name
    tiny_float(&r.t, "llama.rope.freq_base", 500000);
    expect_ok(&r);
    expect_float(r.hp.rope.freq_scale, 0.5);
    expect_float(r.hp.rope.freq_base, 500000);
    end(&r);
}

static void hparams__missing_keys_are_named(void **state)
{
    static const char *const KEY[] = {"block_count", "embedding_length", "context_length"};
    struct read r;

    (void)state;
    for (int i = 0; i < 3; i++) {
        char name[64], message[96];
        snprintf(name, sizeof name, "llama.%s", KEY[i]);
        snprintf(message, sizeof message, "model: key %s is missing", name);
        begin(&r);
        tiny_no_key(&r.t, name);
        expect_refused(&r, message);
    }
}

static void hparams__odd_values_are_told(void **state)
{
    static const struct {
        const char *key;
        int64_t value;
        const char *message;
    } CASE[] = {
        {"block_count", 0, "model: llama.block_count is 0, expected a number from 1 to 1024"},
        {"block_count", -1, "model: llama.block_count is -1, expected a number from 1 to 1024"},
        {"block_count", 1025, "model: llama.block_count is 1025, expected a number from 1 to 1024"},
        {"nextn_predict_layers", 3,
         "model: llama.nextn_predict_layers is 3, expected a number from 0 to 2"},
        {"embedding_length", 0,
         "model: llama.embedding_length is 0, expected a number from 1 to 1048576"},
        {"context_length", INT64_C(1) << 31,
         "model: llama.context_length is 2147483648, expected a number from 1 to 2147483647"},
        {"attention.head_count", -1,
         "model: llama.attention.head_count of block 0 is no number from 0 to 65536"},
        {"attention.head_count", 65537,
         "model: llama.attention.head_count of block 0 is no number from 0 to 65536"},
        {"attention.head_count_kv", 4, "model: block 0 has 6 heads for 4 key-value heads"},
        {"feed_forward_length", INT64_C(1) << 40,
         "model: llama.feed_forward_length of block 0 is no number from 0 to 16777216"},
        {"attention.key_length", -1,
         "model: llama.attention.key_length is -1, expected a number from 0 to 65536"},
        {"rope.dimension_count", 70000,
         "model: llama.rope.dimension_count is 70000, expected a number from 0 to 65536"},
        {"expert_count", -5, "model: llama.expert_count is -5, expected a number from 0 to 65536"},
        {"expert_count", 8, "model: 8 experts and expert_used_count is 0"},
        {"ssm.conv_kernel", 65,
         "model: llama.ssm.conv_kernel is 65, expected a number from 0 to 64"},
    };
    struct read r;

    (void)state;
    for (size_t i = 0; i < sizeof CASE / sizeof CASE[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "llama.%s", CASE[i].key);
        begin(&r);
        tiny_int(&r.t, name, CASE[i].value);
        expect_refused(&r, CASE[i].message);
    }
    begin(&r);
    tiny_int(&r.t, "llama.expert_count", 4);
    tiny_int(&r.t, "llama.expert_used_count", 5);
    expect_refused(&r, "model: 5 of 4 experts are used");
}

static void expect_names(struct read *r, const char *key, const char *what)
{
    run(r);
    assert_int_equal(r->st, SHOAL_ERR_FORMAT);
    if (!strstr(r->err.message, key) || !strstr(r->err.message, what))
        fail_msg("\"%s\" does not name %s and %s", r->err.message, key, what);
    end(r);
}

static void hparams__odd_kinds_are_told(void **state)
{
    struct read r;

    (void)state;
    begin(&r);
    tiny_text(&r.t, "llama.block_count", "many");
    expect_names(&r, "llama.block_count", "string");
    begin(&r);
    tiny_float(&r.t, "llama.embedding_length", 64);
    expect_names(&r, "llama.embedding_length", "64");
    begin(&r);
    tiny_text(&r.t, "llama.rope.freq_base", "high");
    expect_names(&r, "llama.rope.freq_base", "string");
    begin(&r);
    tiny_int(&r.t, "llama.rope.scaling.type", 4);
    expect_names(&r, "llama.rope.scaling.type", "4");
    begin(&r);
    tiny_int(&r.t, "llama.rope.scaling.finetuned", 2);
    expect_names(&r, "llama.rope.scaling.finetuned", "2");
    begin(&r);
    tiny_ints(&r.t, "llama.attention.head_count_kv", 2, (const int64_t[]){3, 3});
    expect_refused(&r, "model: llama.attention.head_count_kv has 2 entries for 3 blocks");
    begin(&r);
    tiny_ints(&r.t, "llama.feed_forward_length", 3, (const int64_t[]){3, -3, 3});
    expect_refused(&r,
                   "model: llama.feed_forward_length of block 1 is no number from 0 to 16777216");
    begin(&r);
    tiny_text(&r.t, "llama.attention.head_count", "six");
    expect_refused(&r, "model: llama.attention.head_count of block 0 is no number from 0 to 65536");
}

static void hparams__no_memory_is_a_status(void **state)
{
    struct read r;

    (void)state;
    begin(&r);
    tiny_open(&r.t);
    sh_mem_fail_after(0);
    r.st = sh_hparams_read(&r.hp, r.t.file, SH_STR_LIT("llama"), &r.arena, &r.err);
    sh_mem_fail_after(-1);
    assert_int_equal(r.st, SHOAL_ERR_NOMEM);
    assert_string_equal(r.err.message, "model: no memory for 3 layers");
    tiny_close(&r.t);
    end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hparams__a_small_llama),
        cmocka_unit_test(hparams__defaults_follow_other_keys),
        cmocka_unit_test(hparams__per_layer_values),
        cmocka_unit_test(hparams__rope_scaling),
        cmocka_unit_test(hparams__missing_keys_are_named),
        cmocka_unit_test(hparams__odd_values_are_told),
        cmocka_unit_test(hparams__odd_kinds_are_told),
        cmocka_unit_test(hparams__no_memory_is_a_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

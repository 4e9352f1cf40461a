/* Descriptions of models: what they say, and that nothing in a file can steer a terminal. */
#include "gguf/describe.h"

#include "gguf/bytes_test.h"

#include <math.h>
#include <stdio.h>

#include "gguf/show_priv.h"
#include "gguf/write.h"

static void describe_ok(const struct sh_gguf *g, enum sh_describe_form form, struct sh_buf *out)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_gguf_describe(g, form, out, &err)) assert_string_equal(err.message, "");
    assert_non_null(out->ptr);
    assert_int_equal(out->ptr[out->len - 1], '\n');
}

static void has(const struct sh_buf *b, const char *line)
{
    if (!strstr(b->ptr, line)) assert_string_equal(b->ptr, line);
}

static void has_not(const struct sh_buf *b, const char *text)
{
    if (strstr(b->ptr, text)) assert_string_equal(b->ptr, "");
}

/* Only newlines and characters that show, in sound UTF-8. */
static void is_harmless(const struct sh_buf *b)
{
    size_t n;

    for (size_t i = 0; i < b->len; i += n) {
        const int32_t c = sh_gguf_utf8_next(b->ptr + i, b->len - i, &n);
        assert_int_not_equal(c, -1);
        assert_true(c == '\n' || (c >= 0x20 && c < 0x7f) || c >= 0xa0);
        if (c != '\n') assert_false(sh_gguf_char_acts(c));
    }
}

static void describe__a_model_in_text(void **state)
{
    struct sh_buf b = SH_BUF_INIT;
    struct sh_gguf *g = NULL;

    (void)state;
    assert_int_equal(sh_gguf_open(&g, "tests/data/models/llama-dense-q4_0.gguf", NULL), SHOAL_OK);
    describe_ok(g, SH_DESCRIBE_TEXT, &b);
    has(&b, "tests/data/models/llama-dense-q4_0.gguf\n"
            "GGUF version 3, 47,168 bytes (46.1 KiB), 25 metadata keys, 22 tensors\n");
    has(&b, "  architecture          llama\n");
    has(&b, "  name                  tiny llama-dense\n");
    has(&b, "  parameters            75,084 (75.1 thousand)\n");
    has(&b, "  quantisation          Q4_0: f32 3.1 %, q4_0 96.9 %\n");
    has(&b, "  attention.layer_norm_rms_epsilon  0.005\n");
    has(&b, "  rope.freq_base                    5000\n");
    has(&b, "  tokens                104: 101 normal, 3 control\n");
    has(&b, "  bos                   1  <|bos|>\n");
    has(&b, "  tokenizer.ggml.merges                   string[4]    [\"Ġ t\", \"h e\"");
    has(&b, "  blk.0.attn_q.weight       q4_0     64 x 96              3,456\n");
    has(&b, "  all             22              75,084              43,376  100.0 %\n");
    is_harmless(&b);
    sh_buf_release(&b);
    sh_gguf_close(g);
}

static void describe__a_model_in_json(void **state)
{
    struct sh_buf b = SH_BUF_INIT;
    struct sh_gguf *g = NULL;

    (void)state;
    assert_int_equal(sh_gguf_open(&g, "tests/data/models/llama-moe.gguf", NULL), SHOAL_OK);
    describe_ok(g, SH_DESCRIBE_JSON, &b);
    has(&b, "  \"architecture\": \"llama\",\n");
    has(&b, "    \"llama.expert_count\": {\"type\": \"u32\", \"value\": 8},\n");
    has(&b, "    {\"name\": \"blk.0.ffn_gate_inp.weight\", \"type\": \"f32\", \"shape\": [64, 8], "
            "\"bytes\": 2048, ");
    is_harmless(&b);
    sh_buf_release(&b);
    sh_gguf_close(g);
}

/* A model whose every string is an attack on a terminal. */
static struct sh_gguf *hostile(struct sh_buf *bytes)
{
    const struct sh_str EVIL =
        SH_STR_LIT("\x1b]0;owned\x07\r\n\"\\\xff\xc3\x28\xe2\x80\xae\x7f\xc2\x9b");
    static const float x[4] = {0};
    struct sh_gguf_writer *w = sh_gguf_writer_create();
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;
    int64_t many[1000] = {0};

    assert_non_null(w);
    sh_gguf_put_str(w, "general.architecture", EVIL);
    sh_gguf_put_str(w, "general.name", EVIL);
    sh_gguf_put_u32(w, "\x1b[2J.\x9b", 1);
    sh_gguf_put_strs(w, "tokenizer.ggml.tokens", (const struct sh_str[]){EVIL, EVIL}, 2);
    sh_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
    sh_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
    sh_gguf_put_str(w, "tokenizer.chat_template", EVIL);
    sh_gguf_put_u64(w, "big", UINT64_MAX);
    sh_gguf_put_f32(w, "nan", NAN);
    sh_gguf_put_f64(w, "minus", -INFINITY);
    sh_gguf_put_f64(w, "tenth", 0.1);
    sh_gguf_put_ints(w, "many", SH_GGUF_I8, many, 1000);
    sh_gguf_put_tensor(w, EVIL, SH_DTYPE_F32, 1, (const int64_t[]){4}, x);
    if (sh_gguf_write_memory(w, bytes, &err)) assert_string_equal(err.message, "");
    if (sh_gguf_open_memory(&g, bytes->ptr, bytes->len, "evil\x1b.gguf", &err)) {
        assert_string_equal(err.message, "");
    }
    sh_gguf_writer_destroy(w);
    return g;
}

static void describe__hostile_strings(void **state)
{
    struct sh_buf bytes = SH_BUF_INIT, text = SH_BUF_INIT, json = SH_BUF_INIT;
    struct sh_gguf *g = hostile(&bytes);

    (void)state;
    describe_ok(g, SH_DESCRIBE_TEXT, &text);
    is_harmless(&text);
    has(&text, "evil\\u{1b}.gguf\n");
    has(&text, "name                  "
               "\\u{1b}]0;owned\\u{7}\\r\\n\"\\\\\\xff\\xc3(\\u{202e}\\u{7f}\\u{9b}\n");
    has(&text, "  bos                   1  \\u{1b}]0;owned");
    has(&text, "  eos                   2  (no such token)\n");
    has(&text, "\\u{1b}[2J.\\x9b");
    has(&text, " i8[1000] ");
    has(&text, "[0, 0, 0, 0, 0, 0, 0, 0, ...]\n");

    describe_ok(g, SH_DESCRIBE_JSON, &json);
    is_harmless(&json);
    has(&json, "\"name\": "
               "\"\\u001b]0;owned\\u0007\\u000d\\n\\\"\\\\\xef\xbf\xbd\xef\xbf\xbd("
               "\\u202e\\u007f\\u009b\"");
    has(&json, "\"big\": {\"type\": \"u64\", \"value\": 18446744073709551615}");
    has(&json, "\"nan\": {\"type\": \"f32\", \"value\": \"nan\"}");
    has(&json, "\"minus\": {\"type\": \"f64\", \"value\": \"-inf\"}");
    has(&json, "\"tenth\": {\"type\": \"f64\", \"value\": 0.1}");
    has(&json,
        "\"many\": {\"type\": \"array\", \"of\": \"i8\", \"length\": 1000, \"first\": [0, 0, ");
    has_not(&json, "\x1b");
    sh_gguf_close(g);
    sh_buf_release(&bytes);
    sh_buf_release(&text);
    sh_buf_release(&json);
}

static void describe__an_empty_model(void **state)
{
    struct sh_buf bytes = SH_BUF_INIT, out = SH_BUF_INIT;
    struct sh_gguf *g = NULL;

    (void)state;
    put_header(&bytes, 2, 0, 0);
    assert_int_equal(sh_gguf_open_memory(&g, bytes.ptr, bytes.len, "e.gguf", NULL), SHOAL_OK);
    describe_ok(g, SH_DESCRIBE_TEXT, &out);
    has(&out, "e.gguf\nGGUF version 2, 24 bytes, 0 metadata keys, 0 tensors\n");
    has(&out, "  architecture          (not said)\n");
    has_not(&out, "nan");
    sh_buf_clear(&out);
    describe_ok(g, SH_DESCRIBE_JSON, &out);
    has(&out,
        "  \"bits_per_weight\": 0,\n  \"types\": {},\n  \"metadata\": {},\n  \"tensors\": []\n}\n");
    sh_gguf_close(g);
    sh_buf_release(&bytes);
    sh_buf_release(&out);
}

static void describe__no_memory(void **state)
{
    struct sh_buf bytes = SH_BUF_INIT;
    struct sh_gguf *g = hostile(&bytes);

    (void)state;
    for (int form = SH_DESCRIBE_TEXT; form <= SH_DESCRIBE_JSON; form++) {
        for (int i = 0;; i++) {
            struct sh_buf out = SH_BUF_INIT;
            enum shoal_status st;
            sh_mem_fail_after(i);
            st = sh_gguf_describe(g, (enum sh_describe_form)form, &out, NULL);
            sh_mem_fail_after(-1);
            assert_true(st == SHOAL_OK || st == SHOAL_ERR_NOMEM);
            if (st) assert_int_equal(out.len, 0);
            sh_buf_release(&out);
            if (!st) {
                assert_in_range(i, 3, 1000);
                break;
            }
        }
    }
    sh_gguf_close(g);
    sh_buf_release(&bytes);
}

static void describe__numbers(void **state)
{
    static const struct {
        double d;
        bool f32;
        const char *text;
    } CASES[] = {
        {0, false, "0"},
        {1000, true, "1000"},
        {-1000000, false, "-1000000"},
        {(double)0.1f, true, "0.1"},
        {(double)0.1f, false, "0.10000000149011612"},
        {(double)1e-5f, true, "1e-05"},
        {1e300, false, "1e+300"},
        {1.0 / 3, false, "0.3333333333333333"},
        {(double)3.4028235e38f, true, "3.4028235e+38"},
        {NAN, true, "nan"},
        {-INFINITY, true, "-inf"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        assert_string_equal(sh_gguf_show_double(CASES[i].d, CASES[i].f32).text, CASES[i].text);
    }
    assert_string_equal(sh_gguf_show_count(0).text, "0");
    assert_string_equal(sh_gguf_show_count(999).text, "999");
    assert_string_equal(sh_gguf_show_count(1000).text, "1,000");
    assert_string_equal(sh_gguf_show_count(UINT64_MAX).text, "18,446,744,073,709,551,615");
}

static void describe__utf8(void **state)
{
    static const struct {
        const char *bytes;
        int32_t code;
        size_t n;
    } CASES[] = {
        {"a", 'a', 1},
        {"\xc3\xa9", 0xe9, 2},
        {"\xe2\x82\xac", 0x20ac, 3},
        {"\xf0\x9f\x98\x80", 0x1f600, 4},
        {"\xf4\x8f\xbf\xbf", 0x10ffff, 4},
        {"\x80", -1, 1},
        {"\xc0\x80", -1, 1},         // overlong
        {"\xe0\x9f\xbf", -1, 1},     // overlong
        {"\xf0\x8f\xbf\xbf", -1, 1}, // overlong
        {"\xed\xa0\x80", -1, 1},     // a surrogate
        {"\xf4\x90\x80\x80", -1, 1}, // beyond Unicode
        {"\xe2\x82", -1, 1},         // cut
        {"\xff", -1, 1},
    };
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        assert_int_equal(sh_gguf_utf8_next(CASES[i].bytes, strlen(CASES[i].bytes), &n),
                         CASES[i].code);
        assert_int_equal(n, CASES[i].n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(describe__a_model_in_text),
        cmocka_unit_test(describe__a_model_in_json),
        cmocka_unit_test(describe__hostile_strings),
        cmocka_unit_test(describe__an_empty_model),
        cmocka_unit_test(describe__no_memory),
        cmocka_unit_test(describe__numbers),
        cmocka_unit_test(describe__utf8),
    };
    return cmocka_run_group_tests_name("gguf describe", tests, NULL, NULL);
}

/* tests/host/api_test.c - the installed interface on a small model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <shoal/shoal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/cluster.h"

#define MODEL "tests/data/models/llama-dense.gguf"
#define PROMPT "The cat and the dog"

struct text {
    char bytes[4096];
    size_t len;
    int calls_left; /* 0: unlimited */
};

static bool collect(void *user, const char *bytes, size_t n)
{
    struct text *t = user;

    assert_in_range(t->len + n, 1, sizeof t->bytes - 1);
    memcpy(t->bytes + t->len, bytes, n);
    t->len += n;
    t->bytes[t->len] = '\0';
    return t->calls_left == 0 || --t->calls_left > 0;
}

static struct shoal *open_model(void)
{
    struct shoal_options o = SHOAL_OPTIONS_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal *s = NULL;

    o.model_path = MODEL;
    o.n_ctx = 256;
    if (shoal_open(&s, &o, &err)) fail_msg("%s", err.message);
    assert_non_null(s);
    return s;
}

static struct text generate(struct shoal *s, const struct shoal_params *p)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct text t = {.len = 0};

    if (shoal_generate(s, PROMPT, p, collect, &t, &err)) fail_msg("%s", err.message);
    return t;
}

static void api__each_call_begins_anew(void **state)
{
    struct shoal *s = open_model();
    struct shoal_params p = SHOAL_PARAMS_INIT;
    struct text a, b;

    (void)state;
    p.n_predict = 20;
    p.seed = 5;
    a = generate(s, &p);
    b = generate(s, &p);
    assert_in_range(a.len, 5, 4000);
    assert_string_equal(a.bytes, b.bytes);
    p.seed = 6;
    b = generate(s, &p);
    assert_string_not_equal(a.bytes, b.bytes);
    shoal_close(s);
}

static void api__receiver_ends(void **state)
{
    struct shoal *s = open_model();
    struct shoal_params p = SHOAL_PARAMS_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct text whole, part = {.calls_left = 3};

    (void)state;
    p.n_predict = 20;
    p.temp = 0;
    whole = generate(s, &p);
    assert_int_equal(shoal_generate(s, PROMPT, &p, collect, &part, &err), SHOAL_OK);
    assert_int_equal(part.calls_left, 0);
    assert_true(part.len < whole.len);
    assert_memory_equal(whole.bytes, part.bytes, part.len);
    shoal_close(s);
}

static void api__cancel(void **state)
{
    struct shoal *s = open_model();
    struct shoal_params p = SHOAL_PARAMS_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct text t = {.len = 0};

    (void)state;
    p.n_predict = 4;
    shoal_cancel(s);
    assert_int_equal(shoal_generate(s, PROMPT, &p, collect, &t, &err), SHOAL_ERR_CANCELLED);
    assert_int_equal(t.len, 0);
    t = generate(s, &p); // that one was meant, not those after it
    assert_true(t.len > 0);
    shoal_close(s);
}

/* The same text over two workers as from this machine alone. */
static void api__workers(void **state)
{
    struct shoal_options o = SHOAL_OPTIONS_INIT;
    struct shoal_params p = SHOAL_PARAMS_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    char address[2][72];
    const char *workers[2] = {address[0], address[1]};
    struct text alone, split;
    struct cluster c;
    struct shoal *s;

    (void)state;
    p.n_predict = 20;
    s = open_model();
    alone = generate(s, &p);
    shoal_close(s);
    cluster_open(&c, 2, NULL);
    for (int i = 0; i < 2; i++)
        (void)snprintf(address[i], sizeof address[i], "%s", c.list[i].address);
    o.model_path = MODEL;
    o.n_ctx = 256;
    o.workers = workers;
    o.n_workers = 2;
    if (shoal_open(&s, &o, &err)) fail_msg("%s", err.message);
    split = generate(s, &p);
    shoal_close(s);
    assert_string_equal(split.bytes, alone.bytes);
    cluster_close(&c);
    o.n_workers = 1;
    assert_int_equal(shoal_open(&s, &o, &err), SHOAL_ERR_PEER); // nobody there any more
    assert_non_null(strstr(err.message, "127.0.0.1:"));
    o.n_workers = 33;
    assert_int_equal(shoal_open(&s, &o, &err), SHOAL_ERR_ARG);
}

static void api__errors(void **state)
{
    struct shoal_options o = SHOAL_OPTIONS_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal *s = NULL;
    char *longer;

    (void)state;
    assert_int_equal(shoal_open(&s, &o, &err), SHOAL_ERR_ARG);
    o.model_path = "tests/data/models/none.gguf";
    assert_int_equal(shoal_open(&s, &o, &err), SHOAL_ERR_IO);
    assert_null(s);
    assert_non_null(strstr(err.message, "none.gguf"));
    assert_int_equal(shoal_open(&s, &o, NULL), SHOAL_ERR_IO);
    shoal_close(NULL);

    s = open_model();
    assert_int_equal(shoal_generate(s, "", NULL, collect, NULL, &err), SHOAL_ERR_ARG);
    longer = calloc(1, 2001);
    assert_non_null(longer);
    memset(longer, 'a', 2000);
    assert_int_equal(shoal_generate(s, longer, NULL, collect, NULL, &err), SHOAL_ERR_LIMIT);
    free(longer);
    assert_true(generate(s, &(struct shoal_params)SHOAL_PARAMS_INIT).len > 0);
    shoal_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(api__each_call_begins_anew),
        cmocka_unit_test(api__receiver_ends),
        cmocka_unit_test(api__cancel),
        cmocka_unit_test(api__workers),
        cmocka_unit_test(api__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

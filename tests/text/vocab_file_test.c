/* The vocabularies of tests/text/data: every text gives the ids that independent implementations
 * gave (the small ones: Hugging Face tokenizers and sentencepiece), and its ids give the text. */
#include "vocab_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "vocab_case.h"

#define DATA "tests/text/data/"

static void run_file(const char *path, size_t n_at_least)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct vocab_file f;
    struct sh_vocab *v = NULL;
    size_t n_equal = 0;

    vocab_file_open(&f, path);
    if (sh_vocab_create(&v, &f.desc, &err)) fail_msg("%s: %s", path, err.message);
    for (size_t i = 0; i < f.n_cases; i++) {
        const struct vocab_case *c = &f.cases[i];
        n_equal += vocab_case_holds(v, c->text, c->add, c->parse, c->ids);
    }
    assert_true(f.n_cases >= n_at_least);
    assert_int_equal(n_equal, f.n_cases);
    sh_vocab_destroy(v);
    vocab_file_close(&f);
}

static void vocab_file__mini_bpe(void **state)
{
    (void)state;
    run_file(DATA "mini-bpe.vocab", 500);
}

static void vocab_file__mini_spm(void **state)
{
    (void)state;
    run_file(DATA "mini-spm.vocab", 400);
}

static void vocab_file__gpt_2(void **state)
{
    (void)state;
    run_file(DATA "gpt-2.vocab", 46);
}

static void vocab_file__phi_3(void **state)
{
    (void)state;
    run_file(DATA "phi-3.vocab", 46);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocab_file__mini_bpe),
        cmocka_unit_test(vocab_file__mini_spm),
        cmocka_unit_test(vocab_file__gpt_2),
        cmocka_unit_test(vocab_file__phi_3),
    };
    return cmocka_run_group_tests_name("vocab_file", tests, NULL, NULL);
}

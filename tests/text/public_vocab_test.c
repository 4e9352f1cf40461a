/* The cases that come with public vocabularies: with SHOAL_VOCAB_DIR naming a folder of
 * NAME.gguf, NAME.gguf.inp and NAME.gguf.out, every text must give the ids of its line, and the
 * ids must give the text again.
 *
 * .inp: texts, separated by a newline, "__ggml_vocab_test__" and a newline; .out: for each text a
 * line of ids.  Special tokens are neither added nor parsed.  tests/text/fetch_vocabs.sh fills
 * such a folder.  Vocabularies of other kinds, or without cases, are left out.
 * With SHOAL_VOCAB_TEXT naming a text file, the speed of tokenizing it is printed, too.
 */
#include "gguf_desc.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "text/tokenize.h"
#include "vocab_case.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"
#define FILES_MAX 256
#define BYTES_MAX ((size_t)64 << 20)

static const char *folder;

static char *read_beside(const char *name, const char *suffix, size_t *len)
{
    char path[4096], *text = NULL;

    (void)snprintf(path, sizeof path, "%s/%s%s", folder, name, suffix);
    return sh_read_file(&text, len, path, BYTES_MAX, NULL) ? NULL : text;
}

/* Run the cases: one per line of `out`.  Returns their number. */
static int run_cases(const struct sh_vocab *v, struct sh_str in, char *out, int *n_equal)
{
    const struct sh_str sep = SH_STR_LIT(SEPARATOR);
    int n = 0;

    *n_equal = 0;
    for (; *out; n++) {
        char *const newline = strchr(out, '\n');
        const char *const end = in.len ? memmem(in.ptr, in.len, sep.ptr, sep.len) : NULL;
        const struct sh_str text = {in.ptr, end ? (size_t)(end - in.ptr) : in.len};
        const size_t taken = end ? text.len + sep.len : text.len;
        if (newline) *newline = '\0';
        *n_equal += vocab_case_holds(v, text, false, false, out);
        in = (struct sh_str){in.ptr + taken, in.len - taken};
        out = newline ? newline + 1 : out + strlen(out);
    }
    assert_int_equal(in.len, 0);
    return n;
}

/* Print how fast `text_path` is tokenized: the best of some runs. */
static void print_speed(const struct sh_vocab *v, const char *text_path)
{
    struct sh_ids ids = SH_IDS_INIT;
    int64_t best_ns = INT64_MAX;
    size_t len = 0;
    char *text = NULL;

    assert_int_equal(sh_read_file(&text, &len, text_path, BYTES_MAX, NULL), SHOAL_OK);
    for (int run = 0; run < 5; run++) {
        const int64_t start = sh_now_ns(&sh_clock_system);
        sh_ids_clear(&ids);
        assert_int_equal(sh_tokenize(v, (struct sh_str){text, len}, false, false, &ids, NULL),
                         SHOAL_OK);
        const int64_t ns = sh_now_ns(&sh_clock_system) - start;
        if (ns < best_ns) best_ns = ns;
    }
    print_message("%zu bytes to %zu tokens in %.2f ms: %.1f MB/s\n", len, ids.len,
                  (double)best_ns / 1e6, (double)len * 1e3 / (double)best_ns);
    sh_ids_release(&ids);
    sh_free(text);
}

static void run_file(void **state)
{
    const char *name = *state;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct gguf_desc d;
    struct sh_vocab *v = NULL;
    size_t in_len = 0, out_len = 0;
    char *in = read_beside(name, ".inp", &in_len), *out = read_beside(name, ".out", &out_len);
    char path[4096];
    int n, n_equal = 0;

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_non_null(in);
    assert_non_null(out);
    if (gguf_desc_open(&d, path, &err)) fail_msg("%s", err.message);
    if (sh_vocab_create(&v, &d.desc, &err)) fail_msg("%s: %s", name, err.message);
    n = run_cases(v, (struct sh_str){in, in_len}, out, &n_equal);
    print_message("%s: %d of %d cases equal\n", name, n_equal, n);
    if (getenv("SHOAL_VOCAB_TEXT")) print_speed(v, getenv("SHOAL_VOCAB_TEXT"));
    assert_true(n > 0);
    assert_int_equal(n_equal, n);
    sh_vocab_destroy(v);
    gguf_desc_close(&d);
    sh_free(in);
    sh_free(out);
}

/* Does this file have cases, and is it of a kind that this library knows? */
static bool wanted(const char *name)
{
    struct gguf_desc d;
    char path[4096];
    size_t len;
    char *in;
    bool yes;

    if (strlen(name) < 6 || strcmp(name + strlen(name) - 5, ".gguf") != 0) return false;
    in = read_beside(name, ".inp", &len);
    sh_free(in);
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!in || gguf_desc_open(&d, path, NULL)) return false;
    yes = sh_str_is(d.desc.model, "gpt2") || sh_str_is(d.desc.model, "llama") ||
          sh_str_is(d.desc.model, "gemma4");
    gguf_desc_close(&d);
    return yes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct CMUnitTest *)a)->name, ((const struct CMUnitTest *)b)->name);
}

int main(void)
{
    struct CMUnitTest tests[FILES_MAX];
    size_t n = 0;
    int n_failed;
    DIR *dir;

    folder = getenv("SHOAL_VOCAB_DIR");
    if (!folder || !*folder) {
        puts("SHOAL_VOCAB_DIR names no folder of public vocabularies (tests/text/fetch_vocabs.sh)");
        return 77;
    }
    dir = opendir(folder);
    if (!dir) {
        fprintf(stderr, "%s cannot be read\n", folder);
        return 1;
    }
    for (struct dirent *e = readdir(dir); e && n < FILES_MAX; e = readdir(dir)) {
        if (!wanted(e->d_name)) continue;
        char *name = sh_strdup(e->d_name);
        tests[n++] =
            (struct CMUnitTest){.name = name, .test_func = run_file, .initial_state = name};
    }
    closedir(dir);
    qsort(tests, n, sizeof *tests, by_name);
    n_failed = _cmocka_run_group_tests("public_vocab", tests, n, NULL, NULL);
    for (size_t i = 0; i < n; i++)
        sh_free(tests[i].initial_state);
    return n == 0 || n_failed;
}

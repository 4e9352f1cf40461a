/* vocab_case.c - see vocab_case.h. */
#include "vocab_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "text/detok.h"
#include "text/tokenize.h"

static void print_ids(const char *what, struct sh_str text, const struct sh_ids *ids)
{
    print_error("%s of '%.*s':", what, (int)text.len, text.ptr);
    for (size_t i = 0; i < ids->len; i++)
        print_error(" %d", ids->ptr[i]);
    print_error("\n");
}

static void check_round_trip(const struct sh_vocab *v, struct sh_str text, const struct sh_ids *ids)
{
    struct sh_buf out = SH_BUF_INIT;
    struct sh_detok d;

    sh_detok_init(&d, v, NULL);
    for (size_t i = 0; i < ids->len; i++)
        assert_int_equal(sh_detok_feed(&d, ids->ptr[i], &out, NULL), SHOAL_OK);
    assert_int_equal(sh_detok_finish(&d, &out, NULL), SHOAL_OK);
    if (!sh_str_equal(text, (struct sh_str){out.ptr, out.len}))
        fail_msg("'%.*s' came back as '%.*s'", (int)text.len, text.ptr, (int)out.len, out.ptr);
    sh_buf_release(&out);
}

bool vocab_case_holds(const struct sh_vocab *v, struct sh_str text, bool add, bool parse,
                      const char *ids)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_ids got = SH_IDS_INIT, want = SH_IDS_INIT;
    bool equal;

    for (char *end;; ids = end) {
        const long id = strtol(ids, &end, 10);
        if (end == ids) break;
        assert_int_equal(sh_ids_push(&want, (int32_t)id), SHOAL_OK);
    }
    if (sh_tokenize(v, text, add, parse, &got, &err)) fail_msg("%s", err.message);
    equal = got.len == want.len &&
            (got.len == 0 || memcmp(got.ptr, want.ptr, got.len * sizeof *got.ptr) == 0);
    if (!equal) {
        print_ids("ids", text, &got);
        print_ids("expected", text, &want);
    } else if (!add && !parse) {
        check_round_trip(v, text, &got);
    }
    sh_ids_release(&got);
    sh_ids_release(&want);
    return equal;
}

/* pretok.c - see pretok_priv.h.
 *
 * PCRE2 does the matching: compiled to machine code where the system allows it, with a small
 * stack first, a larger one when that overflows, and its interpreter (heap, no recursion) when
 * even that is not enough.  A pattern that still gives up is an error of the request.
 */
#include "text/pretok_priv.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"
#include "text/unicode.h"

#define JIT_STACK_MIN_BYTES ((size_t)64 << 10)
#define JIT_STACK_MAX_BYTES ((size_t)1 << 20)
#define HEAP_MAX_KIB ((uint32_t)512 << 10)
#define MATCH_LIMIT UINT32_C(1000000000)

struct sh_pretok {
    const struct sh_pre_group *group;
    bool drop_gaps;
    pcre2_general_context *memory;
    pcre2_code *code[SH_PRE_STEPS_MAX];
    bool jit[SH_PRE_STEPS_MAX];
    size_t n_steps;
};

struct sh_pretok_run {
    pcre2_general_context *memory;
    pcre2_match_data *found;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* NULL until a match overflows the machine stack's 32 KiB */
};

/* One split in progress. */
struct split {
    const struct sh_pretok *p;
    struct sh_pretok_run *run;
    const char *text;
    sh_word_fn *word;
    void *user;
    struct shoal_error *err;
};

static void *pcre_malloc(size_t n, void *user)
{
    (void)user;
    return sh_malloc(n);
}

static void pcre_free(void *p, void *user)
{
    (void)user;
    sh_free(p);
}

/* ---- compiling ---------------------------------------------------------------------------- */

static enum shoal_status compile_step(struct sh_pretok *p, size_t i, pcre2_compile_context *context,
                                      struct shoal_error *err)
{
    const struct sh_pre_group *g = p->group;
    PCRE2_SIZE at = 0;
    int rc = 0;
    char why[120] = "";

    p->code[i] = pcre2_compile((PCRE2_SPTR)g->steps[i].pattern, PCRE2_ZERO_TERMINATED,
                               PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &rc, &at, context);
    if (!p->code[i]) {
        if (rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAP_FAILED)
            return sh_fail(err, SHOAL_ERR_NOMEM, "text: no memory to compile a pattern");
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
        return sh_fail(err, SHOAL_ERR_UNSUPPORTED,
                       "text: pattern %zu of %s: PCRE2 says at %zu: %s (10.40 or later is needed)",
                       i + 1, g->name, (size_t)at, why);
    }
    // Systems may forbid making machine code; then the interpreter does it, more slowly.
    p->jit[i] = pcre2_jit_compile(p->code[i], PCRE2_JIT_COMPLETE) == 0;
    return SHOAL_OK;
}

enum shoal_status sh_pretok_create(struct sh_pretok **out, const struct sh_pre_row *row,
                                   struct shoal_error *err)
{
    struct sh_pretok *p = sh_calloc(1, sizeof *p);
    pcre2_compile_context *context = NULL;
    enum shoal_status st = SHOAL_OK;

    *out = NULL;
    if (p) p->memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (p && p->memory) context = pcre2_compile_context_create(p->memory);
    if (!context) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "text: no memory to compile patterns");
        goto done;
    }
    p->group = sh_pre_group_of(row);
    p->drop_gaps = (row->flags & SH_PRE_DROP_GAPS) != 0;
    for (size_t i = 0; p->group->steps[i].pattern; i++) {
        st = compile_step(p, i, context, err);
        if (st) goto done;
        p->n_steps++;
    }
    *out = p;
    p = NULL;

done:
    pcre2_compile_context_free(context);
    sh_pretok_destroy(p);
    return st;
}

void sh_pretok_destroy(struct sh_pretok *p)
{
    if (!p) return;
    for (size_t i = 0; i < SH_PRE_STEPS_MAX; i++)
        pcre2_code_free(p->code[i]);
    pcre2_general_context_free(p->memory);
    sh_free(p);
}

enum shoal_status sh_pretok_run_create(struct sh_pretok_run **out, struct shoal_error *err)
{
    struct sh_pretok_run *r = sh_calloc(1, sizeof *r);

    *out = NULL;
    if (r) r->memory = pcre2_general_context_create(pcre_malloc, pcre_free, NULL);
    if (r && r->memory) {
        r->found = pcre2_match_data_create(2, r->memory);
        r->context = pcre2_match_context_create(r->memory);
    }
    if (!r || !r->found || !r->context) {
        sh_pretok_run_destroy(r);
        return sh_fail(err, SHOAL_ERR_NOMEM, "text: no memory to match patterns");
    }
    pcre2_set_heap_limit(r->context, HEAP_MAX_KIB);
    pcre2_set_match_limit(r->context, MATCH_LIMIT);
    *out = r;
    return SHOAL_OK;
}

void sh_pretok_run_destroy(struct sh_pretok_run *r)
{
    if (!r) return;
    pcre2_jit_stack_free(r->stack);
    pcre2_match_context_free(r->context);
    pcre2_match_data_free(r->found);
    pcre2_general_context_free(r->memory);
    sh_free(r);
}

/* ---- matching ----------------------------------------------------------------------------- */

/* First match of step i in text[begin..end) at or after `from`: > 0, or PCRE2's negative code. */
static int match(const struct split *s, size_t i, size_t begin, size_t end, size_t from)
{
    struct sh_pretok_run *r = s->run;
    const pcre2_code *code = s->p->code[i];
    PCRE2_SPTR at = (PCRE2_SPTR)s->text + begin;
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;

    if (s->p->jit[i]) {
        rc = pcre2_jit_match(code, at, end - begin, from - begin, 0, r->found, r->context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !r->stack) {
            r->stack = pcre2_jit_stack_create(JIT_STACK_MIN_BYTES, JIT_STACK_MAX_BYTES, r->memory);
            if (!r->stack) return PCRE2_ERROR_NOMEMORY;
            pcre2_jit_stack_assign(r->context, NULL, r->stack);
            rc = pcre2_jit_match(code, at, end - begin, from - begin, 0, r->found, r->context);
        }
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, at, end - begin, from - begin, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         r->found, r->context);
    return rc;
}

static enum shoal_status cut_piece(const struct split *s, size_t i, size_t begin, size_t end);

/* Hand text[begin..end) to the steps from i on.  The depth is that of the table: at most 7. */
static enum shoal_status pass_on(const struct split *s, size_t i, size_t begin, size_t end)
{
    if (begin == end) return SHOAL_OK;
    if (i == s->p->n_steps) return s->word(s->user, begin, end);
    return cut_piece(s, i, begin, end);
}

static size_t skip_chars(const char *text, size_t at, size_t n)
{
    for (; n > 0; n--)
        at += sh_utf8_promised(text[at]);
    return at;
}

/* Pass [begin, end) on in pieces that end 3, 6, ... characters before `end`, the first of which
 * starts at `begin` and reaches into the digits that start at `digits`.  *last is where the final
 * piece, not yet passed on, begins. */
static enum shoal_status cut_threes(const struct split *s, size_t i, size_t begin, size_t digits,
                                    size_t end, size_t *last)
{
    size_t n = 0, at = digits;

    for (size_t c = digits; c < end; n++)
        c += sh_utf8_promised(s->text[c]);
    *last = begin;
    for (at = skip_chars(s->text, at, n % 3); at < end; at = skip_chars(s->text, at, 3)) {
        enum shoal_status st = pass_on(s, i + 1, *last, at);
        if (st) return st;
        *last = at;
    }
    return SHOAL_OK;
}

/* Pass on the gap before a match and the match itself; *gap is where the next gap starts. */
static enum shoal_status take_match(const struct split *s, size_t i, size_t *gap, size_t m0,
                                    size_t m1)
{
    const enum sh_pre_cut cut = s->p->group->steps[i].cut;
    size_t last = m0;
    enum shoal_status st;

    if (cut == SH_PRE_CUT_THREES) return cut_threes(s, i, *gap, m0, m1, gap);
    if (!s->p->drop_gaps) {
        st = pass_on(s, i + 1, *gap, m0);
        if (st) return st;
    }
    if (cut != SH_PRE_MATCHES) {
        st = cut_threes(s, i, m0, m0, m1, &last);
        if (st) return st;
    }
    *gap = m1;
    return pass_on(s, i + 1, last, m1);
}

static enum shoal_status cut_piece(const struct split *s, size_t i, size_t begin, size_t end)
{
    const PCRE2_SIZE *const at = pcre2_get_ovector_pointer(s->run->found);
    const enum sh_pre_cut cut = s->p->group->steps[i].cut;
    size_t from = begin, gap = begin;

    while (from < end) {
        const int rc = match(s, i, begin, end, from);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc == PCRE2_ERROR_NOMEMORY)
            return sh_fail(s->err, SHOAL_ERR_NOMEM, "text: no memory to match a pattern");
        if (rc < 0)
            return sh_fail(s->err, SHOAL_ERR_LIMIT,
                           "text: pattern %zu of %s gave up (PCRE2 %d) in %zu bytes of text", i + 1,
                           s->p->group->name, rc, end - begin);
        const size_t m0 = begin + at[0], m1 = begin + at[1];
        from = m1;
        if (m1 == m0) { // no pattern of the table does this; it must not loop
            from = m1 < end ? skip_chars(s->text, m1, 1) : end;
            continue;
        }
        if (cut == SH_PRE_THREES_IF_1 && (rc < 2 || at[2] == PCRE2_UNSET)) continue;
        enum shoal_status st = take_match(s, i, &gap, m0, m1);
        if (st) return st;
    }
    if (s->p->drop_gaps) return SHOAL_OK;
    return pass_on(s, i + 1, gap, end);
}

enum shoal_status sh_pretok_split(const struct sh_pretok *p, struct sh_pretok_run *run,
                                  const char *text, size_t begin, size_t end, sh_word_fn *word,
                                  void *user, struct shoal_error *err)
{
    const struct split s = {
        .p = p, .run = run, .text = text, .word = word, .user = user, .err = err};
    return pass_on(&s, 0, begin, end);
}

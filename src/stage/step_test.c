/* stage/step_test.c - a well-formed step is accepted; one wrong thing at a time is refused by name.
 */
#include "stage/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

enum { ROWS = 5, SEQS = 2, EDITS = 5 };

/* A step that says everything: five edits, two runs of three and two rows. */
struct sample {
    struct sh_prelude prelude[EDITS];
    struct sh_row rows[ROWS];
    struct sh_step_seq seqs[SEQS];
    struct sh_step step;
};

static const struct sh_step_limits LIMITS = {.n_seqs = 3,
                                             .n_groups = 2,
                                             .n_positions = 200, // four pages
                                             .rows_max = 5,
                                             .wanted_max = 3,
                                             .pages = {7, 5},
                                             .n_states = 4};

static void make(struct sample *s)
{
    static const struct sh_prelude EDIT[EDITS] = {
        {.kind = SH_PRELUDE_MAP, .seq = 2, .group = 1, .index = 3, .page = 4},
        {.kind = SH_PRELUDE_FORK, .seq = 1, .from = 0, .end = 256},
        {.kind = SH_PRELUDE_DROP, .seq = 0, .begin = 3, .end = 256},
        {.kind = SH_PRELUDE_COPY, .group = 0, .page = 6, .page_from = 0, .begin = 0, .end = 64},
        {.kind = SH_PRELUDE_SHIFT, .seq = 2, .begin = 128, .delta = -128}};
    static const struct sh_row ROW[ROWS] = {
        {.token = 5, .seq = 2, .pos = 0, .last = 0},
        {.token = -2, .seq = 2, .pos = 1, .last = 3, .want = SH_WANT_TOP_K, .top_k = 9},
        {.token = 6, .seq = 2, .pos = 9, .last = 199, .want = SH_WANT_TOKEN},
        {.token = 0, .seq = 0, .pos = 198, .last = 198, .want = SH_WANT_LOGITS},
        {.token = 1, .seq = 0, .pos = 199, .last = 199}};

    memset(s, 0, sizeof *s);
    memcpy(s->prelude, EDIT, sizeof EDIT);
    memcpy(s->rows, ROW, sizeof ROW);
    s->seqs[0] = (struct sh_step_seq){.seq = 2, .n_rows = 3, .state_read = -1, .state_write = 3};
    s->seqs[1] = (struct sh_step_seq){
        .seq = 0, .first_row = 3, .n_rows = 2, .state_read = 2, .state_write = -1};
    s->step = (struct sh_step){.prelude = s->prelude,
                               .n_prelude = EDITS,
                               .rows = s->rows,
                               .n_rows = ROWS,
                               .seqs = s->seqs,
                               .n_seqs = SEQS,
                               .n_embd = 2};
}

static void expect_ok(const struct sample *s)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_step_check(&s->step, &LIMITS, &err)) fail_msg("refused: %s", err.message);
}

static void expect_refused(const struct sample *s, const char *message)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    assert_int_equal(sh_step_check(&s->step, &LIMITS, &err), SHOAL_ERR_ARG);
    assert_string_equal(err.message, message);
}

static void step__sample_is_accepted(void **state)
{
    struct sample s;

    (void)state;
    make(&s);
    expect_ok(&s);
    s.step.n_prelude = s.step.n_rows = s.step.n_seqs = 0;
    expect_ok(&s);
}

static void step__edits_in_range(void **state)
{
    struct sample s;

    (void)state;
#define REFUSED(change, message) make(&s), change, expect_refused(&s, message)
    REFUSED(s.prelude[0].kind = (enum sh_prelude_kind)9, "step: edit 0: kind 9 is out of range");
    REFUSED(s.prelude[0].seq = 3, "step: edit 0: sequence 3 is out of range");
    REFUSED(s.prelude[0].seq = -1, "step: edit 0: sequence -1 is out of range");
    REFUSED(s.prelude[0].group = 2, "step: edit 0: group 2 is out of range");
    REFUSED(s.prelude[0].group = -1, "step: edit 0: group -1 is out of range");
    REFUSED(s.prelude[0].index = 4, "step: edit 0: index 4 is out of range");
    REFUSED(s.prelude[0].index = -1, "step: edit 0: index -1 is out of range");
    REFUSED(s.prelude[0].page = 5, "step: edit 0: page 5 is out of range");
    REFUSED(s.prelude[0].page = -2, "step: edit 0: page -2 is out of range");
    make(&s), s.prelude[0].page = -1, expect_ok(&s);
    make(&s), s.prelude[0].group = 0, s.prelude[0].page = 6, expect_ok(&s);

    REFUSED(s.prelude[1].from = 3, "step: edit 1: source sequence 3 is out of range");
    REFUSED(s.prelude[1].end = 65, "step: edit 1: length 65 is out of range");
    REFUSED(s.prelude[1].end = 320, "step: edit 1: length 320 is out of range");
    REFUSED(s.prelude[1].end = -64, "step: edit 1: length -64 is out of range");

    REFUSED(s.prelude[2].begin = -1, "step: edit 2: end 256 is out of range");
    REFUSED(s.prelude[2].end = 2, "step: edit 2: end 2 is out of range");
    REFUSED(s.prelude[2].end = 257, "step: edit 2: end 257 is out of range");

    REFUSED(s.prelude[3].group = 2, "step: edit 3: group 2 is out of range");
    REFUSED(s.prelude[3].page = 7, "step: edit 3: page 7 is out of range");
    REFUSED(s.prelude[3].page = -1, "step: edit 3: page -1 is out of range");
    REFUSED(s.prelude[3].page_from = 7, "step: edit 3: source page 7 is out of range");
    REFUSED(s.prelude[3].end = 65, "step: edit 3: cell 65 is out of range");
    REFUSED(s.prelude[3].begin = -1, "step: edit 3: cell 64 is out of range");

    REFUSED(s.prelude[4].begin = 100, "step: edit 4: begin 100 is out of range");
    REFUSED(s.prelude[4].begin = -64, "step: edit 4: begin -64 is out of range");
    REFUSED(s.prelude[4].delta = -100, "step: edit 4: delta -100 is out of range");
    REFUSED(s.prelude[4].delta = -192, "step: edit 4: delta -192 is out of range");
    REFUSED(s.prelude[4].delta = 320, "step: edit 4: delta 320 is out of range");
    REFUSED(s.prelude[4].delta = INT64_MIN,
            "step: edit 4: delta -9223372036854775808 is out of range");
}

static void step__runs_follow_each_other(void **state)
{
    struct sample s;

    (void)state;
    REFUSED(s.seqs[1].first_row = 4,
            "step: sequence 0 has rows 4 to 6 of 5, expected a run from row 3");
    REFUSED(s.seqs[1].n_rows = 3,
            "step: sequence 0 has rows 3 to 6 of 5, expected a run from row 3");
    REFUSED(s.seqs[0].n_rows = 0,
            "step: sequence 2 has rows 0 to 0 of 5, expected a run from row 0");
    REFUSED(s.seqs[0].seq = 3, "step: sequence 3 has rows 0 to 3 of 5, expected a run from row 0");
    REFUSED(s.step.n_seqs = 1, "step: 2 of 5 rows belong to no sequence");
    REFUSED(s.seqs[0].state_write = 4, "step: sequence 2: states -1, 4 of 4");
    REFUSED(s.seqs[0].state_write = -2, "step: sequence 2: states -1, -2 of 4");
    REFUSED(s.seqs[1].state_read = 4, "step: sequence 0: states 4, -1 of 4");
    REFUSED(s.seqs[1].state_read = -2, "step: sequence 0: states -2, -1 of 4");
    REFUSED(s.seqs[1].n_recent = -1, "step: sequence 0 has -1 recent tokens");
    make(&s);
    s.seqs[1].seq = 2;
    expect_refused(&s, "step: sequence 2 has two runs");
}

static void step__rows_fit_their_run(void **state)
{
    struct sample s;

    (void)state;
#define MISFIT(seq, pos, last)                                                                     \
    "step: row 2 (sequence " #seq ", position " #pos ", last " #last                               \
    ") does not fit its run or the context of 200"
    REFUSED(s.rows[2].seq = 0, MISFIT(0, 9, 199));
    REFUSED(s.rows[2].pos = 1, MISFIT(2, 1, 199)); // not above the row before
    REFUSED(s.rows[2].pos = 200, MISFIT(2, 200, 199));
    REFUSED(s.rows[2].last = 8, MISFIT(2, 9, 8));
    REFUSED(s.rows[2].last = 200, MISFIT(2, 9, 200));
    make(&s), s.rows[0].pos = -1;
    expect_refused(&s, "step: row 0 (sequence 2, position -1, last 0) does not fit its run or the "
                       "context of 200");
    REFUSED(s.rows[1].token = -3, "step: row 1 asks for embedding row 2 of 2");
    REFUSED(s.rows[1].token = INT32_MIN, "step: row 1 asks for embedding row 2147483647 of 2");
    REFUSED(s.rows[1].want = (enum sh_want)4, "step: row 1 wants 4 with 9 candidates");
    REFUSED(s.rows[1].top_k = -1, "step: row 1 wants 2 with -1 candidates");
}

static void step__counts_within_limits(void **state)
{
    struct sample s;

    (void)state;
    REFUSED(s.step.n_rows = 6, "step: 6 rows of 2 sequences, at most 5 of 3 are possible");
    REFUSED(s.step.n_rows = -1, "step: -1 rows of 2 sequences, at most 5 of 3 are possible");
    REFUSED(s.step.n_seqs = 4, "step: 5 rows of 4 sequences, at most 5 of 3 are possible");
    REFUSED(s.step.n_seqs = -1, "step: 5 rows of -1 sequences, at most 5 of 3 are possible");
    REFUSED(s.step.n_prelude = -1, "step: -1 edits and 2 embedding rows");
    REFUSED(s.step.n_embd = -1, "step: 5 edits and -1 embedding rows");
    REFUSED(s.rows[0].want = SH_WANT_LOGITS, "step: 4 results are wanted, at most 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step__sample_is_accepted),     cmocka_unit_test(step__edits_in_range),
        cmocka_unit_test(step__runs_follow_each_other), cmocka_unit_test(step__rows_fit_their_run),
        cmocka_unit_test(step__counts_within_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

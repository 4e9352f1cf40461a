/* host/tap_test.c - what a tap notes of a pipeline that does as it is told. */
#include "host/tap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { STAGES = 3 };

struct fake {
    struct sh_pipeline_head head;
    uint64_t submitted, given;
    enum shoal_status refuse, next; /* of submit; of the next result */
    int n_timings, n_released, n_closed;
    struct sh_station_timing timing[STAGES];
};

static struct fake *of(struct sh_pipeline *p)
{
    return (struct fake *)(void *)p;
}

static enum shoal_status fake_submit(struct sh_pipeline *p, const struct sh_step *step,
                                     struct shoal_error *err)
{
    (void)step;
    if (of(p)->refuse) return sh_fail(err, of(p)->refuse, "refused");
    of(p)->submitted++;
    return SHOAL_OK;
}

static enum shoal_status fake_result(struct sh_pipeline *p, int64_t timeout_ns,
                                     struct sh_pipeline_result *out, struct shoal_error *err)
{
    struct fake *f = of(p);

    (void)timeout_ns;
    *out = (struct sh_pipeline_result){.number = f->given};
    if (f->given == f->submitted) return sh_fail(err, SHOAL_ERR_TIMEOUT, "not yet");
    f->given++;
    out->status = f->next;
    out->timings = f->timing;
    out->n_timings = f->n_timings;
    return f->next ? sh_fail(err, f->next, "as told") : SHOAL_OK;
}

static void fake_release(struct sh_pipeline *p, const struct sh_pipeline_result *r)
{
    (void)r;
    of(p)->n_released++;
}

static void fake_close(struct sh_pipeline *p)
{
    of(p)->n_closed++;
}

static const struct sh_pipeline_ops OPS = {
    .submit = fake_submit, .result = fake_result, .release = fake_release, .close = fake_close};

static enum shoal_status submit(struct sh_pipeline *p, int32_t n_rows)
{
    const struct sh_step step = {.n_rows = n_rows};

    return sh_pipeline_ops(p)->submit(p, &step, NULL);
}

static enum shoal_status result(struct sh_pipeline *p, struct fake *f, uint32_t compute_us)
{
    struct sh_pipeline_result r;

    for (uint32_t i = 0; i < STAGES; i++)
        f->timing[i] = (struct sh_station_timing){.stage = i, .compute_us = compute_us + i};
    return sh_pipeline_ops(p)->result(p, 0, &r, NULL);
}

static struct sh_tap_note note_of(const struct sh_tap *t, int64_t i)
{
    struct sh_tap_note n;

    sh_tap_note(t, i, &n);
    return n;
}

static void tap__notes_what_passes(void **state)
{
    struct fake f = {.head = {&OPS}, .n_timings = STAGES};
    struct sh_tap *t = NULL;
    struct sh_pipeline *p;

    (void)state;
    assert_int_equal(sh_tap_create(&t, (struct sh_pipeline *)(void *)&f, STAGES, NULL), SHOAL_OK);
    p = sh_tap_pipeline(t);
    assert_int_equal(submit(p, 7), SHOAL_OK);
    assert_int_equal(submit(p, 1), SHOAL_OK);
    f.refuse = SHOAL_ERR_STATE;
    assert_int_equal(submit(p, 9), SHOAL_ERR_STATE); // did not pass
    assert_int_equal(sh_tap_count(t), 2);
    assert_int_equal(note_of(t, 0).result_ns, 0);
    assert_int_equal(result(p, &f, 100), SHOAL_OK);
    assert_int_equal(result(p, &f, 200), SHOAL_OK);
    assert_int_equal(result(p, &f, 300), SHOAL_ERR_TIMEOUT); // nothing is over
    assert_int_equal(note_of(t, 0).n_rows, 7);
    assert_int_equal(note_of(t, 1).n_rows, 1);
    assert_int_equal(note_of(t, 0).n_timings, STAGES);
    assert_int_equal(note_of(t, 0).timings[2].compute_us, 102);
    assert_int_equal(note_of(t, 1).timings[1].compute_us, 201);
    assert_true(note_of(t, 0).result_ns >= note_of(t, 0).submit_ns);
    sh_tap_clear(t);
    assert_int_equal(sh_tap_count(t), 0);
    sh_tap_destroy(t);
    assert_int_equal(f.n_closed, 0); // borrowed
}

static void tap__failed_steps_keep_their_place(void **state)
{
    struct fake f = {.head = {&OPS}, .n_timings = STAGES};
    struct sh_tap *t = NULL;
    struct sh_pipeline *p;

    (void)state;
    assert_int_equal(sh_tap_create(&t, (struct sh_pipeline *)(void *)&f, STAGES, NULL), SHOAL_OK);
    p = sh_tap_pipeline(t);
    for (int i = 0; i < 3000; i++) { // more than there is room for at first
        assert_int_equal(submit(p, i), SHOAL_OK);
        f.next = i % 3 == 1 ? SHOAL_ERR_CANCELLED : SHOAL_OK;
        assert_int_equal(result(p, &f, (uint32_t)i), f.next);
    }
    assert_int_equal(sh_tap_count(t), 3000);
    for (int i = 0; i < 3000; i++) {
        const struct sh_tap_note n = note_of(t, i);
        assert_int_equal(n.n_rows, i);
        assert_int_equal(n.n_timings, i % 3 == 1 ? 0 : STAGES);
        if (n.n_timings) assert_int_equal(n.timings[0].compute_us, i);
    }
    sh_tap_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tap__notes_what_passes),
        cmocka_unit_test(tap__failed_steps_keep_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

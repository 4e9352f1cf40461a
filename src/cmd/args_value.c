/* cmd/args_value.c - from the text behind an option to a checked value. */
#include "cmd/args_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void *field_of(const struct sh_arg *a, void *options)
{
    return (char *)options + a->at;
}

/* ---- numbers -------------------------------------------------------------------------------- */

static bool read_int(const char *text, const char **end, double min, double max, int64_t *out)
{
    char *stop;

    if (*text != '-' && *text != '+' && (*text < '0' || *text > '9')) return false;
    errno = 0;
    const long long v = strtoll(text, &stop, 10);
    if (stop == text || errno || (double)v < min || (double)v > max) return false;
    *out = v;
    *end = stop;
    return true;
}

static bool read_real(const char *text, double min, double max, double *out)
{
    char *stop;

    if (*text == '\0' || *text == ' ') return false;
    errno = 0;
    const double v = strtod(text, &stop);
    if (*stop || !isfinite(v) || v < min || v > max) return false;
    *out = v;
    return true;
}

// "16G", "512MiB", "1.5g", "1000": powers of 1024.
static bool read_bytes(const char *text, double min, double max, uint64_t *out)
{
    static const char units[] = "KMGT";
    char *stop;

    if (*text < '0' || *text > '9') return false;
    errno = 0;
    double v = strtod(text, &stop);
    const char *unit = *stop ? strchr(units, *stop & ~0x20) : NULL;
    for (const char *u = units; unit && u <= unit; u++)
        v *= 1024;
    if (unit) stop++;
    if (unit && *stop == 'i') stop++;
    if (*stop == 'B') stop++;
    if (*stop || errno || !isfinite(v) || v < min || v > max) return false;
    *out = (uint64_t)v;
    return true;
}

bool sh_arg_number_next(const char **text, int64_t *value)
{
    const char *end = *text;

    if (!**text || !read_int(*text, &end, -9e15, 9e15, value)) return false;
    *text = *end == ',' ? end + 1 : end;
    return true;
}

static bool store_numbers(const struct sh_arg *a, struct sh_arg_numbers *list, const char *text)
{
    const char *at = text;
    int64_t v;

    if (list->n == SH_ARG_WORDS_MAX) return false;
    for (;;) {
        if (!read_int(at, &at, a->min, a->max, &v)) return false;
        if (!*at) break;
        if (*at++ != ',') return false;
    }
    list->text[list->n++] = text;
    return true;
}

/* ---- words ---------------------------------------------------------------------------------- */

int sh_arg_choice(const char *choices, struct sh_str word)
{
    int i = 0;

    for (const char *at = choices;; i++) {
        const size_t len = strcspn(at, "|");
        if (sh_str_equal((struct sh_str){at, len}, word)) return i;
        if (!at[len]) return -1;
        at += len + 1;
    }
}

static bool store_list(struct sh_arg_list *list, const char *text)
{
    for (;;) {
        const size_t len = strcspn(text, ",");
        if (len == 0 || list->n == SH_ARG_WORDS_MAX) return false;
        list->word[list->n++] = (struct sh_str){text, len};
        if (!text[len]) return true;
        text += len + 1;
    }
}

/* ---- what an option takes ------------------------------------------------------------------- */

// Bounds in words; 2^31 - 1 and above count as none.
static void describe_range(const struct sh_arg *a, const char *what, char why[200])
{
    if (a->max < 2147483647.0) {
        (void)snprintf(why, 200, "%s from %g to %g", what, a->min, a->max);
    } else {
        (void)snprintf(why, 200, "%s, at least %g", what, a->min);
    }
}

bool sh_arg_store(const struct sh_arg *a, void *options, const char *text, char why[200])
{
    const char *end = text;
    void *field = field_of(a, options);
    int choice;

    switch (a->kind) {
    case SH_ARG_INT:
        describe_range(a, "a whole number", why);
        return read_int(text, &end, a->min, a->max, field) && !*end;
    case SH_ARG_REAL:
        describe_range(a, "a number", why);
        return read_real(text, a->min, a->max, field);
    case SH_ARG_BYTES:
        (void)snprintf(why, 200, "a size such as 16G or 512M");
        return read_bytes(text, a->min, a->max, field);
    case SH_ARG_NUMBERS:
        describe_range(a, "whole numbers separated by commas, each", why);
        return store_numbers(a, field, text);
    case SH_ARG_LIST:
        (void)snprintf(why, 200, "at most %d words separated by commas", SH_ARG_WORDS_MAX);
        return store_list(field, text);
    case SH_ARG_CHOICE:
        (void)snprintf(why, 200, "one of %s", a->value);
        choice = sh_arg_choice(a->value, sh_str_from(text));
        if (choice >= 0) *(int *)field = choice;
        return choice >= 0;
    case SH_ARG_TEXT:
        *(const char **)field = text;
        return true;
    default:
        return true; // the others take no value, or one that is not looked at
    }
}

int64_t sh_arg_numbers_count(const struct sh_arg_numbers *list)
{
    int64_t n = 0, v;

    for (int i = 0; i < list->n; i++) {
        for (const char *at = list->text[i]; sh_arg_number_next(&at, &v);)
            n++;
    }
    return n;
}

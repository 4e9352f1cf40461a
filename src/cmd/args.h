/* cmd/args.h - command lines by table: one row per option gives its parsing, its checks and its
 * place in --help.
 *
 * A command has one options struct; rows name a field by offset.  Rows also know the flags of
 * llama.cpp that have no meaning here (a note is printed) and those that cannot be followed
 * (refused with the reason).  Names with two dashes may be written with '_' for '-' and take
 * their value behind '=' too.  A mistake is one sentence that names flag and value.
 *
 * Nothing is copied: texts point into argv.  Threads: the main one.
 */
#ifndef CMD_ARGS_H
#define CMD_ARGS_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum sh_arg_kind {
    SH_ARG_SECTION, /* a title in --help */
    SH_ARG_FLAG,    /* bool: true */
    SH_ARG_FLAG_NO, /* bool: false */
    SH_ARG_INT,     /* int64_t */
    SH_ARG_REAL,    /* double */
    SH_ARG_BYTES,   /* uint64_t: "16G", "512M", "1073741824" */
    SH_ARG_TEXT,    /* const char * */
    SH_ARG_CHOICE,  /* int: index into `value`, which is "first|second|..." */
    SH_ARG_LIST,    /* struct sh_arg_list: comma-separated words; repeating adds */
    SH_ARG_NUMBERS, /* struct sh_arg_numbers: comma-separated whole numbers; repeating adds */
    SH_ARG_NOTE,    /* accepted, does nothing; `help` says why */
    SH_ARG_REFUSED  /* `help` says why */
};

#define SH_ARG_WORDS_MAX 64
struct sh_arg_list { /* words are not NUL-terminated */
    int n;
    struct sh_str word[SH_ARG_WORDS_MAX];
};
struct sh_arg_numbers { /* texts of numbers, checked; read with sh_arg_number_next() */
    int n;
    const char *text[SH_ARG_WORDS_MAX]; /* one per time the option was given */
};

struct sh_arg {
    enum sh_arg_kind kind;
    const char *names; /* "-n --predict --n-predict"; --help shows the first two */
    const char *value; /* what --help calls its value, or choices; NULL: takes none.
                        * Of a NOTE "[a|b]": taken if the next word is one of these. */
    size_t at;         /* of the field */
    double min, max;   /* of INT, REAL, BYTES and each of NUMBERS */
    const char *help;  /* one sentence, with the default; NULL: --help is silent about it */
};

struct sh_command {
    const char *name;  /* "run" */
    const char *usage; /* what follows "shoal run " */
    const char *about; /* a paragraph */
    const char *more;  /* after the options: examples; NULL: none */
    const struct sh_arg *args;
    int n_args;
    const char *operand; /* "model.gguf": a word without a dash is allowed; NULL: none */
    size_t operand_at;   /* const char *, or an array of them */
    int operands_max;    /* its length; 0 means one */
};

#define SH_PARSED (-1)
/* Fill `options`, which holds the defaults, from argv[1..].  SH_PARSED, or the exit code with
 * which the program ends now (help was asked for, or the mistake has been told). */
int sh_args_parse(const struct sh_command *c, void *options, int argc, char **argv);

/* The next number of a checked list; false at its end. */
bool sh_arg_number_next(const char **text, int64_t *value);
/* How many there are, over all uses of the option. */
int64_t sh_arg_numbers_count(const struct sh_arg_numbers *list);

/* Say "shoal run: <sentence> (shoal run --help ...)" and give the exit code of a usage error. */
int sh_usage_error(const struct sh_command *c, const char *fmt, ...) SHOAL_PRINTF(2, 3);

/* Of n candidates the one most like `word`, if any is near; `get` gives the i-th or NULL. */
const char *sh_nearest(const char *word, int n, const char *(*get)(const void *self, int i),
                       const void *self);

#endif

/* cmd/args_priv.h - between the parser of command lines, the values and the help text. */
#ifndef CMD_ARGS_PRIV_H
#define CMD_ARGS_PRIV_H

#include "cmd/args.h"

/* The next of the names in a row; false at the end. */
bool sh_arg_name_next(const char **names, struct sh_str *name);

/* Store the value of a row, or say in `why` what it takes instead ("a whole number from 0 to 9").
 */
bool sh_arg_store(const struct sh_arg *a, void *options, const char *text, char why[200]);
/* Index of `word` in "first|second|..."; -1: not there. */
int sh_arg_choice(const char *choices, struct sh_str word);

/* The whole text of --help. */
SHOAL_NODISCARD enum shoal_status sh_args_help(const struct sh_command *c, struct sh_buf *out);

#endif

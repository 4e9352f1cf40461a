/* cmd/inspect.c - `shoal inspect`: what is in a model file. */
#include <stddef.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/console.h"
#include "gguf/describe.h"

struct inspect_options {
    const char *model, *named;
    bool json;
};

static const struct sh_arg args[] = {
    {.kind = SH_ARG_SECTION, .help = "Options"},
    {.kind = SH_ARG_TEXT,
     .names = "-m --model",
     .value = "FILE",
     .at = offsetof(struct inspect_options, named),
     .help = "the file, if it does not stand alone"},
    {.kind = SH_ARG_FLAG,
     .names = "--json",
     .at = offsetof(struct inspect_options, json),
     .help = "one JSON object instead of tables"},
};

static const struct sh_command command = {
    .name = "inspect",
    .usage = "model.gguf [--json]",
    .about = "Shows what is in a GGUF model file: what it calls itself, its hyper-parameters, its "
             "tokenizer, all metadata, every tensor. Nothing of the file is believed; a damaged "
             "one is described by the first thing that is wrong with it.",
    .args = args,
    .n_args = sizeof args / sizeof args[0],
    .operand = "model",
    .operand_at = offsetof(struct inspect_options, model),
};

static enum shoal_status inspect(const struct inspect_options *o, struct shoal_error *err)
{
    struct sh_buf text = SH_BUF_INIT;
    struct sh_gguf *g = NULL;
    enum shoal_status st = sh_gguf_open(&g, o->model, err);

    if (!st) st = sh_gguf_describe(g, o->json ? SH_DESCRIBE_JSON : SH_DESCRIBE_TEXT, &text, err);
    if (!st) st = sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){text.ptr, text.len}, err);
    sh_gguf_close(g);
    sh_buf_release(&text);
    return st;
}

int sh_cmd_inspect(int argc, char **argv)
{
    struct inspect_options o = {.model = NULL};
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;
    int code = sh_args_parse(&command, &o, argc, argv);

    if (code != SH_PARSED) return code;
    if (o.model && o.named) return sh_usage_error(&command, "which of the two files?");
    if (o.named) o.model = o.named;
    if (!o.model) return sh_usage_error(&command, "which file?");
    sh_console_log(SH_LOG_WARN);
    st = inspect(&o, &err);
    return st ? sh_say_failure(st, &err) : 0;
}

/* cmd/bench_options.c - the table of `shoal bench`. */
#include "cmd/bench_options.h"

#include <stddef.h>

#define AT(field) offsetof(struct sh_bench_flags, field)
#define INT32_MAX_REAL 2147483647.0

static const char only_processors[] = "shoal computes on processors; layers are placed by --layers";

static const struct sh_arg args[] = {
    {.kind = SH_ARG_SECTION, .help = "What is measured"},
    {.kind = SH_ARG_TEXT,
     .names = "-m --model",
     .value = "FILE",
     .at = AT(model),
     .help = "the model, a GGUF file (of a split one, the first part)"},
    {.kind = SH_ARG_NUMBERS,
     .names = "-p --n-prompt",
     .value = "N,...",
     .at = AT(prompts),
     .min = 0,
     .max = INT32_MAX_REAL,
     .help = "prompts of so many tokens; 0: none (default 512)"},
    {.kind = SH_ARG_NUMBERS,
     .names = "-n --n-gen",
     .value = "N,...",
     .at = AT(texts),
     .min = 0,
     .max = INT32_MAX_REAL,
     .help = "texts of so many tokens; 0: none (default 128)"},
    {.kind = SH_ARG_NUMBERS,
     .names = "-d --n-depth",
     .value = "N,...",
     .at = AT(depths),
     .min = 0,
     .max = INT32_MAX_REAL,
     .help = "all of it behind so many tokens (default 0)"},
    {.kind = SH_ARG_NUMBERS,
     .names = "-ub --ubatch-size",
     .value = "N,...",
     .at = AT(chunks),
     .min = 0,
     .max = 65536,
     .help = "most tokens of a prompt in one step; 0: chosen (default 0)"},
    {.kind = SH_ARG_NUMBERS,
     .names = "-b --batch-size",
     .value = "N,...",
     .at = AT(chunks),
     .min = 0,
     .max = 65536,
     .help = "the same"},
    {.kind = SH_ARG_NUMBERS,
     .names = "-npl --batch-sizes",
     .value = "N,...",
     .at = AT(n_seqs),
     .min = 1,
     .max = 64,
     .help = "texts also of so many sequences at once: all in one step, and in groups, one under "
             "way and all (default: none)"},
    {.kind = SH_ARG_NUMBERS,
     .names = "--groups",
     .value = "N,...",
     .at = AT(n_groups),
     .min = 2,
     .max = 33,
     .help = "with -npl: in so many groups, at most one more than there are machines (default: as "
             "many as there are machines)"},
    {.kind = SH_ARG_FLAG_NO,
     .names = "--no-turns",
     .at = AT(turns),
     .help = "leave out groups of which one is under way"},
    {.kind = SH_ARG_INT,
     .names = "-r --repetitions",
     .value = "N",
     .at = AT(repetitions),
     .min = 1,
     .max = 10000,
     .help = "how often; medians and intervals are of these (default 5)"},
    {.kind = SH_ARG_FLAG_NO,
     .names = "--no-links",
     .at = AT(ways),
     .help = "leave out the times of frames between the machines"},

    {.kind = SH_ARG_SECTION, .help = "Where"},
    {.kind = SH_ARG_INT,
     .names = "-t --threads",
     .value = "N",
     .at = AT(n_threads),
     .min = -1,
     .max = 1024,
     .help = "threads of this machine (default: all processors)"},
    {.kind = SH_ARG_LIST,
     .names = "--workers",
     .value = "HOST[:PORT],...",
     .at = AT(workers),
     .help = "on these machines, where shoal worker runs (port 50052 if none is given)"},
    {.kind = SH_ARG_TEXT,
     .names = "--key",
     .value = "SHOAL1-...",
     .at = AT(key),
     .help = "the key that the worker shows with --pair; it is kept"},
    {.kind = SH_ARG_LIST,
     .names = "--rpc",
     .value = "HOST:PORT,...",
     .at = AT(servers),
     .help = "on these servers in llama.cpp's protocol"},
    {.kind = SH_ARG_FLAG,
     .names = "--with-local",
     .at = AT(with_local),
     .help = "with --workers and --rpc: let this machine take layers, too"},
    {.kind = SH_ARG_NUMBERS,
     .names = "--layers",
     .value = "10,20",
     .at = AT(layers),
     .min = 0,
     .max = 1024,
     .help = "layers per machine: in the order of --workers, then of --rpc, this one last "
             "(default: by free memory)"},
    {.kind = SH_ARG_CHOICE,
     .names = "--wire",
     .value = "f32|f16|q8",
     .at = AT(wire),
     .help = "how hidden states cross the network between workers (default f32)"},
    {.kind = SH_ARG_FLAG,
     .names = "--relay",
     .at = AT(relay),
     .help = "let hidden states between workers pass through this machine"},
    {.kind = SH_ARG_FLAG,
     .names = "--insecure",
     .at = AT(insecure),
     .help = "use workers on other machines without a key"},

    {.kind = SH_ARG_SECTION, .help = "Results"},
    {.kind = SH_ARG_FLAG,
     .names = "--json",
     .at = AT(json),
     .help = "one JSON object on stdout instead of tables: model, plan, tests, links"},
    {.kind = SH_ARG_CHOICE,
     .names = "-o --output",
     .value = "text|json",
     .at = AT(output),
     .help = "the same (default text)"},

    {.kind = SH_ARG_NOTE,
     .names = "-ngl --gpu-layers --n-gpu-layers",
     .value = "N",
     .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "-sm --split-mode", .value = "MODE", .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "-ts --tensor-split", .value = "LIST", .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "-mg --main-gpu", .value = "N", .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "-dev --device", .value = "LIST", .help = only_processors},
    {.kind = SH_ARG_NOTE,
     .names = "-fa --flash-attn",
     .value = "LIST",
     .help = "attention is always computed without the whole matrix"},
    {.kind = SH_ARG_NOTE,
     .names = "-mmp --mmap",
     .value = "0|1",
     .help = "local layers are always mapped, remote ones are read once and sent"},
    {.kind = SH_ARG_NOTE,
     .names = "--no-warmup",
     .help = "a short run before all tests is not measured"},
    {.kind = SH_ARG_NOTE, .names = "--progress", .help = "progress is always shown on a terminal"},
    {.kind = SH_ARG_REFUSED,
     .names = "-pg",
     .value = "P,G",
     .help = "prompts and texts are measured each by itself: -p, and -n with -d"},
    {.kind = SH_ARG_REFUSED,
     .names = "-hf -hfr --hf-repo -hff --hf-file",
     .value = "NAME",
     .help = "models are not downloaded; give a file with -m"},
};

static const struct sh_command command = {
    .name = "bench",
    .usage = "-m model.gguf [options]",
    .about =
        "Measures how fast a model reads prompts (pp) and writes texts (tg), here or over workers, "
        "and how near that is to the bound: what it would take if nothing but computing and the "
        "ways between machines took time. Tokens are drawn at random, so no text ends early. "
        "Several values of an option give several tests, as in llama-bench.",
    .more = "Examples:\n"
            "  shoal bench -m model.gguf\n"
            "  shoal bench -m model.gguf -p 512,4096 -n 128 -d 0,4096 --workers 10.0.0.2,10.0.0.3\n"
            "  shoal bench -m model.gguf -p 0 -npl 8 --workers 10.0.0.2,10.0.0.3 --json\n"
            "\n"
            "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n",
    .args = args,
    .n_args = sizeof args / sizeof args[0],
};

const struct sh_command *sh_bench_command(void)
{
    return &command;
}

static int64_t largest(const struct sh_arg_numbers *list)
{
    int64_t most = 0, v;

    for (int i = 0; i < list->n; i++) {
        for (const char *at = list->text[i]; sh_arg_number_next(&at, &v);)
            most = v > most ? v : most;
    }
    return most;
}

// What single options cannot know of each other.
static int check(const struct sh_bench_flags *o)
{
    const struct sh_command *c = &command;
    const int n_others = o->workers.n + o->servers.n;
    const int64_t n_devices = n_others + (o->with_local || n_others == 0);
    const int64_t n_layers = sh_arg_numbers_count(&o->layers);

    if (!o->model) return sh_usage_error(c, "which model? give -m model.gguf");
    if (o->n_groups.n && !o->n_seqs.n) return sh_usage_error(c, "--groups goes with -npl");
    if (largest(&o->n_groups) > n_devices + 1)
        return sh_usage_error(c, "%lld groups are more than %lld machines keep at work",
                              (long long)largest(&o->n_groups), (long long)n_devices);
    if (o->with_local && n_others == 0)
        return sh_usage_error(c, "--with-local goes with --workers and --rpc; alone, this machine "
                                 "does it all");
    if (o->workers.n == 0 && (o->key || o->relay || o->insecure || o->wire))
        return sh_usage_error(c, "--key, --wire, --relay and --insecure go with --workers");
    if (n_layers && n_layers != n_devices)
        return sh_usage_error(c, "--layers has %lld numbers for %lld machines", (long long)n_layers,
                              (long long)n_devices);
    return SH_PARSED;
}

int sh_bench_flags_parse(struct sh_bench_flags *o, int argc, char **argv)
{
    int code;

    *o = (struct sh_bench_flags){.repetitions = 5, .ways = true, .turns = true};
    code = sh_args_parse(&command, o, argc, argv);
    if (code != SH_PARSED) return code;
    o->json = o->json || o->output == 1;
    return check(o);
}

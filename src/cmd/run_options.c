/* cmd/run_options.c - the table of `shoal run`. */
#include "cmd/run_options.h"

#include <math.h>
#include <stddef.h>

#define AT(field) offsetof(struct sh_run_options, field)
#define INT32_MAX_REAL 2147483647.0

static const char only_processors[] = "shoal computes on processors; layers are placed by --layers";
static const char one_prompt[] = "shoal run continues one prompt";
static const char no_sampler[] =
    "the samplers are penalties, top-k, top-p, min-p and temperature, in this order";

static const struct sh_arg args[] = {
    {.kind = SH_ARG_SECTION, .help = "Model and prompt"},
    {.kind = SH_ARG_TEXT,
     .names = "-m --model",
     .value = "FILE",
     .at = AT(model),
     .help = "the model, a GGUF file (of a split one, the first part)"},
    {.kind = SH_ARG_TEXT,
     .names = "-p --prompt",
     .value = "TEXT",
     .at = AT(prompt),
     .help = "the text to continue; names of special tokens in it are special tokens"},
    {.kind = SH_ARG_TEXT,
     .names = "-f --file",
     .value = "FILE",
     .at = AT(prompt_file),
     .help = "the same from a file (\"-\": stdin), without one newline at its end"},
    {.kind = SH_ARG_NUMBERS,
     .names = "--prompt-ids",
     .value = "1,2,3",
     .at = AT(prompt_ids),
     .min = 0,
     .max = INT32_MAX_REAL,
     .help = "the same as token ids; nothing is added to them"},
    {.kind = SH_ARG_FLAG_NO,
     .names = "--no-escape",
     .at = AT(escape),
     .help = "take \\n, \\t, \\\", \\\\ and \\x41 in -p as they are written"},
    {.kind = SH_ARG_FLAG, .names = "-e --escape", .at = AT(escape)},

    {.kind = SH_ARG_SECTION, .help = "How much"},
    {.kind = SH_ARG_INT,
     .names = "-n --predict --n-predict",
     .value = "N",
     .at = AT(n_predict),
     .min = -2,
     .max = INT32_MAX_REAL,
     .help = "most tokens to generate; 0: only read the prompt; -1: until the model ends or the "
             "context is full (default -1)"},
    {.kind = SH_ARG_INT,
     .names = "-c --ctx-size",
     .value = "N",
     .at = AT(n_ctx),
     .min = 0,
     .max = INT32_MAX_REAL,
     .help = "most tokens of prompt and text together; 0: what the model was trained for "
             "(default 4096, or less if the model has less)"},
    {.kind = SH_ARG_INT,
     .names = "-ub --ubatch-size",
     .value = "N",
     .at = AT(n_ubatch),
     .min = 1,
     .max = 65536,
     .help = "most tokens of the prompt in one step (default 512)"},
    {.kind = SH_ARG_INT,
     .names = "-b --batch-size",
     .value = "N",
     .at = AT(n_batch),
     .min = 1,
     .max = INT32_MAX_REAL,
     .help = "the same; the smaller of the two counts"},
    {.kind = SH_ARG_INT,
     .names = "-t --threads",
     .value = "N",
     .at = AT(n_threads),
     .min = -1,
     .max = 256,
     .help = "threads of this machine's processor (default: all that this process may use)"},
    {.kind = SH_ARG_CHOICE,
     .names = "-ctk --cache-type-k",
     .value = "f16|f32",
     .at = AT(cache_k),
     .help = "type of the cached keys (default f16)"},
    {.kind = SH_ARG_CHOICE,
     .names = "-ctv --cache-type-v",
     .value = "f16|f32",
     .at = AT(cache_v),
     .help = "type of the cached values; the same as of the keys"},
    {.kind = SH_ARG_CHOICE,
     .names = "--cache-type",
     .value = "f16|f32",
     .at = AT(cache_k),
     .help = "both at once"},

    {.kind = SH_ARG_SECTION, .help = "Choosing tokens (a model file may bring its own defaults)"},
    {.kind = SH_ARG_REAL,
     .names = "--temp --temperature",
     .value = "T",
     .at = AT(temp),
     .min = -1,
     .max = 1000,
     .help = "temperature; 0: always the likeliest token (default 0.8)"},
    {.kind = SH_ARG_INT,
     .names = "--top-k",
     .value = "N",
     .at = AT(top_k),
     .min = -1,
     .max = INT32_MAX_REAL,
     .help = "only the N likeliest; 0: all (default 40)"},
    {.kind = SH_ARG_REAL,
     .names = "--top-p",
     .value = "P",
     .at = AT(top_p),
     .min = 0,
     .max = 1,
     .help = "only the likeliest that together reach P; 1: all (default 0.95)"},
    {.kind = SH_ARG_REAL,
     .names = "--min-p",
     .value = "P",
     .at = AT(min_p),
     .min = 0,
     .max = 1,
     .help = "only those at least P times as likely as the best; 0: all (default 0.05)"},
    {.kind = SH_ARG_REAL,
     .names = "--repeat-penalty",
     .value = "R",
     .at = AT(repeat_penalty),
     .min = 0.001,
     .max = 1000,
     .help = "divide the chances of recent tokens; 1: do not (default 1)"},
    {.kind = SH_ARG_INT,
     .names = "--repeat-last-n",
     .value = "N",
     .at = AT(repeat_last_n),
     .min = -1,
     .max = INT32_MAX_REAL,
     .help = "how many tokens count as recent; -1: the whole context (default 64)"},
    {.kind = SH_ARG_INT,
     .names = "-s --seed",
     .value = "N",
     .at = AT(seed),
     .min = -1,
     .max = 4294967295.0,
     .help = "equal seeds give equal text, on whatever machines; -1: a random one, which is "
             "reported (default -1)"},

    {.kind = SH_ARG_SECTION, .help = "Machines"},
    {.kind = SH_ARG_LIST,
     .names = "--workers",
     .value = "HOST:PORT,...",
     .at = AT(workers),
     .help = "compute on these machines, where shoal worker runs (port 50052 if none is given); "
             "this machine only leads"},
    {.kind = SH_ARG_TEXT,
     .names = "--key",
     .value = "SHOAL1-...",
     .at = AT(key),
     .help = "the key that the worker shows with --pair; it is kept, so once is enough (\"shoal "
             "key add\" keeps one, too, without showing it to others on this machine)"},
    {.kind = SH_ARG_LIST,
     .names = "--rpc",
     .value = "HOST:PORT,...",
     .at = AT(servers),
     .help = "compute on these servers in llama.cpp's protocol (rpc-server, or shoal worker); it "
             "is slower and has no keys"},
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
     .help = "how hidden states cross the network between workers: f32 changes nothing, f16 and "
             "q8 are a half and a quarter of the bytes, and change results a little (default f32)"},
    {.kind = SH_ARG_FLAG,
     .names = "--relay",
     .at = AT(relay),
     .help = "let hidden states between workers pass through this machine, though they may reach "
             "each other"},
    {.kind = SH_ARG_FLAG,
     .names = "--insecure",
     .at = AT(insecure),
     .help = "use workers on other machines without a key: anybody between can read and change "
             "everything"},
    {.kind = SH_ARG_CHOICE,
     .names = "--rpc-cache",
     .value = "auto|on|off",
     .at = AT(rpc_cache),
     .help =
         "ask workers whether they have large weights already (shoal worker --cache), and offer "
         "them to be kept; auto: not on this machine, where it does not pay (default auto)"},
    {.kind = SH_ARG_REAL,
     .names = "--step-timeout",
     .value = "SECONDS",
     .at = AT(step_timeout_s),
     .min = 0.05,
     .max = 86400,
     .help = "how long a worker may compute one step (default 120)"},

    {.kind = SH_ARG_SECTION, .help = "Results"},
    {.kind = SH_ARG_FLAG,
     .names = "--json",
     .at = AT(json),
     .help = "one JSON object on stdout instead of the text: text, prompt_ids, ids, timings, plan, "
             "network, perplexity where asked"},
    {.kind = SH_ARG_TEXT,
     .names = "--logits-out",
     .value = "FILE",
     .at = AT(logits_out),
     .help = "write the logits after each prompt token: float32, little-endian, one row of the "
             "vocabulary's size per token"},
    {.kind = SH_ARG_TEXT,
     .names = "--perplexity",
     .value = "FILE",
     .at = AT(perplexity),
     .help = "instead of generating: how well the model predicts this text, in chunks of -c "
             "tokens (default 512), the second half of each counted"},
    {.kind = SH_ARG_INT,
     .names = "--chunks",
     .value = "N",
     .at = AT(chunks),
     .min = -1,
     .max = INT32_MAX_REAL,
     .help = "with --perplexity: only the first N chunks"},
    {.kind = SH_ARG_FLAG,
     .names = "--display-prompt",
     .at = AT(display_prompt),
     .help = "print the prompt before its continuation"},
    {.kind = SH_ARG_FLAG_NO, .names = "--no-display-prompt", .at = AT(display_prompt)},
    {.kind = SH_ARG_FLAG,
     .names = "--verbose-prompt",
     .at = AT(verbose_prompt),
     .help = "list the prompt's tokens on stderr"},
    {.kind = SH_ARG_FLAG,
     .names = "--special",
     .at = AT(special),
     .help = "print special tokens, too"},
    {.kind = SH_ARG_FLAG,
     .names = "--stats",
     .at = AT(stats),
     .help = "more figures at the end: traffic by phase, memory, kernels"},
    {.kind = SH_ARG_FLAG_NO,
     .names = "--no-perf",
     .at = AT(timings),
     .help = "no plan and no timings on stderr"},
    {.kind = SH_ARG_FLAG, .names = "--perf", .at = AT(timings)},
    {.kind = SH_ARG_CHOICE,
     .names = "--log-level",
     .value = "error|warn|info|debug|trace",
     .at = AT(log_level),
     .help = "what else is told on stderr (default warn)"},
    {.kind = SH_ARG_CHOICE,
     .names = "--log",
     .value = "text|json",
     .at = AT(log_format),
     .help =
         "json: everything on stderr is one JSON object per line, without plan and timings, which "
         "--json has (default text)"},
    {.kind = SH_ARG_FLAG,
     .names = "-v --verbose",
     .at = AT(verbose),
     .help = "the same as --log-level debug"},

    {.kind = SH_ARG_NOTE,
     .names = "-ngl --gpu-layers --n-gpu-layers",
     .value = "N",
     .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "-sm --split-mode", .value = "MODE", .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "-ts --tensor-split", .value = "LIST", .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "-mg --main-gpu", .value = "N", .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "-dev --device", .value = "LIST", .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "-nkvo --no-kv-offload", .help = only_processors},
    {.kind = SH_ARG_NOTE, .names = "--no-op-offload", .help = only_processors},
    {.kind = SH_ARG_NOTE,
     .names = "-fa --flash-attn",
     .value = "[on|off|auto|0|1]",
     .help = "attention is always computed without the whole matrix"},
    {.kind = SH_ARG_NOTE,
     .names = "-no-cnv --no-conversation",
     .help = "shoal run always continues the prompt as it is"},
    {.kind = SH_ARG_NOTE,
     .names = "-st --single-turn",
     .help = "shoal run always ends after one answer"},
    {.kind = SH_ARG_NOTE,
     .names = "--no-mmap",
     .help = "local layers are always mapped, remote ones are read once and sent"},
    {.kind = SH_ARG_NOTE, .names = "--mmap", .help = "local layers are always mapped"},
    {.kind = SH_ARG_NOTE,
     .names = "--mlock",
     .help = "memory is not locked; the system may page the model out"},
    {.kind = SH_ARG_NOTE, .names = "--no-warmup", .help = "there is no warm-up run"},
    {.kind = SH_ARG_NOTE, .names = "--warmup", .help = "there is no warm-up run"},
    {.kind = SH_ARG_NOTE,
     .names = "--no-repack",
     .help = "weights keep the order that they have in the file"},
    {.kind = SH_ARG_NOTE, .names = "--no-context-shift", .help = "a full context always ends"},
    {.kind = SH_ARG_NOTE,
     .names = "-tb --threads-batch",
     .value = "N",
     .help = "prompt and text use the threads of -t"},
    {.kind = SH_ARG_NOTE, .names = "--numa", .value = "MODE", .help = "the system places threads"},
    {.kind = SH_ARG_NOTE, .names = "--prio", .value = "N", .help = "priorities are the system's"},
    {.kind = SH_ARG_NOTE, .names = "--poll", .value = "N", .help = "threads spin at most 20 us"},
    {.kind = SH_ARG_NOTE,
     .names = "-co --color --simple-io --log-disable",
     .help = "output is plain text, and messages go to stderr"},
    {.kind = SH_ARG_NOTE, .names = "-np --parallel", .value = "N", .help = one_prompt},
    {.kind = SH_ARG_NOTE, .names = "-kvu --kv-unified", .help = one_prompt},

    {.kind = SH_ARG_REFUSED, .names = "-cnv --conversation -i --interactive", .help = one_prompt},
    {.kind = SH_ARG_REFUSED,
     .names = "-sys --system-prompt --chat-template --in-prefix --in-suffix -r --reverse-prompt",
     .value = "TEXT",
     .help = "there is no chat; write the prompt with the model's special tokens"},
    {.kind = SH_ARG_REFUSED,
     .names = "-hf -hfr --hf-repo -hff --hf-file -mu --model-url",
     .value = "NAME",
     .help = "models are not downloaded; give a file with -m"},
    {.kind = SH_ARG_REFUSED,
     .names = "--context-shift --ignore-eos",
     .help = "a text ends where the model or the context ends"},
    {.kind = SH_ARG_REFUSED,
     .names = "-md --model-draft --draft --draft-max",
     .value = "VALUE",
     .help = "there is no speculative decoding"},
    {.kind = SH_ARG_REFUSED,
     .names = "--lora --lora-scaled --control-vector",
     .value = "FILE",
     .help = "adapters cannot be applied"},
    {.kind = SH_ARG_REFUSED,
     .names = "--mmproj --image --audio",
     .value = "FILE",
     .help = "prompts are text"},
    {.kind = SH_ARG_REFUSED,
     .names = "--grammar --grammar-file -j --json-schema",
     .value = "TEXT",
     .help = "there are no grammars"},
    {.kind = SH_ARG_REFUSED,
     .names = "--samplers --sampling-seq --typical --top-nsigma --xtc-probability --xtc-threshold "
              "--presence-penalty --frequency-penalty --dry-multiplier --dynatemp-range --mirostat "
              "--mirostat-ent --mirostat-lr -l --logit-bias",
     .value = "VALUE",
     .help = no_sampler},
    {.kind = SH_ARG_REFUSED,
     .names = "--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx "
              "--override-kv",
     .value = "VALUE",
     .help = "the model file decides"},
    {.kind = SH_ARG_REFUSED,
     .names = "--prompt-cache",
     .value = "FILE",
     .help = "the cache is not kept after a run"},
};

static const struct sh_command command = {
    .name = "run",
    .usage = "-m model.gguf -p \"text\" [options]",
    .about =
        "Continues a text with a language model and streams what it writes to stdout; progress, "
        "plan and timings go to stderr. With --workers the model's layers run on other machines: "
        "the text is the same, bit for bit. Options keep the names and meanings that users of "
        "llama.cpp know.",
    .more = "Examples:\n"
            "  shoal run -m model.gguf -p \"The capital of France is\" -n 32 --temp 0\n"
            "  shoal run -m model.gguf -f question.txt --workers 10.0.0.2,10.0.0.3\n"
            "  shoal run -m model.gguf --perplexity text.txt --json\n"
            "\n"
            "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n",
    .args = args,
    .n_args = sizeof args / sizeof args[0],
};

const struct sh_command *sh_run_command(void)
{
    return &command;
}

// What single options cannot know of each other.
static int check(const struct sh_run_options *o)
{
    const struct sh_command *c = &command;
    const int n_prompts = !!o->prompt + !!o->prompt_file + !!o->prompt_ids.n;
    const int n_others = o->workers.n + o->servers.n;
    const int64_t n_devices = n_others + (o->with_local || n_others == 0);
    const int64_t n_layers = sh_arg_numbers_count(&o->layers);

    if (!o->model) return sh_usage_error(c, "which model? give -m model.gguf");
    if (n_prompts > 1) return sh_usage_error(c, "only one of -p, -f and --prompt-ids is possible");
    if (n_prompts && o->perplexity)
        return sh_usage_error(c, "--perplexity reads its own text, so -p, -f and --prompt-ids "
                                 "have no place beside it");
    if (!n_prompts && !o->perplexity)
        return sh_usage_error(c, "which prompt? give -p TEXT, -f FILE or --prompt-ids");
    if (o->perplexity && o->logits_out)
        return sh_usage_error(c, "--logits-out goes with a prompt, not with --perplexity");
    if (!o->perplexity && o->chunks >= 0)
        return sh_usage_error(c, "--chunks goes with --perplexity");
    if (o->with_local && n_others == 0)
        return sh_usage_error(c, "--with-local goes with --workers and --rpc; alone, this machine "
                                 "does it all");
    if (o->workers.n == 0 && (o->key || o->relay || o->insecure || o->wire))
        return sh_usage_error(c, "--key, --wire, --relay and --insecure go with --workers");
    if (n_layers && n_layers != n_devices)
        return sh_usage_error(c, "--layers has %lld numbers for %lld machines", (long long)n_layers,
                              (long long)n_devices);
    if (o->cache_k != o->cache_v) return sh_usage_error(c, "-ctk and -ctv must be the same type");
    return SH_PARSED;
}

int sh_run_options_parse(struct sh_run_options *o, int argc, char **argv)
{
    int code;

    *o = (struct sh_run_options){.escape = true,
                                 .n_predict = -1,
                                 .n_ctx = SH_UNSET_INT,
                                 .cache_k = -1,
                                 .cache_v = -1,
                                 .temp = NAN,
                                 .top_p = NAN,
                                 .min_p = NAN,
                                 .repeat_penalty = NAN,
                                 .top_k = SH_UNSET_INT,
                                 .repeat_last_n = SH_UNSET_INT,
                                 .seed = -1,
                                 .chunks = -1,
                                 .timings = true,
                                 .log_level = 1};
    code = sh_args_parse(&command, o, argc, argv);
    if (code != SH_PARSED) return code;
    // One of the two types stands for both; without any it is f16.
    if (o->cache_k < 0) o->cache_k = o->cache_v < 0 ? 0 : o->cache_v;
    if (o->cache_v < 0) o->cache_v = o->cache_k;
    if (o->verbose && o->log_level < 3) o->log_level = 3;
    return check(o);
}

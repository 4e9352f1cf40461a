/* cmd/worker.c - `shoal worker`: offer this machine's processor to hosts. */
#include "cmd/worker_priv.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/console.h"
#include "cmd/interrupt.h"
#include "ggmlrpc/wire.h"

#define AT(field) offsetof(struct worker_options, field)

static const struct sh_arg args[] = {
    {.kind = SH_ARG_SECTION, .help = "Who may come"},
    {.kind = SH_ARG_TEXT,
     .names = "--listen",
     .value = "HOST:PORT",
     .at = AT(listen),
     .help = "where to wait for hosts: an IPv4 or [IPv6] address or a name, 0.0.0.0 for all of "
             "this machine's; port 0: the system chooses one; unix:/path for a socket of this "
             "user (default 127.0.0.1:50052, this machine only)"},
    {.kind = SH_ARG_TEXT,
     .names = "--pair",
     .value = "NAME",
     .at = AT(pair),
     .help = "for other machines: make a key for the host of that name, or use the one that "
             "there is, and print the line to paste there; shoal key lists and revokes"},
    {.kind = SH_ARG_TEXT,
     .names = "--keys",
     .value = "DIR",
     .at = AT(keys),
     .help = "folder of the keys (default: $XDG_CONFIG_HOME/shoal/keys or ~/.config/shoal/keys); "
             "with it keys count on loopback, too"},
    {.kind = SH_ARG_FLAG,
     .names = "--insecure",
     .at = AT(insecure),
     .help = "no keys on an address that other machines can reach, and llama.cpp's protocol there, "
             "too: whoever reaches it can use this machine and read the prompts"},
    {.kind = SH_ARG_TEXT,
     .names = "-H --host",
     .value = "HOST",
     .at = AT(host),
     .help = "--listen in two parts, as llama.cpp's rpc-server has it"},
    {.kind = SH_ARG_INT,
     .names = "-p --port",
     .value = "PORT",
     .at = AT(port),
     .min = 0,
     .max = 65535,
     .help = "the other part"},
    {.kind = SH_ARG_SECTION, .help = "What they get"},
    {.kind = SH_ARG_TEXT,
     .names = "--models",
     .value = "DIR",
     .at = AT(models),
     .help = "model files of this machine: weights that are in them do not cross the network, "
             "whatever the files are called"},
    {.kind = SH_ARG_BYTES,
     .names = "--memory",
     .value = "SIZE",
     .at = AT(memory),
     .min = 1,
     .max = 1e15,
     .help = "most memory for all hosts together, such as 16G (default: four fifths of what is "
             "free)"},
    {.kind = SH_ARG_INT,
     .names = "-t --threads",
     .value = "N",
     .at = AT(n_threads),
     .min = -1,
     .max = 256,
     .help = "threads (default: all that this process may use)"},
    {.kind = SH_ARG_INT,
     .names = "--lease",
     .value = "SECONDS",
     .at = AT(lease_s),
     .min = 1,
     .max = 600,
     .help = "how long memory is kept for a host that was lost (default 30)"},
    {.kind = SH_ARG_LIST,
     .names = "--link-to",
     .value = "NETWORK,...",
     .at = AT(link_to),
     .help = "hosts let hidden states go straight to other workers: in networks of this machine's "
             "interfaces, and in these, such as 10.1.0.0/16"},
    {.kind = SH_ARG_SECTION, .help = "For hosts that speak llama.cpp's protocol"},
    {.kind = SH_ARG_TEXT,
     .names = "--cache",
     .value = "DIR",
     .at = AT(cache),
     .help =
         "keep their large weights in this directory, so that they cross the network once; for "
         "clients that trust each other, because one can give another false weights; llama.cpp's "
         "own can be used (default: none are kept)"},
    {.kind = SH_ARG_FLAG,
     .names = "-c",
     .at = AT(cache_here),
     .help = "the same in $XDG_CACHE_HOME/shoal/rpc or ~/.cache/shoal/rpc"},
    {.kind = SH_ARG_FLAG,
     .names = "--no-cache",
     .at = AT(no_cache),
     .help = "keep none, whatever was said before"},
    {.kind = SH_ARG_BYTES,
     .names = "--cache-size",
     .value = "SIZE",
     .at = AT(cache_bytes),
     .min = 1,
     .max = 1e15,
     .help =
         "most bytes to keep; the oldest make room (default: a fifth of what the disk has free)"},
    {.kind = SH_ARG_NOTE,
     .names = "-d --device",
     .value = "LIST",
     .help = "the one device here is the processor"},
    {.kind = SH_ARG_SECTION, .help = "What it tells"},
    {.kind = SH_ARG_CHOICE,
     .names = "--log-level",
     .value = "error|warn|info|debug|trace",
     .at = AT(log_level),
     .help = "what is told on stderr (default info)"},
    {.kind = SH_ARG_CHOICE,
     .names = "--log",
     .value = "text|json",
     .at = AT(log_format),
     .help =
         "json: everything on stderr is one JSON object per line: time, level, part, message, and "
         "where there is more the event with its figures (docs/operating.md; default text)"},
    {.kind = SH_ARG_FLAG,
     .names = "-v --verbose",
     .at = AT(verbose),
     .help = "the same as --log-level debug"},
};

const struct sh_command sh_worker_command = {
    .name = "worker",
    .usage = "[--listen host:port] [--pair name] [options]",
    .about =
        "Offers this machine's processor and memory to hosts: shoal run --workers, and on "
        "loopback llama.cpp and shoal run --rpc. Prints on stdout, when it is ready, what to "
        "type at the host. Ctrl-C or SIGTERM lets what is under way finish and ends it with code "
        "0.",
    .args = args,
    .n_args = sizeof args / sizeof args[0],
    .more = "Two machines, two lines:\n"
            "  worker$  shoal worker --listen 0.0.0.0 --pair laptop\n"
            "  laptop$  (the line that it prints)\n",
};

/* Where the cache is; `home` has room for the name of the usual place. */
static int place_cache(struct worker_options *o, char home[4096])
{
    const struct sh_command *c = &sh_worker_command;
    const char *base = getenv("XDG_CACHE_HOME"), *below = "/shoal/rpc";

    if (o->cache && o->cache_here) return sh_usage_error(c, "--cache and -c are two places");
    if (o->cache_bytes && !o->cache && !o->cache_here)
        return sh_usage_error(c, "--cache-size goes with --cache or -c");
    if (o->no_cache) o->cache = NULL;
    if (o->no_cache || !o->cache_here) return SH_PARSED;
    if (!base || base[0] != '/') {
        base = getenv("HOME");
        below = "/.cache/shoal/rpc";
    }
    if (!base || base[0] != '/')
        return sh_usage_error(c, "-c: neither XDG_CACHE_HOME nor HOME names a directory; "
                                 "give --cache DIR");
    const int n = snprintf(home, 4096, "%s%s", base, below);
    if (n < 0 || n >= 4096) return sh_usage_error(c, "-c: the path is too long");
    o->cache = home;
    return SH_PARSED;
}

static int parse_networks(struct worker_options *o)
{
    for (int i = 0; i < o->link_to.n; i++) {
        const struct sh_str word = o->link_to.word[i];
        struct shoal_error err = SHOAL_ERROR_INIT;
        char text[64];

        (void)snprintf(text, sizeof text, "%.*s", word.len < 63 ? (int)word.len : 63, word.ptr);
        if (sh_network_parse(&o->network[i], text, &err))
            return sh_usage_error(&sh_worker_command, "--link-to: %s", err.message);
    }
    return SH_PARSED;
}

static int parse(struct worker_options *o, char joined[320], char home[4096], int argc, char **argv)
{
    const struct sh_command *c = &sh_worker_command;
    int code;

    *o = (struct worker_options){.port = -1, .log_level = 2};
    code = sh_args_parse(c, o, argc, argv);
    if (code != SH_PARSED) return code;
    code = place_cache(o, home);
    if (code != SH_PARSED) return code;
    code = parse_networks(o);
    if (code != SH_PARSED) return code;
    if (o->verbose && o->log_level < 3) o->log_level = 3;
    if (o->insecure && (o->pair || o->keys))
        return sh_usage_error(c, "--insecure means no keys, and %s means some",
                              o->pair ? "--pair" : "--keys");
    if (o->cache && (o->pair || o->keys))
        return sh_usage_error(c, "a cache is for llama.cpp's protocol, which is not offered with "
                                 "keys");
    if (o->listen && (o->host || o->port >= 0))
        return sh_usage_error(c, "--listen says all that --host and --port say");
    if (o->listen) return SH_PARSED;
    const char *host = o->host ? o->host : "127.0.0.1";
    const bool bare6 = strchr(host, ':') && host[0] != '[';
    (void)snprintf(joined, 320, bare6 ? "[%.255s]:%d" : "%.255s:%d", host,
                   o->port >= 0 ? (int)o->port : SH_WIRE_PORT);
    o->listen = joined;
    return SH_PARSED;
}

int sh_cmd_worker(int argc, char **argv)
{
    struct worker_options o;
    struct worker_keys keys = {.folder = SH_BUF_INIT};
    struct shoal_error err = SHOAL_ERROR_INIT;
    char joined[320], home[4096];
    enum shoal_status st;
    int code;

    sh_console_begin("worker", true, sh_console_wants_json(argc, argv));
    code = parse(&o, joined, home, argc, argv);
    if (code == SH_PARSED) code = sh_worker_keys_choose(&keys, &o, argc, argv);
    if (code != SH_PARSED) {
        sh_worker_keys_release(&keys);
        return code;
    }
    sh_mem_give_back();
    sh_console_log((enum sh_log_level)o.log_level);
    st = sh_worker_serve(&o, &keys, &err);
    sh_worker_keys_release(&keys);
    if (sh_interrupted() && (!st || st == SHOAL_ERR_CANCELLED)) return 0;
    return st ? sh_say_failure(st, &err) : 0;
}

/* cmd/worker.c - `shoal worker`: offer this machine's processor to RPC clients. */
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include <shoal/version.h>

#include "base/mem.h"
#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/console.h"
#include "cmd/interrupt.h"
#include "cmd/worker_address.h"
#include "cpu/device.h"
#include "ggmlrpc/server.h"
#include "ggmlrpc/wire.h"

struct worker_options {
    const char *listen, *host;
    int64_t port;
    uint64_t memory;
    const char *cache;
    uint64_t cache_bytes;
    bool cache_here, no_cache;
    int64_t n_threads;
    bool insecure, verbose;
    int log_level, log_format;
};

#define AT(field) offsetof(struct worker_options, field)

static const struct sh_arg args[] = {
    {.kind = SH_ARG_SECTION, .help = "Options"},
    {.kind = SH_ARG_TEXT,
     .names = "--listen",
     .value = "HOST:PORT",
     .at = AT(listen),
     .help = "where to wait for clients: an IPv4 or [IPv6] address or a name; port 0: the system "
             "chooses one (default 127.0.0.1:50052, this machine only)"},
    {.kind = SH_ARG_TEXT,
     .names = "-H --host",
     .value = "HOST",
     .at = AT(host),
     .help = "the same in two parts, as llama.cpp's rpc-server has it"},
    {.kind = SH_ARG_INT,
     .names = "-p --port",
     .value = "PORT",
     .at = AT(port),
     .min = 0,
     .max = 65535,
     .help = "the other part"},
    {.kind = SH_ARG_FLAG,
     .names = "--insecure",
     .at = AT(insecure),
     .help = "allow an address that other machines can reach; the protocol has neither passwords "
             "nor encryption, so whoever reaches it can use this machine and read the prompts"},
    {.kind = SH_ARG_BYTES,
     .names = "--memory",
     .value = "SIZE",
     .at = AT(memory),
     .min = 1,
     .max = 1e15,
     .help = "most memory for all clients together, such as 16G (default: what is free)"},
    {.kind = SH_ARG_TEXT,
     .names = "--cache",
     .value = "DIR",
     .at = AT(cache),
     .help =
         "keep large weights in this directory, so that they cross the network once; for "
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
    {.kind = SH_ARG_INT,
     .names = "-t --threads",
     .value = "N",
     .at = AT(n_threads),
     .min = -1,
     .max = 256,
     .help = "threads (default: all that this process may use)"},
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
    {.kind = SH_ARG_NOTE,
     .names = "-d --device",
     .value = "LIST",
     .help = "the one device here is the processor"},
};

static const struct sh_command command = {
    .name = "worker",
    .usage = "[--listen host:port] [options]",
    .about = "Offers this machine's processor and memory to clients that speak llama.cpp's RPC "
             "protocol: shoal run --rpc, and llama.cpp itself. Prints one line on stdout when it "
             "is ready, which ends in the address to use. Ctrl-C or SIGTERM lets commands under "
             "way finish and ends it with code 0.",
    .args = args,
    .n_args = sizeof args / sizeof args[0],
};

/* Where the cache is; `home` has room for the name of the usual place. */
static int place_cache(struct worker_options *o, char home[4096])
{
    const char *base = getenv("XDG_CACHE_HOME"), *below = "/shoal/rpc";

    if (o->cache && o->cache_here) return sh_usage_error(&command, "--cache and -c are two places");
    if (o->cache_bytes && !o->cache && !o->cache_here)
        return sh_usage_error(&command, "--cache-size goes with --cache or -c");
    if (o->no_cache) o->cache = NULL;
    if (o->no_cache || !o->cache_here) return SH_PARSED;
    if (!base || base[0] != '/') {
        base = getenv("HOME");
        below = "/.cache/shoal/rpc";
    }
    if (!base || base[0] != '/')
        return sh_usage_error(&command, "-c: neither XDG_CACHE_HOME nor HOME names a directory; "
                                        "give --cache DIR");
    const int n = snprintf(home, 4096, "%s%s", base, below);
    if (n < 0 || n >= 4096) return sh_usage_error(&command, "-c: the path is too long");
    o->cache = home;
    return SH_PARSED;
}

static int parse(struct worker_options *o, char joined[320], char home[4096], int argc, char **argv)
{
    int code;

    *o = (struct worker_options){.port = -1, .log_level = 2};
    code = sh_args_parse(&command, o, argc, argv);
    if (code != SH_PARSED) return code;
    code = place_cache(o, home);
    if (code != SH_PARSED) return code;
    if (o->verbose && o->log_level < 3) o->log_level = 3;
    if (o->listen && (o->host || o->port >= 0))
        return sh_usage_error(&command, "--listen says all that --host and --port say");
    if (o->listen) return SH_PARSED;
    const char *host = o->host ? o->host : "127.0.0.1";
    const bool bare6 = strchr(host, ':') && host[0] != '[';
    (void)snprintf(joined, 320, bare6 ? "[%.255s]:%d" : "%.255s:%d", host,
                   o->port >= 0 ? (int)o->port : SH_WIRE_PORT);
    o->listen = joined;
    return SH_PARSED;
}

/* ---- who may reach it ----------------------------------------------------------------------- */

// A word of a command line, quoted where a shell would take it apart.
static enum shoal_status add_word(struct sh_buf *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+=./:,@%";
    enum shoal_status st;

    if (*word && strspn(word, plain) == strlen(word)) return sh_buf_printf(out, " %s", word);
    st = sh_buf_append(out, " '", 2);
    for (; *word && !st; word++)
        st = *word == '\'' ? sh_buf_append(out, "'\\''", 4) : sh_buf_append(out, word, 1);
    return st ? st : sh_buf_append(out, "'", 1);
}

// Without --insecure only loopback is listened on; the refusal is the line that would do it.
static int check_address(const struct worker_options *o, int argc, char **argv)
{
    struct sh_address list[SH_ADDRESSES_MAX];
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_buf line = SH_BUF_INIT;
    struct sh_endpoint ep;
    bool is_open = false;
    int n = 0;
    enum shoal_status st = sh_endpoint_parse(&ep, o->listen, SH_WIRE_PORT, &err);

    if (st) return sh_usage_error(&command, "%s", err.message);
    st = sh_address_resolve(list, &n, &ep, true, &err);
    if (st) return sh_say_failure(st, &err);
    for (int i = 0; i < n; i++)
        is_open = is_open || !sh_address_is_loopback(&list[i]);
    if (!is_open || o->insecure) return SH_PARSED;

    st = sh_buf_printf(&line, "shoal worker");
    for (int i = 1; i < argc && !st; i++)
        st = add_word(&line, argv[i]);
    sh_say_error(
        "worker: %s can be reached from other machines, and this protocol has neither passwords "
        "nor encryption; if the network is yours alone: %s --insecure",
        o->listen, st ? "shoal worker" : line.ptr);
    sh_buf_release(&line);
    return SH_EXIT_USAGE;
}

/* ---- serving -------------------------------------------------------------------------------- */

static void stop_server(void *arg)
{
    sh_ggmlrpc_server_stop(arg);
}

static void log_start(const char *device, const char *address,
                      const struct sh_ggmlrpc_server_stats *limits)
{
    const struct sh_log_field fields[] = {
        sh_log_text("event", NULL, "start"),
        sh_log_text("version", NULL, SHOAL_VERSION),
        sh_log_text("device", NULL, device),
        sh_log_text("address", NULL, address),
        sh_log_count("major", NULL, SH_WIRE_MAJOR),
        sh_log_bytes("memory_max_bytes", NULL, limits->memory_max),
        sh_log_count("connections_max", NULL, (uint64_t)limits->connections_max),
        sh_log_count("per_address_max", NULL, (uint64_t)limits->per_address_max)};

    sh_log_fields(SH_LOG_INFO, "worker", fields, sizeof fields / sizeof fields[0],
                  "%s, %s for clients, listening on %s, at most %d connections, %d from one host",
                  device, sh_show_bytes((double)limits->memory_max).text, address,
                  limits->connections_max, limits->per_address_max);
}

static void log_cache(const char *dir, struct sh_ggmlrpc_server *server, bool insecure)
{
    struct sh_cache_stats now;

    sh_ggmlrpc_server_cache_stats(server, &now);
    const struct sh_log_field fields[] = {
        sh_log_text("event", NULL, "cache"), sh_log_text("directory", NULL, dir),
        sh_log_count("entries", NULL, now.n_entries), sh_log_bytes("bytes", NULL, now.bytes),
        sh_log_bytes("bytes_max", NULL, now.bytes_max)};
    sh_log_fields(SH_LOG_INFO, "worker", fields, sizeof fields / sizeof fields[0],
                  "cache: %s, %llu entries, %s of at most %s", dir,
                  (unsigned long long)now.n_entries, sh_show_bytes((double)now.bytes).text,
                  sh_show_bytes((double)now.bytes_max).text);
    if (insecure)
        sh_log(
            SH_LOG_WARN, "worker",
            "whoever reaches this address can give other clients false weights through the cache");
}

static void log_stop(struct sh_ggmlrpc_server *server)
{
    struct sh_ggmlrpc_server_stats stats;

    sh_ggmlrpc_server_stats(server, &stats);
    const struct sh_log_field fields[] = {sh_log_text("event", NULL, "stop"),
                                          sh_log_count("sessions", NULL, stats.n_sessions),
                                          sh_log_count("otherwise", NULL, stats.n_failed)};
    sh_log_fields(SH_LOG_INFO, "worker", fields, sizeof fields / sizeof fields[0],
                  "stopped; %llu sessions ended in order, %llu otherwise",
                  (unsigned long long)stats.n_sessions, (unsigned long long)stats.n_failed);
}

static enum shoal_status tell_ready(const struct worker_options *o,
                                    struct sh_ggmlrpc_server *server, struct sh_device *device,
                                    struct shoal_error *err)
{
    char address[SH_ADDRESS_TEXT_MAX], line[160];
    struct sh_ggmlrpc_server_stats stats;
    struct sh_device_info info;
    enum shoal_status st = sh_device_info(device, &info, err);

    if (st) return st;
    sh_ggmlrpc_server_stats(server, &stats);
    log_start(info.description, sh_ggmlrpc_server_address(server), &stats);
    if (o->insecure)
        sh_log(SH_LOG_WARN, "worker",
               "no passwords, no encryption: whoever reaches this address can use it");
    if (o->cache) log_cache(o->cache, server, o->insecure);
    sh_worker_address(sh_ggmlrpc_server_address(server), address);
    const int n = snprintf(line, sizeof line, "ready: shoal run --rpc %s\n", address);
    return sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){line, (size_t)n}, err);
}

static enum shoal_status serve(const struct worker_options *o, struct shoal_error *err)
{
    const struct sh_cpu_options cpu = {.n_threads = o->n_threads > 0 ? (int)o->n_threads : 0,
                                       .memory_max = o->memory};
    struct sh_ggmlrpc_server_options opt = {.listen = o->listen,
                                            .allow_remote = o->insecure,
                                            .cache_dir = o->cache,
                                            .cache_bytes_max = o->cache_bytes,
                                            // Buffers may not take what graphs need to work in.
                                            .memory_max = (size_t)(o->memory - o->memory / 16)};
    struct sh_ggmlrpc_server *server = NULL;
    struct sh_device *device = NULL;
    enum shoal_status st = sh_cpu_device_open(&device, &cpu, err);

    if (st) goto done;
    opt.device = device;
    st = sh_ggmlrpc_server_create(&server, &opt, err);
    if (st) goto done;
    sh_interrupt_call(stop_server, server);
    st = tell_ready(o, server, device, err);
    if (!st) st = sh_ggmlrpc_server_run(server, err);
    if (!st) log_stop(server);

done:
    sh_interrupt_call(NULL, NULL);
    sh_ggmlrpc_server_destroy(server);
    sh_device_close(device);
    return st;
}

int sh_cmd_worker(int argc, char **argv)
{
    struct worker_options o;
    struct shoal_error err = SHOAL_ERROR_INIT;
    char joined[320], home[4096];
    enum shoal_status st;
    int code;

    sh_console_begin("worker", true, sh_console_wants_json(argc, argv));
    code = parse(&o, joined, home, argc, argv);

    if (code == SH_PARSED) code = check_address(&o, argc, argv);
    if (code != SH_PARSED) return code;
    sh_mem_give_back();
    sh_console_log((enum sh_log_level)o.log_level);
    st = serve(&o, &err);
    if (sh_interrupted() && (!st || st == SHOAL_ERR_CANCELLED)) return 0;
    return st ? sh_say_failure(st, &err) : 0;
}

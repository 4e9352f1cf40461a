/* cmd/status.c - `shoal status`: who uses what on workers. */
#include "cmd/status_priv.h"

#include <jansson.h>
#include <stddef.h>
#include <unistd.h>

#include "base/mem.h"
#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/console.h"
#include "host/known.h"

enum { WORKERS_MAX = 32 };
#define CONNECT_NS (5 * SH_SECOND)

struct status_options {
    const char *worker[WORKERS_MAX + 1];
    bool json, insecure;
};

static const struct sh_arg args[] = {
    {.kind = SH_ARG_SECTION, .help = "Options"},
    {.kind = SH_ARG_FLAG,
     .names = "--json",
     .at = offsetof(struct status_options, json),
     .help = "one JSON object instead of tables"},
    {.kind = SH_ARG_FLAG,
     .names = "--insecure",
     .at = offsetof(struct status_options, insecure),
     .help = "ask workers on other machines without a key, too"},
};

static const struct sh_command command = {
    .name = "status",
    .usage = "[HOST:PORT ...] [--json]",
    .about = "Asks workers who uses them: key, model, address, memory, steps run, since when, and "
             "for how long nothing came. Without an address it asks all workers that this host "
             "has keys of (shoal key list). Ends with code 1 if one of them did not answer.",
    .args = args,
    .n_args = sizeof args / sizeof args[0],
    .operand = "worker",
    .operand_at = offsetof(struct status_options, worker),
    .operands_max = WORKERS_MAX,
};

/* Those of the command line, else those with keys.  The texts are in the arena. */
static enum shoal_status list_workers(const struct status_options *o, struct sh_arena *arena,
                                      const char *list[WORKERS_MAX], int *n,
                                      struct shoal_error *err)
{
    struct sh_cluster cluster = SH_CLUSTER_INIT;
    struct sh_buf path = SH_BUF_INIT;
    enum shoal_status st;

    *n = 0;
    while (*n < WORKERS_MAX && o->worker[*n]) {
        list[*n] = o->worker[*n];
        ++*n;
    }
    if (*n > 0) return SHOAL_OK;
    st = sh_cluster_path(&path, err);
    if (!st) st = sh_cluster_load(path.ptr, &cluster, err);
    for (size_t i = 0; i < cluster.n && *n < WORKERS_MAX && !st; i++) {
        const char *address = cluster.entry[i].address;
        list[*n] = sh_arena_strndup(arena, address, strlen(address));
        if (!list[*n]) st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a list of workers");
        ++*n;
    }
    if (!st && *n == 0)
        st = sh_fail(err, SHOAL_ERR_ARG, "which worker? There are no keys in %s", path.ptr);
    sh_cluster_release(&cluster);
    sh_buf_release(&path);
    return st;
}

static enum shoal_status ask(struct sh_status_worker *w, const struct status_options *o,
                             struct sh_arena *arena)
{
    struct sh_remote *remote = NULL;
    struct sh_known known;
    enum shoal_status st = sh_known_find(&known, NULL, w->address, NULL, &w->error);

    if (st) return st;
    const struct sh_remote_options opt = {.address = known.address,
                                          .key = known.has_key ? &known.key : NULL,
                                          .insecure = o->insecure,
                                          .connect_ns = CONNECT_NS};
    st = sh_remote_open(&remote, &opt, &w->error);
    if (!st) sh_remote_info(remote, &w->info);
    if (!st) st = sh_remote_stats(remote, arena, &w->figures, &w->error);
    sh_remote_close(remote);
    sh_known_wipe(&known);
    return st;
}

static enum shoal_status show(struct sh_buf *out, const struct status_options *o,
                              const struct sh_status_worker *w, int n, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    if (o->json) return sh_status_show_json(out, w, n, err);
    for (int i = 0; i < n && !st; i++) {
        if (w[i].status) continue;
        if (out->len > 0) st = sh_buf_printf(out, "\n");
        if (!st) st = sh_status_show(out, &w[i], err);
    }
    return st;
}

static enum shoal_status ask_all(const struct status_options *o, struct sh_arena *arena,
                                 struct sh_buf *out, bool *missing, struct shoal_error *err)
{
    const char *list[WORKERS_MAX];
    struct sh_status_worker *w = sh_arena_calloc(arena, WORKERS_MAX, sizeof *w);
    int n;
    enum shoal_status st;

    if (!w) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a list of workers");
    st = list_workers(o, arena, list, &n, err);
    for (int i = 0; i < n && !st; i++) {
        w[i].address = list[i];
        w[i].status = ask(&w[i], o, arena);
        *missing = *missing || w[i].status;
    }
    if (!st) st = show(out, o, w, n, err);
    for (int i = 0; i < n && !st; i++) {
        if (w[i].status) sh_say_error("status: %s", w[i].error.message);
    }
    return st;
}

int sh_cmd_status(int argc, char **argv)
{
    struct status_options o = {.json = false};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_arena arena = SH_ARENA_INIT;
    struct sh_buf out = SH_BUF_INIT;
    bool missing = false;
    enum shoal_status st;
    int code;

    sh_console_begin("status", false, false);
    code = sh_args_parse(&command, &o, argc, argv);
    if (code != SH_PARSED) return code;
    json_set_alloc_funcs(sh_malloc, sh_free);
    sh_console_log(SH_LOG_WARN);
    st = ask_all(&o, &arena, &out, &missing, &err);
    if (!st && out.ptr)
        st = sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){out.ptr, out.len}, &err);
    sh_buf_release(&out);
    sh_arena_release(&arena);
    if (st == SHOAL_ERR_ARG) return sh_usage_error(&command, "%s", err.message);
    if (st) return sh_say_failure(st, &err);
    return missing ? SH_EXIT_FAILED : 0;
}

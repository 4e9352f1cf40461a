/* cmd/worker_serve.c - a worker from its options to its end, and what it says of itself. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <shoal/version.h>

#include "blob/manifest.h"
#include "cmd/args.h"
#include "cmd/console.h"
#include "cmd/interrupt.h"
#include "cmd/worker_address.h"
#include "cmd/worker_priv.h"
#include "ggmlrpc/wire.h"

/* ---- the log --------------------------------------------------------------------------------*/

static void log_start(struct sh_worker *w, const struct worker_keys *k)
{
    const char *keys = k->folder.ptr ? k->folder.ptr : "";
    struct sh_worker_stats s;

    sh_worker_stats(w, &s);
    const struct sh_log_field fields[] = {
        sh_log_text("event", NULL, "start"),
        sh_log_text("version", NULL, SHOAL_VERSION),
        sh_log_text("device", NULL, sh_worker_device(w)),
        sh_log_text("address", NULL, sh_worker_listens(w)),
        sh_log_text("keys", NULL, keys),
        sh_log_count("major", NULL, sh_worker_has_foreign(w) ? SH_WIRE_MAJOR : 0),
        sh_log_bytes("memory_max_bytes", NULL, s.memory_max),
        sh_log_count("connections_max", NULL, (uint64_t)s.connections_max),
        sh_log_count("per_address_max", NULL, (uint64_t)s.per_address_max)};
    sh_log_fields(SH_LOG_INFO, "worker", fields, sizeof fields / sizeof fields[0],
                  "%s, %s for hosts, listening on %s%s%s, at most %d connections, %d from one host",
                  sh_worker_device(w), sh_show_bytes((double)s.memory_max).text,
                  sh_worker_listens(w), keys[0] ? " for those with a key in " : "", keys,
                  s.connections_max, s.per_address_max);
}

static void log_cache(struct sh_worker *w, const struct worker_options *o)
{
    struct sh_worker_stats s;

    sh_worker_stats(w, &s);
    const struct sh_log_field fields[] = {sh_log_text("event", NULL, "cache"),
                                          sh_log_text("directory", NULL, o->cache),
                                          sh_log_count("entries", NULL, s.cache.n_entries),
                                          sh_log_bytes("bytes", NULL, s.cache.bytes),
                                          sh_log_bytes("bytes_max", NULL, s.cache.bytes_max)};
    sh_log_fields(SH_LOG_INFO, "worker", fields, sizeof fields / sizeof fields[0],
                  "cache: %s, %llu entries, %s of at most %s", o->cache,
                  (unsigned long long)s.cache.n_entries, sh_show_bytes((double)s.cache.bytes).text,
                  sh_show_bytes((double)s.cache.bytes_max).text);
    if (o->insecure)
        sh_log(
            SH_LOG_WARN, "worker",
            "whoever reaches this address can give other clients false weights through the cache");
}

static void log_stop(struct sh_worker *w)
{
    struct sh_worker_stats s;

    sh_worker_stats(w, &s);
    const uint64_t ended = s.rpc.n_ended + s.foreign.n_sessions;
    const uint64_t failed = s.rpc.n_failed + s.foreign.n_failed;
    const struct sh_log_field fields[] = {sh_log_text("event", NULL, "stop"),
                                          sh_log_count("sessions", NULL, ended),
                                          sh_log_count("otherwise", NULL, failed)};
    sh_log_fields(SH_LOG_INFO, "worker", fields, sizeof fields / sizeof fields[0],
                  "stopped; %llu sessions ended in order, %llu otherwise",
                  (unsigned long long)ended, (unsigned long long)failed);
}

/* ---- what to type at the host ---------------------------------------------------------------*/

/* With a key: its words, and a line that holds it. */
static enum shoal_status add_pairing(struct sh_buf *out, const struct sh_key_entry *e,
                                     const char *address, struct shoal_error *err)
{
    char text[SH_KEY_TEXT], words[SH_KEY_WORDS_TEXT];
    enum shoal_status st = sh_key_format(text, &e->key, err);

    if (!st) st = sh_key_fingerprint(words, &e->key, err);
    if (!st)
        st =
            sh_buf_printf(out,
                          "ready: paste this on %s, which will show the same words: %s\n"
                          "shoal run --workers %s --key %s -m model.gguf -p \"Once upon a time\"\n",
                          e->name, words, address, text);
    sh_wipe(text, sizeof text);
    return st;
}

/* One write: who reads the first line alone takes nothing from the second. */
static enum shoal_status tell_ready(struct sh_worker *w, const struct worker_options *o,
                                    const struct worker_keys *k, struct shoal_error *err)
{
    char address[SH_ADDRESS_TEXT_MAX];
    struct sh_buf out = SH_BUF_INIT;
    bool is_open = false;
    enum shoal_status st;

    sh_worker_address(sh_worker_listens(w), address);
    if (k->has_pair) {
        st = add_pairing(&out, &k->pair, address, err);
    } else {
        (void)!sh_worker_is_open(&is_open, o->listen, NULL);
        st = sh_buf_printf(&out, "ready: shoal run%s --workers %s\n",
                           o->insecure && is_open ? " --insecure" : "", address);
        if (!st && sh_worker_has_foreign(w))
            st = sh_buf_printf(&out, "for llama.cpp's protocol: --rpc %s\n", address);
        if (!st && k->folder.ptr)
            st = sh_buf_printf(&out, "for those who have a key: shoal key list shows them\n");
    }
    if (st == SHOAL_ERR_NOMEM) st = sh_fail(err, st, "no memory to tell what to type");
    if (!st) st = sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){out.ptr, out.len}, err);
    if (out.ptr) sh_wipe(out.ptr, out.cap);
    sh_buf_release(&out);
    return st;
}

/* ---- serving --------------------------------------------------------------------------------*/

static void stop_worker(void *arg)
{
    sh_worker_stop(arg);
}

static void tell_log(struct sh_worker *w, const struct worker_options *o,
                     const struct worker_keys *k)
{
    log_start(w, k);
    if (o->insecure)
        sh_log(SH_LOG_WARN, "worker",
               "no keys, no encryption: whoever reaches this address can use it");
    if (k->has_pair)
        sh_log(SH_LOG_INFO, "worker", "the key \"%s\" is %s", k->pair.name,
               k->is_new ? "new" : "one that was there already");
    if (o->cache) log_cache(w, o);
}

enum shoal_status sh_worker_serve(const struct worker_options *o, const struct worker_keys *k,
                                  struct shoal_error *err)
{
    struct sh_worker_options opt = {.listen = o->listen,
                                    .keys = k->folder.ptr,
                                    .insecure = o->insecure,
                                    .models = o->models,
                                    .n_threads = o->n_threads > 0 ? (int)o->n_threads : 0,
                                    .link_to = o->network,
                                    .n_link_to = o->link_to.n,
                                    .memory = o->memory,
                                    .lease_ns = o->lease_s * SH_SECOND,
                                    .cache = o->cache,
                                    .cache_bytes = o->cache_bytes};
    struct sh_buf hashes = SH_BUF_INIT;
    struct sh_worker *w = NULL;
    enum shoal_status st;

    // Where hashes cannot be remembered they are made anew each time.
    if (o->models && !sh_manifest_default_dir(&hashes, NULL)) opt.hashes = hashes.ptr;
    st = sh_worker_open(&w, &opt, err);
    if (st) goto done;
    sh_interrupt_call(stop_worker, w);
    tell_log(w, o, k);
    st = tell_ready(w, o, k, err);
    if (!st) st = sh_worker_run(w, err);
    if (!st) log_stop(w);

done:
    sh_interrupt_call(NULL, NULL);
    sh_worker_close(w);
    sh_buf_release(&hashes);
    return st;
}

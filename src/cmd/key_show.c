/* cmd/key_show.c - keys for people and for programs.  A list shows no secret. */
#include "cmd/key_priv.h"

#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "cmd/table.h"

static enum shoal_status no_memory(struct shoal_error *err)
{
    return sh_fail(err, SHOAL_ERR_NOMEM, "no memory to show keys");
}

// A time for programs ("2026-03-01T12:00:00Z") or its day for people.
struct when {
    char text[40];
};
static struct when when_of(int64_t seconds, bool in_full)
{
    const time_t t = (time_t)seconds;
    struct when w = {"?"};
    struct tm tm;

    if (in_full && gmtime_r(&t, &tm)) (void)strftime(w.text, sizeof w.text, "%FT%TZ", &tm);
    if (!in_full && localtime_r(&t, &tm)) (void)strftime(w.text, sizeof w.text, "%F", &tm);
    return w;
}

/* ---- for programs --------------------------------------------------------------------------- */

static void put(json_t *object, const char *key, json_t *value, bool *ok)
{
    if (json_object_set_new(object, key, value) < 0) *ok = false;
}

static void put_words(json_t *object, const struct sh_key *key, bool *ok)
{
    char words[SH_KEY_WORDS_TEXT];

    if (sh_key_fingerprint(words, key, NULL)) *ok = false;
    put(object, "fingerprint", json_string(words), ok);
}

static json_t *entry_of(const struct sh_key_entry *e, bool *ok)
{
    json_t *o = json_object();

    put(o, "name", json_string(e->name), ok);
    put(o, "id", json_string(e->kid), ok);
    put_words(o, &e->key, ok);
    put(o, "made", json_string(when_of(e->made_s, true).text), ok);
    return o;
}

static json_t *worker_of(const char *address, const char *name, const char *kid,
                         const struct sh_key *key, bool *ok)
{
    json_t *o = json_object();

    put(o, "address", json_string(address), ok);
    put(o, "name", name && name[0] ? json_string(name) : json_null(), ok);
    put(o, "id", json_string(kid), ok);
    put_words(o, key, ok);
    return o;
}

// Append the object, which is used up.
static enum shoal_status add_json(struct sh_buf *out, json_t *object, bool ok,
                                  struct shoal_error *err)
{
    char *text = ok && object ? json_dumps(object, JSON_COMPACT) : NULL;
    enum shoal_status st = text ? sh_buf_printf(out, "%s\n", text) : SHOAL_ERR_NOMEM;

    if (text) sh_wipe(text, strlen(text));
    sh_free(text);
    json_decref(object);
    return st ? no_memory(err) : SHOAL_OK;
}

static enum shoal_status list_json(struct sh_buf *out, const struct sh_key_view *v,
                                   struct shoal_error *err)
{
    json_t *root = json_object(), *keys = json_array(), *workers = json_array();
    bool ok = true;

    for (size_t i = 0; i < v->keys.n; i++) {
        if (json_array_append_new(keys, entry_of(&v->keys.entry[i], &ok)) < 0) ok = false;
    }
    for (size_t i = 0; i < v->workers.n; i++) {
        const struct sh_cluster_entry *e = &v->workers.entry[i];
        json_t *o = worker_of(e->address, e->name, e->kid, &e->key, &ok);
        if (json_array_append_new(workers, o) < 0) ok = false;
    }
    put(root, "folder", json_string(v->folder), &ok);
    put(root, "keys", keys, &ok);
    put(root, "cluster", json_string(v->cluster), &ok);
    put(root, "workers", workers, &ok);
    return add_json(out, root, ok, err);
}

/* ---- for people ----------------------------------------------------------------------------- */

static enum shoal_status add_keys(struct sh_buf *out, const struct sh_key_view *v)
{
    struct sh_table t = sh_table_begin("llll");
    enum shoal_status st = sh_buf_printf(out, "Keys of this worker, in %s:\n", v->folder);

    if (!st && v->keys.n == 0) st = sh_buf_printf(out, "  none; shoal key make NAME makes one\n");
    for (size_t i = 0; i < v->keys.n && !st; i++) {
        const struct sh_key_entry *e = &v->keys.entry[i];
        char words[SH_KEY_WORDS_TEXT];
        st = sh_key_fingerprint(words, &e->key, NULL);
        sh_table_add(&t, "%s", e->name);
        sh_table_add(&t, "%s", when_of(e->made_s, false).text);
        sh_table_add(&t, "%s", e->kid);
        sh_table_add(&t, "%s", words);
    }
    const enum shoal_status shown = sh_table_append(&t, 2, out);
    return st ? st : shown;
}

static enum shoal_status add_workers(struct sh_buf *out, const struct sh_key_view *v)
{
    struct sh_table t = sh_table_begin("llll");
    enum shoal_status st =
        sh_buf_printf(out, "\nWorkers that this host has keys of, in %s:\n", v->cluster);

    if (!st && v->workers.n == 0)
        st = sh_buf_printf(out, "  none; shoal key add HOST:PORT KEY adds one\n");
    for (size_t i = 0; i < v->workers.n && !st; i++) {
        const struct sh_cluster_entry *e = &v->workers.entry[i];
        char words[SH_KEY_WORDS_TEXT];
        st = sh_key_fingerprint(words, &e->key, NULL);
        sh_table_add(&t, "%s", e->address);
        sh_table_add(&t, "%s", e->name[0] ? e->name : "-");
        sh_table_add(&t, "%s", e->kid);
        sh_table_add(&t, "%s", words);
    }
    const enum shoal_status shown = sh_table_append(&t, 2, out);
    return st ? st : shown;
}

enum shoal_status sh_key_show_list(struct sh_buf *out, const struct sh_key_view *v, bool json,
                                   struct shoal_error *err)
{
    enum shoal_status st;

    if (json) return list_json(out, v, err);
    st = add_keys(out, v);
    if (!st) st = add_workers(out, v);
    return st ? no_memory(err) : SHOAL_OK;
}

/* ---- one ------------------------------------------------------------------------------------ */

enum shoal_status sh_key_show_one(struct sh_buf *out, const struct sh_key_entry *e, bool json,
                                  struct shoal_error *err)
{
    char text[SH_KEY_TEXT], words[SH_KEY_WORDS_TEXT];
    enum shoal_status st = sh_key_format(text, &e->key, err);
    bool ok = true;

    if (!st) st = sh_key_fingerprint(words, &e->key, err);
    if (st) return st;
    if (json) {
        json_t *o = entry_of(e, &ok);
        put(o, "key", json_string(text), &ok);
        st = add_json(out, o, ok, err);
    } else {
        st = sh_buf_printf(out,
                           "Key \"%s\", id %s, for one host. On that host, with the address of "
                           "this worker:\n\n"
                           "  shoal key add HOST:PORT %s\n\n"
                           "The host then shows the same eight words:\n\n"
                           "  %s\n",
                           e->name, e->kid, text, words);
        if (st) st = no_memory(err);
    }
    sh_wipe(text, sizeof text);
    return st;
}

enum shoal_status sh_key_show_added(struct sh_buf *out, const char *address, const char *name,
                                    const struct sh_key *key, bool replaced, bool json,
                                    struct shoal_error *err)
{
    char words[SH_KEY_WORDS_TEXT], kid[SH_KID_TEXT];
    enum shoal_status st = sh_key_fingerprint(words, key, err);
    bool ok = true;

    if (!st) st = sh_key_id(kid, key, err);
    if (st) return st;
    if (json) {
        json_t *o = worker_of(address, name, kid, key, &ok);
        put(o, "replaced", json_boolean(replaced), &ok);
        return add_json(out, o, ok, err);
    }
    st = sh_buf_printf(out,
                       "The worker %s %s. At the worker, shoal key list shows the same eight "
                       "words, or the key is another one:\n\n"
                       "  %s\n",
                       address, replaced ? "has a new key" : "is added", words);
    return st ? no_memory(err) : SHOAL_OK;
}

/* cmd/json.c - see cmd/json.h. */
#include "cmd/json.h"

#include <unistd.h>

#include "base/mem.h"
#include "cmd/console.h"
#include "cmd/log_line.h"

json_t *sh_json_begin(void)
{
    json_set_alloc_funcs(sh_malloc, sh_free);
    return json_object();
}

void sh_json_put(json_t *object, const char *key, json_t *value, bool *ok)
{
    if (json_object_set_new(object, key, value) < 0) *ok = false;
}

void sh_json_push(json_t *array, json_t *value, bool *ok)
{
    if (json_array_append_new(array, value) < 0) *ok = false;
}

json_t *sh_json_text(struct sh_str s)
{
    struct sh_buf clean = SH_BUF_INIT;
    json_t *value = NULL;

    if (!sh_append_harmless(&clean, s)) value = json_stringn(clean.ptr ? clean.ptr : "", clean.len);
    sh_buf_release(&clean);
    return value;
}

json_t *sh_json_count(uint64_t n)
{
    return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

static int append(const char *bytes, size_t size, void *buf)
{
    return sh_buf_append(buf, bytes, size) ? -1 : 0;
}

enum shoal_status sh_json_line(struct sh_buf *out, json_t *object, bool ok, size_t digits,
                               struct shoal_error *err)
{
    ok = ok &&
         json_dump_callback(object, append, out, JSON_COMPACT | JSON_REAL_PRECISION(digits)) == 0;
    ok = ok && !sh_buf_append(out, "\n", 1);
    json_decref(object);
    return ok ? SHOAL_OK : sh_fail(err, SHOAL_ERR_NOMEM, "no memory for the JSON object");
}

enum shoal_status sh_json_write(json_t *object, bool ok, size_t digits, struct shoal_error *err)
{
    struct sh_buf out = SH_BUF_INIT;
    enum shoal_status st = sh_json_line(&out, object, ok, digits, err);

    if (!st) st = sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){out.ptr, out.len}, err);
    sh_buf_release(&out);
    return st;
}

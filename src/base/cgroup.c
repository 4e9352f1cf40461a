/* base/cgroup.c - CPU quota and memory limit of control groups, versions 1 and 2. */
#include "base/cgroup_priv.h"

#include <limits.h>
#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"

#define GROUP_FILE_BYTES_MAX ((size_t)64 * 1024)
#define PATH_BYTES_MAX 4096

/* Cut the next line off *text; false at the end. */
static bool next_line(struct sh_str *text, struct sh_str *line)
{
    const char *end;

    if (text->len == 0) return false;
    end = memchr(text->ptr, '\n', text->len);
    line->ptr = text->ptr;
    line->len = end ? (size_t)(end - text->ptr) : text->len;
    text->ptr += line->len + (end ? 1 : 0);
    text->len -= line->len + (end ? 1 : 0);
    return true;
}

/* Cut the part before `sep` off *text; false if there is no `sep`. */
static bool cut_at(struct sh_str *text, char sep, struct sh_str *head)
{
    const char *at = text->len ? memchr(text->ptr, sep, text->len) : NULL;

    if (!at) return false;
    *head = (struct sh_str){text->ptr, (size_t)(at - text->ptr)};
    text->len -= head->len + 1;
    text->ptr = at + 1;
    return true;
}

/* Is `name` one of the names between the commas? */
static bool list_has(struct sh_str list, const char *name)
{
    struct sh_str item;

    while (cut_at(&list, ',', &item)) {
        if (sh_str_is(item, name)) return true;
    }
    return sh_str_is(list, name);
}

bool sh_cgroup_path(struct sh_str text, const char *controller, struct sh_str *path)
{
    struct sh_str line, id, names;

    while (next_line(&text, &line)) {
        if (!cut_at(&line, ':', &id) || !cut_at(&line, ':', &names)) continue;
        if (!list_has(names, controller) || line.len == 0 || line.ptr[0] != '/') continue;
        *path = line;
        return true;
    }
    return false;
}

bool sh_cgroup_number(struct sh_str text, uint64_t *value)
{
    uint64_t v = 0;
    size_t i = 0, first;

    while (i < text.len && (text.ptr[i] == ' ' || text.ptr[i] == '\t'))
        i++;
    first = i;
    for (; i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9'; i++) {
        const uint64_t digit = (uint64_t)(text.ptr[i] - '0');
        if (v > (UINT64_MAX - digit) / 10) return false;
        v = 10 * v + digit;
    }
    if (i == first) return false;
    *value = v;
    return true;
}

bool sh_cgroup_cpus(struct sh_str quota, struct sh_str period, int *cpus)
{
    uint64_t q, p, n;

    if (!sh_cgroup_number(quota, &q) || !sh_cgroup_number(period, &p) || p == 0) return false;
    n = q / p + (q % p != 0);
    if (n > INT_MAX) return false;
    *cpus = n < 1 ? 1 : (int)n;
    return true;
}

bool sh_cgroup_cpu_max(struct sh_str text, int *cpus)
{
    struct sh_str quota;

    return cut_at(&text, ' ', &quota) && sh_cgroup_cpus(quota, text, cpus);
}

bool sh_cgroup_field(struct sh_str text, const char *key, uint64_t *value)
{
    const size_t n = strlen(key);
    struct sh_str line;

    while (next_line(&text, &line)) {
        if (line.len <= n || memcmp(line.ptr, key, n) != 0) continue;
        if (line.ptr[n] != ' ' && line.ptr[n] != ':') continue;
        return sh_cgroup_number((struct sh_str){line.ptr + n + 1, line.len - n - 1}, value);
    }
    return false;
}

/* One version's file names; NULL where it has none. */
struct group_files {
    const char *cpu_max;                  // quota and period on one line
    const char *cpu_quota, *cpu_period;   // or in two files
    const char *memory_max, *memory_used; // bytes
    const char *cache_key;                // of memory.stat: cache that can be dropped
};
static const struct group_files files_v2 = {.cpu_max = "cpu.max",
                                            .memory_max = "memory.max",
                                            .memory_used = "memory.current",
                                            .cache_key = "inactive_file"};
static const struct group_files files_v1 = {.cpu_quota = "cpu.cfs_quota_us",
                                            .cpu_period = "cpu.cfs_period_us",
                                            .memory_max = "memory.limit_in_bytes",
                                            .memory_used = "memory.usage_in_bytes",
                                            .cache_key = "total_inactive_file"};

/* The text of dir/name; *text is empty if it cannot be read.  Release with sh_free(). */
static char *read_group_file(const char *dir, const char *name, struct sh_str *text)
{
    char path[PATH_BYTES_MAX];
    char *bytes = NULL;
    size_t len = 0;
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);

    *text = SH_STR_EMPTY;
    if (n < 0 || (size_t)n >= sizeof path) return NULL;
    if (sh_read_file(&bytes, &len, path, GROUP_FILE_BYTES_MAX, NULL)) return NULL;
    *text = (struct sh_str){bytes, len};
    return bytes;
}

static bool read_group_number(const char *dir, const char *name, uint64_t *value)
{
    struct sh_str text;
    char *bytes = read_group_file(dir, name, &text);
    const bool ok = sh_cgroup_number(text, value);

    sh_free(bytes);
    return ok;
}

static void limit_cpus(struct sh_cgroup_limits *out, const struct group_files *f, const char *dir)
{
    struct sh_str a = SH_STR_EMPTY, b = SH_STR_EMPTY;
    char *bytes_a, *bytes_b = NULL;
    bool limited;
    int cpus = INT_MAX;

    if (f->cpu_max) {
        bytes_a = read_group_file(dir, f->cpu_max, &a);
        limited = sh_cgroup_cpu_max(a, &cpus);
    } else {
        bytes_a = read_group_file(dir, f->cpu_quota, &a);
        bytes_b = read_group_file(dir, f->cpu_period, &b);
        limited = sh_cgroup_cpus(a, b, &cpus);
    }
    if (limited && cpus < out->cpus) out->cpus = cpus;
    sh_free(bytes_a);
    sh_free(bytes_b);
}

static void limit_memory(struct sh_cgroup_limits *out, const struct group_files *f, const char *dir)
{
    uint64_t max, used = 0, cache = 0, usable;
    struct sh_str stat;
    char *bytes;

    if (!read_group_number(dir, f->memory_max, &max)) return;
    if (max < out->memory_max) out->memory_max = max;
    (void)read_group_number(dir, f->memory_used, &used);
    bytes = read_group_file(dir, "memory.stat", &stat);
    (void)sh_cgroup_field(stat, f->cache_key, &cache);
    sh_free(bytes);
    used -= cache < used ? cache : used;
    usable = used < max ? max - used : 0;
    if (usable < out->memory_usable) out->memory_usable = usable;
}

typedef void limit_fn(struct sh_cgroup_limits *out, const struct group_files *f, const char *dir);

/* Apply `limit` to the group `path` and to all above it, up to the root of the mount. */
static void limit_upwards(struct sh_cgroup_limits *out, const struct group_files *f,
                          const char *mount, struct sh_str path, limit_fn *limit)
{
    char dir[PATH_BYTES_MAX];
    const size_t root_len = strlen(mount);

    if (path.len >= sizeof dir || root_len >= sizeof dir - path.len) return;
    memcpy(dir, mount, root_len);
    memcpy(dir + root_len, path.ptr, path.len);
    for (size_t len = root_len + path.len;;) {
        dir[len] = '\0';
        limit(out, f, dir);
        if (len <= root_len) return;
        while (len > root_len && dir[len - 1] != '/')
            len--;
        if (len > root_len) len--; // the slash itself
    }
}

void sh_cgroup_limits_read(struct sh_cgroup_limits *out, struct sh_str text, const char *root)
{
    char mount[PATH_BYTES_MAX];
    struct sh_str path;
    int n;

    *out = (struct sh_cgroup_limits){
        .cpus = INT_MAX, .memory_max = UINT64_MAX, .memory_usable = UINT64_MAX};
    if (sh_cgroup_path(text, "", &path)) {
        limit_upwards(out, &files_v2, root, path, limit_cpus);
        limit_upwards(out, &files_v2, root, path, limit_memory);
    }
    n = snprintf(mount, sizeof mount, "%s/cpu", root);
    if (n > 0 && (size_t)n < sizeof mount && sh_cgroup_path(text, "cpu", &path)) {
        limit_upwards(out, &files_v1, mount, path, limit_cpus);
    }
    n = snprintf(mount, sizeof mount, "%s/memory", root);
    if (n > 0 && (size_t)n < sizeof mount && sh_cgroup_path(text, "memory", &path)) {
        limit_upwards(out, &files_v1, mount, path, limit_memory);
    }
}

/* base/system.c - what this process may use of the machine: CPUs and memory (base/thread.h). */
#include "base/thread.h"

#include <errno.h>
#include <sched.h>

#include "base/cgroup_priv.h"
#include "base/file.h"
#include "base/mem.h"

#define PROC_FILE_BYTES_MAX ((size_t)256 * 1024)
#define CPUS_MAX (1 << 16)

static void read_limits(struct sh_cgroup_limits *limits)
{
    char *text = NULL;
    size_t len = 0;

    (void)!sh_read_file(&text, &len, "/proc/self/cgroup", PROC_FILE_BYTES_MAX, NULL);
    sh_cgroup_limits_read(limits, text ? (struct sh_str){text, len} : SH_STR_EMPTY,
                          "/sys/fs/cgroup");
    sh_free(text);
}

/* CPUs in the affinity mask; the kernel refuses a set smaller than its own, so try larger ones. */
static int count_affinity(void)
{
    for (int n = CPU_SETSIZE; n <= CPUS_MAX; n *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)n);
        const size_t bytes = CPU_ALLOC_SIZE((size_t)n);
        int rc, count, saved;

        if (!set) return 1;
        CPU_ZERO_S(bytes, set);
        rc = sched_getaffinity(0, bytes, set);
        saved = errno;
        count = rc == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (rc == 0) return count;
        if (saved != EINVAL) return 1;
    }
    return 1;
}

int sh_cpu_count(void)
{
    struct sh_cgroup_limits limits;
    int n = count_affinity();

    read_limits(&limits);
    if (limits.cpus < n) n = limits.cpus;
    return n < 1 ? 1 : n;
}

/* A line of /proc/meminfo in bytes; 0 if it cannot be read. */
static uint64_t read_meminfo(const char *key)
{
    char *text = NULL;
    size_t len = 0;
    uint64_t kib = 0;

    if (sh_read_file(&text, &len, "/proc/meminfo", PROC_FILE_BYTES_MAX, NULL)) return 0;
    (void)sh_cgroup_field((struct sh_str){text, len}, key, &kib);
    sh_free(text);
    return kib > UINT64_MAX / 1024 ? UINT64_MAX : kib * 1024;
}

static size_t smaller_size(uint64_t a, uint64_t b)
{
    const uint64_t v = a < b ? a : b;

    return v > SIZE_MAX ? SIZE_MAX : (size_t)v;
}

size_t sh_memory_available(void)
{
    struct sh_cgroup_limits limits;

    read_limits(&limits);
    return smaller_size(read_meminfo("MemAvailable"), limits.memory_usable);
}

size_t sh_memory_total(void)
{
    struct sh_cgroup_limits limits;

    read_limits(&limits);
    return smaller_size(read_meminfo("MemTotal"), limits.memory_max);
}

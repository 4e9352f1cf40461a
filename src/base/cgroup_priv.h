/* base/cgroup_priv.h - what a control group lets this process use.
 *
 * The parsers are pure functions on the kernel's text formats (v2: cpu.max "200000 100000",
 * memory.max "max"; v1: cpu.cfs_quota_us "-1", memory.limit_in_bytes).  Every group from the
 * process's own up to the root may limit it, so the tightest counts.  In a container whose groups
 * are mounted at the root, the path names folders that are not there: they are passed over, and
 * the root is read last.  Threads: any.
 */
#ifndef BASE_CGROUP_PRIV_H
#define BASE_CGROUP_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct sh_cgroup_limits {
    int cpus;               /* quota rounded up; INT_MAX: none */
    uint64_t memory_max;    /* UINT64_MAX: none */
    uint64_t memory_usable; /* max minus what is in use and cannot be dropped; UINT64_MAX: none */
};

/* The path of `controller` in the text of /proc/self/cgroup; "" is version 2's one hierarchy.
 * False if that line is missing. */
bool sh_cgroup_path(struct sh_str text, const char *controller, struct sh_str *path);
/* An unsigned decimal number at the start of the text, after blanks; false if none or too big. */
bool sh_cgroup_number(struct sh_str text, uint64_t *value);
/* "<quota> <period>" in microseconds as CPUs, rounded up, at least 1; false if unlimited ("max",
 * "-1") or malformed. */
bool sh_cgroup_cpus(struct sh_str quota, struct sh_str period, int *cpus);
/* The same for the one line of cpu.max. */
bool sh_cgroup_cpu_max(struct sh_str text, int *cpus);
/* The number behind `key` and blanks on a line of its own ("inactive_file 4096",
 * "MemTotal:   1000 kB"); false if that line is missing. */
bool sh_cgroup_field(struct sh_str text, const char *key, uint64_t *value);

/* Limits for a process with this /proc/self/cgroup text, groups being mounted under `root`. */
void sh_cgroup_limits_read(struct sh_cgroup_limits *out, struct sh_str text, const char *root);

#endif

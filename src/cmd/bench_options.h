/* cmd/bench_options.h - what `shoal bench` can be told. */
#ifndef CMD_BENCH_OPTIONS_H
#define CMD_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "cmd/args.h"

struct sh_bench_flags {
    const char *model;
    struct sh_arg_numbers prompts, texts, depths, chunks, n_seqs, n_groups;
    int64_t repetitions;
    int64_t n_threads; /* <= 0: all */

    struct sh_arg_list workers, servers;
    const char *key;
    struct sh_arg_numbers layers;
    int wire; /* enum sh_rpc_format */
    bool relay, insecure, with_local;

    bool ways, turns, json;
    int output; /* 0 text, 1 json */
};

/* Defaults, then argv; what contradicts itself is refused.  SH_PARSED or an exit code. */
int sh_bench_flags_parse(struct sh_bench_flags *o, int argc, char **argv);
/* For mistakes that only show later. */
const struct sh_command *sh_bench_command(void);

#endif

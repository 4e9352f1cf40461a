/* rpc/step_wire.h - steps, results, limits and weights between the structs of `stage` and those of
 * messages.
 *
 * The structs of messages borrow from what they were made of, or are lists in the arena; so do the
 * others the other way round.  Nothing is allocated but from the arena.  A number that means
 * nothing (a kind, a want) is ERR_FORMAT; whether a step fits its stage is sh_step_check()'s
 * matter. Threads: pure functions; an arena is its owner's.
 */
#ifndef RPC_STEP_WIRE_H
#define RPC_STEP_WIRE_H

#include "base/arena.h"
#include "rpc/codec.h"
#include "stage/station.h"

/* Epoch, number, edits, rows, sequences; the other fields of `out` are zeroed.  ERR_NOMEM. */
SHOAL_NODISCARD enum shoal_status sh_step_wire_from(const struct sh_step *s, struct sh_arena *arena,
                                                    struct sh_rpc_step *out,
                                                    struct shoal_error *err);
/* `embd` is NULL: those rows come as HIDDEN. */
SHOAL_NODISCARD enum shoal_status sh_step_wire_to(const struct sh_rpc_step *m,
                                                  struct sh_arena *arena, struct sh_step *out,
                                                  struct shoal_error *err);

/* An output of a stage as RESULT: number, status and its message, outcomes, timings.  `stage` is
 * zeroed.  n_logits counts the rows whose logits follow as LOGITS. */
SHOAL_NODISCARD enum shoal_status sh_step_wire_result_from(const struct sh_station_output *o,
                                                           struct sh_arena *arena,
                                                           struct sh_rpc_result *out,
                                                           struct shoal_error *err);
/* Only the outcomes of rows, and n_logits, of a result. */
SHOAL_NODISCARD enum shoal_status sh_step_wire_outcomes_from(const struct sh_row_result *results,
                                                             int32_t n, struct sh_arena *arena,
                                                             struct sh_rpc_result *out,
                                                             struct shoal_error *err);
/* Back.  `why` gets the message of a failure, and out->error points to it.
 * `results` (may be NULL) are those of `out` to be changed: their logits, which come later, are
 * NULL here.  ERR_FORMAT also where n_logits is not the number of rows that want logits. */
SHOAL_NODISCARD enum shoal_status
sh_step_wire_result_to(const struct sh_rpc_result *m, struct sh_arena *arena,
                       struct sh_station_output *out, struct sh_row_result **results,
                       struct shoal_error *why, struct shoal_error *err);

/* Timings, also of HIDDEN; `out` has room for n of them. */
void sh_step_wire_timings_from(const struct sh_station_timing *t, int n, struct sh_rpc_timing *out);
void sh_step_wire_timings_to(const struct sh_rpc_timing *t, uint32_t n,
                             struct sh_station_timing *out);

/* The limits and KV groups of a stage, as fields of STAGE_PUT (n_seqs to n_states, groups). */
SHOAL_NODISCARD enum shoal_status sh_step_wire_limits_from(const struct sh_step_limits *limits,
                                                           const struct sh_kv_group *groups,
                                                           int n_groups, struct sh_arena *arena,
                                                           struct sh_rpc_stage_put *out,
                                                           struct shoal_error *err);
/* ERR_FORMAT names a field that is negative, or a kind that is none. */
SHOAL_NODISCARD enum shoal_status sh_step_wire_limits_to(const struct sh_rpc_stage_put *m,
                                                         struct sh_step_limits *limits,
                                                         struct sh_kv_group groups[SH_GROUPS_MAX],
                                                         int *n_groups, struct shoal_error *err);

/* A stored tensor, whole, as an entry of WANT and STAGE_PUT; borrows the name.  A weight without a
 * hash has zeros there. */
void sh_step_wire_weight_from(const char *name, const struct sh_weight *w,
                              struct sh_rpc_weight *out);
/* Back, without bytes; the name is copied to the arena, the hash borrowed from `m`.  ERR_FORMAT: no
 * such type, or dimensions that are none. */
SHOAL_NODISCARD enum shoal_status sh_step_wire_weight_to(const struct sh_rpc_weight *m,
                                                         struct sh_arena *arena, const char **name,
                                                         struct sh_weight *out,
                                                         struct shoal_error *err);

#endif

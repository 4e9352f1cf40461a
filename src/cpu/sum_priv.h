/* cpu/sum_priv.h - the two halves of SHARD_SUM, between which the executor may run others. */
#ifndef CPU_SUM_PRIV_H
#define CPU_SUM_PRIV_H

#include "cpu/ops_priv.h"

/* Hand this shard's vectors to the collective. */
enum shoal_status sh_cpu_sum_start(struct sh_cpu_call *c, int sum, struct shoal_error *err);
/* All vectors are there: finish the trees and add the roots. */
enum shoal_status sh_cpu_sum_finish(struct sh_cpu_call *c, int sum, struct shoal_error *err);

#endif

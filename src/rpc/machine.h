/* rpc/machine.h - which machine this is: equal for all processes under one running kernel.
 *
 * Workers of one machine share its memory, cores and network card, whatever containers they are
 * in.  The kernel has a random name for each of its boots; what is told is a hash of that.
 * Threads: any.
 */
#ifndef RPC_MACHINE_H
#define RPC_MACHINE_H

#include <stdint.h>

#include "base/error.h"

#define SH_RPC_ID_BYTES 16

/* A random one where the kernel does not tell. */
SHOAL_NODISCARD enum shoal_status sh_rpc_machine(uint8_t id[SH_RPC_ID_BYTES],
                                                 struct shoal_error *err);
/* A random id: of a worker's process, a session's secret, a link's token. */
SHOAL_NODISCARD enum shoal_status sh_rpc_random_id(uint8_t id[SH_RPC_ID_BYTES],
                                                   struct shoal_error *err);

#endif

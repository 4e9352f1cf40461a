/* cmd/worker_address.h - an address that can be pasted on another machine. */
#ifndef CMD_WORKER_ADDRESS_H
#define CMD_WORKER_ADDRESS_H

#include "net/address.h"

/* `text` as sh_listener_address() would name it.  Where the host means "all interfaces", an address
 * of this machine takes its place: that of the interface to the default gateway, else of one with a
 * carrier, else of one that is up, else this machine's name.  The others are logged. */
void sh_worker_address(const char *text, char out[SH_ADDRESS_TEXT_MAX]);

#endif

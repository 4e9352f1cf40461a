/* cmd/worker_address.c - looking for an interface that others may reach. */
#include "cmd/worker_address.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "net/interfaces.h"

void sh_worker_address(const char *text, char out[SH_ADDRESS_TEXT_MAX])
{
    struct sh_interface list[SH_INTERFACES_MAX];
    char name[64] = "", other[SH_ADDRESS_TEXT_MAX];
    struct sh_endpoint ep;
    int n;

    (void)snprintf(out, SH_ADDRESS_TEXT_MAX, "%s", text);
    if (sh_endpoint_parse(&ep, text, 0, NULL)) return;
    const bool all6 = strcmp(ep.host, "::") == 0;
    if (!all6 && strcmp(ep.host, "0.0.0.0") != 0) return;
    n = sh_interfaces(list, SH_INTERFACES_MAX, ep.port, all6);
    if (n > 0) {
        sh_address_format(&list[0].address, out);
    } else if (gethostname(name, sizeof name - 1) == 0 && name[0]) {
        (void)snprintf(out, SH_ADDRESS_TEXT_MAX, "%.60s:%u", name, (unsigned)ep.port);
    }
    for (int i = 1; i < n; i++) {
        sh_address_format(&list[i].address, other);
        sh_log(SH_LOG_INFO, "worker", "on %s its address is %s", list[i].name, other);
    }
}

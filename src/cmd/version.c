/* cmd/version.c - `shoal version`: what is running, for a bug report. */
#include <shoal/version.h>
#include <stdio.h>
#include <unistd.h>

#include "cmd/commands.h"
#include "cmd/console.h"
#include "ggmlrpc/wire.h"
#include "kernels/kernels.h"

#if defined(__clang__)
#define COMPILER "clang"
#else
#define COMPILER "gcc"
#endif

int sh_cmd_version(int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st;
    char text[256];
    int n;

    (void)argv;
    if (argc > 1) {
        sh_say("version: takes no options");
        return SH_EXIT_USAGE;
    }
    n = snprintf(text, sizeof text,
                 "shoal %s\n"
                 "kernels: %s (this processor has %s)\n"
                 "speaks llama.cpp's RPC protocol, major %d\n"
                 "built with %s %s\n",
                 shoal_version(), sh_isa_name(sh_isa_allowed()), sh_isa_name(sh_isa_detect()),
                 SH_WIRE_MAJOR, COMPILER, __VERSION__);
    st = sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){text, (size_t)n}, &err);
    return st ? sh_say_failure(st, &err) : 0;
}

/* cmd/main.c - the program `shoal`: one row per subcommand. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/args.h"
#include "cmd/commands.h"
#include "cmd/console.h"
#include "cmd/interrupt.h"

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"run", sh_cmd_run, "continue a text with a model, here or over workers"},
    {"worker", sh_cmd_worker, "offer this machine to others"},
    {"status", sh_cmd_status, "who uses what on workers"},
    {"key", sh_cmd_key, "keys of pairs of hosts and workers"},
    {"bench", sh_cmd_bench, "measure how fast a model is, here or over workers"},
    {"inspect", sh_cmd_inspect, "show what is in a model file"},
    {"version", sh_cmd_version, "what is running"},
};
#define N_COMMANDS ((int)(sizeof commands / sizeof commands[0]))

static const char *get_command(const void *self, int i)
{
    (void)self;
    return commands[i].name;
}

static int show_help(void)
{
    struct sh_buf text = SH_BUF_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st =
        sh_buf_printf(&text, "shoal runs one large language model across several machines.\n\n"
                             "Usage: shoal COMMAND [options]\n\n");

    for (int i = 0; i < N_COMMANDS && !st; i++)
        st = sh_buf_printf(&text, "  %-9s %s\n", commands[i].name, commands[i].summary);
    if (!st)
        st = sh_buf_printf(
            &text, "\nshoal COMMAND --help tells more. To see it work on this machine alone:\n"
                   "  shoal worker --listen 127.0.0.1:50052 &\n"
                   "  shoal run -m model.gguf -p \"Hello\" --workers 127.0.0.1:50052\n");
    if (st) st = sh_fail(&err, st, "no memory for the help text");
    if (!st) st = sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){text.ptr, text.len}, &err);
    sh_buf_release(&text);
    return st ? sh_say_failure(st, &err) : 0;
}

static int unknown(const char *word)
{
    char list[128] = "";
    const char *near = sh_nearest(word, N_COMMANDS, get_command, NULL);

    for (int i = 0; i < N_COMMANDS; i++) {
        const size_t len = strlen(list);
        (void)snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", commands[i].name);
    }
    if (near) {
        sh_say("there is no command \"%s\"; did you mean %s? There are: %s", word, near, list);
    } else {
        sh_say("there is no command \"%s\"; there are: %s", word, list);
    }
    return SH_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const char *word = argc > 1 ? argv[1] : NULL;
    enum shoal_status st;

    sh_console_guard();
    st = sh_interrupt_install(&err);
    if (st) return sh_say_failure(st, &err);
    if (!word) {
        sh_say("which command? shoal --help lists them");
        return SH_EXIT_USAGE;
    }
    if (strcmp(word, "help") == 0 && argc > 2) { // shoal help run = shoal run --help
        static char help[] = "--help";
        char *rest[] = {argv[2], help, NULL};
        for (int i = 0; i < N_COMMANDS; i++) {
            if (strcmp(argv[2], commands[i].name) == 0 && commands[i].main != sh_cmd_version)
                return commands[i].main(2, rest);
        }
        return unknown(argv[2]);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        return show_help();
    if (strcmp(word, "--version") == 0) word = "version";
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(word, commands[i].name) == 0) return commands[i].main(argc - 1, argv + 1);
    }
    return unknown(word);
}

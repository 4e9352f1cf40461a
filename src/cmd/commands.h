/* cmd/commands.h - the subcommands: each takes its own argv (argv[0] is its name) and gives the
 * program's exit code. */
#ifndef CMD_COMMANDS_H
#define CMD_COMMANDS_H

int sh_cmd_run(int argc, char **argv);
int sh_cmd_worker(int argc, char **argv);
int sh_cmd_bench(int argc, char **argv);
int sh_cmd_inspect(int argc, char **argv);
int sh_cmd_key(int argc, char **argv);
int sh_cmd_status(int argc, char **argv);
int sh_cmd_version(int argc, char **argv);

#endif

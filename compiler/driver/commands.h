/* The commands of `tetrac`. Each takes its own argc/argv (argv[0] is the command) and returns the exit code: 0 done,
 * 1 an error was reported, 2 wrong usage. */
#ifndef TT_COMMANDS_H
#define TT_COMMANDS_H
int tt_cmd_new(int argc, char **argv);
int tt_cmd_compile(int argc, char **argv);
int tt_cmd_inspect(int argc, char **argv);
int tt_cmd_run(int argc, char **argv);
int tt_cmd_report(int argc, char **argv);
int tt_cmd_list(int argc, char **argv);
enum { TT_EXIT_OK = 0, TT_EXIT_ERROR = 1, TT_EXIT_USAGE = 2 };
#endif

/* Command-line options as tables: each command lists its rows; parsing, --help and usage errors are the same everywhere. */
#ifndef TT_OPTIONS_H
#define TT_OPTIONS_H
#include <stdbool.h>
#include <stdint.h>
#include "compiler/support/vec.h"

typedef TT_VEC(const char *) tt_strings;

typedef enum { TT_OPT_STRING, TT_OPT_INT, TT_OPT_COUNT, TT_OPT_FLAG, TT_OPT_LIST } tt_option_kind;
typedef struct tt_option {
  const char *name; /* "--batch" or "-o" */
  tt_option_kind kind;
  void *out;         /* const char **, int64_t * (COUNT: at least 1), bool *, tt_strings * (LIST: may be repeated) */
  const char *value; /* name of the value in help, e.g. "N"; NULL for flags */
  const char *help;
  bool many; /* LIST: takes all following words up to the next option */
} tt_option;

typedef struct tt_command {
  const char *name;       /* "compile" */
  const char *synopsis;   /* "MODEL.onnx -o TRAINER [options]" */
  const char *what;       /* one line */
  const tt_option *options;
  int n_options;
  int min_args, max_args; /* positional words; max -1: any */
} tt_command;

typedef enum { TT_OPTIONS_OK, TT_OPTIONS_HELP, TT_OPTIONS_BAD } tt_options_result;
/* argv[0] is the command's name. Positional words go to `args`. HELP has printed the help to stdout, BAD one line to stderr. */
tt_options_result tt_options_parse(const tt_command *cmd, int argc, char **argv, tt_strings *args);
void tt_options_help(const tt_command *cmd);
#endif

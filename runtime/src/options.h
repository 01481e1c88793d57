/* Command-line options as rows of a table: parsed, checked and described from the same place. */
#ifndef TRT_OPTIONS_H
#define TRT_OPTIONS_H
#include "support.h"

typedef enum { TRT_OPT_FLAG, TRT_OPT_INT, TRT_OPT_REAL, TRT_OPT_TEXT } trt_option_kind;

typedef struct trt_option { /* made by the row macros below */
  const char *name;         /* "--epochs" or "-o" */
  trt_option_kind kind;
  void *value;          /* bool, int64_t, double or const char *; holds the default */
  const char *argument; /* how --help calls the value; NULL for flags */
  const char *help;
  double min, max; /* INT and REAL, both allowed */
  bool required;
  bool seen;       /* set by parsing */
  int64_t implied; /* INT: the value where no number follows the name; 0: one must */
} trt_option;

/* Rows of the table. NEED is a text that must be given. */
#define TRT_FLAG(name, value, help)                                                                                        \
  { name, TRT_OPT_FLAG, value, NULL, help, 0, 0, false, false, 0 }
#define TRT_TEXT(name, value, argument, help)                                                                              \
  { name, TRT_OPT_TEXT, value, argument, help, 0, 0, false, false, 0 }
#define TRT_NEED(name, value, argument, help)                                                                              \
  { name, TRT_OPT_TEXT, value, argument, help, 0, 0, true, false, 0 }
#define TRT_INT(name, value, argument, help, min, max)                                                                     \
  { name, TRT_OPT_INT, value, argument, help, min, max, false, false, 0 }
/* An integer that may be left out: `--name` alone means `implied`. */
#define TRT_INT_OR(name, value, argument, help, min, max, implied)                                                         \
  { name, TRT_OPT_INT, value, argument, help, min, max, false, false, implied }
#define TRT_REAL(name, value, argument, help, min, max)                                                                    \
  { name, TRT_OPT_REAL, value, argument, help, min, max, false, false, 0 }

typedef enum { TRT_PARSED, TRT_HELP, TRT_USAGE } trt_parse_result;

/* Parses argv[0..argc). `--name value` and `--name=value` are the same. On TRT_USAGE the error says what is wrong. */
trt_parse_result trt_options_parse(trt_option *options, size_t n, int argc, char **argv, trt_error *err);
/* Prints the rows, aligned, with their defaults, to stdout. */
void trt_options_help(const trt_option *options, size_t n);
#endif

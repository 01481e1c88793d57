/* Table-driven command lines. */
#include "compiler/driver/options.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tt_options_help(const tt_command *cmd) {
  printf("usage: tetrac %s %s\n\n%s\n", cmd->name, cmd->synopsis, cmd->what);
  if (cmd->n_options) printf("\noptions:\n");
  for (int i = 0; i < cmd->n_options; i++) {
    char left[64];
    const tt_option *o = &cmd->options[i];
    snprintf(left, sizeof left, "%s%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "", o->many ? "..." : "");
    printf("  %-26s %s\n", left, o->help);
  }
  printf("  %-26s %s\n", "--help", "this text");
}

static const tt_option *find(const tt_command *cmd, const char *word, size_t len) {
  for (int i = 0; i < cmd->n_options; i++)
    if (strlen(cmd->options[i].name) == len && strncmp(cmd->options[i].name, word, len) == 0) return &cmd->options[i];
  return NULL;
}

static bool store_int(const tt_command *cmd, const tt_option *o, const char *text) {
  char *end;
  errno = 0;
  long long x = strtoll(text, &end, 10);
  bool count = o->kind == TT_OPT_COUNT;
  if (*text == 0 || *end || errno || (count && x < 1)) {
    const char *least = count ? " of at least 1" : "";
    fprintf(stderr, "tetrac %s: %s wants a whole number%s, not '%s'\n", cmd->name, o->name, least, text);
    return false;
  }
  *(int64_t *)o->out = x;
  return true;
}

/* Handles one option at argv[*i]; *i moves to its last word. */
static bool take_option(const tt_command *cmd, int argc, char **argv, int *i) {
  const char *word = argv[*i], *eq = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
  size_t len = eq ? (size_t)(eq - word) : strlen(word);
  const tt_option *o = find(cmd, word, len);
  if (!o) {
    fprintf(stderr, "tetrac %s: unknown option '%.*s' (see 'tetrac %s --help')\n", cmd->name, (int)len, word, cmd->name);
    return false;
  }
  if (o->kind == TT_OPT_FLAG) {
    if (eq) {
      fprintf(stderr, "tetrac %s: %s takes no value\n", cmd->name, o->name);
      return false;
    }
    *(bool *)o->out = true;
    return true;
  }
  const char *value = eq ? eq + 1 : *i + 1 < argc ? argv[++*i] : NULL;
  if (!value) {
    fprintf(stderr, "tetrac %s: %s wants a value (%s)\n", cmd->name, o->name, o->value);
    return false;
  }
  if (o->kind == TT_OPT_INT || o->kind == TT_OPT_COUNT) return store_int(cmd, o, value);
  if (o->kind == TT_OPT_STRING) {
    *(const char **)o->out = value;
    return true;
  }
  tt_strings *list = o->out;
  tt_vec_push(list, value);
  while (o->many && *i + 1 < argc && argv[*i + 1][0] != '-') tt_vec_push(list, argv[++*i]);
  return true;
}

tt_options_result tt_options_parse(const tt_command *cmd, int argc, char **argv, tt_strings *args) {
  bool only_words = false;
  for (int i = 1; i < argc; i++) {
    const char *word = argv[i];
    if (!only_words && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
      tt_options_help(cmd);
      return TT_OPTIONS_HELP;
    }
    if (!only_words && strcmp(word, "--") == 0) only_words = true;
    else if (!only_words && word[0] == '-' && word[1]) {
      if (!take_option(cmd, argc, argv, &i)) return TT_OPTIONS_BAD;
    } else tt_vec_push(args, word);
  }
  int n = (int)args->count;
  if (n >= cmd->min_args && (cmd->max_args < 0 || n <= cmd->max_args)) return TT_OPTIONS_OK;
  fprintf(stderr, "usage: tetrac %s %s\n", cmd->name, cmd->synopsis);
  return TT_OPTIONS_BAD;
}

#include "options.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static trt_option *find(trt_option *options, size_t n, const char *arg, size_t length) {
  for (size_t i = 0; i < n; i++) {
    if (strlen(options[i].name) == length && memcmp(options[i].name, arg, length) == 0) return &options[i];
  }
  return NULL;
}

static bool bad_number(const trt_option *o, const char *text, const char *kind, trt_error *err) {
  return trt_fail(err, "%s %s: wants %s from %.15g to %.15g", o->name, text, kind, o->min, o->max);
}

static bool set(trt_option *o, const char *text, trt_error *err) {
  char *end;
  o->seen = true;
  errno = 0;
  if (o->kind == TRT_OPT_TEXT) {
    *(const char **)o->value = text;
    return *text || trt_fail(err, "%s: wants %s", o->name, o->argument);
  }
  if (o->kind == TRT_OPT_INT) {
    long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || (double)v < o->min || (double)v > o->max)
      return bad_number(o, text, "an integer", err);
    *(int64_t *)o->value = v;
    return true;
  }
  double v = strtod(text, &end);
  if (end == text || *end || !isfinite(v) || v < o->min || v > o->max) return bad_number(o, text, "a number", err);
  *(double *)o->value = v;
  return true;
}

trt_parse_result trt_options_parse(trt_option *options, size_t n, int argc, char **argv, trt_error *err) {
  for (int i = 0; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return TRT_HELP;
  }
  for (int i = 0; i < argc; i++) {
    const char *arg = argv[i], *equals = strncmp(arg, "--", 2) == 0 ? strchr(arg, '=') : NULL;
    trt_option *o = find(options, n, arg, equals ? (size_t)(equals - arg) : strlen(arg));
    if (!o) {
      trt_fail(err, "%s: unknown %s", arg, arg[0] == '-' ? "option" : "argument");
      return TRT_USAGE;
    }
    if (o->kind == TRT_OPT_FLAG) {
      o->seen = *(bool *)o->value = true;
      if (!equals) continue;
      trt_fail(err, "%s: takes no value", o->name);
      return TRT_USAGE;
    }
    if (!equals && o->implied && (i + 1 == argc || argv[i + 1][0] < '0' || argv[i + 1][0] > '9')) {
      o->seen = true;
      *(int64_t *)o->value = o->implied;
      continue;
    }
    if (!equals && i + 1 == argc) {
      trt_fail(err, "%s: wants %s", o->name, o->argument);
      return TRT_USAGE;
    }
    if (!set(o, equals ? equals + 1 : argv[++i], err)) return TRT_USAGE;
  }
  for (size_t i = 0; i < n; i++) {
    if (!options[i].required || options[i].seen) continue;
    trt_fail(err, "%s %s is missing", options[i].name, options[i].argument);
    return TRT_USAGE;
  }
  return TRT_PARSED;
}

void trt_options_help(const trt_option *options, size_t n) {
  for (size_t i = 0; i < n; i++) {
    const trt_option *o = &options[i];
    char left[64];
    snprintf(left, sizeof left, "%s %s", o->name, o->argument ? o->argument : "");
    printf("  %-20s %s", left, o->help);
    if (o->kind == TRT_OPT_INT && *(int64_t *)o->value >= 0) printf(" [%" PRId64 "]", *(int64_t *)o->value);
    if (o->kind == TRT_OPT_REAL) printf(" [%g]", *(double *)o->value);
    if (o->kind == TRT_OPT_TEXT && *(const char **)o->value) printf(" [%s]", *(const char **)o->value);
    putchar('\n');
  }
}

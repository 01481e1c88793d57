/* Recipes: reading, checking and printing. One table of keys serves all three, so what is printed parses back and a message
 * about a wrong key can list the right ones. The file format is inih's: [section], key = value, comments from ; or #. */
#include "passes/recipe.h"
#include "compiler/support/vec.h"
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef enum { KEY_BASE, KEY_STR, KEY_BOOL, KEY_ENUM, KEY_REAL, KEY_INT } key_kind;
typedef struct key {
  const char *section, *name; /* section "q": a row of each of [q1] .. [q6], its field inside tt_qspec */
  key_kind kind;
  size_t offset, bytes;
  const char *const *names; /* ENUM and BOOL: the values by number, NULL-terminated; INT: a word for 0, or NULL */
  double low, high;         /* REAL, INT: both allowed, but for the open ends below */
  bool open_low, open_high;
} key;

static const char *const no_yes[] = {"no", "yes", NULL};
static const char *const selects[] = {"none", "block-linears", "all-linears", "pattern", NULL};
static const char *const controls[] = {"none", "ema", "dampen", "freeze", "qramping", NULL};
static const char *const last_or_block[] = {"last", NULL};
static const char *const epochs_or_steps[] = {"epoch", NULL};
static const char *const formats[] = {"e2m1", "e3m0", "int4", NULL};
static const char *const scales[] = {"ceil", "floor", "tensor", NULL};
static const char *const roundings[] = {"nearest", "stochastic", "ema", NULL};
static const char *const sources[] = {"direct", "double", NULL};
static const char *const schedules[] = {"constant", "cosine", NULL};
static const char *const label_kinds[] = {"hard", "soft", NULL};
static const char *const recomputes[] = {"none", "cheap", "most", "all", NULL};

#define FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)
#define RECIPE(field) FIELD(tt_recipe, field)
#define QSPEC(field) FIELD(tt_qspec, field)
static const key keys[] = {
    {"recipe", "base", KEY_BASE, 0, 0, NULL, 0, 0, false, false}, /* another recipe to start from: read, never kept */
    {"recipe", "name", KEY_STR, RECIPE(name), NULL, 0, 0, false, false},
    {"recipe", "summary", KEY_STR, RECIPE(summary), NULL, 0, 0, false, false},
    {"layers", "select", KEY_ENUM, RECIPE(layers), selects, 0, 0, false, false},
    {"layers", "pattern", KEY_STR, RECIPE(layers_pattern), NULL, 0, 0, false, false},
    {"layers", "skip", KEY_STR, RECIPE(layers_skip), NULL, 0, 0, false, false},
    {"layers", "first-blocks", KEY_INT, RECIPE(first_blocks), NULL, 0, 1e6, false, false},
    {"layers", "last-blocks", KEY_INT, RECIPE(last_blocks), NULL, 0, 1e6, false, false},
    {"mx", "block", KEY_INT, RECIPE(mx_block), NULL, 1, 1e6, false, false},
    {"q", "enabled", KEY_BOOL, QSPEC(on), no_yes, 0, 0, false, false},
    {"q", "format", KEY_ENUM, QSPEC(format), formats, 0, 0, false, false},
    {"q", "scale", KEY_ENUM, QSPEC(scale), scales, 0, 0, false, false},
    {"q", "rounding", KEY_ENUM, QSPEC(rounding), roundings, 0, 0, false, false},
    {"q", "source", KEY_ENUM, QSPEC(source), sources, 0, 0, false, false},
    {"oscillation", "control", KEY_ENUM, RECIPE(control), controls, 0, 0, false, false},
    {"oscillation", "ema-beta", KEY_REAL, RECIPE(ema_beta), NULL, 0, 1, false, true},
    {"oscillation", "ema-from", KEY_INT, RECIPE(ema_from), NULL, 0, 9e15, false, false},
    {"oscillation", "dampen-lambda", KEY_REAL, RECIPE(dampen_lambda), NULL, 0, INFINITY, true, true},
    {"oscillation", "freeze-threshold", KEY_REAL, RECIPE(freeze_threshold), NULL, 0, 1, true, true},
    {"oscillation", "freeze-momentum", KEY_REAL, RECIPE(freeze_momentum), NULL, 0, 1, true, false},
    {"oscillation", "ramp-k1", KEY_REAL, RECIPE(ramp_k1), NULL, 0, INFINITY, true, true},
    {"oscillation", "ramp-k2", KEY_INT, RECIPE(ramp_k2), NULL, 0, 1e6, false, false},
    {"oscillation", "ramp-t0", KEY_INT, RECIPE(ramp_t0), NULL, 1, 1e6, false, false},
    {"oscillation", "ramp-every", KEY_INT, RECIPE(ramp_every), epochs_or_steps, 1, 9e15, false, false},
    {"optimizer", "lr", KEY_REAL, RECIPE(lr), NULL, 0, INFINITY, false, true},
    {"optimizer", "min-lr", KEY_REAL, RECIPE(min_lr), NULL, 0, INFINITY, false, true},
    {"optimizer", "beta1", KEY_REAL, RECIPE(beta1), NULL, 0, 1, false, true},
    {"optimizer", "beta2", KEY_REAL, RECIPE(beta2), NULL, 0, 1, false, true},
    {"optimizer", "eps", KEY_REAL, RECIPE(eps), NULL, 0, 1, true, false},
    {"optimizer", "weight-decay", KEY_REAL, RECIPE(weight_decay), NULL, 0, INFINITY, false, true},
    {"optimizer", "clip-norm", KEY_REAL, RECIPE(clip_norm), NULL, 0, INFINITY, false, true},
    {"optimizer", "warmup-epochs", KEY_REAL, RECIPE(warmup_epochs), NULL, 0, INFINITY, false, true},
    {"optimizer", "schedule", KEY_ENUM, RECIPE(cosine), schedules, 0, 0, false, false},
    {"optimizer", "decay-all", KEY_BOOL, RECIPE(decay_1d), no_yes, 0, 0, false, false},
    {"loss", "smoothing", KEY_REAL, RECIPE(label_smoothing), NULL, 0, 1, false, true},
    {"loss", "labels", KEY_ENUM, RECIPE(soft_labels), label_kinds, 0, 0, false, false},
    {"train", "epochs", KEY_INT, RECIPE(epochs), NULL, 1, 1e6, false, false},
    {"train", "seed", KEY_INT, RECIPE(seed), NULL, 0, 9e15, false, false},
    {"track", "block", KEY_INT, RECIPE(track_block), last_or_block, 1, 1e6, false, false},
    {"memory", "recompute", KEY_ENUM, RECIPE(recompute), recomputes, 0, 0, false, false},
    {"memory", "goal", KEY_REAL, RECIPE(memory_goal), NULL, 0, 1, false, false},
};
enum { N_KEYS = sizeof keys / sizeof *keys };

/* Quantizer number 0..5 of a section "q1".."q6", or -1. */
static int quantizer_index(const char *section) {
  return section[0] == 'q' && section[1] >= '1' && section[1] <= '6' && !section[2] ? section[1] - '1' : -1;
}

/* Only Q4 and Q6 read an operand that the forward has quantized already. */
static bool has_source(int quantizer) { return quantizer == 3 || quantizer == 5; }

/* The key and where it is kept, or NULL. */
static const key *find_key(tt_recipe *r, const char *section, const char *name, void **field) {
  int q = quantizer_index(section);
  const char *table = q >= 0 ? "q" : section;
  for (int i = 0; i < N_KEYS; i++) {
    if (strcmp(keys[i].section, table) != 0 || strcmp(keys[i].name, name) != 0) continue;
    if (q < 0 && strcmp(table, "q") == 0) return NULL;
    if (q >= 0 && !has_source(q) && strcmp(name, "source") == 0) return NULL;
    *field = (char *)(q >= 0 ? (void *)&r->q[q] : (void *)r) + keys[i].offset;
    return &keys[i];
  }
  return NULL;
}

/* Enumerations are kept in bytes (bool, uint8_t) or ints (enum). */
static void store_number(void *field, size_t bytes, int value) {
  if (bytes == 1)
    *(uint8_t *)field = (uint8_t)value;
  else
    *(int *)field = value;
}

static int load_number(const void *field, size_t bytes) {
  return bytes == 1 ? *(const uint8_t *)field : *(const int *)field;
}

enum { MAX_BASES = 8 };
typedef struct reader {
  tt_recipe *r;
  tt_arena *arena;
  tt_diag *diag;
  tt_loc loc;
  const char *dir;              /* of recipes called by name */
  const char *path[MAX_BASES];  /* the file being read, behind those that it is the base of */
  int depth;
  bool any;         /* a key of this file has been read */
  const char *text; /* unread rest of the file */
  bool seen[6 + 1][N_KEYS];
} reader;

static void list_names(tt_strbuf *sb, const char *const *names) {
  for (int i = 0; names[i]; i++) tt_strbuf_printf(sb, "%s%s", i ? ", " : "", names[i]);
}

static void unknown_key(reader *rd, const char *section, const char *name) {
  tt_strbuf sb = {0};
  int q = quantizer_index(section);
  if (q >= 0 && strcmp(name, "source") == 0) {
    tt_error(rd->diag, rd->loc, "[%s] has no key 'source': only q4 and q6 can read what the forward has quantized",
             section);
    return;
  }
  for (int i = 0; i < N_KEYS; i++)
    if (strcmp(keys[i].section, q >= 0 ? "q" : section) == 0 && strcmp(section, "q") != 0)
      tt_strbuf_printf(&sb, "%s%s", sb.count ? ", " : "", keys[i].name);
  if (sb.count)
    tt_error(rd->diag, rd->loc, "unknown key '%s' in [%s]; it has %s", name, section, sb.data);
  else
    tt_error(
        rd->diag, rd->loc,
        "unknown section [%s]; there are recipe, layers, mx, q1 to q6, oscillation, optimizer, loss, train, track and memory",
        section);
  tt_strbuf_free(&sb);
}

static bool set_enum(reader *rd, const key *k, void *field, const char *section, const char *value) {
  for (int i = 0; k->names[i]; i++) {
    if (strcmp(k->names[i], value) != 0) continue;
    store_number(field, k->bytes, i);
    return true;
  }
  tt_strbuf sb = {0};
  list_names(&sb, k->names);
  tt_error(rd->diag, rd->loc, "%s.%s is '%s', expected one of %s", section, k->name, value, sb.data);
  tt_strbuf_free(&sb);
  return false;
}

static bool in_range(const key *k, double x) {
  return isfinite(x) && (k->open_low ? x > k->low : x >= k->low) && (k->open_high ? x < k->high : x <= k->high);
}

static bool set_number(reader *rd, const key *k, void *field, const char *section, const char *value) {
  char *end = NULL, high[32] = "";
  if (k->names && strcmp(value, k->names[0]) == 0) {
    *(int64_t *)field = 0;
    return true;
  }
  double x = k->kind == KEY_REAL ? strtod(value, &end) : (double)strtoll(value, &end, 10);
  if (end != value && !*end && in_range(k, x)) {
    if (k->kind == KEY_REAL)
      *(double *)field = x;
    else
      *(int64_t *)field = (int64_t)x;
    return true;
  }
  if (isfinite(k->high)) snprintf(high, sizeof high, " and %s %g", k->open_high ? "below" : "at most", k->high);
  tt_error(rd->diag, rd->loc, "%s.%s is '%s', expected %s%s%s %s %g%s", section, k->name, value,
           k->names ? k->names[0] : "", k->names ? " or " : "", k->kind == KEY_REAL ? "a number" : "a whole number",
           k->open_low ? "above" : "of at least", k->low, high);
  return false;
}

/* What is printed must read back: no comment sign, and short enough for a line of the file. */
static bool set_string(reader *rd, const key *k, void *field, const char *section, const char *value) {
  enum { MOST = 170 };
  bool fits = strlen(value) <= MOST && !strpbrk(value, ";\n\r");
  if (fits)
    *(const char **)field = tt_arena_str(rd->arena, value);
  else
    tt_error(rd->diag, rd->loc, "%s.%s must be one line of at most %d characters without ';'", section, k->name, MOST);
  return fits;
}

static bool read_base(reader *rd, const char *value);
static bool read_recipe_file(reader *rd, const char *path);
static const char *find_recipe(const char *name, const char *dir, tt_arena *arena, tt_diag *diag, const char **stem);

static bool set_key(reader *rd, const char *section, const char *name, const char *value, bool once) {
  void *field;
  const key *k = find_key(rd->r, section, name, &field);
  if (!k) {
    unknown_key(rd, section, name);
    return false;
  }
  bool *seen = &rd->seen[quantizer_index(section) + 1][k - keys];
  if (once && *seen) {
    tt_error(rd->diag, rd->loc, "%s.%s is set twice (a value cannot go on in an indented line)", section, name);
    return false;
  }
  *seen = once;
  if (k->kind == KEY_BASE) return read_base(rd, value);
  rd->any = true;
  switch (k->kind) {
  case KEY_BASE: break;
  case KEY_STR: return set_string(rd, k, field, section, value);
  case KEY_BOOL:
  case KEY_ENUM: return set_enum(rd, k, field, section, value);
  case KEY_REAL:
  case KEY_INT: return set_number(rd, k, field, section, value);
  }
  return false;
}

/* "section.key=value", or a whole quantizer as "q4=off" or "q4=e2m1:ceil:stochastic:double". */
static void apply_set(reader *rd, const char *set) {
  rd->loc = (tt_loc){.file = tt_arena_printf(rd->arena, "--set %s", set)};
  const char *equals = strchr(set, '=');
  const char *dot = equals ? memchr(set, '.', (size_t)(equals - set)) : NULL;
  char *section = equals ? tt_arena_strn(rd->arena, set, (size_t)((dot ? dot : equals) - set)) : NULL;
  int q = section ? quantizer_index(section) : -1;
  if (dot) {
    set_key(rd, section, tt_arena_strn(rd->arena, dot + 1, (size_t)(equals - dot - 1)), equals + 1, false);
    return;
  }
  if (q < 0) {
    tt_error(rd->diag, rd->loc, "expected section.key=value, for example optimizer.lr=0.001 or q4=off");
    return;
  }
  tt_qspec spec;
  if (!tt_qspec_parse(equals + 1, &spec) || (spec.source == TT_DOUBLE && !has_source(q)))
    tt_error(rd->diag, rd->loc, "'%s' is no quantizer: off, or format:scale:rounding%s as in e2m1:ceil:nearest", equals + 1,
             has_source(q) ? "[:double]" : "");
  else
    rd->r->q[q] = spec;
}

/* inih's fgets: hands out one line of rd->text and counts it. */
static char *next_line(char *line, int room, void *stream) {
  reader *rd = stream;
  if (!*rd->text || room < 2) return NULL;
  size_t length = strcspn(rd->text, "\n"), n = length + (rd->text[length] == '\n');
  rd->loc.line++;
  if (n > (size_t)room - 1) {
    tt_error(rd->diag, rd->loc, "this line has %zu characters, at most %d are read", length, room - 2);
    memcpy(line, "\n", 2);
  } else {
    memcpy(line, rd->text, n);
    line[n] = 0;
  }
  rd->text += n;
  return line;
}

static int on_key(void *user, const char *section, const char *name, const char *value) {
  set_key(user, section, name, value, true);
  return 1;
}

static bool read_recipe_file(reader *rd, const char *path) {
  size_t bytes;
  rd->path[rd->depth++] = path;
  rd->loc = (tt_loc){.file = path};
  char *text = tt_read_small_file(rd->arena, path, 1 << 20, &bytes);
  if (!text) {
    tt_error(rd->diag, rd->loc, "cannot read the recipe: %s", strerror(errno));
    return false;
  }
  if (strlen(text) != bytes) {
    tt_error(rd->diag, rd->loc, "this is no text file: it has a zero byte at %zu", strlen(text));
    return false;
  }
  rd->text = text;
  int bad_line = ini_parse_stream(next_line, rd, on_key, rd);
  if (bad_line > 0) tt_error(rd->diag, (tt_loc){.file = path, .line = bad_line}, "expected [section] or key = value");
  return true;
}

/* Reads another recipe into the same settings, before this file's own. A file name is relative to this file's folder. */
static bool read_base(reader *rd, const char *value) {
  const char *here = rd->depth ? rd->path[rd->depth - 1] : NULL, *slash = here ? strrchr(here, '/') : NULL, *stem;
  if (!here || rd->any) {
    tt_error(rd->diag, rd->loc, "recipe.base must be the first key of a recipe's file: what follows changes what it says");
    return false;
  }
  bool is_file = strchr(value, '/') || (strlen(value) > 4 && strcmp(value + strlen(value) - 4, ".ini") == 0);
  const char *name = tt_arena_str(rd->arena, value);
  if (is_file && value[0] != '/' && slash)
    name = tt_arena_printf(rd->arena, "%.*s/%s", (int)(slash - here), here, value);
  const char *path = find_recipe(name, rd->dir, rd->arena, rd->diag, &stem);
  if (!path) {
    tt_note(rd->diag, rd->loc, "named here as recipe.base");
    return false;
  }
  bool cycle = rd->depth == MAX_BASES;
  for (int i = 0; i < rd->depth; i++) cycle |= strcmp(rd->path[i], path) == 0;
  if (cycle) {
    tt_error(rd->diag, rd->loc, "recipe.base = %s: this recipe is based on itself, or on more than %d others", value,
             MAX_BASES - 1);
    return false;
  }
  reader base = {.r = rd->r, .arena = rd->arena, .diag = rd->diag, .dir = rd->dir, .depth = rd->depth};
  memcpy(base.path, rd->path, sizeof base.path);
  const char *own_name = rd->r->name;
  bool ok = read_recipe_file(&base, path);
  rd->r->name = own_name;
  return ok;
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

const char *const *tt_recipe_list(const char *dir, tt_arena *arena, int *n) {
  TT_VEC(const char *) names = {0};
  DIR *d = dir ? opendir(dir) : NULL; /* NULL: no folder was found */
  for (struct dirent *e; d && (e = readdir(d));) {
    size_t length = strlen(e->d_name);
    if (length > 4 && strcmp(e->d_name + length - 4, ".ini") == 0)
      tt_vec_push(&names, (const char *)tt_arena_strn(arena, e->d_name, length - 4));
  }
  if (d) closedir(d);
  if (names.count) qsort(names.data, names.count, sizeof *names.data, by_name);
  const char **out = TT_NEW_N(arena, const char *, names.count + 1);
  if (names.count) memcpy(out, names.data, names.count * sizeof *out);
  *n = (int)names.count;
  tt_vec_free(&names);
  return out;
}

/* The file of a recipe named on the command line; its name without folder and ending in *stem. NULL after a diagnostic. */
static const char *find_recipe(const char *name, const char *dir, tt_arena *arena, tt_diag *diag, const char **stem) {
  size_t length = strlen(name);
  bool is_path = strchr(name, '/') || (length > 4 && strcmp(name + length - 4, ".ini") == 0);
  if (is_path) {
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *end = strrchr(base, '.');
    *stem = tt_arena_strn(arena, base, end ? (size_t)(end - base) : strlen(base));
    return name;
  }
  int n;
  const char *const *known = tt_recipe_list(dir, arena, &n);
  for (int i = 0; i < n; i++) {
    if (strcmp(known[i], name) != 0) continue;
    *stem = known[i];
    return tt_arena_printf(arena, "%s/%s.ini", dir, name);
  }
  if (n == 0) {
    tt_error(diag, (tt_loc){.file = name},
             "no recipes are in %s; install them with tetrac, name a file, or set TETRAC_RECIPES",
             dir ? dir : "a folder beside tetrac");
    return NULL;
  }
  tt_strbuf sb = {0};
  list_names(&sb, known);
  tt_error(diag, (tt_loc){.file = name},
           "there is no such recipe; there are %s in %s (a file needs a '/' or the ending .ini)",
           sb.data, dir);
  tt_strbuf_free(&sb);
  return NULL;
}

static void check_quantizer(const reader *rd, int i) {
  static const char *const what[] = {"activations",         "weights",   "gradients",
                                     "requantized weights", "gradients", "requantized activations"};
  const tt_qspec *q = &rd->r->q[i];
  const char *fault = q->on ? tt_qspec_fault(*q) : NULL;
  if (fault)
    tt_error(rd->diag, rd->loc, "q%d is %s:%s:%s: %s", i + 1, formats[q->format], scales[q->scale],
             roundings[q->rounding], fault);
  if (!q->on || fault || q->rounding != TT_EMA) return;
  if (i != 1)
    tt_error(rd->diag, rd->loc, "q%d.rounding = ema: only q2 can follow a moving average, q%d quantizes %s", i + 1, i + 1,
             what[i]);
}

/* The two operands of one GEMM. */
static void check_pair(const reader *rd, int a, int b) {
  const tt_qspec *x = &rd->r->q[a], *y = &rd->r->q[b];
  if (x->on && y->on && x->format != y->format)
    tt_error(rd->diag, rd->loc, "q%d.format is %s and q%d.format is %s: the two operands of a product must have one format",
             a + 1, formats[x->format], b + 1, formats[y->format]);
}

/* Quantizers `from` (0: Q1, 1: Q2) of the forward and `to` of the backward, which under double quantization reads what
 * `from` has made. */
static void check_double(const reader *rd, int from, int to) {
  const tt_qspec *x = &rd->r->q[from], *y = &rd->r->q[to];
  if (!x->on || !y->on || y->source != TT_DOUBLE || (x->format == TT_INT4) == (y->format == TT_INT4)) return;
  tt_error(rd->diag, rd->loc,
           "q%d.source = double with q%d.format = %s and q%d.format = %s: INT4 and MXFP4 are not requantized into one another; "
           "set q%d.source = direct",
           to + 1, from + 1, formats[x->format], to + 1, formats[y->format], to + 1);
}

/* Every control works on the rounding of the forward weight. */
static void check_control(const reader *rd) {
  const tt_recipe *r = rd->r;
  const tt_qspec *q2 = &r->q[1];
  const char *control = controls[r->control];
  bool ema = q2->on && q2->rounding == TT_EMA;
  if (ema && r->control == TT_CONTROL_RAMP)
    tt_error(rd->diag, rd->loc,
             "q2.rounding = ema (Q-EMA) and oscillation.control = qramping (Q-Ramping) exclude each other: its calibrations "
             "measure rounding to nearest; take one of them");
  else if (ema && r->control != TT_CONTROL_EMA)
    tt_error(rd->diag, rd->loc,
             "q2.rounding = ema needs oscillation.control = ema, which keeps the moving average, but that is %s", control);
  if (r->control == TT_CONTROL_NONE || (ema && r->control == TT_CONTROL_EMA)) return;
  if (!q2->on)
    tt_error(rd->diag, rd->loc, "oscillation.control = %s, but q2 is disabled: there is no rounding of weights to control",
             control);
  else if (r->control == TT_CONTROL_EMA)
    tt_error(rd->diag, rd->loc, "oscillation.control = ema needs q2.rounding = ema, but that is %s",
             roundings[q2->rounding]);
  else if (!ema && q2->rounding != TT_NEAREST)
    tt_error(rd->diag, rd->loc,
             "oscillation.control = %s needs q2.rounding = nearest, but that is %s: where rounding is random, "
             "a flip says nothing about the weight",
             control, roundings[q2->rounding]);
}

static void check_layers(const reader *rd) {
  const tt_recipe *r = rd->r;
  bool pattern = r->layers_pattern && r->layers_pattern[0];
  if (r->layers == TT_LAYERS_PATTERN && !pattern)
    tt_error(rd->diag, rd->loc, "layers.select = pattern needs layers.pattern, a comma list such as *.fc1, *.fc2");
  if (r->layers != TT_LAYERS_PATTERN && pattern)
    tt_error(rd->diag, rd->loc, "layers.pattern is set, but layers.select is %s: set it to pattern", selects[r->layers]);
  int int4 = 0;
  for (int i = 6; i > 0; i--)
    if (r->q[i - 1].on && r->q[i - 1].format == TT_INT4) int4 = i;
  if (r->mx_block != TT_MX_BLOCK && int4)
    tt_error(rd->diag, rd->loc,
             "mx.block is %lld, but q%d.format is int4, which has one scale for the whole tensor and no blocks",
             (long long)r->mx_block, int4);
  else if (r->mx_block != TT_MX_BLOCK)
    tt_error(rd->diag, rd->loc, "mx.block is %lld: blocks of MXFP4 have 32 elements (OCP Microscaling Formats v1.0)",
             (long long)r->mx_block);
}

static void check_combinations(const reader *rd) {
  const tt_recipe *r = rd->r;
  bool any = false;
  for (int i = 0; i < 6; i++) {
    any |= r->q[i].on;
    check_quantizer(rd, i);
    if (i % 2) check_pair(rd, i - 1, i);
  }
  check_double(rd, 1, 3);
  check_double(rd, 0, 5);
  check_control(rd);
  check_layers(rd);
  if (any && r->layers == TT_LAYERS_NONE)
    tt_error(rd->diag, rd->loc,
             "layers.select = none, but a quantizer is enabled: select block-linears, or disable q1 to q6");
  if (r->cosine && r->min_lr > r->lr)
    tt_error(rd->diag, rd->loc, "optimizer.min-lr (%g) is above optimizer.lr (%g): a cosine schedule falls", r->min_lr,
             r->lr);
  if (r->soft_labels && r->label_smoothing > 0)
    tt_error(rd->diag, rd->loc, "loss.smoothing and loss.labels = soft exclude each other: smooth the labels themselves");
}

void tt_recipe_defaults(tt_recipe *r) {
  *r = (tt_recipe){.name = "fp32",
                   .summary = "",
                   .layers = TT_LAYERS_BLOCK,
                   .layers_pattern = "",
                   .layers_skip = "",
                   .mx_block = TT_MX_BLOCK,
                   .ema_beta = 0.998,
                   .ema_from = 10,
                   .dampen_lambda = 0.01,
                   .freeze_threshold = 0.05,
                   .freeze_momentum = 0.01,
                   .ramp_k1 = 16,
                   .ramp_k2 = 5,
                   .ramp_t0 = 30,
                   .lr = 1e-3,
                   .min_lr = 1e-5,
                   .beta1 = 0.9,
                   .beta2 = 0.999,
                   .eps = 1e-8,
                   .weight_decay = 0.05,
                   .clip_norm = 1,
                   .warmup_epochs = 1,
                   .cosine = true,
                   .epochs = 5,
                   .recompute = TT_RECOMPUTE_CHEAP};
}

tt_recipe *tt_recipe_load(const char *name_or_path, const char *dir, int n_sets, const char *const *sets, tt_arena *arena,
                          tt_diag *diag) {
  int before = diag->errors;
  const char *stem = NULL, *path = find_recipe(name_or_path, dir, arena, diag, &stem);
  if (!path) return NULL;
  reader *rd = TT_NEW(arena, reader);
  *rd = (reader){.r = TT_NEW(arena, tt_recipe), .arena = arena, .diag = diag, .dir = dir};
  tt_recipe_defaults(rd->r);
  rd->r->name = stem;
  if (!read_recipe_file(rd, path)) return NULL;
  rd->depth = 0;
  for (int i = 0; i < n_sets; i++) apply_set(rd, sets[i]);
  rd->loc = (tt_loc){.file = path};
  if (diag->errors == before) check_combinations(rd);
  return diag->errors == before ? rd->r : NULL;
}

/* The shortest text that reads back as x. */
static void print_real(tt_strbuf *out, double x) {
  char text[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, x);
    if (strtod(text, NULL) == x) break;
  }
  tt_strbuf_printf(out, "%s", text);
}

static void print_int(tt_strbuf *out, const key *k, int64_t x) {
  if (x == 0 && k->names)
    tt_strbuf_printf(out, "%s", k->names[0]);
  else
    tt_strbuf_printf(out, "%lld", (long long)x);
}

static void print_key(tt_strbuf *out, const key *k, const void *base) {
  const void *field = (const char *)base + k->offset;
  tt_strbuf_printf(out, "%s = ", k->name);
  switch (k->kind) {
  case KEY_BASE: break;
  case KEY_STR: tt_strbuf_printf(out, "%s", *(const char *const *)field); break;
  case KEY_BOOL:
  case KEY_ENUM: tt_strbuf_printf(out, "%s", k->names[load_number(field, k->bytes)]); break;
  case KEY_REAL: print_real(out, *(const double *)field); break;
  case KEY_INT: print_int(out, k, *(const int64_t *)field); break;
  }
  tt_strbuf_printf(out, "\n");
}

static void print_quantizers(tt_strbuf *out, const tt_recipe *r) {
  for (int q = 0; q < 6; q++) {
    tt_strbuf_printf(out, "\n[q%d]\n", q + 1);
    for (int i = 0; i < N_KEYS; i++) {
      if (strcmp(keys[i].section, "q") != 0 || (strcmp(keys[i].name, "source") == 0 && !has_source(q))) continue;
      print_key(out, &keys[i], &r->q[q]);
    }
  }
}

void tt_recipe_print(const tt_recipe *r, tt_strbuf *out) {
  const char *section = "";
  for (int i = 0; i < N_KEYS; i++) {
    bool opens = strcmp(section, keys[i].section) != 0;
    section = keys[i].section;
    if (opens && strcmp(section, "q") != 0) tt_strbuf_printf(out, "%s[%s]\n", i ? "\n" : "", section);
    if (keys[i].kind == KEY_BASE) continue;
    if (strcmp(section, "q") == 0) {
      if (opens) print_quantizers(out, r);
      continue;
    }
    print_key(out, &keys[i], r);
  }
}

/* Finding a target by what the user wrote: "cpu", an architecture, either with ":LEVEL", ":+feature,..." or ":LEVEL+feature",
 * or a triple. */
#include <string.h>
#include <llvm-c/Target.h>
#include "compiler/codegen/state.h"
#include "compiler/codegen/targets.h"

enum { LIST_MAX = 32 };
static const cg_family *const families[] = {&cg_family_x86, &cg_family_aarch64, NULL};

static const cg_family *host_family(void) {
  for (int i = 0; families[i]; i++)
    if (families[i]->host) return families[i];
  return NULL;
}

/* The family whose name `s` begins with, before its end or one of `stops`. */
static const cg_family *family_of(const char *s, const char *stops) {
  size_t n = strcspn(s, stops);
  for (int i = 0; families[i]; i++)
    if (strlen(families[i]->arch) == n && strncmp(families[i]->arch, s, n) == 0) return families[i];
  return NULL;
}

const char *const *cg_target_list(void) {
  static const char *list[LIST_MAX];
  static char names[LIST_MAX][32];
  int n = 0;
  list[n++] = "cpu", list[n++] = "this machine: every feature it reports, but float32 products by multiply-adds";
  list[n++] = "cpu:host+amx-bf16", list[n++] = "float32 products and attention by bfloat16 tiles, where there are";
  list[n++] = "cpu:host-FEATURE", list[n++] = "this machine without one of its features";
  for (int i = 0; families[i]; i++)
    for (const cg_level *l = families[i]->levels; l->name && n + 2 < LIST_MAX; l++) {
      snprintf(names[n], sizeof names[n], "%s:%s", families[i]->host ? "cpu" : families[i]->arch, l->name);
      list[n] = names[n], list[n + 1] = l->what;
      n += 2;
    }
  list[n] = NULL;
  return list;
}

static bool is_triple(const char *s) { return strchr(s, '-') != NULL && strchr(s, ':') == NULL; }

bool cg_has_feature(const char *features, const char *name) {
  size_t n = strlen(name);
  bool on = false;
  for (const char *p = features; *p; p += strcspn(p, ","), p += *p == ',')
    if (strncmp(p + 1, name, n) == 0 && (p[1 + n] == ',' || p[1 + n] == 0)) on = *p == '+';
  return on;
}

/* Length of a sign and the name behind it. Names may have a '-' inside (amx-tile), so that as a sign it begins the list or
 * follows a comma. */
static size_t feature_length(const char *p) { return *p ? 1 + strcspn(p + 1, "+,") : 0; }

/* Appends "+avxvnni+x" or "+avxvnni,-x" to the features as LLVM wants them. */
static const char *add_features(tt_arena *arena, const char *base, const char *more) {
  tt_strbuf sb = {0};
  tt_strbuf_printf(&sb, "%s", base);
  for (const char *p = more; *p;) {
    if (*p == ',') p++;
    size_t n = feature_length(p);
    tt_strbuf_printf(&sb, "%s%.*s", sb.count ? "," : "", (int)n, p);
    p += n;
  }
  const char *out = tt_arena_str(arena, sb.data);
  tt_strbuf_free(&sb);
  return out;
}

static void host(cg_target *t, tt_arena *arena) {
  char *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
  t->cpu = tt_arena_str(arena, cpu);
  t->features = add_features(arena, features, t->family->refused ? t->family->refused() : "");
  if (t->family->unasked) t->features = add_features(arena, t->features, t->family->unasked);
  LLVMDisposeMessage(cpu);
  LLVMDisposeMessage(features);
}

/* `s`: LEVEL, LEVEL+feature..., +feature..., host+feature... */
static bool by_level(cg_target *t, tt_arena *arena, const char *s) {
  size_t n = strcspn(s, "+-,");
  if (t->family->host && n == 4 && strncmp(s, "host", n) == 0) {
    host(t, arena);
    t->features = add_features(arena, t->features, s + n);
    return true;
  }
  for (const cg_level *l = t->family->levels; l->name; l++) {
    if (n && (strlen(l->name) != n || strncmp(l->name, s, n) != 0)) continue;
    t->cpu = l->cpu;
    t->features = add_features(arena, l->features, s + n);
    return true;
  }
  return false;
}

static bool is_known(const cg_family *family, const char *name, size_t n) {
  for (const char *const *k = family->known; *k; k++)
    if (strlen(*k) == n && strncmp(*k, name, n) == 0) return true;
  return false;
}

/* Whether the n bytes at p are a sign and the name of a feature. */
static bool feature_ok(const cg_target *t, const char *p, size_t n, tt_diag *diag) {
  if (n < 2 || (*p != '+' && *p != '-')) {
    tt_error(diag, (tt_loc){0}, "target '%s': '%.*s' is no feature; write +NAME or ,-NAME", t->name, (int)n, p);
    return false;
  }
  if (is_known(t->family, p + 1, n - 1)) return true;
  tt_strbuf names = {0};
  for (const char *const *k = t->family->known; *k; k++) tt_strbuf_printf(&names, "%s%s", names.count ? ", " : "", *k);
  tt_error(diag, (tt_loc){0}, "target '%s': '%.*s' is no feature that a trainer can ask an %s CPU for; those are %s", t->name,
           (int)(n - 1), p + 1, t->family->arch, names.data);
  tt_strbuf_free(&names);
  return false;
}

/* Features that the user wrote: LLVM would take an unknown one and say nothing that stops us, and one that the runtime does not
 * know would not be missed before it is used. */
static bool features_ok(const cg_target *t, tt_diag *diag) {
  const char *colon = strchr(t->name, ':');
  for (const char *p = colon ? colon + 1 + strcspn(colon + 1, "+-,") : ""; *p;) {
    p += *p == ',';
    size_t n = feature_length(p);
    if (!feature_ok(t, p, n, diag)) return false;
    p += n;
  }
  return true;
}

static bool find(cg_target *t, const char *spec, tt_arena *arena) {
  const char *colon = strchr(spec, ':');
  if (is_triple(spec)) {
    t->family = family_of(spec, "-");
  } else {
    bool cpu = strncmp(spec, "cpu", 3) == 0 && (spec[3] == ':' || !spec[3]);
    t->family = cpu ? host_family() : family_of(spec, ":");
  }
  if (!t->family) return false;
  t->triple = is_triple(spec) ? t->name : t->family->triple;
  if (strcmp(spec, "cpu") == 0) return host(t, arena), true;
  return (!colon || colon[1]) && by_level(t, arena, colon ? colon + 1 : "");
}

const cg_target *cg_target_find(const char *spec, tt_arena *arena, tt_diag *diag) {
  cg_target *t = TT_NEW(arena, cg_target);
  t->name = tt_arena_str(arena, spec);
  if (!find(t, spec, arena)) {
    if (is_triple(spec) && !t->family)
      tt_error(diag, (tt_loc){0}, "target '%s' is not supported; x86_64 and aarch64 are", spec);
    else
      tt_error(diag, (tt_loc){0},
               "unknown target '%s'; use cpu, cpu:LEVEL, cpu:LEVEL+FEATURE, aarch64 or a triple (`tetrac list targets`)", spec);
    return NULL;
  }
  if (!features_ok(t, diag)) return NULL;
  if (t->family->fill(t)) return t;
  tt_error(diag, (tt_loc){0}, "target '%s' has no %s, which generated code needs", spec, t->family->needs);
  return NULL;
}

bool cg_target_runs_here(const cg_target *t) {
  if (!t->family->host || (t->tiles && *t->family->refused())) return false;
  char *features = LLVMGetHostCPUFeatures(), name[64];
  bool all = true;
  for (const char *p = t->features; *p; p += strcspn(p, ","), p += *p == ',') {
    snprintf(name, sizeof name, "%.*s", (int)strcspn(p + 1, ","), p + 1);
    all &= !cg_has_feature(t->features, name) || cg_has_feature(features, name);
  }
  LLVMDisposeMessage(features);
  return all;
}

const char *cg_target_needs(const cg_target *t, tt_arena *arena) {
  tt_strbuf sb = {0};
  tt_strbuf_printf(&sb, "%s", "");
  for (const char *p = t->features; *p; p += strcspn(p, ","), p += *p == ',') {
    const char *name = tt_arena_printf(arena, "%.*s", (int)strcspn(p + 1, ","), p + 1);
    if (strncmp(name, "amx-", 4) == 0 && !t->tiles) continue; /* what goes with a unit that is left out */
    if (*p == '+' && cg_has_feature(t->features, name)) tt_strbuf_printf(&sb, "%s%s", sb.count ? "," : "", name);
  }
  const char *out = tt_arena_str(arena, sb.data);
  tt_strbuf_free(&sb);
  return out;
}

const char *cg_target_cross(const cg_target *t) { return t->family->host ? NULL : t->family->gcc; }

const char *cg_target_describe(const cg_target *t) {
  static const char *const dots[] = {"vpdpbusd, 512-bit",   "vpdpbusd, 256-bit", "vpmaddubsw, 512-bit",
                                     "vpmaddubsw, 256-bit", "sdot",              "smull",             "smmla"};
  static _Thread_local char text[256];
  snprintf(text, sizeof text, "%s, %s, %d-bit vectors, dot product %s%s%s%s%s", t->triple, t->cpu, t->vector_bytes * 8,
           dots[t->dot], t->tiles ? ", tiles by " : "", t->tiles ? t->tiles->name : "",
           t->f32_tiles ? ", float32 products by " : "", t->f32_tiles ? t->tiles->float_name : "");
  return text;
}

LLVMTargetMachineRef cg_target_machine(const cg_target *t, tt_diag *diag) {
  LLVMTargetRef target;
  char *message = NULL;
  t->family->init();
  if (LLVMGetTargetFromTriple(t->triple, &target, &message)) {
    tt_error(diag, (tt_loc){0}, "LLVM knows no target for '%s': %s", t->triple, message);
    LLVMDisposeMessage(message);
    return NULL;
  }
  return LLVMCreateTargetMachine(target, t->triple, t->cpu, t->features, LLVMCodeGenLevelDefault, LLVMRelocPIC,
                                 LLVMCodeModelDefault);
}

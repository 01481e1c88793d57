/* `info`: what the trainer was compiled to. */
#include "commands.h"
#include "model.h"
#include "runtime/include/trt_runtime.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct totals {
  int64_t parameters;
  uint64_t parameter_bytes, state_bytes, track_bytes;
} totals;

static totals add_up(const trt_program *p) {
  totals t = {0};
  for (uint64_t i = 0; i < p->n_vars; i++) {
    uint32_t role = p->vars[i].role;
    if (role == TRT_PARAM) t.parameters += trt_tensor_elements(&p->vars[i]);
    *(role == TRT_PARAM ? &t.parameter_bytes : role == TRT_STATE ? &t.state_bytes : &t.track_bytes) += p->vars[i].bytes;
  }
  return t;
}

static void info_json(const trt_program *p) {
  totals t = add_up(p);
  const trt_defaults *d = &p->defaults;
  trt_text text = {0};
  const char *const strings[][2] = {{"model", p->model}, {"recipe", p->recipe}, {"target", p->target}};
  trt_text_add(&text, "{");
  for (int i = 0; i < 3; i++) {
    trt_text_add(&text, "\"%s\":", strings[i][0]);
    trt_text_add_json(&text, strings[i][1]);
    trt_text_add(&text, ",");
  }
  trt_text_add(&text,
               "\"fingerprint\":\"%016" PRIx64 "\",\"batch\":%" PRIu64 ",\"parameters\":%" PRId64
               ",\"parameter_bytes\":%" PRIu64 ",\"state_bytes\":%" PRIu64 ",\"track_bytes\":%" PRIu64
               ",\"arena_bytes\":%" PRIu64 ",\"work_bytes\":%" PRIu64 ",\"scratch_bytes\":%" PRIu64 ",",
               p->fingerprint, p->batch, t.parameters, t.parameter_bytes, t.state_bytes, t.track_bytes, p->arena_bytes,
               p->work_bytes, p->scratch_bytes);
  trt_text_add(&text,
               "\"defaults\":{\"epochs\":%" PRId64
               ",\"lr\":%.9g,\"min_lr\":%.9g,\"warmup_epochs\":%.9g,\"cosine\":%s,\"seed\":%" PRId64 "},\"plan\":%s}",
               d->epochs, d->lr, d->min_lr, d->warmup_epochs, d->cosine ? "true" : "false", d->seed,
               p->info && *p->info ? p->info : "{}");
  puts(text.data);
  free(text.data);
}

static double mib(uint64_t bytes) { return (double)bytes / (1 << 20); }

/* What each entry runs on, takes of the arena and computes. */
static void print_entries(const trt_program *p) {
  printf("%-20s%-14s%10s%10s%10s%10s%12s\n", "entry", "images", "MiB", "saved", "launches", "GFLOP", "in 4 bits");
  for (uint64_t i = 0; i < p->n_entries; i++) {
    const trt_entry *e = &p->entries[i];
    const trt_tensor *x = trt_tensor_find(e->inputs, e->n_inputs, "images");
    char shape[64] = "";
    for (uint32_t k = 0, n = 0; x && k < x->rank && n < sizeof shape - 24; k++)
      n += (uint32_t)snprintf(shape + n, sizeof shape - n, "%s%" PRId64, k ? "x" : "", x->dim[k]);
    double mx = 0, f32 = 0;
    for (uint64_t k = 0; k < e->n_launches; k++) mx += e->launches[k].mx_macs, f32 += e->launches[k].f32_macs;
    printf("  %-18s%-14s%10.2f%10.2f%10" PRIu64 "%10.2f", e->name, shape, mib(e->plan_bytes), mib(e->saved_bytes),
           e->n_launches, 2e-9 * (mx + f32));
    if (mx + f32 > 0) printf("%10.1f %%", 100 * mx / (mx + f32));
    putchar('\n');
  }
}

/* What a step of training keeps in memory. The arena is as large as the largest entry, but only what runs is touched. */
static void print_memory(const trt_program *p, const totals *t) {
  const trt_entry *train = NULL;
  for (uint64_t i = 0; i < p->n_entries; i++)
    if (strcmp(p->entries[i].name, "train") == 0) train = &p->entries[i];
  uint64_t plan = train ? train->plan_bytes : p->arena_bytes, saved = train ? train->saved_bytes : 0;
  uint64_t state = t->parameter_bytes + t->state_bytes;
  printf("memory, a training step%20.2f MiB with one thread\n", mib(state + plan + p->work_bytes + p->scratch_bytes));
  printf("  %-30s%11.2f MiB   parameters %.2f, optimizer and other %.2f; --track: %.2f more\n", "state", mib(state),
         mib(t->parameter_bytes), mib(t->state_bytes), mib(t->track_bytes));
  printf("  %-30s%11.2f MiB   kept from the forward pass for the backward one\n", "saved activations", mib(saved));
  printf("  %-30s%11.2f MiB   what is needed beside them at the peak\n", "batch, gradients, temporaries", mib(plan - saved));
  printf("  %-30s%11.2f MiB   partial results and decoded operands of the kernel that runs\n", "workspace", mib(p->work_bytes));
  printf("  %-30s%11.2f MiB   a thread\n", "scratch", mib(p->scratch_bytes));
}

static void info_text(const trt_program *p) {
  totals t = add_up(p);
  const trt_defaults *d = &p->defaults;
  printf("model       %s\ntarget      %s\nfingerprint %016" PRIx64 "\n", p->model, p->target, p->fingerprint);
  printf("parameters  %" PRId64 " (%.2f MiB)\n", t.parameters, mib(t.parameter_bytes));
  printf("training    %" PRId64 " epochs, lr %g to %g (%s), warm-up %g epochs, seed %" PRId64 "\n\n", d->epochs, d->lr,
         d->min_lr, d->cosine ? "cosine" : "constant", d->warmup_epochs, d->seed);
  print_memory(p, &t);
  putchar('\n');
  print_entries(p);
  printf("\n%s\n", p->recipe);
}

int trt_command_info(const trt_program *program, int argc, char **argv) {
  bool json = false;
  trt_option options[] = {TRT_FLAG("--json", &json, "print a JSON object")};
  int code = trt_command_parse("info [--json]", "Prints what the trainer was compiled to.", options, 1, argc, argv);
  if (code >= 0) return code;
  if (json)
    info_json(program);
  else
    info_text(program);
  return 0;
}

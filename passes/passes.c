/* The tables of passes and pipelines, made from passes.def and pipelines.def. */
#include "passes/pass.h"
#include <string.h>

#define TT_PASS(name, what) tt_pass_fn tt_##name;
#include "passes/passes.def"
#undef TT_PASS

const tt_pass_info tt_passes[] = {
#define TT_PASS(name, what) {#name, tt_##name, what},
#include "passes/passes.def"
#undef TT_PASS
};
const int tt_pass_count = (int)(sizeof tt_passes / sizeof *tt_passes);

#define TT_PIPELINE(name, ...) static const char *const name##_passes[] = {__VA_ARGS__};
#include "passes/pipelines.def"
#undef TT_PIPELINE

const tt_pipeline tt_pipelines[] = {
#define TT_PIPELINE(name, ...) {#name, name##_passes, (int)(sizeof name##_passes / sizeof *name##_passes)},
#include "passes/pipelines.def"
#undef TT_PIPELINE
};
const int tt_pipeline_count = (int)(sizeof tt_pipelines / sizeof *tt_pipelines);

const tt_pass_info *tt_pass_find(const char *name) {
  for (int i = 0; i < tt_pass_count; i++)
    if (strcmp(tt_passes[i].name, name) == 0) return &tt_passes[i];
  return NULL;
}

/* A program written by hand, as the compiler would emit one: softmax regression on 1x4x4 images, 3 classes, batch 8, SGD
 * with momentum and an averaged copy. Its kernels run through trt_parallel, so threads are real; its weight lies transposed
 * at an odd offset of the model image.
 *
 * Environment: FAKE_NAN=K makes a gradient of step K a NaN, FAKE_NAN_WEIGHT=K makes step K's update overflow,
 * FAKE_PAUSE_MS=N slows every step down.
 */
#ifndef FAKE_PROGRAM_H
#define FAKE_PROGRAM_H
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "runtime/include/trt_runtime.h"

enum { FB = 8, FD = 16, FC = 3 };

/* Byte offsets: vars, then the arena. */
enum { V_W = 0, V_B = 192, V_MW = 256, V_MB = 448, V_EMA = 512, V_BYTES = 704 };
enum {
  A_X = 0,
  A_Y = 512,
  A_RNG = 576,
  A_LR = 640,
  A_LOSS = 704,
  A_LOGITS = 768,
  A_CORRECT = 896,
  A_LOSSES = 960,
  A_SUMSQ = 1024,
  A_NORM = 1088,
  A_GW = 1152,
  A_GB = 1344,
  A_P = 1408,
  A_BYTES = 1536
};

static inline float *f_at(uint8_t *base, int offset) { return (float *)(void *)(base + offset); }
static inline int32_t *i_at(uint8_t *base, int offset) { return (int32_t *)(void *)(base + offset); }

static inline int64_t fake_env(const char *name, int64_t absent) {
  const char *text = getenv(name);
  return text ? strtoll(text, NULL, 10) : absent;
}

static inline void fake_forward_one(const trt_kargs *args, int64_t i, uint8_t *scratch) {
  uint8_t *vars = args->bufs[0], *arena = args->bufs[1];
  const float *w = f_at(vars, V_W), *b = f_at(vars, V_B);
  float *logits = f_at(arena, A_LOGITS) + i * FC, *p = f_at(arena, A_P) + i * FC, *x = f_at(scratch, 0);
  int32_t label = i_at(arena, A_Y)[i];
  memcpy(x, f_at(arena, A_X) + i * FD, FD * sizeof *x);
  float top = -INFINITY, sum = 0;
  int best = 0;
  for (int c = 0; c < FC; c++) {
    float s = b[c];
    for (int d = 0; d < FD; d++) s += w[c * FD + d] * x[d];
    logits[c] = s;
    if (s > top) top = s, best = c;
  }
  for (int c = 0; c < FC; c++) sum += expf(logits[c] - top);
  for (int c = 0; c < FC; c++) p[c] = expf(logits[c] - top) / sum;
  f_at(arena, A_LOSSES)[i] = top + logf(sum) - logits[label];
  i_at(arena, A_CORRECT)[i] = best == label;
}

static inline void fake_forward(const trt_step *step) {
  void *bufs[] = {step->vars, step->arena};
  trt_kargs args = {bufs, NULL};
  trt_parallel(&args, fake_forward_one, FB);
  float sum = 0;
  for (int i = 0; i < FB; i++) sum += f_at(step->arena, A_LOSSES)[i];
  *f_at(step->arena, A_LOSS) = sum / FB;
}

static inline void fake_grad(const trt_step *step) {
  fake_forward(step);
  const float *x = f_at(step->arena, A_X), *p = f_at(step->arena, A_P);
  const int32_t *y = i_at(step->arena, A_Y);
  float *gw = f_at(step->arena, A_GW), *gb = f_at(step->arena, A_GB), *sumsq = f_at(step->arena, A_SUMSQ);
  sumsq[0] = sumsq[1] = 0;
  for (int c = 0; c < FC; c++) {
    gb[c] = 0;
    for (int i = 0; i < FB; i++) gb[c] += (p[i * FC + c] - (float)(y[i] == c)) / FB;
    sumsq[1] += gb[c] * gb[c];
    for (int d = 0; d < FD; d++) {
      float g = 0;
      for (int i = 0; i < FB; i++) g += (p[i * FC + c] - (float)(y[i] == c)) / FB * x[i * FD + d];
      gw[c * FD + d] = g;
      sumsq[0] += g * g;
    }
  }
  *f_at(step->arena, A_NORM) = sqrtf(sumsq[0] + sumsq[1]);
}

static inline void fake_train(const trt_step *step) {
  fake_grad(step);
  int64_t now = ((int64_t *)(void *)(step->arena + A_RNG))[1] + 1, pause = fake_env("FAKE_PAUSE_MS", 0);
  if (pause) nanosleep(&(struct timespec){.tv_nsec = pause * 1000000}, NULL);
  float lr = *f_at(step->arena, A_LR);
  const float *g[] = {f_at(step->arena, A_GW), f_at(step->arena, A_GB)};
  float *v[] = {f_at(step->vars, V_W), f_at(step->vars, V_B)}, *m[] = {f_at(step->vars, V_MW), f_at(step->vars, V_MB)};
  for (int t = 0; t < 2; t++) {
    for (int i = 0; i < (t ? FC : FC * FD); i++) {
      m[t][i] = 0.9f * m[t][i] + g[t][i];
      v[t][i] -= lr * m[t][i];
    }
  }
  float *ema = f_at(step->vars, V_EMA);
  for (int i = 0; i < FC * FD; i++) ema[i] = 0.99f * ema[i] + 0.01f * v[0][i];
  if (now == fake_env("FAKE_NAN", -1)) f_at(step->arena, A_SUMSQ)[1] = NAN;
  if (now == fake_env("FAKE_NAN_WEIGHT", -1)) v[1][1] = INFINITY;
}

enum { FAKE_IMAGE = 7 + FC * FD * 4 + 2 + FC * 4 + 5, FAKE_W_AT = 7, FAKE_B_AT = 7 + FC * FD * 4 + 2 };
static uint8_t fake_image[FAKE_IMAGE];

/* weight[c][d] starts as (c * 16 + d) / 1000, bias[c] as c / 100; the bytes around them are 0xEE. */
static __attribute__((constructor)) void fill_fake_image(void) {
  memset(fake_image, 0xEE, sizeof fake_image);
  for (int c = 0; c < FC; c++) {
    float b = (float)c / 100;
    memcpy(fake_image + FAKE_B_AT + 4 * c, &b, 4);
    for (int d = 0; d < FD; d++) {
      float w = (float)(c * FD + d) / 1000;
      memcpy(fake_image + FAKE_W_AT + 4 * (d * FC + c), &w, 4);
    }
  }
}

#define FAKE_WEIGHT .dtype = TRT_F32, .rank = 2, .dim = {FC, FD}, .bytes = FC * FD * 4
#define FAKE_BIAS .dtype = TRT_F32, .rank = 1, .dim = {FC}, .bytes = FC * 4
#define FAKE_SCALAR .dtype = TRT_F32, .bytes = 4
static const trt_tensor fake_vars[] = {
    {.name = "head.weight", FAKE_WEIGHT, .offset = V_W, .role = TRT_PARAM, .init_offset = FAKE_W_AT, .transposed = 1},
    {.name = "head.\"bias\"", FAKE_BIAS, .offset = V_B, .role = TRT_PARAM, .init_offset = FAKE_B_AT},
    {.name = "m:head.weight", FAKE_WEIGHT, .offset = V_MW, .role = TRT_STATE, .init = TRT_INIT_ZERO},
    {.name = "m:head.bias", FAKE_BIAS, .offset = V_MB, .role = TRT_STATE, .init = TRT_INIT_ZERO},
    {.name = "ema:head.weight", FAKE_WEIGHT, .offset = V_EMA, .role = TRT_STATE, .init = TRT_INIT_COPY, .init_offset = 0},
};
static const trt_tensor fake_inputs[] = {
    {.name = "images", .dtype = TRT_F32, .rank = 4, .dim = {FB, 1, 4, 4}, .offset = A_X, .bytes = FB * FD * 4},
    {.name = "labels", .dtype = TRT_I32, .rank = 1, .dim = {FB}, .offset = A_Y, .bytes = FB * 4},
    {.name = "rng", .dtype = TRT_I64, .rank = 1, .dim = {2}, .offset = A_RNG, .bytes = 16},
    {.name = "lr", FAKE_SCALAR, .offset = A_LR},
};
static const trt_tensor fake_outputs[] = {
    {.name = "loss", FAKE_SCALAR, .offset = A_LOSS},
    {.name = "logits", .dtype = TRT_F32, .rank = 2, .dim = {FB, FC}, .offset = A_LOGITS, .bytes = FB * FC * 4},
    {.name = "correct", .dtype = TRT_I32, .rank = 1, .dim = {FB}, .offset = A_CORRECT, .bytes = FB * 4},
    {.name = "losses", .dtype = TRT_F32, .rank = 1, .dim = {FB}, .offset = A_LOSSES, .bytes = FB * 4},
    {.name = "grad_sumsq", .dtype = TRT_F32, .rank = 1, .dim = {2}, .offset = A_SUMSQ, .bytes = 8},
    {.name = "grad_norm", FAKE_SCALAR, .offset = A_NORM},
    {.name = "grad:head.weight", FAKE_WEIGHT, .offset = A_GW},
    {.name = "grad:head.\"bias\"", FAKE_BIAS, .offset = A_GB},
};
static const trt_launch fake_launches[] = {
    {"head", "linear", "", 0, FB *FD *FC, FB *FD * 4 + FC * FD * 4 + FC * 4, FB *FC * 4},
};
static const trt_entry fake_entries[] = {
    {"train", fake_train, fake_inputs, 4, fake_outputs, 6, fake_launches, 1, A_BYTES, 0},
    {"grad", fake_grad, fake_inputs, 4, fake_outputs, 8, fake_launches, 1, A_BYTES, 0},
    {"eval", fake_forward, fake_inputs, 2, fake_outputs, 4, fake_launches, 1, A_BYTES, 0},
};
static const trt_patch fake_patches[] = {{0, FAKE_W_AT, FC *FD * 4}, {1, FAKE_B_AT, FC * 4}};

#define FAKE_PROGRAM                                                                                                       \
  {                                                                                                                        \
    .abi_version = TRT_ABI_VERSION, .needs = "", .model = "fake", .recipe = "[recipe]\nname = fp32", .target = "by hand", \
    .info = "{\"flops\":{\"train\":96,\"mx\":0},\"share\":0.5}", .fingerprint = 0x1234abcd, .batch = FB,                   \
    .vars_bytes = V_BYTES, .arena_bytes = A_BYTES, .scratch_bytes = 256, .vars = fake_vars, .n_vars = 5,                   \
    .entries = fake_entries, .n_entries = 3, .image = fake_image, .image_bytes = sizeof fake_image,                        \
    .patches = fake_patches, .n_patches = 2, .defaults = {                                                                 \
      .lr = 0.1,                                                                                                           \
      .beta1 = 0.9,                                                                                                        \
      .beta2 = 0.999,                                                                                                      \
      .epochs = 3,                                                                                                         \
      .seed = 1,                                                                                                           \
      .cosine = 1,                                                                                                         \
      .warmup_epochs = 0.5                                                                                                 \
    }                                                                                                                      \
  }
#endif

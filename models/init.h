/* Initial weights for the model builders, the same on every machine. */
#ifndef TT_MODELS_INIT_H
#define TT_MODELS_INIT_H
#include <stdint.h>

/* Fills x[n] by the number of the tensor in its model: element i depends on (seed, tensor, i) alone. */
void tt_init_normal(float *x, int64_t n, double deviation, int64_t seed, int64_t tensor);
void tt_init_uniform(float *x, int64_t n, double bound, int64_t seed, int64_t tensor);
#endif

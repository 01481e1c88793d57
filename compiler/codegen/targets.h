/* What target.c asks of the target_*.c files: one family of machines each. */
#ifndef CG_TARGETS_H
#define CG_TARGETS_H
#include "compiler/codegen/cg.h"

/* A named set of features. */
typedef struct cg_level {
  const char *name, *cpu, *features, *what;
} cg_level;

typedef struct cg_family {
  const char *arch;       /* how a user and a triple name it */
  const char *triple;
  const char *gcc;        /* prefix of the distribution's cross compiler and library folder */
  const char *needs;      /* the least that generated code needs, in words */
  const cg_level *levels; /* the first is what the family's bare name means; ended by one without a name */
  bool (*fill)(cg_target *t); /* everything but names, from the features; false where they are below `needs` */
  void (*init)(void);     /* LLVM's parts */
  const char *(*refused)(void); /* "-feature,..." that this machine has and its system does not let us use, or "" */
  const char *unasked;    /* "-feature,..." that a host's list is without unless the user names it; NULL: none */
  bool host;              /* this compiler runs on it */
  const char *const *known; /* features that a user may name, those of trt_features.def; ended by NULL */
} cg_family;
extern const cg_family cg_family_x86, cg_family_aarch64;

/* Whether "+a,-b,..." ends up with `name` on. */
bool cg_has_feature(const char *features, const char *name);

/* x86's tile unit, and whether the system lets this process use it (asking is what permits it). */
extern const cg_tile_unit cg_tiles_amx;
bool cg_tiles_permitted(void);
#endif

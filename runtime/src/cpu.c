/* A CPU that lacks an instruction stops the program in the middle of a kernel, with no word on why; asking it first costs
 * nothing. What it is asked for comes from the compiler; trt_features.def has how. The runtime itself is
 * compiled for the least CPU of its kind, so that it gets as far as this. */
#include "cpu.h"
#include "threads.h"
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>

/* Bits of XCR0: what of the registers the system saves. Without that their instructions fault. */
enum { NO_STATE = 0, AVX = 0x6, AVX512 = 0xe6, TILES = 0x60000 };
enum { EAX, EBX, ECX, EDX };

/* By CPUID (Intel SDM 2A, CPUID; AMD APM 3, appendix E). Named as LLVM does. */
typedef struct feature {
  const char *name;
  uint32_t leaf, subleaf, word, bit;
  uint64_t state;
} feature;
static const feature features[] = {
#define TRT_X86_FEATURE(name, leaf, subleaf, word, bit, state) {name, leaf, subleaf, word, bit, state},
#define TRT_AARCH64_FEATURE(name, caps, caps2)
#include "runtime/include/trt_features.def"
#undef TRT_X86_FEATURE
#undef TRT_AARCH64_FEATURE
};

static uint64_t enabled_state(void) {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return (uint64_t)d << 32 | a;
}

static bool has(const feature *f) {
  uint32_t r[4];
  if (!__get_cpuid_count(f->leaf, f->subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX])) return false;
  if (!(r[f->word] >> f->bit & 1) || (enabled_state() & f->state) != f->state) return false;
  return f->state != TILES || trt_tiles_permitted();
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* Bits of AT_HWCAP and AT_HWCAP2 (Linux, arch/arm64/include/uapi/asm/hwcap.h). An architecture's version stands for the
 * vector instructions that it makes obligatory. */
enum { LSE = 1 << 8, RDM = 1 << 12 };
typedef struct feature {
  const char *name;
  unsigned long caps, caps2;
} feature;
static const feature features[] = {
#define TRT_X86_FEATURE(name, leaf, subleaf, word, bit, state)
#define TRT_AARCH64_FEATURE(name, caps, caps2) {name, caps, caps2},
#include "runtime/include/trt_features.def"
#undef TRT_X86_FEATURE
#undef TRT_AARCH64_FEATURE
};

static bool has(const feature *f) {
  return (getauxval(AT_HWCAP) & f->caps) == f->caps && (getauxval(AT_HWCAP2) & f->caps2) == f->caps2;
}

#else
typedef struct feature {
  const char *name;
} feature;
static const feature features[] = {{""}};
static bool has(const feature *f) { return !f->name[0]; }
#endif

/* The row of the name of n bytes; NULL: none. */
static const feature *find(const char *name, size_t n) {
  for (size_t i = 0; i < sizeof features / sizeof *features; i++)
    if (strlen(features[i].name) == n && strncmp(features[i].name, name, n) == 0) return &features[i];
  return NULL;
}

#ifdef __aarch64__
#define ADVICE "with `tetrac compile --target aarch64:LEVEL`"
#else
#define ADVICE "on this machine, or with `tetrac compile --target cpu:LEVEL`"
#endif

bool trt_cpu_check(const char *names, trt_error *err) {
  char missing[512] = "";
  size_t used = 0;
  for (const char *p = names; *p; p += strcspn(p, ","), p += *p == ',') {
    const feature *f = find(p, strcspn(p, ","));
    if (!f || has(f) || used + strlen(f->name) + 3 > sizeof missing) continue;
    used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s", used ? ", " : "", f->name);
  }
  if (!used) return true;
  return trt_fail(err,
                  "this trainer was compiled for a CPU with %s, which this one does not have or its system does not permit; "
                  "compile the model " ADVICE " for one that it has (`tetrac list targets`)",
                  missing);
}

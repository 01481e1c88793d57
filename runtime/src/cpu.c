/* A CPU that lacks an instruction stops the program in the middle of a kernel, with no word on why; asking it first costs
 * nothing. What it is asked for comes from the compiler; here stands only how each feature is asked for. The runtime itself is
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
    {"sse3", 1, 0, ECX, 0, NO_STATE},
    {"ssse3", 1, 0, ECX, 9, NO_STATE},
    {"sse4.1", 1, 0, ECX, 19, NO_STATE},
    {"sse4.2", 1, 0, ECX, 20, NO_STATE},
    {"movbe", 1, 0, ECX, 22, NO_STATE},
    {"popcnt", 1, 0, ECX, 23, NO_STATE},
    {"cx16", 1, 0, ECX, 13, NO_STATE},
    {"sahf", 0x80000001, 0, ECX, 0, NO_STATE},
    {"lzcnt", 0x80000001, 0, ECX, 5, NO_STATE},
    {"sse4a", 0x80000001, 0, ECX, 6, NO_STATE},
    {"xop", 0x80000001, 0, ECX, 11, AVX},
    {"fma4", 0x80000001, 0, ECX, 16, AVX},
    {"tbm", 0x80000001, 0, ECX, 21, NO_STATE},
    {"bmi", 7, 0, EBX, 3, NO_STATE},
    {"bmi2", 7, 0, EBX, 8, NO_STATE},
    {"gfni", 7, 0, ECX, 8, NO_STATE},
    {"avx", 1, 0, ECX, 28, AVX},
    {"f16c", 1, 0, ECX, 29, AVX},
    {"fma", 1, 0, ECX, 12, AVX},
    {"avx2", 7, 0, EBX, 5, AVX},
    {"avxvnni", 7, 1, EAX, 4, AVX},
    {"avxifma", 7, 1, EAX, 23, AVX},
    {"avxvnniint8", 7, 1, EDX, 4, AVX},
    {"avxneconvert", 7, 1, EDX, 5, AVX},
    {"avxvnniint16", 7, 1, EDX, 10, AVX},
    {"avx512f", 7, 0, EBX, 16, AVX512},
    {"avx512dq", 7, 0, EBX, 17, AVX512},
    {"avx512ifma", 7, 0, EBX, 21, AVX512},
    {"avx512cd", 7, 0, EBX, 28, AVX512},
    {"avx512bw", 7, 0, EBX, 30, AVX512},
    {"avx512vl", 7, 0, EBX, 31, AVX512},
    {"avx512vbmi", 7, 0, ECX, 1, AVX512},
    {"avx512vbmi2", 7, 0, ECX, 6, AVX512},
    {"avx512vnni", 7, 0, ECX, 11, AVX512},
    {"avx512bitalg", 7, 0, ECX, 12, AVX512},
    {"avx512vpopcntdq", 7, 0, ECX, 14, AVX512},
    {"avx512vp2intersect", 7, 0, EDX, 8, AVX512},
    {"avx512fp16", 7, 0, EDX, 23, AVX512},
    {"avx512bf16", 7, 1, EAX, 5, AVX512},
    {"amx-bf16", 7, 0, EDX, 22, TILES},
    {"amx-tile", 7, 0, EDX, 24, TILES},
    {"amx-int8", 7, 0, EDX, 25, TILES},
    {"amx-fp16", 7, 1, EAX, 21, TILES},
    {"amx-complex", 7, 1, EDX, 8, TILES},
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
    {"fp-armv8", 1 << 0, 0},     {"neon", 1 << 1, 0},     {"aes", 1 << 3, 0},
    {"crc", 1 << 7, 0},          {"lse", LSE, 0},         {"v8.1a", LSE | RDM, 0},
    {"v8.2a", LSE | RDM, 0},     {"v8.3a", LSE | RDM | 1 << 14, 0}, {"v8.4a", LSE | RDM | 1 << 14 | 1 << 20, 0},
    {"rdm", RDM, 0},             {"fullfp16", 1 << 9 | 1 << 10, 0}, {"jsconv", 1 << 13, 0},
    {"complxnum", 1 << 14, 0},   {"rcpc", 1 << 15, 0},    {"dotprod", 1 << 20, 0},
    {"sve", 1 << 22, 0},         {"fp16fml", 1 << 23, 0}, {"sve2", 0, 1 << 1},
    {"i8mm", 0, 1 << 13},        {"bf16", 0, 1 << 14},
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

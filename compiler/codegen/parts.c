/* Machine code for one module on all cores: its functions are dealt out to parts, each of which becomes an object of its own in
 * a child process, and the linker puts them together.
 *
 * Who gets what depends on the module alone, so the objects do not depend on how many cores there were. Processes, because
 * LLVM's contexts are not to be shared by threads, and a fork is the cheapest copy of one; a crash in there becomes a
 * diagnostic, and nothing but pipes has to be cleared away. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "compiler/codegen/state.h"

/* Instructions of a part: few enough that cores end together, enough to pay for a fork. */
enum { PART_INSTRUCTIONS = 16384, MOST_PARTS = 16 };

typedef struct job {
  cg_val fn;
  int64_t weight;
  int order, part;
} job;

typedef struct plan {
  job *jobs; /* the functions that have a body */
  int n_jobs, n_parts;
} plan;

static bool is_entry(const cg_ctx *c, cg_val fn) {
  for (size_t i = 0; i < c->state->entries.count; i++)
    if (c->state->entries.data[i] == fn) return true;
  return false;
}

static int64_t weight_of(cg_val fn) {
  int64_t n = 0;
  for (LLVMBasicBlockRef b = LLVMGetFirstBasicBlock(fn); b; b = LLVMGetNextBasicBlock(b))
    for (cg_val i = LLVMGetFirstInstruction(b); i; i = LLVMGetNextInstruction(i)) n++;
  return n;
}

static int heaviest_first(const void *a, const void *b) {
  const job *x = a, *y = b;
  if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
  return x->order - y->order;
}

/* Each function, the heaviest first, to the part that has least. Entries go with the tables that only they name, to part 0. */
static plan deal(cg_ctx *c) {
  plan p = {.n_parts = 1};
  for (cg_val fn = LLVMGetFirstFunction(c->module); fn; fn = LLVMGetNextFunction(fn)) p.n_jobs += !LLVMIsDeclaration(fn);
  p.jobs = TT_NEW_N(c->arena, job, p.n_jobs + 1);
  int64_t total = 0, load[MOST_PARTS] = {0};
  int n = 0;
  for (cg_val fn = LLVMGetFirstFunction(c->module); fn; fn = LLVMGetNextFunction(fn)) {
    if (LLVMIsDeclaration(fn)) continue;
    p.jobs[n] = (job){.fn = fn, .weight = weight_of(fn), .order = n};
    total += p.jobs[n++].weight;
  }
  while (p.n_parts < MOST_PARTS && total > p.n_parts * (int64_t)PART_INSTRUCTIONS) p.n_parts++;
  qsort(p.jobs, (size_t)n, sizeof *p.jobs, heaviest_first);
  for (int i = 0; i < n; i++) {
    int best = 0;
    for (int k = 1; k < p.n_parts && !is_entry(c, p.jobs[i].fn); k++)
      if (load[k] < load[best]) best = k;
    p.jobs[i].part = best;
    load[best] += p.jobs[i].weight;
  }
  return p;
}

/* Leaves a part's functions in the module; the others are declarations that the linker finds in their objects. */
static void keep_part(cg_ctx *c, const plan *p, int part) {
  for (int i = 0; i < p->n_jobs; i++) {
    bool own = p->jobs[i].part == part;
    LLVMSetLinkage(p->jobs[i].fn, own ? LLVMExternalLinkage : LLVMAvailableExternallyLinkage);
    LLVMSetVisibility(p->jobs[i].fn, LLVMHiddenVisibility);
  }
  cg_val program = part ? LLVMGetNamedGlobal(c->module, "tetrac_program") : NULL;
  if (program) LLVMDeleteGlobal(program);
}

/* What a child says first of what it says. */
typedef struct heading {
  uint64_t ok, bytes; /* an object, or a message of what is the matter */
} heading;

typedef struct worker {
  pid_t pid;
  int part;
  heading head;
  char *said;  /* head.bytes, in the arena; NULL: the heading has not come */
  size_t have; /* bytes so far, of the heading or behind it */
} worker;

static bool send_all(int fd, const void *data, size_t bytes) {
  for (const char *p = data; bytes;) {
    ssize_t n = write(fd, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n, bytes -= (size_t)n;
  }
  return true;
}

/* The child's whole life, which ends with its parent's. */
static _Noreturn void work(cg_ctx *c, const plan *p, int part, int fd) {
  tt_diag diag;
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  cg_file file = {0};
  tt_diag_init(&diag, NULL);
  c->diag = &diag;
  keep_part(c, p, part);
  bool ok = cg_finish(c, CG_OBJ, &file);
  heading head = {.ok = ok, .bytes = ok ? file.bytes : diag.text_len};
  bool sent = send_all(fd, &head, sizeof head) && send_all(fd, ok ? (char *)file.data : diag.text, head.bytes);
  _exit(sent ? 0 : 1);
}

static bool start(cg_ctx *c, const plan *p, int part, worker *w, struct pollfd *from) {
  int ends[2];
  if (pipe(ends) != 0) return false;
  *w = (worker){.pid = fork(), .part = part};
  if (w->pid == 0) {
    close(ends[0]);
    work(c, p, part, ends[1]);
  }
  close(ends[1]);
  *from = (struct pollfd){.fd = ends[0], .events = POLLIN};
  if (w->pid < 0) close(ends[0]);
  return w->pid > 0;
}

/* True until all has come or the child has closed its end. */
static bool receive(cg_ctx *c, worker *w, int fd) {
  char *to = w->said ? w->said : (char *)&w->head;
  size_t want = w->said ? w->head.bytes : sizeof w->head;
  ssize_t n = read(fd, to + w->have, want - w->have);
  if (n <= 0) return n < 0 && errno == EINTR;
  w->have += (size_t)n;
  if (w->have < want) return true;
  if (w->said) return false;
  w->said = tt_arena_alloc(c->arena, w->head.bytes + 1);
  w->have = 0;
  return w->head.bytes > 0;
}

static bool finish(cg_ctx *c, worker *w, int fd, cg_file *out) {
  int status = 0;
  pid_t pid;
  close(fd);
  while ((pid = waitpid(w->pid, &status, 0)) < 0 && errno == EINTR) continue;
  bool ended = pid == w->pid && WIFEXITED(status) && WEXITSTATUS(status) == 0 && w->said && w->have == w->head.bytes;
  bool ok = ended && w->head.ok;
  tt_loc loc = {.file = c->state->g->module->name};
  if (ok)
    *out = (cg_file){(uint8_t *)w->said, w->head.bytes};
  else if (ended)
    tt_diag_take(c->diag, w->said, w->head.bytes);
  else if (pid == w->pid && WIFSIGNALED(status))
    tt_error(c->diag, loc, "code generation was ended by a signal: %s%s", strsignal(WTERMSIG(status)),
             WTERMSIG(status) == SIGKILL ? " (was there too little memory?)" : "");
  else
    tt_error(c->diag, loc, "code generation stopped before its object was whole");
  return ok;
}

static bool refused(cg_ctx *c) {
  tt_error(c->diag, (tt_loc){0}, "cannot start a process to generate code in: %s", strerror(errno));
  return false;
}

static int most_at_once(const cg_ctx *c) {
  cpu_set_t set;
  int64_t n = c->state->jobs ? c->state->jobs : sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return n < 1 ? 1 : n > MOST_PARTS ? MOST_PARTS : (int)n;
}

/* The pool: `running` workers and their pipes, side by side. After a failure no new ones are started; where no more processes
 * are to be had, those that run do the rest. */
static bool run_parts(cg_ctx *c, const plan *p, cg_file *out) {
  worker workers[MOST_PARTS];
  struct pollfd from[MOST_PARTS];
  int running = 0, next = 0, most = most_at_once(c);
  bool ok = true;
  while (running || (ok && next < p->n_parts)) {
    while (ok && next < p->n_parts && running < most) {
      if (start(c, p, next, &workers[running], &from[running])) next++, running++;
      else if (running) most = running;
      else ok = refused(c);
    }
    if (running && poll(from, (nfds_t)running, -1) < 0) continue; /* EINTR */
    for (int i = running - 1; i >= 0; i--) {
      if (!from[i].revents || receive(c, &workers[i], from[i].fd)) continue;
      ok &= finish(c, &workers[i], from[i].fd, &out[workers[i].part]);
      running--;
      workers[i] = workers[running], from[i] = from[running];
    }
  }
  return ok;
}

bool cg_write_parts(cg_ctx *c, cg_output *out) {
  plan p = deal(c);
  out->n = p.n_parts;
  out->files = TT_NEW_N(c->arena, cg_file, p.n_parts);
  if (p.n_parts == 1) return cg_finish(c, CG_OBJ, out->files);
  return run_parts(c, &p, out->files);
}

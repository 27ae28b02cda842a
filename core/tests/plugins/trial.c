/* A plugin that does whatever its input asks for: the same in C as `trial` in Rust, and besides, what no plugin should do.
 * What is wrong with it as a whole is chosen when it is compiled: -DNAME="..." and -D<FAULT>. One unit, in parts by their subjects,
 * which lie in `trial_in_c` and follow on one another. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "jackfield_plugin.h"

#ifndef NAME
#define NAME "trial"
#endif

#ifndef VERSION
#define VERSION "1.0.0"
#endif

#ifdef OTHER_MAJOR
#undef JF_ABI_MAJOR
#define JF_ABI_MAJOR 7u
#endif

#ifdef NOTE_NAME
JF_DECLARE_NOTE(NOTE_NAME, VERSION);
#elif defined(PANIC_ABORT)
__attribute__((section(JF_NOTE_SECTION), used, aligned(4))) static const jf_note note = {
  sizeof(JF_NOTE_OWNER), sizeof(jf_ident), JF_NOTE_TYPE, JF_NOTE_OWNER,
  { { 'J', 'F', 'P', 'L', 'U', 'G', 'I', 'N' }, sizeof(jf_ident), JF_ABI_MAJOR, JF_ABI_MINOR, JF_IDENT_PANIC_ABORT,
    NAME, VERSION, "c", __VERSION__ } };
#elif !defined(NO_NOTE)
JF_DECLARE_NOTE(NAME, VERSION);
#endif

struct jf_instance {
  const jf_host *host;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned running; /* threads */
  unsigned woken;   /* wake-ups that no deaf call has taken */
  bool closing;
  char token[64];
};

struct jf_op {
  jf_instance *instance;
  const jf_call *call; /* until done; NULL where it is a request */
  const jf_request *request;
  unsigned holders;
};

#include "trial_in_c/call.h"
#include "trial_in_c/asking.h"
#include "trial_in_c/values.h"
#include "trial_in_c/waiting.h"
#include "trial_in_c/requests.h"
#include "trial_in_c/misbehaving.h"

static void act(jf_instance *instance, const jf_call *call) {
  const jf_host *host = instance->host;
  die(call);
  if (asks(call, "done")) return tell(call);
  if (asks(call, "skip")) return end(call, JF_SKIPPED, JF_CODE_NONE, "", "nothing to do");
  if (asks(call, "retry")) return end(call, JF_RETRY, JF_CODE_NONE, "", "not now");
  if (asks(call, "fatal")) return end(call, JF_FATAL, JF_CODE_NONE, "", "never");
  if (asks(call, "invalid")) return end(call, JF_FATAL, JF_CODE_INVALID, "", "not like this");
  if (asks(call, "ambiguous")) return end(call, JF_AMBIGUOUS, JF_CODE_NONE, "", "who knows");
  if (asks(call, "say")) return end_with(call, JF_FATAL, JF_CODE_NONE, text(""), words(call, "text"));
  if (asks(call, "echo")) return echo(call);
  if (asks(call, "measure")) return measure(call);
  if (asks(call, "large")) return put_out_large(call);
  if (asks(call, "left")) return tell_what_is_left(call);
  if (asks(call, "connect")) return talk(call);
  /* C has no panics: whatever is one in Rust, is a fault that the plugin has found by itself. */
  if (asks(call, "panic") || asks(call, "panic-late") || asks(call, "panic-with-bomb"))
    return end(call, JF_RETRY, JF_CODE_PANIC, "", "on purpose");
  if (asks(call, "panic-in-task")) return end(call, JF_DONE, JF_CODE_NONE, "true", "");
  if (asks(call, "intend-and-panic")) return intend_and_panic(host, call);
  if (asks(call, "wait") || asks(call, "bomb")) return wait_until_cancelled(instance, call);
  if (asks(call, "tidy")) return tidy(instance, call);
  if (asks(call, "hog")) return hog(host, call);
  if (asks(call, "deaf") || asks(call, "block") || asks(call, "squat")) return be_deaf(instance, call);
  if (asks(call, "wake")) return wake(instance, call);
  if (asks(call, "keep")) return keep(host, call);
  if (asks(call, "brief")) return keep_briefly(host, call);
  if (asks(call, "keep-large")) return keep_large(host, call);
  if (asks(call, "keep-at")) return keep_at(host, call);
  if (asks(call, "forget")) return forget(host, call);
  if (asks(call, "burst")) return burst(host, call);
  if (asks(call, "late")) return ask_late(instance, call);
  if (asks(call, "receipt")) return receipt(host, call);
  if (asks(call, "secret")) return secret(instance, call);
  if (asks(call, "emit")) return emit(host, call);
  if (asks(call, "log")) return log_lines(host, call);
  if (asks(call, "shout")) return shout(host, call);
  if (asks(call, "slow")) {
    struct timespec pause = { 0, 20 * 1000 * 1000 };
    nanosleep(&pause, NULL);
    return end(call, JF_DONE, JF_CODE_NONE, "null", "");
  }
  misbehave(host, call);
}

/* ---- The plugin ---- */

static void let_go(jf_op *op) {
  jf_instance *instance = op->instance;
  pthread_mutex_lock(&instance->lock);
  bool last = --op->holders == 0;
  pthread_mutex_unlock(&instance->lock);
  if (last) free(op);
}

static void *run(void *argument) {
  jf_op *op = argument;
  jf_instance *instance = op->instance;
  if (op->call) act(instance, op->call);
  else judge(instance, op->request);
  let_go(op);
  pthread_mutex_lock(&instance->lock);
  instance->running--;
  pthread_cond_broadcast(&instance->changed);
  pthread_mutex_unlock(&instance->lock);
  return NULL;
}

/* What belongs to the process, or is left behind in it. */
static void *linger(void *argument) {
  pthread_setname_np(pthread_self(), "lingers"); /* by itself, since others may not in a sandbox */
  for (;;) pause();
  return argument;
}

static void leave_thread(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, linger, NULL);
  pthread_detach(thread);
}

static void leave_descriptor(void) {
  if (open("/dev/zero", O_RDONLY) < 0) abort();
}

static jf_op *begin(jf_instance *instance, const jf_call *call, const jf_request *request) {
  jf_op *op = malloc(sizeof *op);
  *op = (jf_op){ instance, call, request, 2 };
  pthread_mutex_lock(&instance->lock);
  instance->running++;
  pthread_mutex_unlock(&instance->lock);
  pthread_t thread;
  pthread_create(&thread, NULL, run, op);
  pthread_detach(thread);
  return op;
}

static jf_op *call(jf_instance *instance, const jf_call *call) {
#ifdef SETS_UMASK_IN_CALL
  umask(0);
#endif
#ifdef LEAVES_DESCRIPTOR_OF_CALL
  leave_descriptor();
#endif
#ifdef LEAVES_THREAD_OF_CALL
  leave_thread();
#endif
  /* These two block the thread of the host, which the ABI forbids; `skip` ends before this returns, as it may. */
  if (asks(call, "slow") || asks(call, "squat") || asks(call, "skip")) {
    act(instance, call);
    return NULL;
  }
  return begin(instance, call, NULL);
}

static jf_op *receive(jf_instance *instance, const jf_request *request) { return begin(instance, NULL, request); }

static const void *get_extension(jf_slice id) {
  static const jf_provider provider = { sizeof(jf_provider), 0, receive };
  return id.len == strlen(JF_PROVIDER_1) && !memcmp(id.ptr, JF_PROVIDER_1, id.len) ? &provider : NULL;
}

static void op_cancel(jf_op *op) {
  pthread_mutex_lock(&op->instance->lock);
  pthread_cond_broadcast(&op->instance->changed);
  pthread_mutex_unlock(&op->instance->lock);
}

static void spoil(void) { /* when it is created */
#ifdef SETS_UMASK
  umask(0);
#endif
#ifdef SETS_DIRECTORY
  if (chdir("/tmp")) abort();
#endif
#ifdef SETS_ENVIRONMENT
  setenv("TRIAL", "was here", 1);
#endif
#ifdef SETS_SIGNAL
  signal(SIGUSR1, SIG_IGN);
#endif
#ifdef LEAVES_DESCRIPTOR
  leave_descriptor();
#endif
#ifdef LEAVES_THREAD
  leave_thread();
#endif
}

/* Whether it is an object, as far as a glance tells. */
static bool is_object(jf_slice json) {
  return json.len >= 2 && json.ptr[0] == '{' && memchr(json.ptr, '}', json.len) == json.ptr + json.len - 1;
}

static jf_instance *create(const jf_host *host, const jf_start *start) {
#ifdef CREATE_ONCE
  static atomic_bool created;
  if (is_object(start->config) && atomic_exchange(&created, true)) {
    start->fail(start->fail_ctx, JF_CODE_NONE, text("there is one already"));
    return NULL;
  }
#endif
#ifdef CREATE_REFUSE
  start->fail(start->fail_ctx, JF_CODE_NONE, text("not in this version"));
  return NULL;
#endif
  spoil();
  if (!is_object(start->config)) {
#ifdef GARBAGE_CRASH
    *(volatile int *)0 = 1;
#endif
#ifdef GARBAGE_HANG
    for (;;) pause();
#endif
#ifdef GARBAGE_SILENT
    return NULL;
#endif
#ifdef GARBAGE_PANIC
    start->fail(start->fail_ctx, JF_CODE_PANIC, text("index out of bounds"));
    return NULL;
#endif
#ifndef TAKES_ANYTHING
    start->fail(start->fail_ctx, JF_CODE_INVALID, text("it is not an object"));
    return NULL;
#endif
  }
#ifdef CREATE_SILENT
  return NULL;
#endif
#ifdef READS_PASSWORDS /* of which its manifest says nothing */
  if (open("/etc/passwd", O_RDONLY) < 0) {
    start->fail(start->fail_ctx, JF_CODE_NONE, text(strerror(errno)));
    return NULL;
  }
#endif
#ifdef CREATE_HANG
  for (;;) pause();
#endif
  const char *refuse = memmem(start->config.ptr, start->config.len, "\"refuse\":\"", 10);
  if (refuse) {
    jf_slice why = { (const uint8_t *)refuse + 10, strcspn(refuse + 10, "\"") };
    start->fail(start->fail_ctx, JF_CODE_INVALID, why);
    return NULL;
  }
  if (memmem(start->config.ptr, start->config.len, "\"panic\":\"create\"", 16)) {
    start->fail(start->fail_ctx, JF_CODE_PANIC, text("on purpose"));
    return NULL;
  }
  jf_instance *instance = calloc(1, sizeof *instance);
  instance->host = host;
  pthread_mutex_init(&instance->lock, NULL);
  pthread_cond_init(&instance->changed, NULL);
  const char *token = memmem(start->config.ptr, start->config.len, "\"token\":\"", 9);
  if (token) snprintf(instance->token, sizeof instance->token, "%.*s", (int)strcspn(token + 9, "\""), token + 9);
  return instance;
}

static uint32_t shut_down(jf_instance *instance, uint32_t grace_ms) {
#ifdef SETS_SIGNAL_IN_SHUTDOWN
  signal(SIGUSR1, SIG_IGN);
#endif
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += grace_ms / 1000;
  limit.tv_nsec += (long)(grace_ms % 1000) * 1000000;
  if (limit.tv_nsec >= 1000000000) { limit.tv_sec++; limit.tv_nsec -= 1000000000; }
  pthread_mutex_lock(&instance->lock);
  instance->closing = true;
  pthread_cond_broadcast(&instance->changed);
  int status = 0;
  while (instance->running && status != ETIMEDOUT)
    status = pthread_cond_timedwait(&instance->changed, &instance->lock, &limit);
  uint32_t stuck = instance->running;
#ifdef NEVER_ENDS
  stuck = 1;
#endif
  pthread_mutex_unlock(&instance->lock);
  return stuck;
}

static void destroy(jf_instance *instance) {
  pthread_mutex_destroy(&instance->lock);
  pthread_cond_destroy(&instance->changed);
  free(instance);
}

static void op_release(jf_op *op) { let_go(op); }

#include "trial_in_c/manifest.h"

#include "trial_in_c/library.h"

#ifdef TABLE_OTHER
#define TABLE_NAME "other"
#else
#define TABLE_NAME NAME
#endif

static const jf_plugin table = {
#ifdef TABLE_SHORT
  16,
#else
  sizeof(jf_plugin),
#endif
  JF_ABI_MAJOR, JF_ABI_MINOR,
#ifdef PROMPT
  JF_PLUGIN_PROMPT,
#else
  0,
#endif
  JF_LITERAL(TABLE_NAME), JF_LITERAL(VERSION),
  describe, create,
#ifdef TABLE_HOLE
  NULL,
#else
  call,
#endif
  op_cancel, op_release, shut_down, destroy, get_extension };

#ifndef NO_ENTRY
const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor) {
  (void)host_major, (void)host_minor;
#ifdef ENTRY_REFUSES
  return NULL;
#endif
  return &table;
}
#endif

/* A plugin that does whatever its input asks for: the same in C as `trial` in Rust, and besides, what no plugin should do.
 * What is wrong with it as a whole is chosen when it is compiled: -DNAME="..." and -D<FAULT>. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
  const jf_call *call; /* until done */
  unsigned holders;
};

static jf_slice text(const char *text) {
  jf_slice slice = { (const uint8_t *)text, strlen(text) };
  return slice;
}

static bool asks(const jf_call *call, const char *act) {
  char quoted[32];
  snprintf(quoted, sizeof quoted, "\"%s\"", act);
  return memmem(call->input.ptr, call->input.len, quoted, strlen(quoted)) != NULL;
}

static void end(const jf_call *call, uint32_t outcome, uint32_t code, const char *output, const char *message) {
  jf_result result = { sizeof result, outcome, code, 0, outcome == JF_RETRY ? 1500 : 0, text(output), text(message) };
  void (*done)(void *, const jf_result *) = call->done;
  void *context = call->done_ctx;
  done(context, &result);
#ifdef ENDS_TWICE
  done(context, &result);
#endif
}

/* ---- Requests of the host, waited for ---- */

typedef struct answer {
  pthread_mutex_t lock;
  pthread_cond_t arrived;
  bool there;
  uint32_t status, stage;
  char value[128];
} answer;

static void on_reply(void *context, const jf_reply *reply) {
  answer *answer = context;
  pthread_mutex_lock(&answer->lock);
  size_t length = reply->value.len < sizeof answer->value - 1 ? reply->value.len : sizeof answer->value - 1;
  if (length) memcpy(answer->value, reply->value.ptr, length);
  answer->value[length] = 0;
  answer->status = reply->status;
  answer->stage = reply->stage;
  answer->there = true;
  pthread_cond_signal(&answer->arrived);
  pthread_mutex_unlock(&answer->lock);
}

/* Never freed: whoever replies may still be on the way out of it. */
static answer *asked(void) {
  answer *one = calloc(1, sizeof *one);
  pthread_mutex_init(&one->lock, NULL);
  pthread_cond_init(&one->arrived, NULL);
  return one;
}

static const answer *wait_for(answer *answer) {
  pthread_mutex_lock(&answer->lock);
  while (!answer->there) pthread_cond_wait(&answer->arrived, &answer->lock);
  pthread_mutex_unlock(&answer->lock);
  return answer;
}

static void keep(const jf_host *host, const jf_call *call) {
  answer *one = asked();
  host->kv_put(host->ctx, text("cursor"), text("17"), 0, on_reply, one);
  if (wait_for(one)->status != JF_OK) return end(call, JF_RETRY, JF_CODE_NONE, "", "the host does not keep");
  one = asked();
  host->kv_get(host->ctx, text("cursor"), on_reply, one);
  char output[160];
  int written = snprintf(output, sizeof output, "{\"kept\":\"%s\",", wait_for(one)->value);
  one = asked();
  host->kv_delete(host->ctx, text("cursor"), on_reply, one);
  wait_for(one);
  one = asked();
  host->kv_get(host->ctx, text("cursor"), on_reply, one);
  bool gone = wait_for(one)->status == JF_NOT_FOUND;
  snprintf(output + written, sizeof output - (size_t)written, "\"gone\":%s}", gone ? "true" : "false");
  end(call, JF_DONE, JF_CODE_NONE, output, "");
}

static void receipt(const jf_host *host, const jf_call *call) {
  answer *one = asked();
  host->receipt_get(host->ctx, call->id, on_reply, one);
  wait_for(one);
  if (one->status == JF_OK && one->stage == JF_STAGE_DONE) return end(call, JF_DONE, JF_CODE_NONE, "\"done\"", "");
  bool intended = one->status == JF_OK;
  one = asked();
  host->receipt_put(host->ctx, call->id, intended ? JF_STAGE_DONE : JF_STAGE_INTENT, text("{\"a\":1}"), on_reply, one);
  if (wait_for(one)->status != JF_OK) return end(call, JF_RETRY, JF_CODE_NONE, "", "the host does not keep");
  end(call, JF_DONE, JF_CODE_NONE, intended ? "\"intended\"" : "\"absent\"", "");
}

static void secret(const jf_instance *instance, const jf_call *call) {
  answer *one = asked();
  instance->host->secret(instance->host->ctx, text("/token"), on_reply, one);
  bool same = wait_for(one)->status == JF_OK && *instance->token && !strcmp(one->value, instance->token);
  one = asked();
  instance->host->secret(instance->host->ctx, text("/missing"), on_reply, one);
  bool missing = wait_for(one)->status == JF_NOT_FOUND;
  char output[64];
  snprintf(output, sizeof output, "{\"same\":%s,\"missing\":%s}", same ? "true" : "false", missing ? "true" : "false");
  end(call, JF_DONE, JF_CODE_NONE, output, "");
}

static void emit(const jf_host *host, const jf_call *call) {
  answer *one = asked();
  host->emit(host->ctx, call->id, text("first"), text("{\"type\":\"com.example.trial\"}"), on_reply, one);
  char output[160];
  snprintf(output, sizeof output, "\"%s\"", wait_for(one)->value);
  end(call, one->status == JF_OK ? JF_DONE : JF_RETRY, JF_CODE_NONE, one->status == JF_OK ? output : "", "");
}

static void log_lines(const jf_host *host, const jf_call *call) {
  char message[64];
  snprintf(message, sizeof message, "a line of %.*s", (int)call->step.len, (const char *)call->step.ptr);
  host->log(host->ctx, call->id, 2, text("trial"), text(message), text("{\"kind\":\"trial\"}"));
  host->log(host->ctx, call->id, 5, text("trial"), text("a line that nobody wants"), text(""));
  host->metric(host->ctx, text("trials_total"), text("{\"kind\":\"log\"}"), 2.0);
  host->metric(host->ctx, text("not a name"), text(""), 1.0);
  end(call, JF_DONE, JF_CODE_NONE, "null", "");
}

/* Says what it was given, and leaves a file with the event's type. */
static void tell(const jf_call *call) {
  char path[512], output[512];
  snprintf(path, sizeof path, "%.*s/trace", (int)call->workdir.len, (const char *)call->workdir.ptr);
  char *slash = strrchr(path, '/');
  *slash = '\0';
  mkdir(path, 0700); /* which a step before may have done */
  *slash = '/';
  FILE *file = fopen(path, "w");
  if (!file) return end(call, JF_RETRY, JF_CODE_NONE, "", strerror(errno));
  const char *type = memmem(call->event.ptr, call->event.len, "\"type\":\"", 8);
  if (type) fwrite(type + 8, 1, strcspn(type + 8, "\""), file);
  fclose(file);
#define SLICE(slice) (int)(slice).len, (const char *)(slice).ptr
  snprintf(output, sizeof output,
           "{\"delivery\":\"%.*s\",\"route\":\"%.*s\",\"step\":\"%.*s\",\"attempt\":%u,\"key\":\"%.*s\"}",
           SLICE(call->delivery), SLICE(call->route), SLICE(call->step), call->attempt, SLICE(call->idempotency_key));
  end(call, JF_DONE, JF_CODE_NONE, output, "");
}

static void wait_until_cancelled(jf_instance *instance, const jf_call *call) {
  pthread_mutex_lock(&instance->lock);
  while (!__atomic_load_n(call->cancelled, __ATOMIC_RELAXED) && !instance->closing)
    pthread_cond_wait(&instance->changed, &instance->lock);
  pthread_mutex_unlock(&instance->lock);
  end(call, JF_RETRY, JF_CODE_CANCELLED, "", "stopped");
}

static void be_deaf(jf_instance *instance, const jf_call *call) {
  instance->host->metric(instance->host->ctx, text("deaf_total"), text(""), 1.0);
  pthread_mutex_lock(&instance->lock);
  while (!instance->woken) pthread_cond_wait(&instance->changed, &instance->lock);
  instance->woken--;
  pthread_mutex_unlock(&instance->lock);
  end(call, JF_DONE, JF_CODE_NONE, "null", "");
}

static void wake(jf_instance *instance, const jf_call *call) {
  pthread_mutex_lock(&instance->lock);
  instance->woken++;
  pthread_cond_broadcast(&instance->changed);
  pthread_mutex_unlock(&instance->lock);
  end(call, JF_DONE, JF_CODE_NONE, "null", "");
}

/* What no plugin should do. */
static void misbehave(const jf_host *host, const jf_call *call) {
  if (asks(call, "twice")) {
    jf_result result = { sizeof result, JF_DONE, 0, 0, 0, text("1"), text("") };
    void (*done)(void *, const jf_result *) = call->done;
    void *context = call->done_ctx;
    done(context, &result);
    done(context, &result);
    done((void *)0xdead, &result);
    return;
  }
  if (asks(call, "short")) {
    jf_result result = { 8, JF_DONE, 0, 0, 0, text("1"), text("") };
    return call->done(call->done_ctx, &result);
  }
  if (asks(call, "null")) return call->done(call->done_ctx, NULL);
  if (asks(call, "stranger")) {
    answer *one = asked();
    host->receipt_get(host->ctx, call->id + 1000000, on_reply, one);
    return end(call, JF_DONE, 0, wait_for(one)->status == JF_REFUSED ? "\"refused\"" : "\"allowed\"", "");
  }
  if (asks(call, "garbled")) return end(call, JF_DONE, JF_CODE_NONE, "{\"a\":", "");
  end(call, 99, JF_CODE_NONE, "", "an outcome of my own");
}

/* What nobody survives. */
static void die(const jf_call *call) {
  if (asks(call, "leak")) { /* and no more than a machine can bear, where nothing sets a limit */
    for (int taken = 0; taken < 64; taken++) {
      void *block = malloc(16 << 20);
      if (!block) {
        fprintf(stderr, "no memory after %d MiB\n", 16 * taken);
        abort();
      }
      memset(block, 1, 16 << 20);
    }
  }
  if (asks(call, "open")) {
    int count = 0;
    while (count < 4096 && dup(2) >= 0) count++;
    fprintf(stderr, "no file after %d: %s\n", count, strerror(errno));
    abort();
  }
  if (asks(call, "freeze")) kill(getpid(), SIGSTOP);
  if (asks(call, "segfault")) *(volatile int *)1 = 0;
  if (asks(call, "abort")) {
    fprintf(stderr, "first line\nassertion failed: I exist\n");
    abort();
  }
  if (asks(call, "exit")) _exit(3);
  if (asks(call, "close")) for (int fd = 0; fd < 256; fd++) close(fd);
  if (asks(call, "babble")) { /* on whatever is open, the router's socket among it */
    for (int fd = 3; fd < 256; fd++)
      if (write(fd, "\xff\xff\xff\xff what is this", 17) < 0) continue;
  }
}

static void act(jf_instance *instance, const jf_call *call) {
  const jf_host *host = instance->host;
  die(call);
  if (asks(call, "done")) return tell(call);
  if (asks(call, "skip")) return end(call, JF_SKIPPED, JF_CODE_NONE, "", "nothing to do");
  if (asks(call, "retry")) return end(call, JF_RETRY, JF_CODE_NONE, "", "not now");
  if (asks(call, "fatal")) return end(call, JF_FATAL, JF_CODE_NONE, "", "never");
  if (asks(call, "invalid")) return end(call, JF_FATAL, JF_CODE_INVALID, "", "not like this");
  if (asks(call, "ambiguous")) return end(call, JF_AMBIGUOUS, JF_CODE_NONE, "", "who knows");
  if (asks(call, "panic")) return end(call, JF_RETRY, JF_CODE_PANIC, "", "on purpose");
  if (asks(call, "wait")) return wait_until_cancelled(instance, call);
  if (asks(call, "deaf") || asks(call, "block")) return be_deaf(instance, call);
  if (asks(call, "wake")) return wake(instance, call);
  if (asks(call, "keep")) return keep(host, call);
  if (asks(call, "receipt")) return receipt(host, call);
  if (asks(call, "secret")) return secret(instance, call);
  if (asks(call, "emit")) return emit(host, call);
  if (asks(call, "log")) return log_lines(host, call);
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
  act(instance, op->call);
  let_go(op);
  pthread_mutex_lock(&instance->lock);
  instance->running--;
  pthread_cond_broadcast(&instance->changed);
  pthread_mutex_unlock(&instance->lock);
  return NULL;
}

static jf_op *call(jf_instance *instance, const jf_call *call) {
  /* These two block the thread of the host, which the ABI forbids; `skip` ends before this returns, as it may. */
  if (asks(call, "slow") || asks(call, "block") || asks(call, "skip")) {
    act(instance, call);
    return NULL;
  }
  jf_op *op = malloc(sizeof *op);
  *op = (jf_op){ instance, call, 2 };
  pthread_mutex_lock(&instance->lock);
  instance->running++;
  pthread_mutex_unlock(&instance->lock);
  pthread_t thread;
  pthread_create(&thread, NULL, run, op);
  pthread_detach(thread);
  return op;
}

static void op_cancel(jf_op *op) {
  pthread_mutex_lock(&op->instance->lock);
  pthread_cond_broadcast(&op->instance->changed);
  pthread_mutex_unlock(&op->instance->lock);
}

/* What belongs to the process, or is left behind in it. */
static void *linger(void *argument) {
  for (;;) pause();
  return argument;
}
static void spoil(void) {
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
  if (open("/dev/zero", O_RDONLY) < 0) abort();
#endif
#ifdef LEAVES_THREAD
  pthread_t thread;
  pthread_create(&thread, NULL, linger, NULL);
  pthread_setname_np(thread, "lingers");
  pthread_detach(thread);
#endif
}

/* Whether it is an object, as far as a glance tells. */
static bool is_object(jf_slice json) {
  return json.len >= 2 && json.ptr[0] == '{' && memchr(json.ptr, '}', json.len) == json.ptr + json.len - 1;
}

static jf_instance *create(const jf_host *host, const jf_start *start) {
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
#ifdef CREATE_HANG
  for (;;) pause();
#endif
  const char *refuse = memmem(start->config.ptr, start->config.len, "\"refuse\":\"", 10);
  if (refuse) {
    jf_slice why = { (const uint8_t *)refuse + 10, strcspn(refuse + 10, "\"") };
    start->fail(start->fail_ctx, JF_CODE_INVALID, why);
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

static jf_slice describe(void) {
#ifdef DESCRIBE_CRASH
  *(volatile int *)0 = 1;
#endif
#ifdef DESCRIBE_ABORT
  fprintf(stderr, "first line\nassertion failed: I exist\n");
  abort();
#endif
#ifdef DESCRIBE_EXIT
  exit(3);
#endif
#ifdef DESCRIBE_LEAVE
  _exit(0);
#endif
#ifdef DESCRIBE_HANG
  for (;;) pause();
#endif
#ifdef DESCRIBE_TEXT
  return text("hello");
#endif
#ifdef DESCRIBE_OTHER
#define DESCRIBED "other"
#else
#define DESCRIBED NAME
#endif
  printf("whatever a plugin prints\n");
  return text(
    "{\"name\":\"" DESCRIBED "\",\"version\":\"" VERSION "\",\"description\":\"Does whatever its input asks for\","
    "\"capabilities\":[\"action\"],"
#ifdef SCHEMA_WRONG
    "\"config_schema\":{\"type\":\"text\"},"
#elif defined(SCHEMA_OF_TEXT)
    "\"config_schema\":{\"type\":\"string\"},"
#else
    "\"config_schema\":{\"type\":\"object\",\"additionalProperties\":false,"
#ifdef NEEDS_CONFIG
    "\"required\":[\"token\"],"
#endif
    "\"properties\":{\"refuse\":{\"type\":\"string\"},\"token\":{\"type\":\"string\",\"maxLength\":32}}},"
#endif
    "\"input_schema\":{\"type\":\"object\",\"required\":[\"act\"]}}");
}

#ifdef SIGNALS
static void on_signal(int signal) { (void)signal; }
__attribute__((constructor)) static void take_over(void) { signal(SIGUSR2, on_signal); }
#endif

#ifdef GO
JF_EXPORT void _cgo_panic(void) { abort(); }
#endif

#ifdef UNRESOLVED
extern int nobody_has_this(void);
__attribute__((visibility("default"))) int unresolved(void) { return nobody_has_this(); }
#endif

#ifdef EXPORTS
JF_EXPORT void helper(void) {}
#endif

#ifdef MALLOC
JF_EXPORT void *malloc(size_t size) { (void)size; return NULL; }
#endif

#ifdef STATIC_TLS
static __thread char initial[STATIC_TLS] __attribute__((tls_model("initial-exec")));
JF_EXPORT char *static_tls(void) { return initial; }
#endif

#ifdef TEXT_RELOCATION
__asm__(".text\n.quad jf_plugin_entry\n");
#endif

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
  op_cancel, op_release, shut_down, destroy, NULL };

#ifndef NO_ENTRY
const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor) {
  (void)host_major, (void)host_minor;
#ifdef ENTRY_REFUSES
  return NULL;
#endif
  return &table;
}
#endif

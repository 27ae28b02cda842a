/* A plugin in C: counts the events of each route, durably, and puts the count out.
 *
 * It shows what the ABI asks of everybody, and what the Rust SDK does by itself:
 *   - nothing blocks: a call asks the host for the number, and goes on when the reply comes, on whichever thread
 *   - `done` is called exactly once on every path, and nothing of the call is touched after it
 *   - slices are borrowed, so what is needed later is copied
 *   - shutdown waits until every call has ended
 */
#include "jackfield_plugin.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME "count-in-c"
#define VERSION "1.0.0"

JF_DECLARE_NOTE(NAME, VERSION);

struct jf_instance {
  const jf_host *host;
  pthread_mutex_t lock;
  pthread_cond_t ended; /* signalled when a call has */
  unsigned open_calls;
};

/* One call, between its beginning and its end. */
typedef struct task {
  jf_instance *instance;
  const jf_call *call; /* valid until `done` */
  unsigned long long count;
} task;

static jf_slice text(const char *s) {
  jf_slice slice = { (const uint8_t *)s, strlen(s) };
  return slice;
}

static const jf_slice nothing = { NULL, 0 };

/* Whether nothing was given. The router holds everything against the schemas first, and writes JSON without spaces; a plugin
 * that looks again finds out about a caller that does not. */
static int is_empty(jf_slice json) {
  return json.len == 0 || (json.len == 2 && memcmp(json.ptr, "{}", 2) == 0);
}

/* Ends the call. The task and the call are gone afterwards. */
static void finish(task *t, uint32_t outcome, uint32_t code, jf_slice output, jf_slice message) {
  jf_instance *instance = t->instance;
  jf_result result = { sizeof result, outcome, code, 0, 0, output, message };
  t->call->done(t->call->done_ctx, &result);
  free(t);
  pthread_mutex_lock(&instance->lock);
  instance->open_calls--;
  pthread_cond_signal(&instance->ended);
  pthread_mutex_unlock(&instance->lock);
}

/* The host says that the new count is on disk. */
static void on_put(void *ctx, const jf_reply *reply) {
  task *t = (task *)ctx;
  char output[64];
  if (reply->status != JF_OK) {
    finish(t, JF_RETRY, JF_CODE_NONE, nothing, reply->message);
    return;
  }
  snprintf(output, sizeof output, "{\"count\":%llu}", t->count);
  finish(t, JF_DONE, JF_CODE_NONE, text(output), nothing);
}

/* The host says what the count was. The two steps are not one: a route whose deliveries run at the same time may count two as
 * one. `concurrency = 1` on the instance, or an `order_by` on the route, rules that out. */
static void on_get(void *ctx, const jf_reply *reply) {
  task *t = (task *)ctx;
  const jf_host *host = t->instance->host;
  char digits[32] = "";
  if (reply->status != JF_OK && reply->status != JF_NOT_FOUND) {
    finish(t, JF_RETRY, JF_CODE_NONE, nothing, reply->message);
    return;
  }
  if (__atomic_load_n(t->call->cancelled, __ATOMIC_RELAXED)) {
    finish(t, JF_RETRY, JF_CODE_CANCELLED, nothing, text("the call was canceled"));
    return;
  }
  if (reply->status == JF_OK && reply->value.len > 0 && reply->value.len < sizeof digits) {
    memcpy(digits, reply->value.ptr, reply->value.len);
  }
  t->count = strtoull(digits, NULL, 10) + 1;
  snprintf(digits, sizeof digits, "%llu", t->count);
  host->kv_put(host->ctx, t->call->route, text(digits), 0, on_put, t);
}

static jf_slice describe(void) {
  static const jf_slice manifest = JF_LITERAL(
    "{\"name\":\"" NAME "\",\"version\":\"" VERSION "\","
    "\"description\":\"Counts the events of each route\","
    "\"capabilities\":[\"action\"],"
    "\"config_schema\":{\"type\":\"object\",\"additionalProperties\":false},"
    "\"input_schema\":{\"type\":\"object\",\"additionalProperties\":false},"
    "\"output_schema\":{\"type\":\"object\",\"required\":[\"count\"],"
    "\"properties\":{\"count\":{\"type\":\"integer\",\"description\":\"How many there were, with this one.\"}}}}");
  return manifest;
}

static jf_instance *create(const jf_host *host, const jf_start *start) {
  jf_instance *instance;
  if (!is_empty(start->config)) {
    start->fail(start->fail_ctx, JF_CODE_INVALID, text("there is nothing to configure"));
    return NULL;
  }
  instance = (jf_instance *)calloc(1, sizeof *instance);
  if (instance == NULL) {
    start->fail(start->fail_ctx, JF_CODE_NONE, text("there is no memory for an instance"));
    return NULL;
  }
  instance->host = host;
  pthread_mutex_init(&instance->lock, NULL);
  pthread_cond_init(&instance->ended, NULL);
  host->log(host->ctx, 0, 3, text(NAME), text("counting"), nothing);
  return instance;
}

static jf_op *call(jf_instance *instance, const jf_call *call) {
  const jf_host *host = instance->host;
  task *t;
  if (!is_empty(call->input)) {
    jf_result result = { sizeof result, JF_FATAL, JF_CODE_INVALID, 0, 0, nothing, text("there is no input to give") };
    call->done(call->done_ctx, &result);
    return NULL;
  }
  t = (task *)calloc(1, sizeof *t);
  if (t == NULL) {
    jf_result result = { sizeof result, JF_RETRY, JF_CODE_NONE, 0, 0, nothing, text("there is no memory for a call") };
    call->done(call->done_ctx, &result);
    return NULL;
  }
  t->instance = instance;
  t->call = call;
  pthread_mutex_lock(&instance->lock);
  instance->open_calls++;
  pthread_mutex_unlock(&instance->lock);
  host->kv_get(host->ctx, call->route, on_get, t);
  return NULL; /* Each call is short, and looks at *cancelled itself. */
}

static void op_cancel(jf_op *op) { (void)op; }
static void op_release(jf_op *op) { (void)op; }

static uint32_t shutdown(jf_instance *instance, uint32_t grace_ms) {
  struct timespec until;
  uint32_t stuck;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += (time_t)(grace_ms / 1000);
  until.tv_nsec += (long)(grace_ms % 1000) * 1000000L;
  if (until.tv_nsec >= 1000000000L) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000L;
  }
  pthread_mutex_lock(&instance->lock);
  while (instance->open_calls > 0 && pthread_cond_timedwait(&instance->ended, &instance->lock, &until) == 0) {
  }
  stuck = instance->open_calls > 0;
  pthread_mutex_unlock(&instance->lock);
  return stuck;
}

static void destroy(jf_instance *instance) {
  pthread_cond_destroy(&instance->ended);
  pthread_mutex_destroy(&instance->lock);
  free(instance);
}

static const void *get_extension(jf_slice id) {
  (void)id;
  return NULL;
}

const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor) {
  static const jf_plugin plugin = {
    sizeof(jf_plugin), JF_ABI_MAJOR, JF_ABI_MINOR, JF_PLUGIN_PROMPT, JF_LITERAL(NAME), JF_LITERAL(VERSION),
    describe, create, call, op_cancel, op_release, shutdown, destroy, get_extension
  };
  (void)host_minor;
  return host_major == JF_ABI_MAJOR ? &plugin : NULL;
}

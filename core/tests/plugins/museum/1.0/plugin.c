/* All that ABI 1.0 has, in one call and one request: what a plugin of that minor was, for routers that come later. Never changed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jackfield_plugin.h"

JF_DECLARE_NOTE("exhibit", "1.0.0");

struct jf_instance {
  const jf_host *host;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned calls;
};

struct jf_op {
  jf_instance *instance;
  const jf_call *call; /* until done */
};

static jf_slice text(const char *text) {
  jf_slice slice = { (const uint8_t *)text, strlen(text) };
  return slice;
}

static int is(jf_slice slice, const char *text) {
  return slice.len == strlen(text) && !memcmp(slice.ptr, text, slice.len);
}

/* ---- One request, waited for ---- */

typedef struct answer {
  pthread_mutex_t lock;
  pthread_cond_t arrived;
  int there;
  uint32_t status, stage;
  char value[256];
} answer;

static void on_reply(void *ctx, const jf_reply *reply) {
  answer *one = (answer *)ctx;
  size_t length = reply->value.len < sizeof one->value - 1 ? reply->value.len : sizeof one->value - 1;
  pthread_mutex_lock(&one->lock);
  if (length) memcpy(one->value, reply->value.ptr, length);
  one->value[length] = '\0';
  one->status = reply->status;
  one->stage = reply->stage;
  one->there = 1;
  pthread_cond_signal(&one->arrived);
  pthread_mutex_unlock(&one->lock);
}

/* Never freed: whoever replies may still be on the way out of it. */
static answer *ask(void) {
  answer *one = (answer *)calloc(1, sizeof *one);
  pthread_mutex_init(&one->lock, NULL);
  pthread_cond_init(&one->arrived, NULL);
  return one;
}

static const answer *wait_for(answer *one) {
  pthread_mutex_lock(&one->lock);
  while (!one->there) pthread_cond_wait(&one->arrived, &one->lock);
  pthread_mutex_unlock(&one->lock);
  return one;
}

/* ---- The call ---- */

/* Asks for everything there is; what is not answered as it should be, or NULL. */
static const char *everything(const jf_host *host, const jf_call *call) {
  answer *one;
  if (host->struct_size < sizeof *host || call->struct_size < sizeof *call) return "a struct";
  if (!call->id || !call->attempt || !call->deadline_mono_ns || !call->event.len || !call->input.len) return "the call";
  if (!is(call->route, "tokens") || !is(call->step, "commit") || !is(call->idempotency_key, "dlv/all")) return "a name";
  if (!call->delivery.len || !call->workdir.len) return "a place";
  if (__atomic_load_n(host->max_log_level, __ATOMIC_RELAXED) > 5) return "the level";
  host->log(host->ctx, call->id, 2, text("exhibit"), text("an old line"), text("{\"age\":2}"));
  host->metric(host->ctx, text("visits_total"), text("{\"kind\":\"all\"}"), 1.0);

  host->kv_put(host->ctx, text("key"), text("value"), 60000, on_reply, one = ask());
  if (wait_for(one)->status != JF_OK) return "kv_put";
  host->kv_get(host->ctx, text("key"), on_reply, one = ask());
  if (wait_for(one)->status != JF_OK || strcmp(one->value, "value")) return "kv_get";
  host->kv_delete(host->ctx, text("key"), on_reply, one = ask());
  if (wait_for(one)->status != JF_OK) return "kv_delete";
  host->kv_get(host->ctx, text("key"), on_reply, one = ask());
  if (wait_for(one)->status != JF_NOT_FOUND) return "kv_get of nothing";
  host->kv_get(host->ctx, text(""), on_reply, one = ask());
  if (wait_for(one)->status != JF_REFUSED) return "a refusal";

  host->receipt_get(host->ctx, call->id, on_reply, one = ask());
  if (wait_for(one)->status != JF_NOT_FOUND) return "receipt_get of nothing";
  host->receipt_put(host->ctx, call->id, JF_STAGE_INTENT, text("{\"a\":1}"), on_reply, one = ask());
  if (wait_for(one)->status != JF_OK) return "receipt_put";
  host->receipt_get(host->ctx, call->id, on_reply, one = ask());
  if (wait_for(one)->status != JF_OK || one->stage != JF_STAGE_INTENT || strcmp(one->value, "{\"a\":1}"))
    return "receipt_get";
  host->receipt_put(host->ctx, call->id, JF_STAGE_DONE, text("{\"a\":2}"), on_reply, one = ask());
  if (wait_for(one)->status != JF_OK) return "receipt_put of the end";

  host->secret(host->ctx, text("/token"), on_reply, one = ask());
  if (wait_for(one)->status != JF_OK || strcmp(one->value, "hunter2")) return "secret";
  host->emit(host->ctx, call->id, text("first"), text("{\"type\":\"com.example.exhibit\"}"), on_reply, one = ask());
  if (wait_for(one)->status != JF_OK || strncmp(one->value, "evt_", 4)) return "emit";
  if (host->get_extension(host->ctx, text("jackfield.nothing/1"))) return "get_extension";
  return NULL;
}

static void end(const jf_call *call, uint32_t outcome, uint32_t code, const char *output, const char *message) {
  jf_result result = { sizeof result, outcome, code, 0, outcome == JF_RETRY ? 1500 : 0, text(output), text(message) };
  call->done(call->done_ctx, &result);
}

static void *run(void *argument) {
  jf_op *op = (jf_op *)argument;
  jf_instance *instance = op->instance;
  const jf_call *call = op->call;
  if (is(call->idempotency_key, "dlv/wait")) {
    instance->host->metric(instance->host->ctx, text("waits_total"), text(""), 1.0);
    pthread_mutex_lock(&instance->lock);
    while (!__atomic_load_n(call->cancelled, __ATOMIC_RELAXED)) pthread_cond_wait(&instance->changed, &instance->lock);
    pthread_mutex_unlock(&instance->lock);
    end(call, JF_RETRY, JF_CODE_CANCELLED, "", "stopped");
  } else {
    const char *wrong = everything(instance->host, call);
    if (wrong) end(call, JF_FATAL, JF_CODE_NONE, "", wrong);
    else end(call, JF_DONE, JF_CODE_NONE, "{\"age\":2}", "");
  }
  pthread_mutex_lock(&instance->lock);
  instance->calls--;
  pthread_cond_broadcast(&instance->changed);
  pthread_mutex_unlock(&instance->lock);
  return NULL;
}

/* ---- The plugin ---- */

static jf_op *call(jf_instance *instance, const jf_call *call) {
  pthread_t thread;
  jf_op *op = (jf_op *)calloc(1, sizeof *op);
  op->instance = instance;
  op->call = call;
  pthread_mutex_lock(&instance->lock);
  instance->calls++;
  pthread_mutex_unlock(&instance->lock);
  pthread_create(&thread, NULL, run, op);
  pthread_detach(thread);
  return op;
}

static void op_cancel(jf_op *op) {
  pthread_mutex_lock(&op->instance->lock);
  pthread_cond_broadcast(&op->instance->changed);
  pthread_mutex_unlock(&op->instance->lock);
}

/* Left alone: its thread may not have begun to look at it. */
static void op_release(jf_op *op) { (void)op; }

/* ---- The provider ---- */

static jf_op *receive(jf_instance *instance, const jf_request *request) {
  static const char verdict[] = "{\"event\":{\"verified\":\"none\",\"dedup\":\"one\",\"draft\":{\"type\":\"com.exhibit.came\"}}}";
  jf_result result = { sizeof result, JF_DONE, JF_CODE_NONE, 0, 0, { NULL, 0 }, { NULL, 0 } };
  (void)instance;
  if (request->struct_size < sizeof *request || !request->id || !request->head.len || !request->deadline_mono_ns
      || *request->cancelled || !is(request->body, "{}")) {
    result.outcome = JF_FATAL;
    result.message = text("the request is not that of ABI 1.0");
  } else {
    result.output = text(verdict);
  }
  request->done(request->done_ctx, &result);
  return NULL;
}

static const void *get_extension(jf_slice id) {
  static const jf_provider provider = { sizeof(jf_provider), 0, receive };
  return is(id, JF_PROVIDER_1) ? &provider : NULL;
}

static jf_instance *create(const jf_host *host, const jf_start *start) {
  jf_instance *instance;
  if (start->struct_size < sizeof *start || !start->name.len) {
    start->fail(start->fail_ctx, JF_CODE_UNSUPPORTED, text("the start is not that of ABI 1.0"));
    return NULL;
  }
  instance = (jf_instance *)calloc(1, sizeof *instance);
  instance->host = host;
  pthread_mutex_init(&instance->lock, NULL);
  pthread_cond_init(&instance->changed, NULL);
  return instance;
}

static uint32_t shut_down(jf_instance *instance, uint32_t grace_ms) {
  (void)grace_ms;
  pthread_mutex_lock(&instance->lock);
  while (instance->calls) pthread_cond_wait(&instance->changed, &instance->lock);
  pthread_mutex_unlock(&instance->lock);
  return 0;
}

static void destroy(jf_instance *instance) { free(instance); }

static jf_slice describe(void) {
  return text("{\"name\":\"exhibit\",\"version\":\"1.0.0\",\"capabilities\":[\"action\",\"provider\"],"
              "\"config_schema\":{\"type\":\"object\"},\"input_schema\":{\"type\":\"object\"}}");
}

const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor) {
  static const jf_plugin plugin = {
    sizeof(jf_plugin), JF_ABI_MAJOR, JF_ABI_MINOR, JF_PLUGIN_PROMPT, JF_LITERAL("exhibit"), JF_LITERAL("1.0.0"),
    describe, create, call, op_cancel, op_release, shut_down, destroy, get_extension
  };
  (void)host_major;
  (void)host_minor;
  return &plugin;
}

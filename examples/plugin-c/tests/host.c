/* The smallest host: loads the plugin that is its first argument, makes an instance without configuration, calls it twice with
 * its second argument as the input, and prints how each call ended. Its store is one key in memory; replies come from a
 * thread of their own. */
#include "jackfield_plugin.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char stored[64];
static size_t stored_len;
static const uint32_t log_level = 3;

static jf_slice text(const char *s) {
  jf_slice slice = { (const uint8_t *)s, strlen(s) };
  return slice;
}

static const jf_slice nothing = { NULL, 0 };

/* ---- Replies, from another thread */
typedef struct answer {
  jf_reply_fn reply;
  void *ctx;
  jf_reply body;
} answer;

static void *send_answer(void *arg) {
  answer *a = (answer *)arg;
  a->reply(a->ctx, &a->body);
  free(a);
  return NULL;
}

static void reply_with(jf_reply_fn reply, void *ctx, uint32_t status, jf_slice value, jf_slice message) {
  pthread_t thread;
  answer *a = (answer *)calloc(1, sizeof *a);
  jf_reply body = { sizeof body, status, 0, 0, value, message };
  a->reply = reply;
  a->ctx = ctx;
  a->body = body;
  pthread_create(&thread, NULL, send_answer, a);
  pthread_detach(thread);
}

static void refuse(jf_reply_fn reply, void *ctx) {
  reply_with(reply, ctx, JF_REFUSED, nothing, text("this host cannot do that"));
}

/* ---- The host's table */
static void log_(void *c, uint64_t call, uint32_t level, jf_slice target, jf_slice message, jf_slice fields) {
  (void)c, (void)call, (void)level;
  fprintf(stderr, "log %.*s: %.*s %.*s\n", (int)target.len, (const char *)target.ptr, (int)message.len,
          (const char *)message.ptr, (int)fields.len, (const char *)fields.ptr);
}
static void metric(void *c, jf_slice name, jf_slice labels, double value) { (void)c, (void)name, (void)labels, (void)value; }
static void kv_get(void *c, jf_slice key, jf_reply_fn reply, void *ctx) {
  jf_slice value = { (const uint8_t *)stored, stored_len };
  (void)c, (void)key;
  reply_with(reply, ctx, stored_len ? JF_OK : JF_NOT_FOUND, value, nothing);
}
static void kv_put(void *c, jf_slice key, jf_slice value, uint64_t ttl, jf_reply_fn reply, void *ctx) {
  (void)c, (void)key, (void)ttl;
  stored_len = value.len < sizeof stored ? value.len : sizeof stored;
  memcpy(stored, value.ptr, stored_len);
  reply_with(reply, ctx, JF_OK, nothing, nothing);
}
static void with_key(void *c, jf_slice key, jf_reply_fn reply, void *ctx) { (void)c, (void)key, refuse(reply, ctx); }
static void receipt_get(void *c, uint64_t call, jf_reply_fn reply, void *ctx) { (void)c, (void)call, refuse(reply, ctx); }
static void receipt_put(void *c, uint64_t call, uint32_t stage, jf_slice body, jf_reply_fn reply, void *ctx) {
  (void)c, (void)call, (void)stage, (void)body, refuse(reply, ctx);
}
static void emit(void *c, uint64_t call, jf_slice name, jf_slice event, jf_reply_fn reply, void *ctx) {
  (void)c, (void)call, (void)name, (void)event, refuse(reply, ctx);
}
static const void *host_extension(void *c, jf_slice id) { (void)c, (void)id; return NULL; }

static const jf_host host = {
  sizeof(jf_host), JF_ABI_MAJOR, JF_ABI_MINOR, 0, NULL, &log_level, log_, metric, kv_get, kv_put, with_key,
  receipt_get, receipt_put, with_key, emit, host_extension
};

/* ---- A call */
typedef struct state {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int ended;
} state;

static void done(void *ctx, const jf_result *result) {
  state *s = (state *)ctx;
  printf("%u %u %.*s%.*s\n", result->outcome, result->code, (int)result->output.len, (const char *)result->output.ptr,
         (int)result->message.len, (const char *)result->message.ptr);
  pthread_mutex_lock(&s->lock);
  s->ended++;
  pthread_cond_signal(&s->changed);
  pthread_mutex_unlock(&s->lock);
}

static void fail(void *ctx, uint32_t code, jf_slice message) {
  (void)ctx;
  printf("no instance: %u %.*s\n", code, (int)message.len, (const char *)message.ptr);
}

static void call_once(const jf_plugin *plugin, jf_instance *instance, uint64_t id, const char *input) {
  static const uint32_t not_cancelled = 0;
  state s = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
  jf_call call = { sizeof call, 1, id, 0, text("{}"), text(input), text("dlv_1"), text("a-route"), text("a-step"),
                   text("dlv_1/a-step"), text("/tmp"), nothing, &not_cancelled, done, &s };
  jf_op *op = plugin->call(instance, &call);
  pthread_mutex_lock(&s.lock);
  while (!s.ended) pthread_cond_wait(&s.changed, &s.lock);
  pthread_mutex_unlock(&s.lock);
  if (op) plugin->op_release(op);
}

typedef const jf_plugin *(*entry_fn)(uint32_t, uint32_t);

int main(int argc, char **argv) {
  jf_start start = { sizeof start, 0, text("a-plugin"), text("{}"), 0, fail, NULL };
  const jf_plugin *plugin;
  jf_instance *instance;
  entry_fn entry;
  uint32_t stuck;
  void *library = argc == 3 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (!library) return fprintf(stderr, "cannot load: %s\n", argc == 3 ? dlerror() : "a library and an input are needed"), 2;
  *(void **)&entry = dlsym(library, JF_ENTRY_SYMBOL);
  if (entry(JF_ABI_MAJOR + 1, 0) || !entry(JF_ABI_MAJOR, JF_ABI_MINOR + 1)) return puts("does not know its hosts"), 1;
  plugin = entry(JF_ABI_MAJOR, JF_ABI_MINOR);
  printf("%.*s %.*s\n", (int)plugin->name.len, (const char *)plugin->name.ptr, (int)plugin->version.len,
         (const char *)plugin->version.ptr);
  instance = plugin->create(&host, &start);
  if (!instance) return 1;
  call_once(plugin, instance, 1, argv[2]);
  call_once(plugin, instance, 2, argv[2]);
  stuck = plugin->shutdown(instance, 10000);
  if (!stuck) plugin->destroy(instance);
  printf("stuck: %u\n", stuck);
  return 0;
}

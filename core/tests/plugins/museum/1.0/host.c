/* A router of ABI 1.0, as small as one can be: what a host of that minor was, for plugins that come later. It loads the plugin that its
 * first argument names, makes an instance, hands it a request with the second for its head, calls it with each further one for an
 * input, and prints how each has ended. Whatever it writes for the plugin lies at the very end of its memory: who reads on, dies. Never
 * changed. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "jackfield_plugin.h"

#define PAGES (64 << 10) /* whole pages, whatever their size is */

static const jf_slice nothing = { NULL, 0 };

static jf_slice text(const char *text) {
  jf_slice slice = { (const uint8_t *)text, strlen(text) };
  return slice;
}

static int is(jf_slice slice, const char *text) {
  return slice.len == strlen(text) && !memcmp(slice.ptr, text, slice.len);
}

/* Copies a struct to where memory ends behind it. It stays there. */
static void *at_the_edge(const void *from, size_t size) {
  char *pages = (char *)mmap(NULL, 2 * PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages + PAGES, PAGES, PROT_NONE)) abort();
  return memcpy(pages + PAGES - size, from, size);
}

static uint64_t in_a_minute(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)(now.tv_sec + 60) * 1000000000u;
}

/* ---- What it does for the plugin ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int waits, ended;

static uint8_t value[64], receipt[64];
static size_t value_length, receipt_length;
static uint32_t receipt_stage;

static void answer(jf_reply_fn reply, void *ctx, uint32_t status, uint32_t stage, jf_slice value) {
  jf_reply whole = { sizeof whole, status, stage, 0, value, nothing };
  reply(ctx, (const jf_reply *)at_the_edge(&whole, sizeof whole));
}

static size_t kept(uint8_t *place, size_t room, jf_slice bytes) {
  if (bytes.len > room) abort();
  memcpy(place, bytes.ptr, bytes.len);
  return bytes.len;
}

static void log_line(void *ctx, uint64_t call, uint32_t level, jf_slice target, jf_slice message, jf_slice fields) {
  (void)ctx, (void)call, (void)target, (void)fields;
  if (level <= 2) printf("log: %.*s\n", (int)message.len, (const char *)message.ptr);
}

static void metric(void *ctx, jf_slice name, jf_slice labels, double value) {
  (void)ctx, (void)labels, (void)value;
  if (!is(name, "waits_total")) return;
  pthread_mutex_lock(&lock);
  waits = 1;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
}

static void kv_get(void *ctx, jf_slice key, jf_reply_fn reply, void *reply_ctx) {
  jf_slice found = { value, value_length };
  (void)ctx, (void)key;
  answer(reply, reply_ctx, value_length ? JF_OK : JF_NOT_FOUND, 0, found);
}

static void kv_put(void *ctx, jf_slice key, jf_slice bytes, uint64_t ttl_ms, jf_reply_fn reply, void *reply_ctx) {
  (void)ctx, (void)key, (void)ttl_ms;
  value_length = kept(value, sizeof value, bytes);
  answer(reply, reply_ctx, JF_OK, 0, nothing);
}

static void kv_delete(void *ctx, jf_slice key, jf_reply_fn reply, void *reply_ctx) {
  (void)ctx, (void)key;
  value_length = 0;
  answer(reply, reply_ctx, JF_OK, 0, nothing);
}

static void receipt_get(void *ctx, uint64_t call, jf_reply_fn reply, void *reply_ctx) {
  jf_slice found = { receipt, receipt_length };
  (void)ctx, (void)call;
  answer(reply, reply_ctx, receipt_stage ? JF_OK : JF_NOT_FOUND, receipt_stage, found);
}

static void receipt_put(void *ctx, uint64_t call, uint32_t stage, jf_slice body, jf_reply_fn reply, void *reply_ctx) {
  (void)ctx, (void)call;
  receipt_stage = stage;
  receipt_length = kept(receipt, sizeof receipt, body);
  answer(reply, reply_ctx, JF_OK, 0, nothing);
}

static void secret(void *ctx, jf_slice name, jf_reply_fn reply, void *reply_ctx) {
  (void)ctx;
  answer(reply, reply_ctx, is(name, "/token") ? JF_OK : JF_NOT_FOUND, 0, text("hunter2"));
}

static void emit(void *ctx, uint64_t call, jf_slice name, jf_slice event, jf_reply_fn reply, void *reply_ctx) {
  (void)ctx, (void)call, (void)name, (void)event;
  answer(reply, reply_ctx, JF_OK, 0, text("evt_emitted"));
}

static const void *get_extension(void *ctx, jf_slice id) {
  (void)ctx, (void)id;
  return NULL;
}

/* ---- What it asks of the plugin ---- */

static void fail(void *ctx, uint32_t code, jf_slice message) {
  (void)ctx;
  printf("no instance: %u %.*s\n", code, (int)message.len, (const char *)message.ptr);
}

static void done(void *ctx, const jf_result *result) {
  (void)ctx;
  if (result->struct_size < sizeof *result) abort();
  printf("%u %u %.*s%.*s\n", result->outcome, result->code, (int)result->output.len, (const char *)result->output.ptr,
         (int)result->message.len, (const char *)result->message.ptr);
  pthread_mutex_lock(&lock);
  ended++;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
}

/* Waits for the end of what has begun, and cancels it if it says that it waits for that. */
static void see_to_its_end(const jf_plugin *plugin, jf_op *op, uint32_t *cancelled) {
  pthread_mutex_lock(&lock);
  while (!ended) {
    if (waits && op) {
      waits = 0;
      __atomic_store_n(cancelled, 1, __ATOMIC_RELAXED);
      pthread_mutex_unlock(&lock);
      plugin->op_cancel(op);
      pthread_mutex_lock(&lock);
    } else {
      pthread_cond_wait(&changed, &lock);
    }
  }
  if (ended > 1) abort();
  ended = 0;
  pthread_mutex_unlock(&lock);
  if (op) plugin->op_release(op);
}

static void call(const jf_plugin *plugin, jf_instance *instance, uint64_t id, const char *input) {
  uint32_t cancelled = 0;
  jf_call whole = { sizeof whole, 1, id, in_a_minute(), text("{}"), text(input), text("dlv_1"), text("old"), text("step"),
                    text("dlv_1/step"), text("/tmp"), nothing, &cancelled, done, NULL };
  jf_op *op = plugin->call(instance, (const jf_call *)at_the_edge(&whole, sizeof whole));
  see_to_its_end(plugin, op, &cancelled);
}

static void receive(const jf_plugin *plugin, jf_instance *instance, uint64_t id, const char *head) {
  const jf_provider *provider = (const jf_provider *)plugin->get_extension(text(JF_PROVIDER_1));
  uint32_t cancelled = 0;
  jf_request whole = { sizeof whole, 0, id, in_a_minute(), text(head), text("{}"), &cancelled, done, NULL };
  if (!provider || provider->struct_size < sizeof *provider) abort();
  jf_op *op = provider->receive(instance, (const jf_request *)at_the_edge(&whole, sizeof whole));
  see_to_its_end(plugin, op, &cancelled);
}

int main(int argc, char **argv) {
  static const uint32_t max_log_level = 3;
  jf_host host = { sizeof host, JF_ABI_MAJOR, JF_ABI_MINOR, 0, NULL, &max_log_level, log_line, metric, kv_get, kv_put,
                   kv_delete, receipt_get, receipt_put, secret, emit, get_extension };
  jf_start start = { sizeof start, 0, text("exhibit"), text("{}"), in_a_minute(), fail, NULL };
  const jf_plugin *(*entry)(uint32_t, uint32_t) = NULL;
  void *library = argc > 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (library) *(void **)&entry = dlsym(library, JF_ENTRY_SYMBOL);
  if (!entry) return fprintf(stderr, "cannot load: %s\n", argc > 2 ? dlerror() : "a library and a head are needed"), 2;
  const jf_plugin *plugin = entry(JF_ABI_MAJOR, JF_ABI_MINOR);
  if (!plugin || plugin->struct_size < sizeof *plugin || plugin->abi_major != JF_ABI_MAJOR) return 1;
  if (!plugin->describe().len) return 1;
  jf_instance *instance = plugin->create((const jf_host *)at_the_edge(&host, sizeof host),
                                         (const jf_start *)at_the_edge(&start, sizeof start));
  if (!instance) return 1;
  receive(plugin, instance, 2, argv[2]);
  for (int i = 3; i < argc; i++) call(plugin, instance, (uint64_t)i, argv[i]);
  uint32_t stuck = plugin->shutdown(instance, 60000);
  if (!stuck) plugin->destroy(instance);
  printf("stuck: %u\n", stuck);
  return 0;
}

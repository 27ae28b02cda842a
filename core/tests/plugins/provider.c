/* A provider that believes nobody, and with one fault each, by what the compiler is told. */
#include <stdlib.h>
#include <string.h>

#include "jackfield_plugin.h"

JF_DECLARE_NOTE("provider", "1.0.0");

struct jf_instance {
  char unused;
};

static jf_slice text(const char *text) {
  jf_slice slice = { (const uint8_t *)text, strlen(text) };
  return slice;
}

static const char *verdict(const jf_request *request) {
#if defined(BELIEVES_UNSIGNED)
  return "{\"event\":{\"verified\":\"signature\",\"draft\":{\"type\":\"com.provider.came\"}}}";
#elif defined(BELIEVES_ANYBODY)
  return "{\"event\":{\"verified\":\"none\",\"draft\":{\"type\":\"com.provider.came\"}}}";
#elif defined(SHAKES_HANDS)
  return "{\"handshake\":{\"status\":200,\"content_type\":\"text/plain\",\"body\":\"\"}}";
#elif defined(SPEAKS_NONSENSE)
  return "{\"verified\":true}";
#elif defined(CRASHES_ON_TEXT)
  if (request->body.len > 0 && request->body.ptr[0] == 0xff) abort();
#endif
  (void)request;
  return "{\"refused\":{\"reason\":\"wrong-signature\",\"detail\":\"it is not signed\"}}";
}

static jf_op *receive(jf_instance *instance, const jf_request *request) {
  jf_result result = { sizeof result, JF_DONE, JF_CODE_NONE, 0, 0, { NULL, 0 }, { NULL, 0 } };
  (void)instance;
#if defined(NEVER_ANSWERS)
  return NULL;
#endif
  result.output = text(verdict(request));
#if defined(PANICS)
  result.outcome = JF_RETRY;
  result.code = JF_CODE_PANIC;
  result.output = text("");
  result.message = text("index out of bounds");
#endif
  request->done(request->done_ctx, &result);
#if defined(ANSWERS_TWICE)
  request->done(request->done_ctx, &result);
#endif
  return NULL;
}

static const void *get_extension(jf_slice id) {
  static const jf_provider provider = { sizeof(jf_provider), 0, receive };
  return id.len == strlen(JF_PROVIDER_1) && !memcmp(id.ptr, JF_PROVIDER_1, id.len) ? &provider : NULL;
}

static jf_slice describe(void) {
  return text("{\"name\":\"provider\",\"version\":\"1.0.0\",\"description\":\"Believes nobody\","
#if defined(ACTS) /* as well; and not upon an empty input */
              "\"capabilities\":[\"provider\",\"action\"],\"input_schema\":{\"type\":\"object\",\"required\":[\"act\"]},"
#else
              "\"capabilities\":[\"provider\"],"
#endif
              "\"config_schema\":{\"type\":\"object\",\"additionalProperties\":false}}");
}

static jf_instance *create(const jf_host *host, const jf_start *start) {
  (void)host;
  if (start->config.len != 2 || memcmp(start->config.ptr, "{}", 2)) {
    start->fail(start->fail_ctx, JF_CODE_INVALID, text("there is nothing to configure"));
    return NULL;
  }
  return (jf_instance *)calloc(1, sizeof(jf_instance));
}

static jf_op *call(jf_instance *instance, const jf_call *call) {
  jf_result result = { sizeof result, JF_FATAL, JF_CODE_UNSUPPORTED, 0, 0, { NULL, 0 }, { NULL, 0 } };
  (void)instance;
  call->done(call->done_ctx, &result);
  return NULL;
}

static void op_cancel(jf_op *op) { (void)op; }

static void op_release(jf_op *op) { (void)op; }

static uint32_t shut_down(jf_instance *instance, uint32_t grace_ms) {
  (void)instance;
  (void)grace_ms;
  return 0;
}

static void destroy(jf_instance *instance) { free(instance); }

const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor) {
  static const jf_plugin plugin = {
    sizeof(jf_plugin), JF_ABI_MAJOR, JF_ABI_MINOR, JF_PLUGIN_PROMPT, JF_LITERAL("provider"), JF_LITERAL("1.0.0"),
    describe, create, call, op_cancel, op_release, shut_down, destroy, get_extension
  };
  (void)host_minor;
  return host_major == JF_ABI_MAJOR ? &plugin : NULL;
}

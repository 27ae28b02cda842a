/* A provider that does as the body of the request says, for good or ill. */
#include <stdlib.h>
#include <string.h>

#include "jackfield_plugin.h"

JF_DECLARE_NOTE("villain", "1.0.0");

struct jf_instance {
  char unused;
};

static jf_slice text(const char *text) {
  jf_slice slice = { (const uint8_t *)text, strlen(text) };
  return slice;
}

static int is(jf_slice slice, const char *text) {
  return slice.len == strlen(text) && !memcmp(slice.ptr, text, slice.len);
}

static jf_op *receive(jf_instance *instance, const jf_request *request) {
  jf_result result = { sizeof result, JF_DONE, JF_CODE_NONE, 0, 0, { NULL, 0 }, { NULL, 0 } };
  (void)instance;
  if (is(request->body, "\"crash\"")) abort();
  if (is(request->body, "\"hang\"")) return NULL;
  if (is(request->body, "\"no outcome\"")) {
    result.outcome = 4711;
  } else if (is(request->body, "\"retry\"")) {
    result.outcome = JF_RETRY;
    result.message = text("the keys cannot be fetched");
  } else if (is(request->body, "\"nothing\"")) {
    result.output = text("");
  } else if (is(request->body, "\"no json\"")) {
    result.output = text("{\"event\"");
  } else if (is(request->body, "\"no verdict\"")) {
    result.output = text("{\"event\":true,\"verified\":\"signature\"}");
  } else if (is(request->body, "\"believes all\"")) {
    result.output = text("{\"event\":{\"verified\":\"none\",\"draft\":{\"type\":\"com.villain.came\"}}}");
  } else if (is(request->body, "\"redirect\"")) {
    result.output = text("{\"handshake\":{\"status\":302,\"content_type\":\"text/plain\",\"body\":\"\"}}");
  } else if (is(request->body, "\"wrong draft\"")) {
    result.output = text("{\"event\":{\"verified\":\"signature\",\"dedup\":\"one\",\"draft\":{\"type\":\"Come in\"}}}");
  } else {
    result.output = text("{\"event\":{\"verified\":\"signature\",\"draft\":{\"type\":\"com.villain.came\"}}}");
  }
  request->done(request->done_ctx, &result);
  return NULL;
}

static const void *get_extension(jf_slice id) {
  static const jf_provider provider = { sizeof(jf_provider), 0, receive };
  return is(id, JF_PROVIDER_1) ? &provider : NULL;
}

static jf_slice describe(void) {
  return text("{\"name\":\"villain\",\"version\":\"1.0.0\",\"capabilities\":[\"provider\"],\"config_schema\":{\"type\":\"object\"}}");
}

static jf_instance *create(const jf_host *host, const jf_start *start) {
  (void)host;
  (void)start;
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

/* Something may hang. */
static uint32_t shut_down(jf_instance *instance, uint32_t grace_ms) {
  (void)instance;
  (void)grace_ms;
  return 1;
}

static void destroy(jf_instance *instance) { free(instance); }

const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor) {
  static const jf_plugin plugin = {
    sizeof(jf_plugin), JF_ABI_MAJOR, JF_ABI_MINOR, JF_PLUGIN_PROMPT, JF_LITERAL("villain"), JF_LITERAL("1.0.0"),
    describe, create, call, op_cancel, op_release, shut_down, destroy, get_extension
  };
  (void)host_minor;
  return host_major == JF_ABI_MAJOR ? &plugin : NULL;
}

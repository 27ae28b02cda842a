/* Greets the route that it is called by. One file, one header: jackfield_plugin.h beside this has every rule.
 *
 * What is here is all that the ABI asks of a plugin whose calls end at once. One whose calls wait for something hands them to
 * threads of its own, and returns from `call` before they end. */
#include "jackfield_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "greeter"
#define VERSION "0.1.0"

/* Who this is, to be read before any of its code runs. */
JF_DECLARE_NOTE(NAME, VERSION);

struct jf_instance {
  const jf_host *host;
};

static const jf_slice nothing = { NULL, 0 };

static jf_slice text(const char *s) {
  jf_slice slice = { (const uint8_t *)s, strlen(s) };
  return slice;
}

/* Whether nothing was given. The router holds everything against the schemas below first, and writes JSON without spaces. */
static int is_empty(jf_slice json) {
  return json.len == 0 || (json.len == 2 && memcmp(json.ptr, "{}", 2) == 0);
}

/* What the router asks first, and `jackfield plugin inspect` shows. */
static jf_slice describe(void) {
  static const jf_slice manifest = JF_LITERAL(
    "{\"name\":\"" NAME "\",\"version\":\"" VERSION "\","
    "\"description\":\"Greets the route that it is called by\","
    "\"capabilities\":[\"action\"],"
    "\"config_schema\":{\"type\":\"object\",\"additionalProperties\":false},"
    "\"input_schema\":{\"type\":\"object\",\"additionalProperties\":false},"
    "\"output_schema\":{\"type\":\"object\",\"required\":[\"greeting\"],"
    "\"properties\":{\"greeting\":{\"type\":\"string\",\"description\":\"What was said.\"}}}}");
  return manifest;
}

/* An instance, or a reason why there is none. */
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
  return instance;
}

/* Ends the call: exactly once, on every path. Nothing of it is touched afterwards. */
static void finish(const jf_call *call, uint32_t outcome, uint32_t code, jf_slice output, jf_slice message) {
  jf_result result = { sizeof result, outcome, code, 0, 0, output, message };
  call->done(call->done_ctx, &result);
}

/* One step of one delivery. */
static jf_op *call(jf_instance *instance, const jf_call *call) {
  const jf_host *host = instance->host;
  char output[256];
  int length;
  if (!is_empty(call->input)) {
    finish(call, JF_FATAL, JF_CODE_INVALID, nothing, text("there is no input to give"));
    return NULL;
  }
  /* A route's name has no character that JSON would have escaped. */
  length = snprintf(output, sizeof output, "{\"greeting\":\"hello, %.*s\"}", (int)call->route.len,
                    (const char *)call->route.ptr);
  if (length < 0 || (size_t)length >= sizeof output) {
    finish(call, JF_FATAL, JF_CODE_NONE, nothing, text("the route has too long a name"));
    return NULL;
  }
  host->log(host->ctx, call->id, 3, text(NAME), text("greeted"), nothing);
  finish(call, JF_DONE, JF_CODE_NONE, text(output), nothing);
  return NULL; /* It has ended, so that there is nothing to cancel. */
}

static void op_cancel(jf_op *op) { (void)op; }
static void op_release(jf_op *op) { (void)op; }

/* Every call has ended, and there are no threads: nothing is left to wait for. */
static uint32_t shut_down(jf_instance *instance, uint32_t grace_ms) {
  (void)instance;
  (void)grace_ms;
  return 0;
}

static void destroy(jf_instance *instance) { free(instance); }

static const void *get_extension(jf_slice id) {
  (void)id;
  return NULL;
}

const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor) {
  static const jf_plugin plugin = {
    sizeof(jf_plugin), JF_ABI_MAJOR, JF_ABI_MINOR, 0, JF_LITERAL(NAME), JF_LITERAL(VERSION),
    describe, create, call, op_cancel, op_release, shut_down, destroy, get_extension
  };
  (void)host_minor;
  return host_major == JF_ABI_MAJOR ? &plugin : NULL;
}

/* A call: what it asks for, and its end. */

#define SLICE(slice) (int)(slice).len, (const char *)(slice).ptr

static jf_slice text(const char *text) {
  jf_slice slice = { (const uint8_t *)text, strlen(text) };
  return slice;
}

/* What comes after `"name":` in the input, up to its end; NULL where it is not there. */
static const char *given(const jf_call *call, const char *name) {
  char quoted[32];
  int length = snprintf(quoted, sizeof quoted, "\"%s\":", name);
  const char *at = memmem(call->input.ptr, call->input.len, quoted, (size_t)length);
  return at ? at + length : NULL;
}

static const char *end_of(const jf_call *call) { return (const char *)call->input.ptr + call->input.len; }

static bool asks(const jf_call *call, const char *act) {
  const char *value = given(call, "act");
  size_t length = strlen(act);
  return value && value + length + 2 <= end_of(call) && value[0] == '"' && !memcmp(value + 1, act, length) &&
         value[length + 1] == '"';
}

/* A number, or a text without escapes, of the input. */
static size_t number(const jf_call *call, const char *name) {
  size_t number = 0;
  const char *digit = given(call, name);
  for (; digit && digit < end_of(call) && *digit >= '0' && *digit <= '9'; digit++)
    number = number * 10 + (size_t)(*digit - '0');
  return number;
}

static jf_slice words(const jf_call *call, const char *name) {
  const char *value = given(call, name);
  if (!value || *value != '"') return text("");
  const char *quote = memchr(value + 1, '"', (size_t)(end_of(call) - value - 1));
  jf_slice slice = { (const uint8_t *)value + 1, (size_t)(quote - value - 1) };
  return slice;
}

static void end_with(const jf_call *call, uint32_t outcome, uint32_t code, jf_slice output, jf_slice message) {
  jf_result result = { sizeof result, outcome, code, 0, outcome == JF_RETRY ? 1500 : 0, output, message };
  void (*done)(void *, const jf_result *) = call->done;
  void *context = call->done_ctx;
  done(context, &result);
#ifdef ENDS_TWICE
  done(context, &result);
#endif
}

static void end(const jf_call *call, uint32_t outcome, uint32_t code, const char *output, const char *message) {
  end_with(call, outcome, code, text(output), text(message));
}

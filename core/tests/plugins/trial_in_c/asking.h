/* Requests of the host, waited for. */

typedef struct answer {
  pthread_mutex_t lock;
  pthread_cond_t arrived;
  bool there;
  uint32_t status, stage;
  size_t length; /* of the whole value */
  char value[128], message[128];
} answer;

static void copy(char *to, size_t room, jf_slice from) {
  size_t length = from.len < room - 1 ? from.len : room - 1;
  if (length) memcpy(to, from.ptr, length);
  to[length] = 0;
}

static void on_reply(void *context, const jf_reply *reply) {
  answer *answer = context;
  pthread_mutex_lock(&answer->lock);
  copy(answer->value, sizeof answer->value, reply->value);
  copy(answer->message, sizeof answer->message, reply->message);
  answer->length = reply->value.len;
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

/* Ends a call whose request was not granted; whether it was. */
static bool granted(const jf_call *call, const answer *answer) {
  if (answer->status == JF_OK) return true;
  end(call, answer->status == JF_REFUSED ? JF_FATAL : JF_RETRY, JF_CODE_NONE, "", answer->message);
  return false;
}

static void keep(const jf_host *host, const jf_call *call) {
  answer *one = asked();
  host->kv_put(host->ctx, text("cursor"), text("17"), 0, on_reply, one);
  if (!granted(call, wait_for(one))) return;
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

static void keep_briefly(const jf_host *host, const jf_call *call) {
  answer *one = asked();
  host->kv_put(host->ctx, text("brief"), text("x"), 1500, on_reply, one);
  if (granted(call, wait_for(one))) end(call, JF_DONE, JF_CODE_NONE, "null", "");
}

static void keep_large(const jf_host *host, const jf_call *call) {
  size_t size = number(call, "size");
  uint8_t *bytes = malloc(size);
  memset(bytes, 'a', size);
  jf_slice value = { bytes, size };
  answer *one = asked();
  host->kv_put(host->ctx, text("large"), value, 0, on_reply, one);
  free(bytes); /* It was lent until the function returned. */
  if (!granted(call, wait_for(one))) return;
  one = asked();
  host->kv_get(host->ctx, text("large"), on_reply, one);
  char output[32];
  snprintf(output, sizeof output, "%zu", wait_for(one)->length);
  end(call, JF_DONE, JF_CODE_NONE, output, "");
}

static void keep_at(const jf_host *host, const jf_call *call) {
  answer *one = asked();
  host->kv_put(host->ctx, words(call, "text"), text("x"), 0, on_reply, one);
  if (granted(call, wait_for(one))) end(call, JF_DONE, JF_CODE_NONE, "null", "");
}

static void forget(const jf_host *host, const jf_call *call) {
  answer *one = asked();
  host->kv_delete(host->ctx, text("never there"), on_reply, one);
  if (wait_for(one)->status == JF_NOT_FOUND || granted(call, one)) end(call, JF_DONE, JF_CODE_NONE, "null", "");
}

/* Asks for many things at once. */
static void burst(const jf_host *host, const jf_call *call) {
  size_t size = number(call, "size");
  answer **all = calloc(size, sizeof *all);
  for (size_t i = 0; i < size; i++) {
    char key[32], value[32];
    snprintf(key, sizeof key, "burst/%zu", i);
    snprintf(value, sizeof value, "%zu", i);
    host->kv_put(host->ctx, text(key), text(value), 0, on_reply, all[i] = asked());
  }
  bool all_granted = true;
  for (size_t i = 0; i < size && all_granted; i++) all_granted = granted(call, wait_for(all[i]));
  free(all);
  char output[32];
  snprintf(output, sizeof output, "%zu", size);
  if (all_granted) end(call, JF_DONE, JF_CODE_NONE, output, "");
}

static void receipt(const jf_host *host, const jf_call *call) {
  answer *one = asked();
  host->receipt_get(host->ctx, call->id, on_reply, one);
  wait_for(one);
  if (one->status == JF_OK && one->stage == JF_STAGE_DONE) return end(call, JF_DONE, JF_CODE_NONE, "\"done\"", "");
  bool intended = one->status == JF_OK;
  one = asked();
  host->receipt_put(host->ctx, call->id, intended ? JF_STAGE_DONE : JF_STAGE_INTENT, text("{\"a\":1}"), on_reply, one);
  if (!granted(call, wait_for(one))) return;
  end(call, JF_DONE, JF_CODE_NONE, intended ? "\"intended\"" : "\"absent\"", "");
}

static void intend_and_panic(const jf_host *host, const jf_call *call) {
  answer *one = asked();
  host->receipt_put(host->ctx, call->id, JF_STAGE_INTENT, text("{\"a\":1}"), on_reply, one);
  if (granted(call, wait_for(one))) end(call, JF_RETRY, JF_CODE_PANIC, "", "on purpose");
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
  if (granted(call, one)) end(call, JF_DONE, JF_CODE_NONE, output, "");
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

static void shout(const jf_host *host, const jf_call *call) {
  size_t size = number(call, "size");
  uint8_t *bytes = malloc(size);
  memset(bytes, 'a', size);
  jf_slice line = { bytes, size };
  host->log(host->ctx, call->id, 2, text("trial"), line, text(""));
  free(bytes);
  end(call, JF_DONE, JF_CODE_NONE, "null", "");
}

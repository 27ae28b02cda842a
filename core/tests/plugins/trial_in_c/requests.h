/* Requests, as a provider gets them: what comes of one, its header `act` says. */

static bool has(const jf_request *request, const char *part) {
  return memmem(request->head.ptr, request->head.len, part, strlen(part));
}

static bool wants(const jf_request *request, const char *act) {
  char header[64];
  snprintf(header, sizeof header, "[\"act\",\"%s\"]", act);
  return has(request, header);
}

static void give_up(const jf_request *request, uint32_t code, const char *message) {
  jf_result result = { sizeof result, JF_RETRY, code, 0, 0, text(""), text(message) };
  request->done(request->done_ctx, &result);
}

static void give(const jf_request *request, const char *verdict) {
  jf_result result = { sizeof result, JF_DONE, JF_CODE_NONE, 0, 0, text(verdict), text("") };
  request->done(request->done_ctx, &result);
}

static void refuse(const jf_request *request, const char *reason, const char *detail) {
  char verdict[256];
  snprintf(verdict, sizeof verdict, "{\"refused\":{\"reason\":\"%s\",\"detail\":\"%s\"}}", reason, detail);
  give(request, verdict);
}

static void not_understood(const jf_request *request, const char *why) {
  char verdict[256];
  snprintf(verdict, sizeof verdict, "{\"event\":{\"verified\":\"signature\",\"why\":\"%s\"}}", why);
  give(request, verdict);
}

/* Tells the length and the sum of the bytes. */
static void believe(const jf_request *request, const char *proof) {
  char verdict[256];
  unsigned long long sum = 0;
  for (size_t i = 0; i < request->body.len; i++) sum += request->body.ptr[i];
  snprintf(verdict, sizeof verdict,
           "{\"event\":{\"verified\":\"%s\",\"dedup\":\"trials\","
           "\"draft\":{\"type\":\"com.example.trial\",\"subject\":\"[%zu,%llu]\",\"data\":{}}}}",
           proof, request->body.len, sum);
  give(request, verdict);
}

static void wait_for_nothing(jf_instance *instance, const jf_request *request) {
  wait_for_the_end(instance, request->cancelled);
  give_up(request, JF_CODE_CANCELLED, "stopped");
}

static void judge(jf_instance *instance, const jf_request *request) {
  if (has(request, "\"unverified\":true")) return believe(request, "none");
  if (!has(request, "[\"act\",\"")) return refuse(request, "missing-header", "header `act` is missing");
  if (wants(request, "token"))
    return has(request, "\"path_token\":true") ? believe(request, "path-token") : refuse(request, "wrong-signature", "no token");
  if (wants(request, "refuse")) return refuse(request, "wrong-signature", "not like this");
  if (wants(request, "stale")) return refuse(request, "stale-timestamp", "too late");
  if (wants(request, "not-now")) return give_up(request, JF_CODE_NONE, "not now");
  /* C has no panics: see `act`. */
  if (wants(request, "panic")) return give_up(request, JF_CODE_PANIC, "on purpose");
  if (wants(request, "wait")) return wait_for_nothing(instance, request);
  if (wants(request, "handshake"))
    return give(request, "{\"handshake\":{\"status\":200,\"content_type\":\"text/plain\",\"body\":\"welcome\"}}");
  if (wants(request, "nothing")) return not_understood(request, "");
  if (wants(request, "misread")) return not_understood(request, "no order in it");
  if (wants(request, "panic-late")) return not_understood(request, "the plugin panicked: on purpose");
  believe(request, "signature");
}

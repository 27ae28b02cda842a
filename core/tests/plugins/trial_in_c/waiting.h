/* Waits, with more or less regard for others. */

/* Tells the host that a call waits. */
static void tell_of_wait(const jf_host *host) { host->metric(host->ctx, text("waits_total"), text(""), 1.0); }

/* Waits until the call, or the request, is canceled, or the instance ends. */
static void wait_for_the_end(jf_instance *instance, const uint32_t *cancelled) {
  tell_of_wait(instance->host);
  pthread_mutex_lock(&instance->lock);
  while (!__atomic_load_n(cancelled, __ATOMIC_RELAXED) && !instance->closing)
    pthread_cond_wait(&instance->changed, &instance->lock);
  pthread_mutex_unlock(&instance->lock);
}

static void wait_until_cancelled(jf_instance *instance, const jf_call *call) {
  wait_for_the_end(instance, call->cancelled);
  end(call, JF_RETRY, JF_CODE_CANCELLED, "", "stopped");
}

static void tidy(jf_instance *instance, const jf_call *call) {
  const jf_host *host = instance->host;
  answer *one = asked();
  host->kv_put(host->ctx, text("begun"), text("yes"), 0, on_reply, one);
  if (!granted(call, wait_for(one))) return;
  wait_for_the_end(instance, call->cancelled);
  one = asked();
  host->kv_delete(host->ctx, text("begun"), on_reply, one);
  if (granted(call, wait_for(one))) end(call, JF_DONE, JF_CODE_NONE, "\"tidied\"", "");
}

/* Keeps the processor, and looks at nothing but the flag. */
static void hog(const jf_host *host, const jf_call *call) {
  tell_of_wait(host);
  while (!__atomic_load_n(call->cancelled, __ATOMIC_RELAXED)) sched_yield();
  end(call, JF_RETRY, JF_CODE_CANCELLED, "", "stopped");
}

static void wait_for_wake(jf_instance *instance) {
  pthread_mutex_lock(&instance->lock);
  while (!instance->woken) pthread_cond_wait(&instance->changed, &instance->lock);
  instance->woken--;
  pthread_mutex_unlock(&instance->lock);
}

static void be_deaf(jf_instance *instance, const jf_call *call) {
  tell_of_wait(instance->host);
  wait_for_wake(instance);
  end(call, JF_DONE, JF_CODE_NONE, "null", "");
}

/* Goes on to ask when the call has ended. */
static void ask_late(jf_instance *instance, const jf_call *call) {
  end(call, JF_DONE, JF_CODE_NONE, "null", "");
  wait_for_wake(instance);
  answer *one = asked();
  instance->host->kv_put(instance->host->ctx, text("late"), text("yes"), 0, on_reply, one);
  wait_for(one);
}

static void wake(jf_instance *instance, const jf_call *call) {
  pthread_mutex_lock(&instance->lock);
  instance->woken++;
  pthread_cond_broadcast(&instance->changed);
  pthread_mutex_unlock(&instance->lock);
  end(call, JF_DONE, JF_CODE_NONE, "null", "");
}

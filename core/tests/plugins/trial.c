/* A plugin that does whatever its input asks for: the same in C as `trial` in Rust, and besides, what no plugin should do.
 * What is wrong with it as a whole is chosen when it is compiled: -DNAME="..." and -D<FAULT>. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "jackfield_plugin.h"

#ifndef NAME
#define NAME "trial"
#endif

#ifndef VERSION
#define VERSION "1.0.0"
#endif

#ifdef OTHER_MAJOR
#undef JF_ABI_MAJOR
#define JF_ABI_MAJOR 7u
#endif

#ifdef NOTE_NAME
JF_DECLARE_NOTE(NOTE_NAME, VERSION);
#elif defined(PANIC_ABORT)
__attribute__((section(JF_NOTE_SECTION), used, aligned(4))) static const jf_note note = {
  sizeof(JF_NOTE_OWNER), sizeof(jf_ident), JF_NOTE_TYPE, JF_NOTE_OWNER,
  { { 'J', 'F', 'P', 'L', 'U', 'G', 'I', 'N' }, sizeof(jf_ident), JF_ABI_MAJOR, JF_ABI_MINOR, JF_IDENT_PANIC_ABORT,
    NAME, VERSION, "c", __VERSION__ } };
#elif !defined(NO_NOTE)
JF_DECLARE_NOTE(NAME, VERSION);
#endif

struct jf_instance {
  const jf_host *host;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned running; /* threads */
  unsigned woken;   /* wake-ups that no deaf call has taken */
  bool closing;
  char token[64];
};

struct jf_op {
  jf_instance *instance;
  const jf_call *call; /* until done */
  unsigned holders;
};

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

/* ---- Requests of the host, waited for ---- */

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

/* Says what it was given, and leaves a file with the event's type. */
static void tell(const jf_call *call) {
  char path[512], output[512];
  const char *type = memmem(call->event.ptr, call->event.len, "\"type\":\"", 8);
  if (!type) return end(call, JF_FATAL, JF_CODE_INVALID, "", "the event cannot be read");
  snprintf(path, sizeof path, "%.*s/trace", (int)call->workdir.len, (const char *)call->workdir.ptr);
  char *slash = strrchr(path, '/');
  *slash = '\0';
  mkdir(path, 0700); /* which a step before may have done */
  *slash = '/';
  FILE *file = fopen(path, "w");
  if (!file) return end(call, JF_RETRY, JF_CODE_NONE, "", strerror(errno));
  fwrite(type + 8, 1, strcspn(type + 8, "\""), file);
  fclose(file);
  snprintf(output, sizeof output,
           "{\"delivery\":\"%.*s\",\"route\":\"%.*s\",\"step\":\"%.*s\",\"attempt\":%u,\"key\":\"%.*s\"}",
           SLICE(call->delivery), SLICE(call->route), SLICE(call->step), call->attempt, SLICE(call->idempotency_key));
  end(call, JF_DONE, JF_CODE_NONE, output, "");
}

static jf_slice measured(char *to, size_t room, jf_slice bytes) {
  unsigned long long sum = 0;
  for (size_t i = 0; i < bytes.len; i++) sum += bytes.ptr[i];
  snprintf(to, room, "[%zu,%llu]", bytes.len, sum);
  return text(to);
}

static void measure(const jf_call *call) {
  char event[64], given[64], output[192];
  measured(event, sizeof event, call->event);
  measured(given, sizeof given, words(call, "text"));
  snprintf(output, sizeof output, "{\"event\":%s,\"text\":%s}", event, given);
  end(call, JF_DONE, JF_CODE_NONE, output, "");
}

static void echo(const jf_call *call) {
  const char *value = given(call, "value"); /* the last key, and the object ends behind it */
  jf_slice output = { (const uint8_t *)value, (size_t)(end_of(call) - 1 - value) };
  end_with(call, JF_DONE, JF_CODE_NONE, output, text(""));
}

static void put_out_large(const jf_call *call) {
  size_t size = number(call, "size");
  uint8_t *bytes = malloc(size + 2);
  memset(bytes, 'a', size + 2);
  bytes[0] = bytes[size + 1] = '"';
  jf_slice output = { bytes, size + 2 };
  end_with(call, JF_DONE, JF_CODE_NONE, output, text(""));
  free(bytes);
}

static void tell_what_is_left(const jf_call *call) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  uint64_t nanos = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
  char output[32];
  snprintf(output, sizeof output, "%llu", (unsigned long long)((call->deadline_mono_ns - nanos) / 1000000));
  end(call, JF_DONE, JF_CODE_NONE, output, "");
}

/* A connection to a port of this machine; in a process of its own by the router's proxy, SOCKS5. */
static int dial(uint16_t port) {
  char user[24], password[80], message[160], answer[10];
  unsigned short at = port;
  const char *proxy = getenv("JACKFIELD_PROXY");
  bool proxied = proxy && sscanf(proxy, "socks5h://%23[0-9]:%79[^@]@127.0.0.1:%hu", user, password, &at) == 3;
  struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(at) };
  there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool open = !connect(fd, (struct sockaddr *)&there, sizeof there);
  if (open && proxied) {
    int length = sprintf(message, "\5\1\2\1%c%s%c%s", (int)strlen(user), user, (int)strlen(password), password);
    open = write(fd, message, (size_t)length) == length && recv(fd, answer, 4, MSG_WAITALL) == 4 && !answer[3];
    memcpy(message, "\5\1\0\1\177\0\0\1", 8);
    message[8] = (char)(port >> 8);
    message[9] = (char)port;
    open = open && write(fd, message, 10) == 10 && recv(fd, answer, 10, MSG_WAITALL) == 10 && !answer[1];
  }
  if (open) return fd;
  close(fd);
  return -1;
}

static void talk(const jf_call *call) {
  char line[512] = "", output[520];
  int fd = dial((uint16_t)number(call, "port"));
  bool open = fd >= 0;
  int length = snprintf(line, sizeof line, "%.*s\n", SLICE(call->idempotency_key));
  open = open && write(fd, line, (size_t)length) == length;
  size_t heard = 0;
  for (ssize_t more = 1; open && more > 0 && !memchr(line, '\n', heard); heard += (size_t)(more > 0 ? more : 0))
    more = read(fd, line + heard, sizeof line - heard);
  close(fd);
  char *line_end = memchr(line, '\n', heard);
  if (!line_end) return end(call, JF_RETRY, JF_CODE_NONE, "", "nobody answers");
  snprintf(output, sizeof output, "\"%.*s\"", (int)(line_end - line), line);
  end(call, JF_DONE, JF_CODE_NONE, output, "");
}

/* Tells the host that a call waits. */
static void tell_of_wait(const jf_host *host) { host->metric(host->ctx, text("waits_total"), text(""), 1.0); }

/* Waits until the call is canceled, or the instance ends. */
static void wait_for_the_end(jf_instance *instance, const jf_call *call) {
  tell_of_wait(instance->host);
  pthread_mutex_lock(&instance->lock);
  while (!__atomic_load_n(call->cancelled, __ATOMIC_RELAXED) && !instance->closing)
    pthread_cond_wait(&instance->changed, &instance->lock);
  pthread_mutex_unlock(&instance->lock);
}

static void wait_until_cancelled(jf_instance *instance, const jf_call *call) {
  wait_for_the_end(instance, call);
  end(call, JF_RETRY, JF_CODE_CANCELLED, "", "stopped");
}

static void tidy(jf_instance *instance, const jf_call *call) {
  const jf_host *host = instance->host;
  answer *one = asked();
  host->kv_put(host->ctx, text("begun"), text("yes"), 0, on_reply, one);
  if (!granted(call, wait_for(one))) return;
  wait_for_the_end(instance, call);
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

/* What no plugin should do. */
static void misbehave(const jf_host *host, const jf_call *call) {
  if (asks(call, "twice")) {
    jf_result result = { sizeof result, JF_DONE, 0, 0, 0, text("1"), text("") };
    void (*done)(void *, const jf_result *) = call->done;
    void *context = call->done_ctx;
    done(context, &result);
    done(context, &result);
    done((void *)0xdead, &result);
    return;
  }
  if (asks(call, "short")) {
    jf_result result = { 8, JF_DONE, 0, 0, 0, text("1"), text("") };
    return call->done(call->done_ctx, &result);
  }
  if (asks(call, "null")) return call->done(call->done_ctx, NULL);
  if (asks(call, "stranger")) {
    answer *one = asked();
    host->receipt_get(host->ctx, call->id + 1000000, on_reply, one);
    return end(call, JF_DONE, 0, wait_for(one)->status == JF_REFUSED ? "\"refused\"" : "\"allowed\"", "");
  }
  if (asks(call, "garbled")) return end(call, JF_DONE, JF_CODE_NONE, "{\"a\":", "");
  if (asks(call, "unknown")) return end(call, 99, JF_CODE_NONE, "", "an outcome of my own");
  if (asks(call, "mangled")) return end(call, JF_FATAL, JF_CODE_NONE, "", "a\xff" "b");
  end(call, JF_FATAL, JF_CODE_INVALID, "", "there is no such act");
}

static volatile int on = 1;

static int overflow(volatile char *above) {
  volatile char block[65536];
  block[0] = above[0];
  return on ? overflow(block) + block[0] : 0;
}

/* What nobody survives. */
static void die(const jf_call *call) {
  if (asks(call, "overflow")) overflow("");
  if (asks(call, "spin")) while (on) continue;
  if (asks(call, "fork-and-die") && fork()) *(volatile int *)1 = 0;
  if (asks(call, "leak")) { /* and no more than a machine can bear, where nothing sets a limit */
    for (int taken = 0; taken < 64; taken++) {
      void *block = malloc(16 << 20);
      if (!block) {
        fprintf(stderr, "no memory after %d MiB\n", 16 * taken);
        abort();
      }
      memset(block, 1, 16 << 20);
    }
  }
  if (asks(call, "open")) {
    int count = 0;
    while (count < 4096 && dup(2) >= 0) count++;
    fprintf(stderr, "no file after %d: %s\n", count, strerror(errno));
    abort();
  }
  if (asks(call, "freeze")) kill(getpid(), SIGSTOP);
  if (asks(call, "segfault")) *(volatile int *)1 = 0;
  if (asks(call, "abort")) {
    fprintf(stderr, "first line\nassertion failed: I exist\n");
    abort();
  }
  if (asks(call, "exit")) _exit(3);
  if (asks(call, "close")) for (int fd = 0; fd < 256; fd++) close(fd);
  if (asks(call, "babble")) { /* on whatever is open, the router's socket among it */
    for (int fd = 3; fd < 256; fd++)
      if (write(fd, "\xff\xff\xff\xff what is this", 17) < 0) continue;
  }
}

static void act(jf_instance *instance, const jf_call *call) {
  const jf_host *host = instance->host;
  die(call);
  if (asks(call, "fork") || asks(call, "fork-and-die")) { /* the child stays, with all that is open here */
    if (asks(call, "fork-and-die") || !fork()) for (;;) pause();
    return tell(call);
  }
  if (asks(call, "done")) return tell(call);
  if (asks(call, "skip")) return end(call, JF_SKIPPED, JF_CODE_NONE, "", "nothing to do");
  if (asks(call, "retry")) return end(call, JF_RETRY, JF_CODE_NONE, "", "not now");
  if (asks(call, "fatal")) return end(call, JF_FATAL, JF_CODE_NONE, "", "never");
  if (asks(call, "invalid")) return end(call, JF_FATAL, JF_CODE_INVALID, "", "not like this");
  if (asks(call, "ambiguous")) return end(call, JF_AMBIGUOUS, JF_CODE_NONE, "", "who knows");
  if (asks(call, "say")) return end_with(call, JF_FATAL, JF_CODE_NONE, text(""), words(call, "text"));
  if (asks(call, "echo")) return echo(call);
  if (asks(call, "measure")) return measure(call);
  if (asks(call, "large")) return put_out_large(call);
  if (asks(call, "left")) return tell_what_is_left(call);
  if (asks(call, "connect")) return talk(call);
  /* C has no panics: whatever is one in Rust, is a fault that the plugin has found by itself. */
  if (asks(call, "panic") || asks(call, "panic-late") || asks(call, "panic-with-bomb"))
    return end(call, JF_RETRY, JF_CODE_PANIC, "", "on purpose");
  if (asks(call, "panic-in-task")) return end(call, JF_DONE, JF_CODE_NONE, "true", "");
  if (asks(call, "intend-and-panic")) return intend_and_panic(host, call);
  if (asks(call, "wait") || asks(call, "bomb")) return wait_until_cancelled(instance, call);
  if (asks(call, "tidy")) return tidy(instance, call);
  if (asks(call, "hog")) return hog(host, call);
  if (asks(call, "deaf") || asks(call, "block") || asks(call, "squat")) return be_deaf(instance, call);
  if (asks(call, "wake")) return wake(instance, call);
  if (asks(call, "keep")) return keep(host, call);
  if (asks(call, "brief")) return keep_briefly(host, call);
  if (asks(call, "keep-large")) return keep_large(host, call);
  if (asks(call, "keep-at")) return keep_at(host, call);
  if (asks(call, "forget")) return forget(host, call);
  if (asks(call, "burst")) return burst(host, call);
  if (asks(call, "late")) return ask_late(instance, call);
  if (asks(call, "receipt")) return receipt(host, call);
  if (asks(call, "secret")) return secret(instance, call);
  if (asks(call, "emit")) return emit(host, call);
  if (asks(call, "log")) return log_lines(host, call);
  if (asks(call, "shout")) return shout(host, call);
  if (asks(call, "slow")) {
    struct timespec pause = { 0, 20 * 1000 * 1000 };
    nanosleep(&pause, NULL);
    return end(call, JF_DONE, JF_CODE_NONE, "null", "");
  }
  misbehave(host, call);
}

/* ---- The plugin ---- */

static void let_go(jf_op *op) {
  jf_instance *instance = op->instance;
  pthread_mutex_lock(&instance->lock);
  bool last = --op->holders == 0;
  pthread_mutex_unlock(&instance->lock);
  if (last) free(op);
}

static void *run(void *argument) {
  jf_op *op = argument;
  jf_instance *instance = op->instance;
  act(instance, op->call);
  let_go(op);
  pthread_mutex_lock(&instance->lock);
  instance->running--;
  pthread_cond_broadcast(&instance->changed);
  pthread_mutex_unlock(&instance->lock);
  return NULL;
}

static jf_op *call(jf_instance *instance, const jf_call *call) {
  /* These two block the thread of the host, which the ABI forbids; `skip` ends before this returns, as it may. */
  if (asks(call, "slow") || asks(call, "squat") || asks(call, "skip")) {
    act(instance, call);
    return NULL;
  }
  jf_op *op = malloc(sizeof *op);
  *op = (jf_op){ instance, call, 2 };
  pthread_mutex_lock(&instance->lock);
  instance->running++;
  pthread_mutex_unlock(&instance->lock);
  pthread_t thread;
  pthread_create(&thread, NULL, run, op);
  pthread_detach(thread);
  return op;
}

static void op_cancel(jf_op *op) {
  pthread_mutex_lock(&op->instance->lock);
  pthread_cond_broadcast(&op->instance->changed);
  pthread_mutex_unlock(&op->instance->lock);
}

/* What belongs to the process, or is left behind in it. */
static void *linger(void *argument) {
  for (;;) pause();
  return argument;
}
static void spoil(void) {
#ifdef SETS_UMASK
  umask(0);
#endif
#ifdef SETS_DIRECTORY
  if (chdir("/tmp")) abort();
#endif
#ifdef SETS_ENVIRONMENT
  setenv("TRIAL", "was here", 1);
#endif
#ifdef SETS_SIGNAL
  signal(SIGUSR1, SIG_IGN);
#endif
#ifdef LEAVES_DESCRIPTOR
  if (open("/dev/zero", O_RDONLY) < 0) abort();
#endif
#ifdef LEAVES_THREAD
  pthread_t thread;
  pthread_create(&thread, NULL, linger, NULL);
  pthread_setname_np(thread, "lingers");
  pthread_detach(thread);
#endif
}

/* Whether it is an object, as far as a glance tells. */
static bool is_object(jf_slice json) {
  return json.len >= 2 && json.ptr[0] == '{' && memchr(json.ptr, '}', json.len) == json.ptr + json.len - 1;
}

static jf_instance *create(const jf_host *host, const jf_start *start) {
#ifdef CREATE_REFUSE
  start->fail(start->fail_ctx, JF_CODE_NONE, text("not in this version"));
  return NULL;
#endif
  spoil();
  if (!is_object(start->config)) {
#ifdef GARBAGE_CRASH
    *(volatile int *)0 = 1;
#endif
#ifdef GARBAGE_HANG
    for (;;) pause();
#endif
#ifdef GARBAGE_SILENT
    return NULL;
#endif
#ifdef GARBAGE_PANIC
    start->fail(start->fail_ctx, JF_CODE_PANIC, text("index out of bounds"));
    return NULL;
#endif
#ifndef TAKES_ANYTHING
    start->fail(start->fail_ctx, JF_CODE_INVALID, text("it is not an object"));
    return NULL;
#endif
  }
#ifdef CREATE_SILENT
  return NULL;
#endif
#ifdef CREATE_HANG
  for (;;) pause();
#endif
  const char *refuse = memmem(start->config.ptr, start->config.len, "\"refuse\":\"", 10);
  if (refuse) {
    jf_slice why = { (const uint8_t *)refuse + 10, strcspn(refuse + 10, "\"") };
    start->fail(start->fail_ctx, JF_CODE_INVALID, why);
    return NULL;
  }
  if (memmem(start->config.ptr, start->config.len, "\"panic\":\"create\"", 16)) {
    start->fail(start->fail_ctx, JF_CODE_PANIC, text("on purpose"));
    return NULL;
  }
  jf_instance *instance = calloc(1, sizeof *instance);
  instance->host = host;
  pthread_mutex_init(&instance->lock, NULL);
  pthread_cond_init(&instance->changed, NULL);
  const char *token = memmem(start->config.ptr, start->config.len, "\"token\":\"", 9);
  if (token) snprintf(instance->token, sizeof instance->token, "%.*s", (int)strcspn(token + 9, "\""), token + 9);
  return instance;
}

static uint32_t shut_down(jf_instance *instance, uint32_t grace_ms) {
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += grace_ms / 1000;
  limit.tv_nsec += (long)(grace_ms % 1000) * 1000000;
  if (limit.tv_nsec >= 1000000000) { limit.tv_sec++; limit.tv_nsec -= 1000000000; }
  pthread_mutex_lock(&instance->lock);
  instance->closing = true;
  pthread_cond_broadcast(&instance->changed);
  int status = 0;
  while (instance->running && status != ETIMEDOUT)
    status = pthread_cond_timedwait(&instance->changed, &instance->lock, &limit);
  uint32_t stuck = instance->running;
#ifdef NEVER_ENDS
  stuck = 1;
#endif
  pthread_mutex_unlock(&instance->lock);
  return stuck;
}

static void destroy(jf_instance *instance) {
  pthread_mutex_destroy(&instance->lock);
  pthread_cond_destroy(&instance->changed);
  free(instance);
}

static void op_release(jf_op *op) { let_go(op); }

static jf_slice describe(void) {
#ifdef DESCRIBE_CRASH
  *(volatile int *)0 = 1;
#endif
#ifdef DESCRIBE_ABORT
  fprintf(stderr, "first line\nassertion failed: I exist\n");
  abort();
#endif
#ifdef DESCRIBE_EXIT
  exit(3);
#endif
#ifdef DESCRIBE_LEAVE
  _exit(0);
#endif
#ifdef DESCRIBE_HANG
  for (;;) pause();
#endif
#ifdef DESCRIBE_TEXT
  return text("hello");
#endif
#ifdef DESCRIBE_OTHER
#define DESCRIBED "other"
#else
#define DESCRIBED NAME
#endif
  printf("whatever a plugin prints\n");
  return text(
    "{\"name\":\"" DESCRIBED "\",\"version\":\"" VERSION "\",\"description\":\"Does whatever its input asks for\","
    "\"capabilities\":[\"action\"],\"needs\":{\"files\":{},\"network\":[]},"
#ifdef SCHEMA_WRONG
    "\"config_schema\":{\"type\":\"text\"},"
#elif defined(SCHEMA_OF_TEXT)
    "\"config_schema\":{\"type\":\"string\"},"
#else
    "\"config_schema\":{\"type\":\"object\",\"additionalProperties\":false,"
#ifdef NEEDS_CONFIG
    "\"required\":[\"token\"],"
#endif
    "\"properties\":{\"refuse\":{\"type\":\"string\"},\"panic\":{\"type\":\"string\"},\"token\":{\"type\":\"string\",\"maxLength\":32}}},"
#endif
    "\"input_schema\":{\"type\":\"object\",\"required\":[\"act\""
#ifdef NEEDS_MORE
    ",\"reason\""
#endif
    "]}}");
}

#ifdef SIGNALS
static void on_signal(int signal) { (void)signal; }
__attribute__((constructor)) static void take_over(void) { signal(SIGUSR2, on_signal); }
#endif

#ifdef GO
JF_EXPORT void _cgo_panic(void) { abort(); }
#endif

#ifdef UNRESOLVED
extern int nobody_has_this(void);
__attribute__((visibility("default"))) int unresolved(void) { return nobody_has_this(); }
#endif

#ifdef EXPORTS
JF_EXPORT void helper(void) {}
#endif

#ifdef MALLOC
JF_EXPORT void *malloc(size_t size) { (void)size; return NULL; }
#endif

#ifdef STATIC_TLS
static __thread char initial[STATIC_TLS] __attribute__((tls_model("initial-exec")));
JF_EXPORT char *static_tls(void) { return initial; }
#endif

#ifdef TEXT_RELOCATION
__asm__(".text\n.quad jf_plugin_entry\n");
#endif

#ifdef TABLE_OTHER
#define TABLE_NAME "other"
#else
#define TABLE_NAME NAME
#endif

static const jf_plugin table = {
#ifdef TABLE_SHORT
  16,
#else
  sizeof(jf_plugin),
#endif
  JF_ABI_MAJOR, JF_ABI_MINOR,
#ifdef PROMPT
  JF_PLUGIN_PROMPT,
#else
  0,
#endif
  JF_LITERAL(TABLE_NAME), JF_LITERAL(VERSION),
  describe, create,
#ifdef TABLE_HOLE
  NULL,
#else
  call,
#endif
  op_cancel, op_release, shut_down, destroy, NULL };

#ifndef NO_ENTRY
const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor) {
  (void)host_major, (void)host_minor;
#ifdef ENTRY_REFUSES
  return NULL;
#endif
  return &table;
}
#endif

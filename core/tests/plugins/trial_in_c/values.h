/* What it tells, and to whom. */

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

/* What no plugin should do to its host, its process, or the protocol that it lives behind. */

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
  if (asks(call, "print")) { /* where a program has its standard output */
    static const char words[] = "\xff\xff\xff\xff what is this\n";
    if (write(1, words, sizeof words - 1) < 0) abort();
    return tell(call);
  }
  if (asks(call, "rant")) {
    for (int line = 0; line < 5000; line++) fprintf(stderr, "and another thing\n");
    return tell(call);
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

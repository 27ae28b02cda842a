/* A plugin that tries to get out: each act is one attempt, and its output the name of the error, or "done".
 * What it says that it needs is chosen when it is compiled: -DNEEDS="...", the inner of a JSON object. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "jackfield_plugin.h"

#ifndef NEEDS
#define NEEDS ""
#endif

#ifndef CLONE_NEWUSER
#define CLONE_NEWUSER 0x10000000
#endif

JF_DECLARE_NOTE("escape", "1.0.0");

struct jf_instance {
  const jf_host *host;
};

extern char **environ;

/* The password to show to the proxy instead of the one that was given. */
static const char *other_pass = "";

static jf_slice text(const char *text) {
  jf_slice slice = { (const uint8_t *)text, strlen(text) };
  return slice;
}

/* ---- Attempts: 0, or -1 with errno ---- */

/* What the input names: the text of the field. */
static const char *field(const jf_call *call, const char *name) {
  static __thread char value[512];
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\":\"", name);
  const char *at = memmem(call->input.ptr, call->input.len, quoted, strlen(quoted));
  if (!at) return "";
  at += strlen(quoted);
  snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\""), at);
  return value;
}

static int closed(int fd) {
  if (fd >= 0) close(fd);
  return fd < 0 ? -1 : 0;
}

static int read_file(const char *path) {
  char byte;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int status = read(fd, &byte, 1) < 0 ? -1 : 0;
  close(fd);
  return status;
}

static int list(const char *path) {
  DIR *directory = opendir(path);
  if (directory) closedir(directory);
  return directory ? 0 : -1;
}

static int write_file(const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return -1;
  int status = write(fd, "x", 1) == 1 ? 0 : -1;
  close(fd);
  return status;
}

static int of_parent(const char *file) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", (int)getppid(), file);
  return read_file(path);
}

static int pair(int kind) {
  int both[2];
  if (socketpair(AF_UNIX, kind, 0, both) < 0) return -1;
  char byte = 'x';
  int status = write(both[0], &byte, 1) == 1 && read(both[1], &byte, 1) == 1 ? 0 : -1;
  close(both[0]);
  close(both[1]);
  return status;
}

static int reach(const char *host, const char *port) {
  struct addrinfo hints, *found;
  memset(&hints, 0, sizeof hints);
  hints.ai_socktype = SOCK_STREAM;
  int wrong = getaddrinfo(host, port, &hints, &found);
  if (wrong) {
    errno = wrong == EAI_SYSTEM ? errno : ENXIO;
    return -1;
  }
  int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int status = fd < 0 ? -1 : connect(fd, found->ai_addr, found->ai_addrlen);
  int error = errno;
  freeaddrinfo(found);
  if (fd >= 0) close(fd);
  errno = error;
  return status;
}

/* By the router's proxy: SOCKS5, with the pass that the environment has. ENONET: it says that this is not allowed. */
static int through(const char *host, const char *port) {
  char user[24], password[80], message[512], answer[10];
  unsigned short at;
  const char *proxy = getenv("JACKFIELD_PROXY");
  errno = ENOKEY;
  if (!proxy || sscanf(proxy, "socks5h://%23[0-9]:%79[^@]@127.0.0.1:%hu", user, password, &at) != 3) return -1;
  if (*other_pass) snprintf(password, sizeof password, "%s", other_pass);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  struct sockaddr_in there;
  memset(&there, 0, sizeof there);
  there.sin_family = AF_INET;
  there.sin_port = htons(at);
  there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int status = -1, error = 0;
  if (connect(fd, (struct sockaddr *)&there, sizeof there) < 0) error = errno;
  else {
    size_t length = (size_t)sprintf(message, "%c%c%c%c%c%s%c%s", 5, 1, 2, 1, (int)strlen(user), user,
                                    (int)strlen(password), password);
    error = EPROTO;
    if (write(fd, message, length) == (ssize_t)length && recv(fd, answer, 4, MSG_WAITALL) == 4) {
      if (answer[3] != 0) error = EKEYREJECTED;
      else {
        memcpy(message, "\5\1\0\3", 4);
        message[4] = (char)strlen(host);
        memcpy(message + 5, host, strlen(host));
        int number = atoi(port);
        message[5 + strlen(host)] = (char)(number >> 8);
        message[6 + strlen(host)] = (char)number;
        length = 7 + strlen(host);
        if (write(fd, message, length) == (ssize_t)length && recv(fd, answer, 10, MSG_WAITALL) == 10)
          switch (answer[1]) {
            case 0: error = write(fd, "x", 1) == 1 && read(fd, answer, 1) == 1 && *answer == 'x' ? 0 : EIO; break;
            case 2: error = ENONET; break;
            case 4: error = EHOSTUNREACH; break;
            case 5: error = ECONNREFUSED; break;
          }
      }
    }
    status = error ? -1 : 0;
  }
  close(fd);
  errno = error;
  return status;
}

static int fast_open(const char *port) {
  struct sockaddr_in there;
  memset(&there, 0, sizeof there);
  there.sin_family = AF_INET;
  there.sin_port = htons((unsigned short)atoi(port));
  there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  int status = sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&there, sizeof there) == 1 ? 0 : -1, error = errno;
  close(fd);
  errno = error;
  return status;
}

static int run(const char *program, const char *argument) {
  pid_t child;
  char *arguments[] = { (char *)program, (char *)"-c", (char *)argument, NULL };
  int wrong = posix_spawnp(&child, program, NULL, NULL, arguments, environ);
  if (wrong) {
    errno = wrong;
    return -1;
  }
  int status;
  if (waitpid(child, &status, 0) < 0) return -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  errno = ECHILD; /* it ran, and failed */
  return -1;
}

static void tidy_up(int signal) {
  struct timespec while_ = { 0, 300 * 1000 * 1000 };
  (void)signal;
  nanosleep(&while_, NULL);
  if (write(STDERR_FILENO, "all tidied up\n", 14) < 0) abort();
  _exit(0);
}

/* A child that stays, with all that is open here, and does this when it is asked to end; and a parent that does not. */
static int fork_and_die(void (*asked)(int)) {
  signal(SIGTERM, asked); /* before it can be asked */
  pid_t child = fork();
  if (child < 0) return -1;
  if (child > 0) abort();
  for (;;) pause();
}

/* Has somebody signalled when there is something to read on a socket of one's own. */
static int have_signalled(int command, int value) {
  int both[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, both) < 0) return -1;
  struct f_owner_ex owner = { F_OWNER_PID, value };
  int status = command == F_SETOWN_EX ? fcntl(both[0], command, &owner) : fcntl(both[0], command, value);
  int error = errno;
  close(both[0]);
  close(both[1]);
  errno = error;
  return status;
}

static int request(int fd, unsigned long request, void *argument) {
  int status = fd < 0 ? -1 : ioctl(fd, request, argument), error = errno;
  if (fd >= 0) close(fd);
  errno = error;
  return status;
}

static int fork_once(void) {
  pid_t child = fork();
  if (child == 0) _exit(0);
  if (child > 0) waitpid(child, NULL, 0);
  return child < 0 ? -1 : 0;
}

static void *nothing(void *argument) { return argument; }

static int thread(void) {
  pthread_t thread;
  int wrong = pthread_create(&thread, NULL, nothing, NULL);
  if (!wrong) pthread_join(thread, NULL);
  errno = wrong;
  return wrong ? -1 : 0;
}

static int of_parents_memory(void) {
  char byte;
  struct iovec here = { &byte, 1 }, there = { (void *)&environ, 1 };
  return process_vm_readv(getppid(), &here, 1, &there, 1, 0) == 1 ? 0 : -1;
}

static int parents_limit(void) {
  struct rlimit limit;
  return prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit);
}

static int own_limit(void) {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit);
}

static int raised_limit(void) {
  struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
  return setrlimit(RLIMIT_DATA, &limit);
}

static int execute(void) {
  char *arguments[] = { (char *)"/bin/true", NULL };
  return execve(arguments[0], arguments, environ);
}

/* What the worker's own thread does from the signal on, so that nobody reads what the router answers. */
static void sleep_for_ever(int signal) {
  (void)signal;
  for (;;) pause();
}

/* The first that was opened: whatever else is a pair of Unix sockets came later. */
static int routers_socket(void) {
  int fd = 3, domain = 0;
  socklen_t length = sizeof domain;
  while (fd < 64 && (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_UNIX)) fd++;
  return fd;
}

/* Asks for a value in the worker's name, without end. The frame is the third kind of notice, question 7, a value by its key. */
static void *ask_on(void *argument) {
  static const char question[] = { 5, 0, 0, 0, 2, 7, 0, 1, 'k' };
  static char questions[500 * sizeof question];
  for (size_t at = 0; at < sizeof questions; at++) questions[at] = question[at % sizeof question];
  int router = routers_socket();
  signal(SIGUSR2, sleep_for_ever);
  tgkill(getpid(), getpid(), SIGUSR2);
  for (size_t from = 0;;) {
    ssize_t sent = write(router, questions + from, sizeof questions - from);
    if (sent > 0) from = (from + (size_t)sent) % sizeof questions;
    else if (errno != EAGAIN) return argument;
  }
}

static int attempt(const jf_call *call, const char *act) {
#define ACT(name) if (!strcmp(act, name))
  ACT("read") return read_file(field(call, "path"));
  ACT("list") return list(field(call, "path"));
  ACT("write") return write_file(field(call, "path"));
  ACT("rename") {
    char from[512];
    snprintf(from, sizeof from, "%s", field(call, "path"));
    return rename(from, field(call, "to"));
  }
  ACT("mode") return chmod(field(call, "path"), 0777);
  ACT("mode, by a newer call") return syscall(452, AT_FDCWD, field(call, "path"), 0777, 0) < 0 ? -1 : 0;
  ACT("mode of what is open") {
    int fd = open(field(call, "path"), O_RDONLY | O_CLOEXEC);
    int status = fd < 0 ? -1 : fchmod(fd, 0640), error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    return status;
  }
  ACT("owner") return chown(field(call, "path"), getuid(), (gid_t)-1);
  ACT("time") return utimensat(AT_FDCWD, field(call, "path"), NULL, 0);
  ACT("time of what is open") {
    int fd = open(field(call, "path"), O_RDONLY | O_CLOEXEC);
    int status = fd < 0 ? -1 : futimens(fd, NULL), error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    return status;
  }
  ACT("attribute") return setxattr(field(call, "path"), "user.jackfield", "x", 1, 0);
  ACT("attributes of what is open") {
    long flags = 0;
    return request(open(field(call, "path"), O_RDONLY | O_CLOEXEC), _IOW('f', 2, long), &flags);
  }
  ACT("watch") {
    int fd = inotify_init1(IN_CLOEXEC);
    if (fd < 0) return -1;
    int status = inotify_add_watch(fd, field(call, "path"), IN_ALL_EVENTS) < 0 ? -1 : 0, error = errno;
    close(fd);
    errno = error;
    return status;
  }
  ACT("fifo") return mknod(field(call, "path"), S_IFIFO | 0600, 0);
  ACT("link") {
    char from[512];
    snprintf(from, sizeof from, "%s", field(call, "path"));
    return symlink(from, field(call, "to"));
  }
  ACT("device") return mknod(field(call, "path"), S_IFCHR | 0600, 0x101);
  ACT("environ of the parent") return of_parent("environ");
  ACT("memory of the parent") return of_parents_memory();
  ACT("limit of the parent") return parents_limit();
  ACT("own limit") return own_limit();
  ACT("raised limit") return raised_limit();
  ACT("signal to the parent") return kill(getppid(), 0);
  ACT("signal to the parent, by what is open") return have_signalled(F_SETOWN, getppid());
  ACT("signal to the parent, by what is open, by a newer command") return have_signalled(F_SETOWN_EX, getppid());
  ACT("another signal, by what is open") return have_signalled(F_SETSIG, SIGKILL);
  ACT("signal to the parent, by a request") {
    int owner = getppid();
    return request(dup(routers_socket()), 0x8901 /* FIOSETOWN */, &owner);
  }
  ACT("outlive the parent") return prctl(PR_SET_PDEATHSIG, 0);
  ACT("signal to itself") return kill(getpid(), 0);
  ACT("trace") return (int)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
  ACT("nice") return setpriority(PRIO_USER, 0, 19);
  ACT("tcp") return closed(socket(AF_INET, SOCK_STREAM, 0));
  ACT("tcp6") return closed(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  ACT("sctp") return closed(socket(AF_INET, SOCK_STREAM, 132));
  ACT("mptcp") return closed(socket(AF_INET, SOCK_STREAM, 262));
  ACT("udp") return closed(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ACT("raw") return closed(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
  ACT("packet") return closed(socket(AF_PACKET, SOCK_RAW, 0));
  ACT("netlink") return closed(socket(AF_NETLINK, SOCK_RAW, 0));
  ACT("vsock") return closed(socket(AF_VSOCK, SOCK_STREAM, 0));
  ACT("unix") return closed(socket(AF_UNIX, SOCK_STREAM, 0));
  ACT("pair") return pair(SOCK_STREAM);
  ACT("pair of packets") return pair(SOCK_SEQPACKET);
  ACT("pair of datagrams") return pair(SOCK_DGRAM);
  ACT("listen") {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) return -1;
    int status = listen(fd, 1), error = errno;
    close(fd);
    errno = error;
    return status;
  }
  ACT("reach") {
    char host[512];
    snprintf(host, sizeof host, "%s", field(call, "host"));
    return reach(host, field(call, "port"));
  }
  ACT("through") {
    char host[512];
    snprintf(host, sizeof host, "%s", field(call, "host"));
    return through(host, field(call, "port"));
  }
  ACT("through with another pass") {
    other_pass = "0123456789abcdef";
    int status = through("127.0.0.1", field(call, "port"));
    other_pass = "";
    return status;
  }
  ACT("fast open") return fast_open(field(call, "port"));
  ACT("run") {
    char program[512];
    snprintf(program, sizeof program, "%s", field(call, "program"));
    return run(program, field(call, "argument"));
  }
  ACT("fork") return fork_once();
  ACT("fork and die") return fork_and_die(SIG_DFL);
  ACT("fork, tidy up and die") return fork_and_die(tidy_up);
  ACT("fork, stay and die") return fork_and_die(SIG_IGN);
  ACT("exec") return execute();
  ACT("thread") return thread();
  ACT("ask on") {
    pthread_t thread;
    return pthread_create(&thread, NULL, ask_on, NULL);
  }
  ACT("namespace") return unshare(CLONE_NEWUSER);
  ACT("clone") return syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) < 0 ? -1 : 0;
  ACT("clone3") return syscall(SYS_clone3, NULL, 0) < 0 ? -1 : 0;
  ACT("mount") return mount("none", "/", "tmpfs", 0, NULL);
  ACT("chroot") return chroot("/");
  ACT("bpf") return closed((int)syscall(SYS_bpf, 0, NULL, 0));
  ACT("perf") return closed((int)syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
  ACT("uring") return closed((int)syscall(SYS_io_uring_setup, 1, NULL));
  ACT("userfault") return closed((int)syscall(SYS_userfaultfd, 1));
  ACT("key") return syscall(SYS_keyctl, 0, -3, 0) < 0 ? -1 : 0;
  ACT("memory file") return closed(memfd_create("x", 0));
  ACT("shared memory") return shmget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
#ifdef __x86_64__
  ACT("other numbers") return syscall(0x40000000 + 521, 0, 0, 0, 0) < 0 ? -1 : 0;
#endif
  errno = ENOTSUP;
  return -1;
}

/* ---- The plugin ---- */

static jf_op *call(jf_instance *instance, const jf_call *call) {
  (void)instance;
  char act[80], output[96];
  snprintf(act, sizeof act, "%s", field(call, "act"));
  errno = 0;
  const char *error = attempt(call, act) == 0 ? "done" : strerrorname_np(errno);
  snprintf(output, sizeof output, "\"%s\"", error ? error : "?");
  jf_result result = { sizeof result, JF_DONE, 0, 0, 0, text(output), text("") };
  call->done(call->done_ctx, &result);
  return NULL;
}

static jf_instance *create(const jf_host *host, const jf_start *start) {
  (void)start;
  jf_instance *instance = calloc(1, sizeof *instance);
  instance->host = host;
  return instance;
}

static void op_cancel(jf_op *op) { (void)op; }
static void op_release(jf_op *op) { (void)op; }
static uint32_t shut_down(jf_instance *instance, uint32_t grace_ms) {
  (void)instance, (void)grace_ms;
  return 0;
}
static void destroy(jf_instance *instance) { free(instance); }

#ifdef ESCAPE_EARLY
/* Before anybody has asked it for anything, and again when it is asked for its manifest; also by a descriptor of that number. */
static const char *early = "";
__attribute__((constructor)) static void at_once(void) {
  bool escaped = read_file("/etc/passwd") == 0 || fork_once() == 0 || fcntl(ESCAPE_EARLY, F_GETFD) >= 0;
  early = escaped ? "escaped" : "kept in";
}
#define DESCRIPTION early
#else
#define DESCRIPTION "Tries to get out"
#endif

static jf_slice describe(void) {
  static char manifest[1024];
  snprintf(manifest, sizeof manifest,
           "{\"name\":\"escape\",\"version\":\"1.0.0\",\"description\":\"%s\",\"capabilities\":[\"action\"],"
           "\"needs\":{" NEEDS "},\"config_schema\":{\"type\":\"object\"},\"input_schema\":{\"type\":\"object\"}}",
           DESCRIPTION);
  return text(manifest);
}

static const jf_plugin table = { sizeof(jf_plugin), JF_ABI_MAJOR, JF_ABI_MINOR, 0, JF_LITERAL("escape"),
                                 JF_LITERAL("1.0.0"), describe, create, call, op_cancel, op_release,
                                 shut_down, destroy, NULL };

const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor) {
  (void)host_major, (void)host_minor;
  return &table;
}

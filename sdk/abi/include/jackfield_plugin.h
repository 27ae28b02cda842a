/* jackfield_plugin.h: the C ABI between Jackfield and its plugins. C99 and C++11, 64-bit ELF targets.
 *
 * A plugin is a shared library with one exported function, `jf_plugin_entry`, and an ELF note, `.note.jackfield`,
 * which the host reads before any code of the plugin runs. Both sides hand each other tables of functions.
 *
 *   host                                                plugin
 *   read the note, refuse what does not fit
 *   jf_plugin_entry(major, minor)             ------->  its jf_plugin
 *   describe()                                ------->  its manifest
 *   create(host, start)                       ------->  an instance, with a configuration
 *   call(instance, call)                      ------->  at work, on threads of its own
 *                                             <-------  host->log, kv_get, receipt_put, ...
 *                                             <-------  call->done(...), exactly once
 *   op_release(op)                            ------->
 *   shutdown(instance), destroy(instance)     ------->
 *
 * VERSION     This is ABI 1.0. A host refuses every other major by the note, before dlopen, and takes every minor of its
 *             own, older and newer. A minor only appends: every struct begins with struct_size, as its writer saw it,
 *             and a reader touches a field only if struct_size covers it. No field is ever moved, re-typed, removed or
 *             inserted. Reserved fields and unknown flags are written as 0 and ignored when read. What the other side
 *             must *do* is a new extension (get_extension), not a new field.
 * OWNERSHIP   Nothing that crosses is owned by the other side: a jf_slice is borrowed, and unless a comment says longer,
 *             it is valid until the function to which it was passed returns. Whoever needs it later copies it. So no
 *             allocator crosses, and nothing is ever freed by the other side.
 * TEXT        UTF-8, not NUL-terminated. A slice of length 0 may have any pointer, NULL too, and is never dereferenced.
 * UNWINDING   No panic, C++ exception or longjmp leaves a function of this header, in either direction.
 * THREADS     [control]  on a host's thread that may block; never two at a time for one instance
 *             [any]      on any thread, concurrently with everything else; must not block
 * PROCESS     A plugin does not fork without exec, exit, abort, install signal handlers, chdir, setenv, setlocale, umask,
 *             or touch descriptors that it did not open. It names its threads `plug-<name>`. A library is never unloaded.
 */
#ifndef JACKFIELD_PLUGIN_H
#define JACKFIELD_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define JF_ABI_MAJOR 1u
#define JF_ABI_MINOR 0u

/* Bytes that belong to somebody else. */
typedef struct jf_slice {
  const uint8_t *ptr;
  size_t len;
} jf_slice;

/* ---- Identity: the ELF note --------------------------------------------------------------------------------------- */

/* Where the note is, whose it is, which kind. The owner is followed by a NUL, and padded to a multiple of 4 bytes. */
#define JF_NOTE_SECTION ".note.jackfield"
#define JF_NOTE_OWNER "Jackfield"
#define JF_NOTE_TYPE 1u

/* A flag of jf_ident: a panic in this plugin aborts the process, so it may only run in a process of its own. */
#define JF_IDENT_PANIC_ABORT 1u

/* Who the plugin is. Texts are padded with NULs, and have at least one. */
typedef struct jf_ident {
  uint8_t magic[8];    /* "JFPLUGIN" */
  uint32_t ident_size; /* sizeof(jf_ident), as the plugin saw it */
  uint32_t abi_major;
  uint32_t abi_minor;
  uint32_t flags;      /* JF_IDENT_... */
  char name[64];       /* "slack-notify": [a-z0-9-], as in the manifest and in jf_plugin */
  char version[32];    /* "1.2.0": the plugin's own */
  char sdk[32];        /* "jackfield-sdk 0.1.0", "c" */
  char toolchain[96];  /* what built it; for people */
} jf_ident;

typedef struct jf_note {
  uint32_t namesz;     /* sizeof(JF_NOTE_OWNER), with its NUL */
  uint32_t descsz;     /* sizeof(jf_ident) */
  uint32_t type;       /* JF_NOTE_TYPE */
  char name[12];
  jf_ident desc;
} jf_note;

/* ---- How calls end ------------------------------------------------------------------------------------------------ */

/* jf_result.outcome. 0 is no outcome; the host takes 0 and unknown values for JF_FATAL, and says so. */
enum {
  JF_DONE = 1,      /* it happened */
  JF_SKIPPED = 2,   /* there was nothing to do; `message` says why */
  JF_RETRY = 3,     /* it did not happen; a later attempt may succeed, not before retry_after_ms */
  JF_FATAL = 4,     /* it did not happen and will not */
  JF_AMBIGUOUS = 5  /* it may have happened, and nothing can tell */
};

/* jf_result.code and the code of a refused create: what kind of failure it was, beside the outcome. Unknown = none. */
enum {
  JF_CODE_NONE = 0,
  JF_CODE_INVALID = 1,     /* the configuration, the input or the event is wrong */
  JF_CODE_CANCELLED = 2,   /* stopped because the host asked for it */
  JF_CODE_PANIC = 3,       /* the plugin's own fault, contained */
  JF_CODE_UNSUPPORTED = 4, /* this plugin cannot do that, or this host lacks what it needs */
  JF_CODE_SHUTDOWN = 5     /* the instance is being shut down */
};

/* How a call ended. */
typedef struct jf_result {
  uint32_t struct_size;
  uint32_t outcome;        /* JF_DONE ... */
  uint32_t code;           /* JF_CODE_... */
  uint32_t reserved;
  uint64_t retry_after_ms; /* with JF_RETRY: the least time to wait before the next attempt; 0 = the host's own policy */
  jf_slice output;         /* one JSON value, or empty; what later steps see as `steps.<id>` */
  jf_slice message;        /* for people: what went wrong, or why it was skipped; never a secret */
} jf_result;

/* ---- Calls: what a plugin is asked to do -------------------------------------------------------------------------- */

/* One call of an instance, for one attempt at one step of a delivery.
 *
 * The host writes it and keeps it, and all that it points to, valid and unchanged (but for *cancelled) until `done` is
 * called. The plugin touches none of it afterwards. What is passed to `done` may point into it. */
typedef struct jf_call {
  uint32_t struct_size;
  uint32_t attempt;          /* which attempt this is, from 1 */
  uint64_t id;               /* names this call to the functions of jf_host; never 0; not used again by this host */
  uint64_t deadline_mono_ns; /* CLOCK_MONOTONIC; the host cancels the call then; 0 = none */
  jf_slice event;            /* the event, JSON, payload and all */
  jf_slice input;            /* the rendered `with` of the step, JSON, fit for the manifest's input_schema */
  jf_slice delivery;         /* "dlv_..." */
  jf_slice route;            /* the route's name */
  jf_slice step;             /* the step's id in its route */
  jf_slice idempotency_key;  /* the same for every attempt at this step of this delivery */
  jf_slice workdir;          /* an absolute path, the delivery's own until it settles; whoever needs it makes it (0700), unless
                              * a step before did */
  jf_slice traceparent;      /* W3C trace context, or empty */
  const uint32_t *cancelled; /* live: 0, and 1 once the host wants the call to end; read it as an atomic, relaxed */

  /* [any] [from the start of `call` on] Ends the call. The plugin calls it exactly once, whatever happens, with done_ctx
   * as its first argument: inside `call`, before that has returned, or later from any thread; also when the call was
   * cancelled or its op released, and before shutdown returns. It never blocks and never calls into the plugin. */
  void (*done)(void *done_ctx, const jf_result *result);
  void *done_ctx;
} jf_call;

/* ---- What the host does for plugins ------------------------------------------------------------------------------- */

/* jf_reply.status. Unknown values are failures like JF_UNAVAILABLE. */
enum {
  JF_OK = 0,
  JF_NOT_FOUND = 1,  /* there is no such thing; for kv_get and receipt_get an ordinary answer */
  JF_REFUSED = 2,    /* the request is wrong, and will be again */
  JF_UNAVAILABLE = 3 /* not now; later perhaps */
};

/* jf_reply.stage and receipt_put: how far a step got. */
enum {
  JF_STAGE_INTENT = 1, /* it is about to act; whether it did must be looked up */
  JF_STAGE_DONE = 2    /* it has acted */
};

/* The answer to a host call. */
typedef struct jf_reply {
  uint32_t struct_size;
  uint32_t status;  /* JF_OK ... */
  uint32_t stage;   /* of receipt_get: JF_STAGE_...; else 0 */
  uint32_t reserved;
  jf_slice value;   /* of kv_get the value; of receipt_get the body; of secret the secret; of emit the new event's id */
  jf_slice message; /* what went wrong, where status is not JF_OK */
} jf_reply;

/* [any] Receives the answer to one host call: exactly once for each host call, perhaps before that call has returned.
 * It must not block, and must not make host calls that it waits for. */
typedef void (*jf_reply_fn)(void *reply_ctx, const jf_reply *reply);

/* The host, as one instance sees it. Valid, with all that it points to, until destroy of the instance has returned
 * (or until create has returned NULL).
 *
 * Functions with a `reply` are durable requests: they return at once, and reply when it is done. JF_OK in the reply to
 * kv_put, kv_delete, receipt_put and emit means that the change is on disk. They may be called [any] [from the start of
 * create until shutdown returns], take `ctx` as the first argument and give `reply_ctx` to `reply`. Every request is
 * replied to, also when the host gives it up, and before destroy is called (or, after a failed create, soon): a
 * reply_ctx must live until then.
 *
 * A `call` argument is the jf_call.id of a call whose `done` has not been called; another one is JF_REFUSED. */
typedef struct jf_host {
  uint32_t struct_size;
  uint32_t abi_major;
  uint32_t abi_minor;
  uint32_t flags; /* none yet */
  void *ctx;

  /* Live: what the host wants logged at present: 0 nothing, 1 error, 2 warn, 3 info, 4 debug, 5 trace. Read it as an
   * atomic, relaxed. Messages above it are dropped by the host as well. */
  const uint32_t *max_log_level;

  /* [any] Logs one message. `call`: the call that it belongs to, live or not, or 0. `target`: the module or component.
   * `fields`: one JSON object, or empty. */
  void (*log)(void *ctx, uint64_t call, uint32_t level, jf_slice target, jf_slice message, jf_slice fields);

  /* [any] Adds `value`, not negative, to the counter `name` ([a-z0-9_]) with these labels: one JSON object of strings,
   * or empty. The host adds the instance's name. Labels have few distinct values, or the host drops them. */
  void (*metric)(void *ctx, jf_slice name, jf_slice labels, double value);

  /* The instance's own key-value store. It outlives restarts and reloads. ttl_ms: when the entry ends; 0 = never. */
  void (*kv_get)(void *ctx, jf_slice key, jf_reply_fn reply, void *reply_ctx);
  void (*kv_put)(void *ctx, jf_slice key, jf_slice value, uint64_t ttl_ms, jf_reply_fn reply, void *reply_ctx);
  void (*kv_delete)(void *ctx, jf_slice key, jf_reply_fn reply, void *reply_ctx);

  /* The receipt of the step that `call` is an attempt at: one JSON value and a stage, which the next attempt finds.
   * receipt_put replaces the one before. Intent, act, done: then a crash repeats nothing. */
  void (*receipt_get)(void *ctx, uint64_t call, jf_reply_fn reply, void *reply_ctx);
  void (*receipt_put)(void *ctx, uint64_t call, uint32_t stage, jf_slice body, jf_reply_fn reply, void *reply_ctx);

  /* A secret that the instance's configuration names. Its value is never logged, stored or sent by the host. */
  void (*secret)(void *ctx, jf_slice name, jf_reply_fn reply, void *reply_ctx);

  /* Raises a follow-up event: JSON with `type`, and if wanted `subject` and `data`, all as in the common event; the host
   * fills in the rest. `name` tells the events of one step apart: the same call, or a later attempt, with the same
   * name raises it once. Replies with the event's id. */
  void (*emit)(void *ctx, uint64_t call, jf_slice name, jf_slice event, jf_reply_fn reply, void *reply_ctx);

  /* [any] A table of further functions by name and revision, "jackfield.http/1", or NULL. Valid as long as the host. */
  const void *(*get_extension)(void *ctx, jf_slice id);
} jf_host;

/* ---- What a plugin does for the host ------------------------------------------------------------------------------ */

/* Of the plugin's own making; the host sees only pointers to them. */
typedef struct jf_instance jf_instance;
typedef struct jf_op jf_op;

/* With what an instance starts. Borrowed until create returns. */
typedef struct jf_start {
  uint32_t struct_size;
  uint32_t flags;            /* none yet */
  jf_slice name;             /* the instance's name, for logs */
  jf_slice config;           /* JSON, fit for the manifest's config_schema; references to secrets are resolved */
  uint64_t deadline_mono_ns; /* CLOCK_MONOTONIC; create gives up then; 0 = none */

  /* [control] [during create] Says why there is no instance. Called exactly once if create returns NULL, else never. */
  void (*fail)(void *fail_ctx, uint32_t code, jf_slice message);
  void *fail_ctx;
} jf_start;

/* A flag of jf_plugin: `call` (and `receive`, where there is one) returns at once, so that the host may call it on a
 * thread of its event loop: it does no more than hand the call to a thread of the plugin's own, or than what takes
 * microseconds and never blocks. Without it a call is made where it may take its time, which costs more. */
#define JF_PLUGIN_PROMPT 1u

/* The plugin. Static: valid, and unchanged, for the life of the process. */
typedef struct jf_plugin {
  uint32_t struct_size;
  uint32_t abi_major;
  uint32_t abi_minor;
  uint32_t flags; /* JF_PLUGIN_... */
  jf_slice name;  /* as in the note; static */
  jf_slice version;

  /* [control] The manifest: one JSON object, static.
   *   name, version   as in the note
   *   description     one line for people
   *   docs            more, in Markdown; may be absent
   *   capabilities    what this plugin is: "action" (steps call it), "provider" (JF_PROVIDER_1), or both
   *   needs           what it needs of the machine, which its process can do only if that is granted as well; may be
   *                   absent, and so may each part: { "network": ["host:port", ...], "programs": ["name", ...],
   *                   "files": { "read": ["/pointer/into/config", ...], "write": [...] } }. Files without pointers are
   *                   those of jf_call.workdir. An empty list says that it can do without, or that config names them.
   *                   Hosts are reached by a SOCKS5 proxy, which resolves names: the environment variable JACKFIELD_PROXY
   *                   has its URL, socks5h://user:password@address:port, and is not there where no host is granted.
   *   config_schema   JSON Schema 2020-12 of jf_start.config
   *   input_schema    the same of jf_call.input; may be absent in a plugin that is no action
   *   output_schema   the same of jf_result.output */
  jf_slice (*describe)(void);

  /* [control] Makes an instance, or calls start->fail and returns NULL. May block until start->deadline_mono_ns, and
   * wait for host calls, whose replies come from other threads. Any number of instances may live at the same time. */
  jf_instance *(*create)(const jf_host *host, const jf_start *start);

  /* [any] [after create, before shutdown] Takes on one call: returns soon, and calls call->done exactly once, on
   * whichever thread, before or after it returns. Returns what op_cancel can take hold of, or NULL where nothing can. */
  jf_op *(*call)(jf_instance *instance, const jf_call *call);

  /* [any] [after call returned op, before op_release(op)] Asks the call to end soon; *cancelled has been set. May come
   * repeatedly and may race with `done`. The call still ends by `done`, with JF_CODE_CANCELLED or its true outcome. */
  void (*op_cancel)(jf_op *op);

  /* [any] [after call returned op] The host's last touch of op, exactly once; after `done`, or before it if the host no
   * longer waits. The call itself goes on. */
  void (*op_release)(jf_op *op);

  /* [control] [after create, once, with no call begun later] Ends the instance within grace_ms. When it returns 0, every
   * `done` has been called and every thread of the instance has ended. Other values: something is stuck; the host then
   * never destroys the instance, and keeps jf_host for it. */
  uint32_t (*shutdown)(jf_instance *instance, uint32_t grace_ms);

  /* [control] [after shutdown returned 0, and after every op_release] Frees the instance. */
  void (*destroy)(jf_instance *instance);

  /* [any] A table of further functions by name and revision, or NULL; static. The pointer itself may be NULL, too. */
  const void *(*get_extension)(jf_slice id);
} jf_plugin;

/* The one exported symbol. Pure: no allocation, no threads, no I/O. NULL: the plugin refuses this host, as one does that
 * cannot be without what a later minor than the host's has brought. */
#define JF_ENTRY_SYMBOL "jf_plugin_entry"
#define JF_EXPORT __attribute__((visibility("default")))
JF_EXPORT const jf_plugin *jf_plugin_entry(uint32_t host_major, uint32_t host_minor);

/* ---- Extension of plugins: "jackfield.provider/1" ------------------------------------------------------------------ */

/* With this name get_extension of a plugin gives a jf_provider, if the manifest's capabilities have `provider`. Such a
 * plugin brings a provider: what verifies the requests of a source, and translates them into events. */
#define JF_PROVIDER_1 "jackfield.provider/1"

/* One request that came in for a source whose provider is this instance. Written, kept and ended as a jf_call is. */
typedef struct jf_request {
  uint32_t struct_size;
  uint32_t flags;            /* none yet */
  uint64_t id;               /* names this request to jf_host.log; other functions of jf_host refuse it; else as in jf_call */
  uint64_t deadline_mono_ns; /* CLOCK_MONOTONIC; the sender is answered with a 503 then; 0 = none */

  /* One JSON object, written by the host:
   *   source      the source's name
   *   received    when the last byte arrived, RFC 3339
   *   headers     an array of [name, value], as they came; names in lower case, values mended where they are not UTF-8
   *   secrets     an array of texts: every live secret of the source; a signature need match one
   *   unverified  true where the source is to believe everybody
   *   path_token  true where the secret last segment of the address was there, and right
   *   tolerance_seconds  how far a signed timestamp may lie from `received`; may be absent
   *   options     an object: the plugin's own options of the source, with secrets in it resolved; {} for none */
  jf_slice head;
  jf_slice body;             /* byte for byte as it came: not trusted, and to be parsed only once it is verified */
  const uint32_t *cancelled; /* as in jf_call */

  /* [any] [from the start of `receive` on] As jf_call.done. With JF_DONE, `output` is the verdict: a JSON object with one
   * of these.
   *   {"refused": {"reason": R, "detail": D}}  It does not prove where it comes from. R is "missing-header",
   *       "wrong-signature" or "stale-timestamp"; D is for the operator, and never has a secret in it.
   *   {"event": {"verified": V, "dedup": K, "providerdelivery": I, "providerattempt": N, "draft": E}}  It does, by V:
   *       "signature", "path-token" (if path_token is true) or "none" (if unverified is true). K is the same for every
   *       delivery of one event and for no other event of the source; I and N are the provider's own id and count of the
   *       delivery. E is {"type", "subject", "time", "data"}, as in the common event, without `payload`. All but V may be
   *       absent: without an E that fits, the event is one whose type ends in ".unrecognized"; "why" may then say why.
   *   {"handshake": {"status": S, "content_type": T, "body": B}}  It is no event, and wants just this answer, with
   *       S from 200 to 299.
   * Whatever else comes of it, the sender is told to try again. */
  void (*done)(void *done_ctx, const jf_result *result);
  void *done_ctx;
} jf_request;

/* Static, as jf_plugin is. */
typedef struct jf_provider {
  uint32_t struct_size;
  uint32_t flags; /* none yet */

  /* [any] [after create, before shutdown] Takes on one request, as jf_plugin.call does a call; op_cancel and op_release
   * are for what it returns, too. It verifies first, in constant time, and parses the body only after that. */
  jf_op *(*receive)(jf_instance *instance, const jf_request *request);
} jf_provider;

/* ---- Help for plugins in C ---------------------------------------------------------------------------------------- */

/* A string literal as the initializer of a jf_slice. */
#define JF_LITERAL(text) { (const uint8_t *)(text), sizeof(text) - 1 }

/* The note, once in a plugin, at file scope: JF_DECLARE_NOTE("my-plugin", "1.0.0"); */
#define JF_DECLARE_NOTE(NAME, VERSION)                                                                                 \
  __attribute__((section(JF_NOTE_SECTION), used, aligned(4))) static const jf_note jf_plugin_note = {                  \
    sizeof(JF_NOTE_OWNER), sizeof(jf_ident), JF_NOTE_TYPE, JF_NOTE_OWNER,                                              \
    { { 'J', 'F', 'P', 'L', 'U', 'G', 'I', 'N' }, sizeof(jf_ident), JF_ABI_MAJOR, JF_ABI_MINOR, 0,                     \
      NAME, VERSION, "c", __VERSION__ } }

#ifdef __cplusplus
}
#endif
#endif

/* What is wrong with the library as such. */

#ifdef SIGNALS
static void on_signal(int signal) { (void)signal; }
__attribute__((constructor)) static void take_over(void) { signal(SIGUSR2, on_signal); }
#endif

#ifdef HOARDS
__attribute__((constructor)) static void hoard(void) {
  if (malloc(2u << 30)) return;
  fprintf(stderr, "no memory for 2 GiB\n");
  abort();
}
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

/* What it says of itself, and what it says wrong. */

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
    "\"capabilities\":[\"action\",\"provider\"],\"needs\":{\"files\":{},\"network\":[]},"
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

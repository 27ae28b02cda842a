//! The Rust mirror and the C header say the same, as `layout.txt` has it, and the header is clean C99 and C++11.

use std::{
    fmt::Write as _,
    mem::{align_of, offset_of, size_of},
    path::{Path, PathBuf},
    process::Command,
};

use jackfield_abi as abi;

/// One line for each size, offset and constant, spelled in C and computed here.
struct Facts(Vec<(String, u64)>);

macro_rules! structs {
    ($facts:ident: $($rust:ident = $c:literal { $($field:ident $(= $c_field:literal)?),+ })+) => {$(
        $facts.add(concat!("sizeof(", $c, ")"), size_of::<abi::$rust>());
        $facts.add(concat!("alignof_(", $c, ")"), align_of::<abi::$rust>());
        $({
            let c_field = None $(.or(Some($c_field)))?.unwrap_or(stringify!($field));
            $facts.add(format!("offsetof({}, {c_field})", $c), offset_of!(abi::$rust, $field));
        })+
    )+};
}

macro_rules! constants {
    ($facts:ident: $($rust:ident)+) => {
        $($facts.add(concat!("JF_", stringify!($rust)), u64::from(abi::$rust));)+
    };
}

impl Facts {
    fn add(&mut self, expression: impl Into<String>, value: impl TryInto<u64>) {
        let value = value.try_into().ok().expect("sizes fit into 64 bits");
        self.0.push((expression.into(), value));
    }

    fn of_rust() -> Self {
        let mut facts = Self(Vec::new());
        structs! { facts:
            Slice = "jf_slice" { ptr, len }
            Ident = "jf_ident" {
                magic, ident_size, abi_major, abi_minor, flags, name, version, sdk, toolchain
            }
            Note = "jf_note" { namesz, descsz, kind = "type", name, desc }
            CallResult = "jf_result" {
                struct_size, outcome, code, reserved, retry_after_ms, output, message
            }
            Call = "jf_call" {
                struct_size, attempt, id, deadline_mono_ns, event, input, delivery, route, step, idempotency_key,
                workdir, traceparent, cancelled, done, done_ctx
            }
            Reply = "jf_reply" { struct_size, status, stage, reserved, value, message }
            Host = "jf_host" {
                struct_size, abi_major, abi_minor, flags, ctx, max_log_level, log, metric, kv_get, kv_put, kv_delete,
                receipt_get, receipt_put, secret, emit, get_extension
            }
            Start = "jf_start" { struct_size, flags, name, config, deadline_mono_ns, fail, fail_ctx }
            Plugin = "jf_plugin" {
                struct_size, abi_major, abi_minor, flags, name, version, describe, create, call, op_cancel,
                op_release, shutdown, destroy, get_extension
            }
            Request = "jf_request" {
                struct_size, flags, id, deadline_mono_ns, head, body, cancelled, done, done_ctx
            }
            Provider = "jf_provider" { struct_size, flags, receive }
        }
        constants! { facts:
            ABI_MAJOR ABI_MINOR NOTE_TYPE IDENT_PANIC_ABORT PLUGIN_PROMPT
            DONE SKIPPED RETRY FATAL AMBIGUOUS
            CODE_NONE CODE_INVALID CODE_CANCELLED CODE_PANIC CODE_UNSUPPORTED CODE_SHUTDOWN
            OK NOT_FOUND REFUSED UNAVAILABLE
            STAGE_INTENT STAGE_DONE
        }
        facts.add("sizeof(JF_NOTE_OWNER)", abi::NOTE_OWNER.len() + 1);
        facts.add("sizeof(JF_PROVIDER_1)", abi::PROVIDER_1.len() + 1);
        facts
    }

    /// A C program that prints the same lines as [`Self::print`], from the header.
    fn c_program(&self) -> String {
        let mut program = String::from(
            "#include <stdio.h>\n#include \"jackfield_plugin.h\"\n\
             #define alignof_(type) offsetof(struct { char c; type t; }, t)\n\
             JF_DECLARE_NOTE(\"layout\", \"1.0.0\");\n\
             int main(void) {\n",
        );
        for (expression, _) in &self.0 {
            writeln!(
                program,
                "  printf(\"{expression} = %llu\\n\", (unsigned long long)({expression}));"
            )
            .expect("a string takes all");
        }
        program.push_str(
            "  puts(JF_NOTE_SECTION \" \" JF_NOTE_OWNER \" \" JF_ENTRY_SYMBOL \" \" JF_PROVIDER_1);\n",
        );
        program.push_str("  printf(\"%.8s\\n\", (const char *)jf_plugin_note.desc.magic);\n");
        program.push_str("  return 0;\n}\n");
        program
    }

    fn print(&self) -> String {
        let mut lines = String::new();
        for (expression, value) in &self.0 {
            writeln!(lines, "{expression} = {value}").expect("a string takes all");
        }
        let magic = str::from_utf8(&abi::MAGIC).expect("the magic is ASCII");
        writeln!(
            lines,
            "{} {} {} {}\n{magic}",
            abi::NOTE_SECTION,
            abi::NOTE_OWNER,
            abi::ENTRY_SYMBOL,
            abi::PROVIDER_1
        )
        .expect("a string takes all");
        lines
    }
}

fn include_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

/// Compiles `program` under all the warnings there are, as errors.
#[track_caller]
fn compile(compiler: &str, standard: &str, program: &Path, output: &Path) {
    let standard = format!("-std={standard}");
    let result = Command::new(compiler)
        .args([standard.as_str(), "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .args([
            "-Wcast-align",
            "-Wcast-qual",
            "-Wconversion",
            "-Wshadow",
            "-Wundef",
            "-o",
        ])
        .arg(output)
        .arg("-I")
        .arg(include_dir())
        .arg(program)
        .output()
        .unwrap_or_else(|error| {
            panic!("this test needs the compiler `{compiler}`, which `.ci/test` installs: {error}")
        });
    assert!(
        result.status.success(),
        "{compiler} {standard}: {}",
        String::from_utf8_lossy(&result.stderr)
    );
}

#[test]
fn every_size_offset_and_constant_is_the_same_in_c_and_in_rust() {
    let facts = Facts::of_rust();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (dir.join("layout.c"), dir.join("layout"));
    std::fs::write(&source, facts.c_program()).unwrap();
    compile("cc", "c99", &source, &program);
    let printed = Command::new(&program).output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), facts.print());
}

#[test]
fn every_size_offset_and_constant_is_what_was_agreed_on() {
    let found = Facts::of_rust().print();
    let now = Path::new(env!("CARGO_TARGET_TMPDIR")).join("layout.txt");
    std::fs::write(&now, &found).unwrap();
    assert_eq!(
        found,
        include_str!("layout.txt"),
        "the ABI is not what tests/layout.txt says. A minor only appends to structs, and each `LEAST` of a struct stays as it is: what \
         a new minor asks of you is in core/tests/plugins/museum/README.md. When that is done, copy {} there",
        now.display()
    );
}

/// Compiles a file with nothing in it but the header, what the header makes of a note, and `main`.
#[track_caller]
fn compile_header(compiler: &str, extension: &str, standard: &str) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = dir.join(format!("header-{standard}.{extension}"));
    let text = "#include \"jackfield_plugin.h\"\n\
                JF_DECLARE_NOTE(\"header\", \"1.0.0\");\n\
                static const jf_slice text = JF_LITERAL(\"text\");\n\
                int main(void) { return jf_plugin_note.type == JF_NOTE_TYPE && text.len == 4 ? 0 : 1; }\n";
    std::fs::write(&source, text).expect("cargo gives tests a directory");
    let program = dir.join(format!("header-{standard}"));
    compile(compiler, standard, &source, &program);
    let status = Command::new(&program).status().expect("it has just been built");
    assert!(status.success(), "{standard}");
}

#[test]
fn the_header_is_clean_c() {
    for standard in ["c99", "c11", "c17"] {
        compile_header("cc", "c", standard);
    }
}

#[test]
fn the_header_is_clean_cpp() {
    for standard in ["c++11", "c++14", "c++17", "c++20"] {
        compile_header("g++", "cc", standard);
    }
}

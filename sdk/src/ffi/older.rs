//! A host whose table is not what this SDK was built for, as one of another release has it: it is told so, and nothing else
//! happens.

use std::{ffi::c_void, mem::offset_of, ptr};

use jackfield_abi as abi;

use super::{CODES, Sized32 as _, slice, struct_size, table, text, word};
use crate::{Cx, Empty, Error, Outcome, Plugin, Start, async_trait, call::Code};

struct Idle;

#[async_trait]
impl Plugin for Idle {
    type Config = Empty;
    type Input = Empty;
    type Output = Empty;
    const NAME: &'static str = "idle";
    const VERSION: &'static str = "1.0.0";

    async fn create(_: Empty, _: Start) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn call(&self, _: Empty, _: &Cx) -> Result<Outcome<Empty>, Error> {
        Ok(Outcome::Done(Empty {}))
    }
}

/// Memory that ends with the table: whoever reads on is ended by the system.
struct Edge {
    pages: *mut c_void,
    table: *mut abi::Host,
}

/// Half of it: whole pages, whatever their size is.
const HALF: usize = 64 << 10;

impl Edge {
    /// The first `written` bytes of `host`, which say that they are all.
    fn of(host: abi::Host, written: usize) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: new memory, at an address of the system's choice.
        let pages = unsafe { libc::mmap(ptr::null_mut(), 2 * HALF, access, flags, -1, 0) };
        assert_ne!(pages, libc::MAP_FAILED);
        // SAFETY: the second half of it.
        let guard = unsafe { pages.byte_add(HALF) };
        // SAFETY: nothing lies there.
        assert_eq!(unsafe { libc::mprotect(guard, HALF, libc::PROT_NONE) }, 0);
        // SAFETY: within the first half, and aligned, since all that is ever left out is fields from the end.
        let table = unsafe { guard.byte_sub(written) }.cast::<abi::Host>();
        let host = abi::Host {
            struct_size: u32::try_from(written).unwrap(),
            ..host
        };
        // SAFETY: so many bytes are there, up to the guard.
        unsafe {
            ptr::from_ref(&host)
                .cast::<u8>()
                .copy_to_nonoverlapping(table.cast(), written)
        };
        Self { pages, table }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // SAFETY: what was mapped, and nobody looks at any more.
        unsafe { libc::munmap(self.pages, 2 * HALF) };
    }
}

/// Why the plugin refuses the host with that table.
fn refusal(host: *const abi::Host) -> (Code, String) {
    unsafe extern "C" fn fail(ctx: *mut c_void, code: u32, message: abi::Slice) {
        // SAFETY: the local below, which outlives `create`.
        let said = unsafe { &mut *ctx.cast::<Option<(Code, String)>>() };
        // SAFETY: valid until this returns.
        let message = unsafe { text(message) };
        assert!(
            said.replace((word(&CODES, code).unwrap(), message)).is_none(),
            "said twice"
        );
    }
    let mut said: Option<(Code, String)> = None;
    let start = abi::Start {
        struct_size: struct_size::<abi::Start>(),
        flags: 0,
        name: slice(b"idle"),
        config: slice(b"{}"),
        deadline_mono_ns: 0,
        fail: Some(fail),
        fail_ctx: (&raw mut said).cast(),
    };
    let create = table::table::<Idle>().raw().create.unwrap();
    // SAFETY: the table is as long as it says, and `start` lives until this returns.
    let instance = unsafe { create(host, &raw const start) };
    assert!(instance.is_null());
    said.expect("it must say why")
}

/// A host that has every function; none is ever called.
fn whole() -> abi::Host {
    unsafe extern "C" fn log(_: *mut c_void, _: u64, _: u32, _: abi::Slice, _: abi::Slice, _: abi::Slice) {}
    unsafe extern "C" fn metric(_: *mut c_void, _: abi::Slice, _: abi::Slice, _: f64) {}
    unsafe extern "C" fn key(_: *mut c_void, _: abi::Slice, _: abi::ReplyFn, _: *mut c_void) {}
    unsafe extern "C" fn put(
        _: *mut c_void,
        _: abi::Slice,
        _: abi::Slice,
        _: u64,
        _: abi::ReplyFn,
        _: *mut c_void,
    ) {
    }
    unsafe extern "C" fn get(_: *mut c_void, _: u64, _: abi::ReplyFn, _: *mut c_void) {}
    unsafe extern "C" fn keep(
        _: *mut c_void,
        _: u64,
        _: u32,
        _: abi::Slice,
        _: abi::ReplyFn,
        _: *mut c_void,
    ) {
    }
    unsafe extern "C" fn emit(
        _: *mut c_void,
        _: u64,
        _: abi::Slice,
        _: abi::Slice,
        _: abi::ReplyFn,
        _: *mut c_void,
    ) {
    }
    abi::Host {
        struct_size: struct_size::<abi::Host>(),
        abi_major: abi::ABI_MAJOR,
        abi_minor: abi::ABI_MINOR,
        flags: 0,
        ctx: ptr::null_mut(),
        max_log_level: ptr::null(),
        log: Some(log),
        metric: Some(metric),
        kv_get: Some(key),
        kv_put: Some(put),
        kv_delete: Some(key),
        receipt_get: Some(get),
        receipt_put: Some(keep),
        secret: Some(key),
        emit: Some(emit),
        get_extension: None,
    }
}

#[test]
fn a_table_that_ends_before_that_of_the_first_minor_is_refused_wherever_it_ends() {
    // The size itself is always there.
    for written in (8..abi::Host::LEAST).step_by(8) {
        let edge = Edge::of(whole(), written);
        let (code, message) = refusal(edge.table);
        assert_eq!(code, Code::Unsupported, "{written}");
        assert!(
            message
                .starts_with("the table of the router's functions is missing, or shorter than that of ABI "),
            "{message}"
        );
    }
    assert_eq!(refusal(ptr::null()).0, Code::Unsupported);
}

#[test]
fn a_table_that_ends_later_is_taken_wherever_it_ends() {
    for written in (abi::Host::LEAST..=size_of::<abi::Host>()).step_by(8) {
        let edge = Edge::of(whole(), written);
        // SAFETY: the table is as long as it says, and lives as long as the test.
        let accepted = unsafe { super::Host::accept(edge.table) };
        assert!(accepted.is_ok(), "{written}: {accepted:?}");
    }
}

#[test]
fn a_router_of_another_abi_is_told_both_versions() {
    for abi_major in [abi::ABI_MAJOR - 1, abi::ABI_MAJOR + 1] {
        let host = abi::Host { abi_major, ..whole() };
        let edge = Edge::of(host, size_of::<abi::Host>());
        let (code, message) = refusal(edge.table);
        assert_eq!(code, Code::Unsupported);
        for (major, minor) in [(abi::ABI_MAJOR, abi::ABI_MINOR), (host.abi_major, host.abi_minor)] {
            assert!(message.contains(&format!("{major}.{minor}")), "{message}");
        }
        assert!(super::entry::<Idle>(host.abi_major, host.abi_minor).is_null());
    }
}

#[test]
fn a_router_of_another_minor_is_taken() {
    let host = abi::Host {
        abi_minor: abi::ABI_MINOR + 1,
        ..whole()
    };
    // SAFETY: a whole table, which lives as long as the test.
    assert!(unsafe { super::Host::accept(&raw const host) }.is_ok());
    assert!(!super::entry::<Idle>(host.abi_major, host.abi_minor).is_null());
}

#[test]
fn a_function_that_is_missing_is_named() {
    const FUNCTIONS: [(&str, usize); 9] = [
        ("log", offset_of!(abi::Host, log)),
        ("metric", offset_of!(abi::Host, metric)),
        ("kv_get", offset_of!(abi::Host, kv_get)),
        ("kv_put", offset_of!(abi::Host, kv_put)),
        ("kv_delete", offset_of!(abi::Host, kv_delete)),
        ("receipt_get", offset_of!(abi::Host, receipt_get)),
        ("receipt_put", offset_of!(abi::Host, receipt_put)),
        ("secret", offset_of!(abi::Host, secret)),
        ("emit", offset_of!(abi::Host, emit)),
    ];
    for (name, offset) in FUNCTIONS {
        let edge = Edge::of(whole(), size_of::<abi::Host>());
        // SAFETY: within the table.
        let function = unsafe { edge.table.byte_add(offset) }.cast::<*const c_void>();
        // SAFETY: one of the table's pointers, which nobody else looks at.
        unsafe { function.write(ptr::null()) };
        let (code, message) = refusal(edge.table);
        assert_eq!(code, Code::Unsupported);
        assert!(
            message.starts_with(&format!("the router has no `{name}`, which ABI ")),
            "{message}"
        );
    }
}

#[test]
fn a_table_that_is_longer_than_ours_is_taken() {
    let host = abi::Host {
        struct_size: struct_size::<abi::Host>() + 64,
        ..whole()
    };
    // SAFETY: what this SDK knows of is there, and it reads no more.
    assert!(unsafe { super::Host::accept(&raw const host) }.is_ok());
}

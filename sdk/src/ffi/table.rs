//! The plugin's functions, as the host calls them.
//!
//! Each catches panics, and turns pointers into what [`Instance`] takes. A `jf_instance` is a boxed [`Instance`], a `jf_op` a
//! shared [`Signal`], which cancels the call.

use std::{ffi::c_void, marker::PhantomData, mem, ptr, sync::Arc, time::Duration};

use jackfield_abi as abi;

use super::{
    CODES, bytes,
    call::{OpenCall, instant},
    host::Host,
    number, read, slice, struct_size, text, understands,
};
use crate::{
    Manifest, Plugin,
    call::Code,
    instance::{Instance, Refusal},
    panic::{contain, drop_quietly},
    signal::Signal,
};

/// The table of a plugin, for [`export_plugin!`](crate::export_plugin).
#[repr(transparent)]
#[derive(Debug)]
pub struct Table(abi::Plugin);

// SAFETY: the pointers in it are to static texts and functions.
unsafe impl Sync for Table {}

impl Table {
    /// The table in the form of the ABI.
    pub(super) const fn raw(&'static self) -> &'static abi::Plugin {
        &self.0
    }
}

/// What `jf_plugin_entry` answers.
pub fn entry<P: Plugin>(host_major: u32, _host_minor: u32) -> *const Table {
    if understands(host_major) {
        ptr::from_ref(table::<P>())
    } else {
        ptr::null()
    }
}

/// The table of `P`.
pub(super) const fn table<P: Plugin>() -> &'static Table {
    Exported::<P>::TABLE
}

struct Exported<P>(PhantomData<P>);

impl<P: Plugin> Exported<P> {
    const TABLE: &'static Table = &Table(abi::Plugin {
        struct_size: struct_size::<abi::Plugin>(),
        abi_major: abi::ABI_MAJOR,
        abi_minor: abi::ABI_MINOR,
        // A call goes to the instance's own runtime, whatever the plugin's author writes; or begins here, where he says that this
        // takes no time.
        flags: abi::PLUGIN_PROMPT,
        name: slice(P::NAME.as_bytes()),
        version: slice(P::VERSION.as_bytes()),
        describe: Some(describe::<P>),
        create: Some(create::<P>),
        call: Some(call::<P>),
        op_cancel: Some(op_cancel),
        op_release: Some(op_release),
        shutdown: Some(shutdown::<P>),
        destroy: Some(destroy::<P>),
        get_extension: Some(get_extension::<P>),
    });

    const PROVIDER: &'static abi::Provider = &abi::Provider {
        struct_size: struct_size::<abi::Provider>(),
        flags: 0,
        receive: Some(receive::<P>),
    };
}

unsafe extern "C" fn describe<P: Plugin>() -> abi::Slice {
    slice(contain(Manifest::json_of::<P>).unwrap_or_default())
}

unsafe extern "C" fn create<P: Plugin>(
    host: *const abi::Host,
    start: *const abi::Start,
) -> *mut abi::Instance {
    // SAFETY: the host wrote it; it lives until this function returns.
    let Some(raw) = (unsafe { read(start) }) else {
        return ptr::null_mut();
    };
    // SAFETY: the host's arguments, handed on.
    let made = contain(|| unsafe { make::<P>(host, &raw) })
        .unwrap_or_else(|message| Err(Refusal::new(Code::Panic, message)));
    match made {
        Ok(instance) => Box::into_raw(Box::new(instance)).cast(),
        Err(refusal) => {
            if let Some(fail) = raw.fail {
                let message = slice(refusal.message.as_bytes());
                // SAFETY: the host's function with the host's argument, called once; the message lives until it returns.
                unsafe { fail(raw.fail_ctx, number(&CODES, refusal.code), message) };
            }
            ptr::null_mut()
        }
    }
}

/// # Safety
///
/// The arguments are those of `create`.
unsafe fn make<P: Plugin>(host: *const abi::Host, start: &abi::Start) -> Result<Instance<P>, Refusal> {
    // SAFETY: `Instance` closes the host when it is not made, and else when it is dropped, in `destroy`.
    let host = unsafe { Host::accept(host) }.map_err(|what| Refusal::new(Code::Unsupported, what))?;
    // SAFETY: the slices live until `create` returns.
    let name = unsafe { text(start.name) };
    // SAFETY: as above.
    let config = unsafe { bytes(start.config) };
    Instance::start(host, &name, config, instant(start.deadline_mono_ns))
}

unsafe extern "C" fn call<P: Plugin>(instance: *mut abi::Instance, call: *const abi::Call) -> *mut abi::Op {
    // SAFETY: the host's call, taken on once.
    let accept = || unsafe { OpenCall::accept(call) };
    // SAFETY: the host's instance.
    unsafe { take_on::<P>(instance, accept) }
}

unsafe extern "C" fn receive<P: Plugin>(
    instance: *mut abi::Instance,
    request: *const abi::Request,
) -> *mut abi::Op {
    // SAFETY: the host's request, taken on once.
    let accept = || unsafe { OpenCall::accept_request(request) };
    // SAFETY: the host's instance.
    unsafe { take_on::<P>(instance, accept) }
}

/// # Safety
///
/// The instance is the one of `call` or `receive`.
unsafe fn take_on<P: Plugin>(
    instance: *mut abi::Instance,
    accept: impl FnOnce() -> Option<OpenCall>,
) -> *mut abi::Op {
    // SAFETY: what `create` has made, and `destroy` has not freed.
    let instance = unsafe { instance.cast::<Instance<P>>().as_ref() };
    let accept = || {
        // The deadline is a moment of the instance's own time.
        let _time = instance.and_then(Instance::enter_its_time);
        accept()
    };
    let Ok(Some(open)) = contain(accept) else {
        return ptr::null_mut();
    };
    let Some(instance) = instance else {
        // Dropping `open` ends the call.
        return ptr::null_mut();
    };
    // From here on the call ends with the value of `open`, wherever a panic takes it.
    contain(|| Arc::into_raw(instance.call(open)).cast_mut().cast()).unwrap_or(ptr::null_mut())
}

unsafe extern "C" fn op_cancel(op: *mut abi::Op) {
    // SAFETY: what `call` returned, not yet released.
    if let Some(cancel) = unsafe { op.cast::<Signal>().as_ref() } {
        let _ = contain(|| cancel.raise());
    }
}

unsafe extern "C" fn op_release(op: *mut abi::Op) {
    if !op.is_null() {
        // SAFETY: what `call` made by `Arc::into_raw`, released once.
        drop(unsafe { Arc::from_raw(op.cast::<Signal>().cast_const()) });
    }
}

unsafe extern "C" fn shutdown<P: Plugin>(instance: *mut abi::Instance, grace_ms: u32) -> u32 {
    // SAFETY: what `create` has made, and `destroy` has not freed.
    let Some(instance) = (unsafe { instance.cast::<Instance<P>>().as_ref() }) else {
        return 0;
    };
    let ended = contain(|| instance.shutdown(Duration::from_millis(grace_ms.into())));
    u32::from(!ended.unwrap_or(false))
}

unsafe extern "C" fn destroy<P: Plugin>(instance: *mut abi::Instance) {
    if !instance.is_null() {
        // SAFETY: what `create` made by `Box::into_raw`, destroyed once, after `shutdown`.
        let instance = unsafe { Box::from_raw(instance.cast::<Instance<P>>()) };
        // Closed first, and not by a destructor of the author's that may panic before.
        instance.close();
        drop_quietly(instance);
    }
}

unsafe extern "C" fn get_extension<P: Plugin>(id: abi::Slice) -> *const c_void {
    // SAFETY: the host's slice, valid until this returns.
    let id = unsafe { bytes(id) };
    match id == abi::PROVIDER_1.as_bytes() && P::CAPABILITIES.contains(&"provider") {
        true => ptr::from_ref(Exported::<P>::PROVIDER).cast(),
        false => ptr::null(),
    }
}

const _: () = assert!(
    mem::size_of::<Table>() == mem::size_of::<abi::Plugin>(),
    "the table is the ABI's own struct"
);

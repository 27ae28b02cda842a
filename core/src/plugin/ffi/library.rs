//! A library in this process: opened, and its table of functions read.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use jackfield_abi as abi;

use super::{
    memory::{self, StructError},
    signals::Snapshot,
};
use crate::plugin::{
    digest::Digest,
    elf::Hazard,
    note::{Abi, Identity},
    reason_of,
    stage::{Harmless, NeedsIsolation, Reopened, Staged},
};

/// A plugin's code. It stays until the process ends.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    /// Whether a call is handed over at once, as the plugin says.
    pub(super) prompt: bool,
    describe: unsafe extern "C" fn() -> abi::Slice,
    pub(super) create: unsafe extern "C" fn(*const abi::Host, *const abi::Start) -> *mut abi::Instance,
    pub(super) call: unsafe extern "C" fn(*mut abi::Instance, *const abi::Call) -> *mut abi::Op,
    pub(super) op_cancel: unsafe extern "C" fn(*mut abi::Op),
    pub(super) op_release: unsafe extern "C" fn(*mut abi::Op),
    pub(super) shutdown: unsafe extern "C" fn(*mut abi::Instance, u32) -> u32,
    pub(super) destroy: unsafe extern "C" fn(*mut abi::Instance),
    /// Takes on a request, where the plugin brings a provider.
    pub(super) receive: Option<Receive>,
}

/// `jf_provider.receive`.
pub(super) type Receive = unsafe extern "C" fn(*mut abi::Instance, *const abi::Request) -> *mut abi::Op;

impl Library {
    /// Loads a library into the router. Blocks, and runs code of the library: its constructors and its entry function.
    ///
    /// # Errors
    /// When the system cannot load it, or it is not the plugin that its note says.
    pub fn open(library: Harmless<'_>) -> Result<Self, OpenError> {
        Self::open_any(library.staged())
    }

    /// The same in a child of the router, for any library.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_apart(library: &Reopened) -> Result<Self, OpenError> {
        Self::open_any(library.staged())
    }

    /// Like [`open_apart`](Self::open_apart), and says whose handlers were put back: of which signals the library had
    /// replaced them.
    pub(in crate::plugin) fn open_and_restore(library: &Reopened) -> (Result<Self, OpenError>, Vec<i32>) {
        Self::load_and_enter(library.staged())
    }

    fn open_any(staged: &Staged) -> Result<Self, OpenError> {
        let (library, replaced) = Self::load_and_enter(staged);
        for signal in replaced {
            let plugin = &staged.identity().name;
            tracing::warn!(
                plugin,
                signal,
                "plugin replaced a signal handler while it was loaded; put back"
            );
        }
        library
    }

    fn load_and_enter(staged: &Staged) -> (Result<Self, OpenError>, Vec<i32>) {
        // Held over the constructors, so that a change of the signals is known to be theirs. Nothing else is locked
        // under it.
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = staged.digest();
        if let Some(known) = opened.iter().find(|known| known.digest == digest) {
            return (Ok(known.library), Vec::new());
        }
        if opened.len() >= MOST {
            return (Err(OpenError::TooMany { path: origin(staged) }), Vec::new());
        }
        let before = Snapshot::take();
        let loaded = load(staged);
        // The Go runtime does not live without its handlers, and the process is there for it alone.
        let replaced = match staged.hazards().contains(&Hazard::Go) {
            true => Vec::new(),
            false => before.restore(),
        };
        (
            loaded.and_then(|loaded| Self::enter(staged, loaded, &mut opened)),
            replaced,
        )
    }

    /// Calls the entry function of a library that has been loaded, and keeps what it gives.
    fn enter(
        staged: &Staged,
        (handle, entry): (usize, abi::Entry),
        opened: &mut Vec<Opened>,
    ) -> Result<Self, OpenError> {
        let digest = staged.digest();
        if let Some(known) = opened.iter().find(|known| known.handle == handle) {
            return Err(OpenError::Deduplicated {
                path: origin(staged),
                known: known.digest,
            });
        }
        // SAFETY: the ABI says that the entry function is pure and takes two numbers.
        let table = unsafe { entry(abi::ABI_MAJOR, abi::ABI_MINOR) };
        if table.is_null() {
            return Err(OpenError::Refused { path: origin(staged) });
        }
        // SAFETY: the ABI says that the table is static, and begins with its size.
        let library = unsafe { Self::of(table, staged.identity()) }.map_err(|fault| OpenError::Table {
            path: origin(staged),
            fault,
        })?;
        opened.push(Opened {
            digest,
            handle,
            library,
        });
        Ok(library)
    }

    /// The manifest, as the plugin gives it.
    pub fn describe(&self) -> Vec<u8> {
        // SAFETY: `describe` may be called at any time after the entry function, on a thread that may block.
        let manifest = unsafe { (self.describe)() };
        // SAFETY: the ABI says that the manifest is static.
        unsafe { memory::bytes(manifest) }.to_vec()
    }

    /// Reads a plugin's table.
    ///
    /// # Safety
    /// As for [`memory::read`]; the table and its texts are static.
    pub(super) unsafe fn of(table: *const abi::Plugin, identity: &Identity) -> Result<Self, TableFault> {
        // SAFETY: as the caller says.
        let table = unsafe { memory::read(table) }.map_err(TableFault::Unreadable)?;
        let abi = Abi {
            major: table.abi_major,
            minor: table.abi_minor,
        };
        if !abi.is_ours() {
            return Err(TableFault::Abi(abi));
        }
        for (what, found, noted) in [
            ("name", table.name, &identity.name),
            ("version", table.version, &identity.version),
        ] {
            // SAFETY: the caller says that the texts are static.
            let found = unsafe { memory::text(found) };
            if found != *noted {
                return Err(TableFault::Stranger {
                    what,
                    found,
                    noted: noted.clone(),
                });
            }
        }
        // SAFETY: the caller says that the table is static, and so is what it leads to.
        let receive = unsafe { receive_of(&table) }?;
        Ok(Self {
            receive,
            prompt: table.flags & abi::PLUGIN_PROMPT != 0,
            describe: table.describe.ok_or(TableFault::Missing("describe"))?,
            create: table.create.ok_or(TableFault::Missing("create"))?,
            call: table.call.ok_or(TableFault::Missing("call"))?,
            op_cancel: table.op_cancel.ok_or(TableFault::Missing("op_cancel"))?,
            op_release: table.op_release.ok_or(TableFault::Missing("op_release"))?,
            shutdown: table.shutdown.ok_or(TableFault::Missing("shutdown"))?,
            destroy: table.destroy.ok_or(TableFault::Missing("destroy"))?,
        })
    }
}

/// The function of a plugin that brings a provider; none where it does not.
///
/// # Safety
/// The table is a plugin's own, and static.
unsafe fn receive_of(table: &abi::Plugin) -> Result<Option<Receive>, TableFault> {
    let Some(get_extension) = table.get_extension else {
        return Ok(None);
    };
    // SAFETY: the ABI says that it may be called at any time, with a slice that is valid until it returns.
    let found = unsafe { get_extension(memory::lend(abi::PROVIDER_1.as_bytes())) };
    if found.is_null() {
        return Ok(None);
    }
    // SAFETY: the ABI says that under this name there is a static `jf_provider`, which begins with its size.
    let provider = unsafe { memory::read(found.cast::<abi::Provider>()) }.map_err(TableFault::Unreadable)?;
    provider.receive.map(Some).ok_or(TableFault::Missing("receive"))
}

/// Why a library that passed every check before it could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The router must not.
    #[error(transparent)]
    NeedsIsolation(#[from] NeedsIsolation),
    /// The system's loader says no: a symbol or a library is missing, for example.
    #[error("`{}` cannot be loaded{}", path.display(), hint(source))]
    System {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        source: libloading::Error,
    },
    /// The loader gave a library that was loaded before.
    #[error("`{}` was not loaded: the system took it for the library with digest {known}; restart the router", path.display())]
    Deduplicated {
        /// The file.
        path: PathBuf,
        /// The digest of the other.
        known: Digest,
    },
    /// There are too many already, and none ever goes.
    #[error(
        "`{}` is not loaded into the router: {MOST} libraries are, of which each stays until the router ends; restart it, \
         or give the instance `isolation = \"process\"`",
        path.display()
    )]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// The plugin does not want to be used by this router.
    #[error("`{}` refuses this Jackfield (ABI {})", path.display(), Abi::OURS)]
    Refused {
        /// The file.
        path: PathBuf,
    },
    /// Its table is not one.
    #[error("`{}` is not built to the ABI: {fault}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: TableFault,
    },
}

/// What helps, where the loader's own words mislead.
fn hint(error: &libloading::Error) -> &'static str {
    // The loader's words are those of the cause.
    let words = reason_of(error);
    if words.contains("failed to map segment") {
        " (it is copied to the data directory first; is that on a file system that is mounted noexec?)"
    } else if words.contains("static TLS block") {
        " (it needs more static thread-local storage than a process can be given: leave out the global allocator or \
         library that brings it, or build that one for dynamic loading)"
    } else {
        ""
    }
}

/// What is wrong with a plugin's table of functions.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableFault {
    /// It cannot be read.
    #[error("the table of its functions cannot be read: {0}")]
    Unreadable(StructError),
    /// It is of another ABI than the note says.
    #[error("its note says ABI {}, its code {_0}", Abi::OURS)]
    Abi(Abi),
    /// It is another plugin's.
    #[error("its note says {what} `{noted}`, its code `{found}`")]
    Stranger {
        /// Name or version.
        what: &'static str,
        /// What the code says.
        found: String,
        /// What the note says.
        noted: String,
    },
    /// A function is missing.
    #[error("it has no function `{0}`")]
    Missing(&'static str),
}

/// A library in this process.
struct Opened {
    digest: Digest,
    /// What the system's loader knows it by.
    handle: usize,
    library: Library,
}

static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

/// How many libraries a process may have loaded: a plugin that is replaced leaves one behind, of a few dozen kilobytes
/// that nothing frees.
const MOST: usize = 64;

/// Loads the file and finds its entry function, without calling it.
fn load(staged: &Staged) -> Result<(usize, abi::Entry), OpenError> {
    use libloading::os::unix;

    let failed = |source| OpenError::System {
        path: origin(staged),
        source,
    };
    let flags = libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE;
    // SAFETY: constructors of the library run, which is what loading means. The library was inspected and lies at a
    // path that is never written to again.
    let library = unsafe { unix::Library::open(Some(staged.path()), flags) }.map_err(failed)?;
    // SAFETY: the ABI gives the symbol this type; the inspection found it exported.
    let entry = unsafe { library.get::<abi::Entry>(abi::ENTRY_SYMBOL.as_bytes()) };
    let entry = entry.map(|symbol| *symbol);
    // Into its handle, and so never closed, whatever follows: the library stays.
    let handle = library.into_raw().addr();
    Ok((handle, entry.map_err(failed)?))
}

fn origin(staged: &Staged) -> PathBuf {
    staged.origin().to_owned()
}

//! The configuration: one TOML file in, only valid values out.
//!
//! [`Config::load`] reads a file, resolves every secret that it refers to, and reports all mistakes together, each
//! with its place. What comes out can be used without another check: addresses parse, names are unique, every
//! source has a provider that can verify. Secrets are never written in the file itself, and never shown. Routes
//! are not read here; only the path to them.
//!
//! Of a file with mistakes, [`Config::salvage`] gives what is sound, so that what lies beside it can be checked all
//! the same; nothing runs on that.

mod grace;
mod grant;
mod instance;
mod limit;
mod reference;
mod retention;
mod schema;
mod source;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    dispatcher::{self, DEFAULT_PATIENCE},
    document::{Document, Item, Table},
    fault::{Fault, Faults},
    ingress::{self, Limits, Tls, TlsError},
    journal::Retention,
    plugin::{DEFAULT_DRAIN, InstanceOptions, trust},
    telemetry::{self, Format},
};

pub use grace::Grace;
pub use reference::Environment;
pub use schema::schema;
pub use source::Source;

/// A whole and valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the journal, work directories and the control socket lie.
    pub data_dir: PathBuf,
    /// A rule file, or a directory of them.
    pub routes: PathBuf,
    /// Where events come in, and what is allowed.
    pub listen: ingress::Options,
    /// Where people and monitors look.
    pub admin: SocketAddr,
    /// Where plugins are, and how they come and go.
    pub plugins: Plugins,
    /// How long the journal keeps what.
    pub retention: Retention,
    /// How long stopping may take, in all and in parts.
    pub grace: Grace,
    /// What is logged, and how.
    pub log: telemetry::Options,
    /// The endpoints, in the order of the file; at least one.
    pub sources: Vec<Source>,
    /// The plugin instances, in the order of the file.
    pub instances: Vec<InstanceOptions>,
    /// What bounds their calls, by name.
    pub limits: BTreeMap<String, dispatcher::Limits>,
}

/// Where plugins are, and how they come and go.
#[derive(Clone, Debug)]
pub struct Plugins {
    /// Where they are dropped; absent where nobody named a directory and the usual one is missing.
    pub dir: Option<PathBuf>,
    /// Whose code is run.
    pub trust: trust::Options,
    /// How long calls may go on in an instance that is replaced or removed.
    pub drain: Duration,
    /// How long a delivery waits for an instance that is not there before it is given up.
    pub patience: Duration,
}

impl Config {
    /// Reads the file at `path`; what it says of other paths is relative to its directory.
    ///
    /// # Errors
    ///
    /// Every mistake in it, and every secret that it refers to and that is not there.
    pub fn load(path: &Path, environment: &Environment<'_>) -> Result<Self, Faults> {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        Self::parse(&path.display().to_string(), &text, &base(path), environment)
    }

    /// Reads `text`, which came from `file`; relative paths begin at `base`.
    ///
    /// # Errors
    ///
    /// As for [`Config::load`].
    pub fn parse(file: &str, text: &str, base: &Path, environment: &Environment<'_>) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let config = read(file, text, &Reader { base, environment }, &mut faults);
        faults.give(config)
    }

    /// What is sound of the faulty file at `path`, to hold rules and plugins against and not to run: sources with mistakes are
    /// missing, and what else is wrong is as if nothing had been said of it.
    ///
    /// `None` where an instance may be missing as well: whoever names it would be told that there is none.
    pub fn salvage(path: &Path, environment: &Environment<'_>) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let reader = Reader {
            base: &base(path),
            environment,
        };
        read(&path.display().to_string(), &text, &reader, &mut Faults::new())
    }
}

fn read(file: &str, text: &str, reader: &Reader<'_>, faults: &mut Faults) -> Option<Config> {
    // A line that is not TOML may be a secret without its quotes.
    let document = faults.concealing(|faults| Document::parse(file, text, faults));
    reader.config(document.root(), faults)
}

/// Where the file at `path` says that data lies, read without regard to the rest of it.
///
/// Whoever only looks into the journal, or asks the running router, needs no secrets in their environment.
///
/// # Errors
///
/// Where the file cannot be read, or says nothing that could be a directory.
pub fn data_dir(path: &Path) -> Result<PathBuf, Faults> {
    one_path(path, "data_dir", Some(DATA_DIR))
}

/// Where the file at `path` says that rules lie, read without regard to the rest of it.
///
/// # Errors
///
/// Where the file cannot be read, or says nothing that could be a path.
pub fn routes(path: &Path) -> Result<PathBuf, Faults> {
    one_path(path, "routes", None)
}

fn one_path(path: &Path, key: &'static str, default: Option<&str>) -> Result<PathBuf, Faults> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let (mut syntax, mut faults) = (Faults::new(), Faults::new());
    let file = path.display().to_string();
    let document = syntax.concealing(|syntax| Document::parse(&file, &text, syntax));
    let mut root = document.root();
    let item = match default {
        Some(_) => root.take(key),
        None => root.required(key, &mut faults),
    };
    let found = item.and_then(|item| location(&item, &mut faults));
    // A syntax error elsewhere is for `check` to tell; only where the key may have been lost to one is it told here.
    if found.is_none() {
        faults.extend(syntax);
    }
    faults.give(found.as_deref().or(default).map(|found| base(path).join(found)))
}

/// The directory of the file at `path`, from the root: what is found from it stays the same for a child process.
fn base(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// What the readers of all sections need.
struct Reader<'r> {
    base: &'r Path,
    environment: &'r Environment<'r>,
}

impl Reader<'_> {
    /// Faulty or not: `None` where the rules or an instance may be missing.
    fn config(&self, mut root: Table<'_>, faults: &mut Faults) -> Option<Config> {
        let data_dir = self.path(&mut root, "data_dir", faults);
        let routes = root
            .required("routes", faults)
            .and_then(|item| location(&item, faults));
        let grace = section(&mut root, "shutdown", faults, grace).flatten();
        let grace = Grace::new(grace.unwrap_or(GRACE));
        let (listen, body_size) = self.listen(&mut root, grace, faults);
        let admin = section(&mut root, "admin", faults, admin).flatten();
        let retention = section(&mut root, "retention", faults, retention::read);
        let log = section(&mut root, "log", faults, log);
        let lengths = source::Lengths {
            usual: body_size,
            memory: listen.limits.bodies_bytes,
        };
        let sources = self.sources(&mut root, lengths, faults);
        let (before, broken) = (faults.len(), root.is_broken());
        let plugins = self.plugins(&mut root, faults);
        let (instances, limits) = self.instances(&mut root, faults);
        // A key that nobody knows may be `[[instance]]` with a slip.
        root.finish(faults);
        let whole = !broken && faults.len() == before;
        whole.then_some(Config {
            data_dir: data_dir.unwrap_or_else(|| self.base.join(DATA_DIR)),
            routes: self.base.join(routes?),
            listen,
            admin: admin.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9090))),
            plugins,
            retention: retention.unwrap_or_default(),
            grace,
            log: log.unwrap_or_default(),
            sources,
            instances,
            limits,
        })
    }
}

impl Reader<'_> {
    /// The path of `key`, where there is one.
    fn path(&self, table: &mut Table<'_>, key: &'static str, faults: &mut Faults) -> Option<PathBuf> {
        let path = table.take(key).and_then(|item| location(&item, faults));
        path.map(|path| self.base.join(path))
    }

    fn plugins(&self, root: &mut Table<'_>, faults: &mut Faults) -> Plugins {
        let mut plugins = Plugins {
            dir: None,
            trust: trust::Options::default(),
            drain: DEFAULT_DRAIN,
            patience: DEFAULT_PATIENCE,
        };
        section(root, "plugins", faults, |table, faults| {
            plugins.dir = self.path(table, "dir", faults);
            plugins.trust = self.trust(table, faults);
            plugins.drain = table.duration("drain", faults).unwrap_or(plugins.drain);
            plugins.patience = period(table, "patience", faults).unwrap_or(plugins.patience);
        });
        let usual = || Some(self.base.join("plugins")).filter(|usual| usual.is_dir());
        plugins.dir = plugins.dir.or_else(usual);
        plugins
    }

    fn trust(&self, table: &mut Table<'_>, faults: &mut Faults) -> trust::Options {
        let lock = self.path(table, "lock", faults);
        let keys = table
            .take("keys")
            .and_then(|item| item.array(faults))
            .unwrap_or_default();
        let keys: Vec<_> = keys.iter().filter_map(|item| key(item, faults)).collect();
        let required = table.take("require_signed");
        let require_signed = required
            .as_ref()
            .and_then(|item| item.bool(faults))
            .unwrap_or(false);
        if let Some(item) = required.filter(|_| require_signed && keys.is_empty()) {
            let fault = item.fault("found no `keys` beside it, so that no signature could count".to_owned());
            faults.push(fault.help("add `keys = [\"RW…\"]`: the second line of minisign's public key file"));
        }
        trust::Options {
            lock,
            keys,
            require_signed,
        }
    }
}

impl Reader<'_> {
    /// Reads `[listen]`, and with it how long a body may be where a source does not say.
    fn listen(&self, root: &mut Table<'_>, grace: Grace, faults: &mut Faults) -> (ingress::Options, usize) {
        let mut options = ingress::Options {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            acceptors: acceptors(),
            limits: Limits::default(),
            grace: grace.requests(),
        };
        let mut body_size = BODY_SIZE;
        section(root, "listen", faults, |table, faults| {
            if let Some(address) = table.take("address").and_then(|item| address(&item, faults)) {
                options.address = address;
            }
            if let Some(count) = count(table, "acceptors", MOST_ACCEPTORS, faults) {
                options.acceptors = count;
            }
            options.tls = section(table, "tls", faults, |table, faults| self.tls(table, faults)).flatten();
            let limits = &mut options.limits;
            if let Some(count) = count(table, "connections", 1_000_000, faults) {
                limits.connections = count;
            }
            if let Some(count) = count(table, "streams", 10_000, faults) {
                limits.streams = u32::try_from(count.get())
                    .ok()
                    .and_then(NonZeroU32::new)
                    .unwrap_or(limits.streams);
            }
            if let Some(count) = table.integer("headers", 1..=10_000usize, faults) {
                limits.headers = count;
            }
            if let Some(bytes) = size(table, "header_size", 8 << 10, 1 << 20, faults) {
                limits.header_bytes = bytes;
            }
            if let Some(bytes) = size(table, "body_memory", 1 << 20, usize::MAX >> 1, faults) {
                limits.bodies_bytes = bytes;
            }
            if let Some(time) = period(table, "header_timeout", faults) {
                limits.header_timeout = time;
            }
            if let Some(time) = period(table, "body_timeout", faults) {
                limits.body_timeout = time;
            }
            if let Some(time) = period(table, "commit_timeout", faults) {
                limits.commit_timeout = time;
            }
            if let Some(bytes) = size(table, "body_size", 1, LONGEST_BODY, faults) {
                body_size = bytes;
            }
            if body_size > limits.bodies_bytes {
                faults.push(table.fault(too_long(body_size, limits.bodies_bytes)));
            }
        });
        (options, body_size)
    }

    /// Reads `[listen.tls]` and the files that it names, so that a certificate that cannot be used is found like any mistake.
    fn tls(&self, table: &mut Table<'_>, faults: &mut Faults) -> Option<Tls> {
        let certificate = table.required("certificate", faults);
        let key = table.required("key", faults);
        let (certificate, key) = (certificate?, key?);
        let path =
            |item: &Item<'_>, faults: &mut Faults| location(item, faults).map(|path| self.base.join(path));
        let files = (path(&certificate, faults), path(&key, faults));
        let tls = Tls::load(&files.0?, files.1.as_deref()?);
        tls.map_err(|error| {
            let of_key = matches!(&error, TlsError::Read { path, .. } | TlsError::Missing { path, .. }
                if Some(path) == files.1.as_ref());
            let item = if of_key { &key } else { &certificate };
            faults.push(item.fault(error));
        })
        .ok()
    }
}

/// A path to a file or a directory: an empty one would be the directory of the configuration itself.
fn location(item: &Item<'_>, faults: &mut Faults) -> Option<String> {
    let text = item.string(faults)?;
    if text.is_empty() {
        faults.push(item.fault("found \"\", expected a path"));
        return None;
    }
    Some(text)
}

/// What is wrong with bodies of which not one fits into the memory that is set aside for all.
fn too_long(body_size: usize, body_memory: usize) -> String {
    format!(
        "a body may have {body_size} bytes (`body_size`), and all of them together {body_memory} (`body_memory` of \
         `[listen]`): the longest would be refused for ever"
    )
}

/// Reads the table of `key` with `read`, where there is one, and reports what it did not ask for.
fn section<T>(
    root: &mut Table<'_>,
    key: &'static str,
    faults: &mut Faults,
    read: impl FnOnce(&mut Table<'_>, &mut Faults) -> T,
) -> Option<T> {
    let mut table = root.table(key, faults)?;
    let value = read(&mut table, faults);
    table.finish(faults);
    Some(value)
}

/// How long stopping may take in all.
fn grace(table: &mut Table<'_>, faults: &mut Faults) -> Option<Duration> {
    let item = table.take("grace")?;
    let time = item.duration(faults)?;
    if time < LEAST_GRACE {
        faults.push(item.fault(format!(
            "found {time:?}, expected at least {LEAST_GRACE:?}: a journal takes a moment to close"
        )));
        return None;
    }
    Some(time)
}

fn admin(table: &mut Table<'_>, faults: &mut Faults) -> Option<SocketAddr> {
    let item = table.take("address")?;
    let address = address(&item, faults)?;
    if !address.ip().is_loopback() {
        // It shows events and has no passwords yet.
        let fault = item.fault(format!(
            "found {address}, expected a loopback address such as 127.0.0.1:9090"
        ));
        faults.push(fault.help("reach it from elsewhere through a proxy that asks who is there"));
        return None;
    }
    Some(address)
}

fn log(table: &mut Table<'_>, faults: &mut Faults) -> telemetry::Options {
    let formats = [
        ("auto", Format::Auto),
        ("text", Format::Text),
        ("json", Format::Json),
    ];
    let format = table.one_of("format", &formats, faults).unwrap_or_default();
    let level = table.take("level").and_then(|item| {
        let text = item.string(faults)?;
        if let Err(error) = telemetry::check_filter(&text) {
            let fault = item.fault(format!("found \"{text}\", which is no filter: {error}"));
            faults.push(fault.help("write a level (error, warn, info, debug, trace) or `target=level,…`"));
        }
        Some(text)
    });
    telemetry::Options { format, level }
}

/// A public key of minisign's.
fn key(item: &Item<'_>, faults: &mut Faults) -> Option<trust::Key> {
    let text = item.string(faults)?;
    let key = trust::Key::parse(&text);
    if key.is_none() {
        let message = format!(
            "found \"{text}\", expected a public key as minisign writes it: the second line of `minisign.pub`"
        );
        faults.push(item.fault(message));
    }
    key
}

fn address(item: &Item<'_>, faults: &mut Faults) -> Option<SocketAddr> {
    let text = item.string(faults)?;
    let address = text.parse().ok();
    if address.is_none() {
        let message = format!("found \"{text}\", expected an address and a port such as \"0.0.0.0:8080\"");
        faults.push(item.fault(message));
    }
    address
}

/// One for each core.
fn acceptors() -> NonZeroUsize {
    let most = NonZeroUsize::new(MOST_ACCEPTORS).expect("250 is not zero");
    std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(most))
}

fn count(table: &mut Table<'_>, key: &'static str, most: usize, faults: &mut Faults) -> Option<NonZeroUsize> {
    NonZeroUsize::new(table.integer(key, 1..=most, faults)?)
}

/// A size within bounds; the fault names the nearer one.
fn size(
    table: &mut Table<'_>,
    key: &'static str,
    least: usize,
    most: usize,
    faults: &mut Faults,
) -> Option<usize> {
    let item = table.take(key)?;
    let bytes = item.size(faults)?;
    let size = usize::try_from(bytes).unwrap_or(usize::MAX);
    if size < least || size > most {
        let bound = if size < least {
            ("least", least)
        } else {
            ("most", most)
        };
        faults.push(item.fault(format!(
            "found {bytes} bytes, expected at {} {} bytes",
            bound.0, bound.1
        )));
        return None;
    }
    Some(size)
}

/// A time that is not nothing.
fn period(table: &mut Table<'_>, key: &'static str, faults: &mut Faults) -> Option<Duration> {
    let item = table.take(key)?;
    let time = item.duration(faults)?;
    if time.is_zero() {
        faults.push(item.fault("found no time at all, expected some, as in \"30s\""));
        return None;
    }
    Some(time)
}

/// The name of a source or an instance: it stands in addresses, logs and metrics, and is unique in `taken`.
fn name(table: &mut Table<'_>, taken: &mut Vec<String>, faults: &mut Faults) -> Option<String> {
    let item = table.required("name", faults)?;
    let name = item.string(faults)?;
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(letters) {
        faults.push(item.fault(format!(
            "found \"{name}\", expected at most {LONGEST_NAME} of a-z, 0-9, `-` and `_`"
        )));
        return None;
    }
    if taken.contains(&name) {
        faults.push(item.fault(format!("found \"{name}\" again; a name is used once")));
        return None;
    }
    taken.push(name.clone());
    Some(name)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    let fault = Fault::new(format!(
        "{}: the configuration cannot be read: {error}",
        path.display()
    ));
    if error.kind() == std::io::ErrorKind::NotFound {
        return fault.help("name another file with `--config`; `config/jackfield.toml` is a sample");
    }
    fault
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// As many as a successor can be handed the sockets of in one message, which the kernel bounds by 253 (`SCM_MAX_FD`).
pub(crate) const MOST_ACCEPTORS: usize = 250;
const DATA_DIR: &str = "data";
/// Within the 30 s that container platforms grant by default.
const GRACE: Duration = Duration::from_secs(25);
const LEAST_GRACE: Duration = Duration::from_secs(1);
/// What the largest documented payloads stay well below.
const BODY_SIZE: usize = 5 << 20;
/// A body is held in memory whole.
const LONGEST_BODY: usize = 1 << 30;
const LONGEST_NAME: usize = 64;

#[cfg(test)]
mod tests;

//! Drives one instance of a library for a test, so that the tests of a plugin's author run against what a router would load.
//!
//! `jackfield plugin test` runs the tests with the library's path in their environment; where that is, the SDK's harness starts
//! this (`jackfield plugin-drive`) for each instance. What comes in by standard input are calls and answers, what goes out by
//! standard output are their ends, and what the plugin asks for, logs and counts ([`words`]). The library goes through the steps
//! that it goes through in a router, and its instance lives where it would live there: in a worker process, confined, or in this
//! one. What always holds: the test's host alone answers the plugin ([`relay`]), and nothing of an instance outlives its test.
//!
//! It differs from a router in what the author may: nothing has to be trusted, and whatever the plugin needs is granted, with
//! all hosts, this machine among them.

mod driven;
mod prepared;
mod relay;
mod told;
mod words;

use std::{
    fs::File,
    io::{self, BufRead as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

pub use self::prepared::Prepared;
use self::{
    driven::Driven,
    prepared::Unmade,
    relay::Relay,
    told::Told,
    words::{Notice, Order, PROTOCOL, code_word},
};
use super::Isolation;

/// How instances are driven: what `jackfield plugin test` hands on to the processes that do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Where an instance lives.
    pub isolation: Isolation,
    /// What it is granted besides what it needs.
    pub grant: Extra,
    /// A directory for private copies of the library, which all of them share.
    pub scratch: PathBuf,
}

/// What an instance is granted besides what its plugin needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extra {
    /// To be read.
    pub read: Vec<PathBuf>,
    /// To be read and written.
    pub write: Vec<PathBuf>,
    /// To be run.
    pub programs: Vec<String>,
}

/// Where [`Options`] are found, in JSON.
pub const VARIABLE: &str = "JACKFIELD_DRIVE";

/// What a process does that drives a library for a test. Without [`Options`] in the environment nothing is done.
pub fn drive_main(library: &Path) -> ExitCode {
    let driven = take_over().and_then(|(orders, told)| {
        // As a worker's is: the plugin has a runtime of its own.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(drive(library, told, orders));
        // What the plugin still holds ends with the process.
        runtime.shutdown_background();
        Ok(())
    });
    match driven {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the library cannot be driven: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes standard input and output for the test alone; what a plugin prints goes to standard error.
fn take_over() -> io::Result<(UnboundedReceiver<Order>, Told)> {
    let orders = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?);
    let told = File::from(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    let (sender, receiver) = unbounded_channel();
    // A thread of its own, so that whoever writes orders never waits for what they bring about.
    thread::Builder::new().name("orders".to_owned()).spawn(move || {
        for line in io::BufReader::new(orders).lines().map_while(Result::ok) {
            let sent = match serde_json::from_str(&line) {
                Ok(order) => sender.send(order),
                Err(error) => return eprintln!("the test orders what makes no sense: {error}"),
            };
            if sent.is_err() {
                return;
            }
        }
    })?;
    Ok((receiver, Told::new(told)))
}

async fn drive(library: &Path, told: Told, mut orders: UnboundedReceiver<Order>) {
    told.take_logs();
    let prepared = match options() {
        Ok(options) => Prepared::new(library, options).await,
        Err(words) => Err(words),
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(message) => return told.tell(&Notice::Failed { message }),
    };
    told.tell(&Notice::Ready {
        protocol: PROTOCOL,
        manifest: prepared.raw(),
    });
    let Some(Order::Start { config }) = orders.recv().await else {
        return;
    };
    let relay = Arc::new(Relay::new(told.clone()));
    // The plugin may ask for something while it starts, so that orders are read meanwhile.
    let mut making = std::pin::pin!(prepared.make(config, Arc::clone(&relay)));
    let made = loop {
        tokio::select! {
            made = &mut making => break made,
            order = orders.recv() => match order {
                Some(Order::Answer { question, answer }) => relay.answered(question, answer),
                Some(_) => {}
                None => return,
            },
        }
    };
    let instance = match made {
        Ok(instance) => instance,
        Err(Unmade::Refused(code, message)) => {
            let code = code_word(code);
            return told.tell(&Notice::Refused { code, message });
        }
        Err(Unmade::Failed(message)) => return told.tell(&Notice::Failed { message }),
    };
    told.tell(&Notice::Started);
    Driven::new(instance, relay, told).obey(&mut orders).await;
}

fn options() -> Result<Options, String> {
    let text = std::env::var(VARIABLE).map_err(|_| {
        format!("{VARIABLE} is not set: tests are run by `jackfield plugin test x.so -- cargo test`")
    })?;
    serde_json::from_str(&text).map_err(|error| format!("{VARIABLE} makes no sense: {error}"))
}

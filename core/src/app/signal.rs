//! SIGTERM and Ctrl-C: the first drains, the second ends the process at once. SIGHUP has the rules read again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that stop the router, and the one that does not.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// Hears signals from now on, in place of being ended by them.
    pub(super) fn listen() -> io::Result<Self> {
        // A limit on the size of files is a full disk to us: a write fails and that is dealt with, where the signal's
        // default would end the process. Once heard it is never unheard.
        let _ = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: Some(signal(SignalKind::hangup())?),
        })
    }

    /// SIGHUP, for whoever reads the rules; those that came before this are not lost.
    pub(super) fn hangup(&mut self) -> Signal {
        self.hangup.take().expect("one driver reads the rules")
    }

    /// Waits until somebody asks for the end. Cancel-safe.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// From now on, Ctrl-C ends the process at once. A second SIGTERM does not: supervisors repeat themselves.
    pub(super) fn exit_on_the_next(self) {
        let mut interrupt = self.interrupt;
        #[expect(
            clippy::disallowed_methods,
            reason = "it waits for the end of the process itself"
        )]
        tokio::task::spawn(async move {
            if interrupt.recv().await.is_some() {
                eprintln!("interrupted again: what was being done is pending in the journal");
                std::process::exit(130);
            }
        });
    }
}

//! A place where something stops until it is let on.

use std::sync::Arc;

use tokio::sync::watch;

/// Open by default. While it is closed, whoever passes waits; who closed it can wait for somebody to arrive.
#[derive(Clone, Debug)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
    arrived: Arc<watch::Sender<u64>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            open: Arc::new(watch::Sender::new(true)),
            arrived: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Gate {
    /// From now on, whoever passes waits.
    pub fn close(&self) {
        self.arrived.send_replace(0);
        self.open.send_replace(false);
    }

    /// Lets on all who wait and all who come.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Waits until somebody has arrived since the gate was closed.
    pub async fn arrival(&self) {
        let mut arrived = self.arrived.subscribe();
        let _ = arrived.wait_for(|count| *count > 0).await;
    }

    /// Passes, or waits for that.
    pub async fn pass(&self) {
        self.arrived.send_modify(|count| *count += 1);
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
    }
}

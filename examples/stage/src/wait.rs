//! Waiting for what nobody tells of.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Looks again and again whether it is so, for a minute at most; and says whether it came to be.
#[must_use]
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let patience = Instant::now() + Duration::from_secs(60);
    loop {
        if is_so().await {
            return true;
        }
        if Instant::now() > patience {
            return false;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

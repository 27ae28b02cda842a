//! What plugins keep: values under keys of their instance, and receipts.

use std::time::Duration;

use jackfield_event::Timestamp;
use rusqlite::params;

use super::{job::Fault, store::Store};
use crate::journal::KeptReceipt;

impl Store<'_> {
    pub(super) fn kv_put(
        &mut self,
        instance: &str,
        key: &str,
        value: Option<&[u8]>,
        ttl: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), Fault> {
        self.cached("DELETE FROM kv WHERE expires <= ?")?
            .execute([now.as_millis()])?;
        match value {
            None => self
                .cached("DELETE FROM kv WHERE instance = ? AND key = ?")?
                .execute([instance, key])?,
            Some(value) => self
                .cached("INSERT OR REPLACE INTO kv (instance, key, expires, value) VALUES (?, ?, ?, ?)")?
                .execute(params![
                    instance,
                    key,
                    ttl.map(|ttl| now.saturating_add(ttl).as_millis()),
                    value
                ])?,
        };
        Ok(())
    }

    pub(super) fn keep_receipt(
        &mut self,
        key: &str,
        receipt: &KeptReceipt,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let stage = if receipt.done { "done" } else { "intent" };
        self.cached("INSERT OR REPLACE INTO receipt (key, stage, kept, body) VALUES (?, ?, ?, ?)")?
            .execute(params![key, stage, now.as_millis(), &receipt.body[..]])?;
        Ok(())
    }
}

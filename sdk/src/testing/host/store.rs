//! What instances keep on a host, in memory.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde_json::Value;

use super::seen::Emitted;
use crate::ffi::{
    Stage,
    double::{Answer, Request},
};

/// Keys, receipts, secrets and raised events.
#[derive(Default)]
pub(super) struct Store {
    pub(super) kv: BTreeMap<String, (Vec<u8>, Option<Duration>)>,
    pub(super) receipts: BTreeMap<String, (Stage, Vec<u8>)>,
    pub(super) secrets: BTreeMap<String, String>,
    /// With the keys of the steps that raised them.
    pub(super) emitted: Vec<(String, Emitted)>,
    /// The keys of open calls, by the calls' ids.
    pub(super) calls: HashMap<u64, String>,
}

impl Store {
    /// Does what is asked.
    pub(super) fn carry_out(&mut self, request: Request) -> Answer {
        match request {
            Request::KvGet(key) => found(self.kv.get(&key).map(|(value, _)| value)),
            Request::KvPut(key, value, life) => {
                self.kv.insert(key, (value, (!life.is_zero()).then_some(life)));
                done()
            }
            Request::KvDelete(key) => found(self.kv.remove(&key).map(|_| Vec::new()).as_ref()),
            Request::ReceiptGet(call) => self.with_key(call, |store, key| match store.receipts.get(&key) {
                Some((stage, body)) => Answer::Found(body.clone(), Some(*stage)),
                None => Answer::NotFound,
            }),
            Request::ReceiptPut(call, stage, body) => self.with_key(call, |store, key| match stage {
                Some(stage) => {
                    store.receipts.insert(key, (stage, body));
                    done()
                }
                None => Answer::Refused("a receipt of an unknown stage".to_owned()),
            }),
            Request::Secret(name) => found(
                self.secrets
                    .get(&name)
                    .map(|secret| secret.clone().into_bytes())
                    .as_ref(),
            ),
            Request::Emit(call, name, event) => {
                self.with_key(call, |store, key| store.emit(key, name, &event))
            }
        }
    }

    /// The open call that has this key.
    pub(super) fn call_of(&self, key: &str) -> Option<u64> {
        let call = self.calls.iter().find(|(_, known)| *known == key);
        call.map(|(call, _)| *call)
    }

    fn with_key(&mut self, call: u64, work: impl FnOnce(&mut Self, String) -> Answer) -> Answer {
        match self.calls.get(&call).cloned() {
            Some(key) => work(self, key),
            None => Answer::Refused(format!("there is no open call {call}")),
        }
    }

    fn emit(&mut self, key: String, name: String, event: &[u8]) -> Answer {
        let Ok(event @ Value::Object(_)) = serde_json::from_slice(event) else {
            return Answer::Refused("the event is not a JSON object".to_owned());
        };
        let known = self
            .emitted
            .iter()
            .position(|(of, emitted)| *of == key && emitted.name == name);
        let number = known.unwrap_or_else(|| {
            self.emitted.push((key, Emitted { name, event }));
            self.emitted.len() - 1
        });
        Answer::Found(format!("evt_{number:026}").into_bytes(), None)
    }
}

fn found(value: Option<&Vec<u8>>) -> Answer {
    value.map_or(Answer::NotFound, |value| Answer::Found(value.clone(), None))
}

fn done() -> Answer {
    Answer::Found(Vec::new(), None)
}

//! Where the parts of a `with` stand.

use crate::{document::Item, fault::Fault, schema::Violation};

/// The parts of a `with` by JSON Pointer.
#[derive(Debug, Default)]
pub(super) struct Places<'d> {
    items: Vec<(String, Item<'d>)>,
}

impl<'d> Places<'d> {
    pub(super) fn add(&mut self, pointer: String, item: &Item<'d>) {
        self.items.push((pointer, item.clone()));
    }

    /// A violation as a fault at the part that it is about, or at what is around it where that is missing.
    pub(super) fn fault(&self, violation: &Violation, otherwise: impl FnOnce(String) -> Fault) -> Fault {
        let message = format!("the input does not fit: {violation}");
        let around = |pointer: &str| {
            let rest = violation.pointer.strip_prefix(pointer);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let nearest = self.items.iter().filter(|(pointer, _)| around(pointer));
        let Some((pointer, item)) = nearest.max_by_key(|(pointer, _)| pointer.len()) else {
            return otherwise(message);
        };
        let is_unknown = *pointer == violation.pointer && violation.message.starts_with("unknown");
        let mut fault = match is_unknown {
            true => item.key_fault(""),
            false => item.fault(""),
        };
        fault.message = message;
        fault
    }
}

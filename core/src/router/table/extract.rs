//! Reads the values at the paths in use out of an event's bytes.
//!
//! One strict pass; whatever no path leads to is skipped. An envelope that stands apart from its payload was written by
//! this router, without a key twice, so that the pass over it ends where all names in use at its top have been read.

mod scan;
mod skip;

use scan::Scanner;
use skip::Wrong;

use super::{
    NotJson, View,
    leaves::{Collector, ElementId, Leaves, Marks},
    paths::{Lead, Names, NodeId, Paths},
};
use crate::router::pattern::{Number, Scalar};

/// The values of an event. `leaves` are those of an event before, whose room is used again.
pub(super) fn leaves<'e>(
    paths: &Paths,
    event: &View<'e>,
    marks: &mut Marks,
    leaves: Leaves<'_>,
) -> Result<Leaves<'e>, NotJson> {
    let mut pass = Pass {
        scanner: Scanner::new(text(event.envelope)?),
        collector: Collector::new(paths, marks, leaves),
        is_ours: event.payload.is_some(),
        is_complete: false,
    };
    pass.all(Paths::TOP)?;
    if let Some((node, payload)) = beside(paths, event.payload) {
        pass.scanner = Scanner::new(text(payload)?);
        pass.is_ours = false;
        pass.all(node)?;
    }
    Ok(pass.collector.finish())
}

fn text(json: &[u8]) -> Result<&str, NotJson> {
    simdutf8::basic::from_utf8(json).map_err(|_| NotJson("it is not UTF-8".to_owned()))
}

/// A payload and where it lies, where any path leads there.
fn beside<'e>(paths: &Paths, payload: Option<&'e [u8]>) -> Option<(NodeId, &'e [u8])> {
    let names = paths.names(Paths::TOP)?;
    match names.lead(paths, Paths::TOP, "data.payload") {
        Lead::Dotted(node) => Some((node, payload?)),
        Lead::Aside | Lead::Child(_) => None,
    }
}

/// One pass over a text.
struct Pass<'p, 'e> {
    scanner: Scanner<'e>,
    collector: Collector<'p, 'e>,
    /// Whether the text was written by this router.
    is_ours: bool,
    /// Whether the rest of the text does not count.
    is_complete: bool,
}

/// Where a value is.
#[derive(Clone, Copy)]
struct At {
    node: NodeId,
    /// The element around.
    element: ElementId,
    in_list: bool,
    depth: usize,
}

impl At {
    /// One level deeper.
    fn deeper(self, node: NodeId, element: ElementId, in_list: bool) -> Self {
        Self {
            node,
            element,
            in_list,
            depth: self.depth + 1,
        }
    }
}

impl<'e> Pass<'_, 'e> {
    /// Reads what lies at and below `node`: to its end, or, of what is ours, to the last name in use.
    fn all(&mut self, node: NodeId) -> Result<(), NotJson> {
        let at = At {
            node,
            element: Leaves::EVENT,
            in_list: false,
            depth: 0,
        };
        let read = self.value(at).and_then(|()| match self.is_complete {
            true => Ok(()),
            false => self.scanner.end(),
        });
        // serde_json lets the same pass, and has words for what it does not.
        read.map_err(|Wrong| NotJson(self.scanner.why()))
    }

    fn value(&mut self, at: At) -> Result<(), Wrong> {
        let paths = self.collector.paths();
        match self.scanner.peek()? {
            b'{' => match paths.names(at.node) {
                Some(names) if at.depth < DEEPEST => self.object(at, names),
                _ => self.scanner.skip(),
            },
            b'[' if at.depth < DEEPEST => self.list(at),
            _ if paths.path(at.node).is_none() => self.scanner.skip(),
            b'[' => self.scanner.skip(),
            byte => {
                let value = self.scalar(byte)?;
                self.collector.leaf(at.node, at.element, value);
                Ok(())
            }
        }
    }

    /// Reads a value that begins with `first` and is neither a list nor an object.
    fn scalar(&mut self, first: u8) -> Result<Scalar<'e>, Wrong> {
        Ok(match first {
            b'"' => Scalar::String(self.scanner.string()?),
            b'-' | b'0'..=b'9' => {
                let number = Number::read(self.scanner.number()?);
                Scalar::Number(number.expect("any number of JSON is one"))
            }
            _ => self.scanner.word()?.map_or(Scalar::Null, Scalar::Bool),
        })
    }

    fn object(&mut self, at: At, names: &Names) -> Result<(), Wrong> {
        let paths = self.collector.paths();
        let element = self.enter(at);
        let object = self.collector.enter_object();
        let mut awaited = names.count();
        self.scanner.expect(b'{')?;
        let mut is_first = true;
        while let Some(key) = self.scanner.key(is_first, |first| names.can_lead(first))? {
            is_first = false;
            match names.lead(paths, at.node, &key) {
                Lead::Aside => self.scanner.skip()?,
                lead @ (Lead::Child(child) | Lead::Dotted(child)) => {
                    let is_dotted = matches!(lead, Lead::Dotted(_));
                    let start = self.collector.enter_member(object, child, is_dotted);
                    self.value(at.deeper(child, element, false))?;
                    self.collector.leave_member(object, child, is_dotted, start);
                    awaited = awaited.saturating_sub(1);
                }
            }
            if awaited == 0 && self.is_ours && at.depth == 0 {
                self.is_complete = true;
                return Ok(());
            }
        }
        self.leave(at, element);
        Ok(())
    }

    fn list(&mut self, at: At) -> Result<(), Wrong> {
        let element = self.enter(at);
        self.scanner.expect(b'[')?;
        let mut another = !self.scanner.next_if(b']')?;
        while another {
            self.value(at.deeper(at.node, element, true))?;
            another = self.scanner.another(b']')?;
        }
        self.leave(at, element);
        Ok(())
    }

    /// The element that a value is, where it is an object or a list within a list.
    fn enter(&mut self, at: At) -> ElementId {
        match at.in_list {
            true => self.collector.enter_element(at.node, at.element),
            false => at.element,
        }
    }

    fn leave(&mut self, at: At, element: ElementId) {
        if at.in_list {
            self.collector.leave_element(element);
        }
    }
}

/// How deep values are looked for: deeper than any body that is let in nests. Below that, all is skipped.
const DEEPEST: usize = 120;
